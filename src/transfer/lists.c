/* The engine's lists of jobs, and the table that finds one by its id. The
 * caller holds the engine's lock. Room: src/transfer. */
#include "internal.h"

#include <stdlib.h>

void lst_list_add(lst_list *l, lst_job *job)
{
  job->prev = l->last;
  job->next = NULL;
  if(l->last)
    l->last->next = job;
  else
    l->first = job;
  l->last = job;
  l->count++;
}

void lst_list_remove(lst_list *l, lst_job *job)
{
  if(job->prev)
    job->prev->next = job->next;
  else
    l->first = job->next;
  if(job->next)
    job->next->prev = job->prev;
  else
    l->last = job->prev;
  job->prev = job->next = NULL;
  l->count--;
}

lst_job **lst_hash_find(lst_engine *e, uint64_t id)
{
  lst_job **link = &e->hash[id & (e->hash_size - 1)];

  while(*link && (*link)->id != id)
    link = &(*link)->hash_next;
  return link;
}

/* Ids are handed out in sequence, so that a table as long as there are jobs
 * has chains of about one. */
static void hash_grow(lst_engine *e)
{
  size_t size = e->hash_size * 2;
  lst_job **grown = calloc(size, sizeof(*grown));
  size_t i;

  if(!grown)
    return;
  for(i = 0; i < e->hash_size; i++) {
    lst_job *job = e->hash[i];

    while(job) {
      lst_job *next = job->hash_next;
      lst_job **link = &grown[job->id & (size - 1)];

      job->hash_next = *link;
      *link = job;
      job = next;
    }
  }
  free(e->hash);
  e->hash = grown;
  e->hash_size = size;
}

void lst_hash_add(lst_engine *e, lst_job *job)
{
  lst_job **link;

  if(e->hash_used >= e->hash_size)
    hash_grow(e);
  link = lst_hash_find(e, job->id);
  job->hash_next = *link;
  *link = job;
  e->hash_used++;
}

void lst_hash_remove(lst_engine *e, lst_job *job)
{
  lst_job **link = lst_hash_find(e, job->id);

  *link = job->hash_next;
  e->hash_used--;
}
