/* The engine: the queue in, the events out, the threads between.
 * Room: src/transfer. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static CURLcode global;

static void init_once(void)
{
  global = curl_global_init(CURL_GLOBAL_DEFAULT);
}

void lst_options_init(lst_options *o)
{
  memset(o, 0, sizeof(*o));
  o->connections = 4;
  o->threads = 1;
  o->buffer = 262144;
  o->max_response = 1048576;
  o->connect_timeout = 10;
  o->stall_seconds = 30;
  o->stall_bytes = 1024;
}

static char *copy(const char *text, ls_code *code)
{
  char *c = text ? strdup(text) : NULL;

  if(text && !c)
    *code = LS_ENOMEM;
  return c;
}

static bool in_range(double v, double max)
{
  return v >= 0 && v <= max;
}

/* Whether a text can be the value of a header. */
static bool is_value(const char *text)
{
  while(text && *text && !ls_is_control(*text))
    text++;
  return !text || !*text;
}

static ls_code check_options(const lst_options *o)
{
  if(o->connections < 1 || o->connections > LST_MAX_CONNECTIONS ||
     o->threads < 1 || o->threads > LST_MAX_THREADS ||
     o->buffer < LST_MIN_BUFFER || o->buffer > LST_MAX_BUFFER ||
     !in_range(o->connect_timeout, LST_MAX_SECONDS) || o->connect_timeout <= 0 ||
     !in_range(o->stall_seconds, LST_MAX_SECONDS) ||
     !is_value(o->user_agent))
    return LS_EINVAL;
  return LS_OK;
}

/* Libcurl allocates and frees its buffers for every request. With glibc's
 * first settings the heap would shrink and grow again each time, and the
 * kernel hand out fresh pages; it stops that by itself once a block as large
 * as all of them has come and gone. */
static void keep_heap(const lst_options *o)
{
  /* Volatile, for a compiler would do without both. */
  void *volatile block =
    malloc(o->connections * (o->buffer + LST_RECEIVE_BUFFER));

  free(block);
}

ls_code lst_engine_new(const lst_options *o, lst_engine **out)
{
  lst_engine *e;
  pthread_condattr_t attr;
  ls_code code = check_options(o);
  unsigned i;

  if(code != LS_OK)
    return code;
  pthread_once(&once, init_once);
  if(global != CURLE_OK)
    return LS_ENOMEM;
  e = calloc(1, sizeof(*e));
  if(!e)
    return LS_ENOMEM;
  pthread_mutex_init(&e->lock, NULL);
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&e->changed, &attr);
  pthread_condattr_destroy(&attr);
  lst_rate_init(&e->rate, o->rate_limit, lst_now());
  e->options = *o;
  e->options.ca_file = copy(o->ca_file, &code);
  e->options.ca_path = copy(o->ca_path, &code);
  e->options.user_agent = copy(o->user_agent, &code);
  e->options.proxy = copy(o->proxy, &code);
  e->connections = o->connections;
  e->next_id = 1;
  e->hash_size = 64;
  e->hash = calloc(e->hash_size, sizeof(*e->hash));
  e->progress = calloc(LST_MAX_CONNECTIONS, sizeof(*e->progress));
  e->loops = calloc(o->threads, sizeof(*e->loops));
  if(!e->hash || !e->progress || !e->loops)
    code = LS_ENOMEM;
  keep_heap(o);
  for(i = 0; code == LS_OK && i < o->threads; i++)
    code = lst_loop_init(&e->loops[i], e, i);
  if(code != LS_OK) {
    lst_engine_free(e);
    return code;
  }
  *out = e;
  return LS_OK;
}

static void free_list(lst_list *l)
{
  while(l->first) {
    lst_job *job = l->first;

    lst_list_remove(l, job);
    lst_job_free(job);
  }
}

void lst_engine_free(lst_engine *e)
{
  unsigned i;
  lst_quiet q;

  if(!e)
    return;
  pthread_mutex_lock(&e->lock);
  e->stopping = true;
  pthread_mutex_unlock(&e->lock);
  lst_quiet_begin(&q);
  for(i = 0; e->loops && i < e->options.threads; i++)
    if(e->loops[i].running)
      curl_multi_wakeup(e->loops[i].multi);
  for(i = 0; e->loops && i < e->options.threads; i++) {
    if(e->loops[i].running)
      pthread_join(e->loops[i].thread, NULL);
    lst_loop_free(&e->loops[i]);
  }
  lst_quiet_end(&q);
  free_list(&e->queue);
  free_list(&e->active);
  free_list(&e->finished);
  lst_job_free(e->delivered);
  free(e->loops);
  free(e->progress);
  free(e->hash);
  free((char *)e->options.ca_file);
  free((char *)e->options.ca_path);
  free((char *)e->options.user_agent);
  free((char *)e->options.proxy);
  lst_rate_free(&e->rate);
  pthread_cond_destroy(&e->changed);
  pthread_mutex_destroy(&e->lock);
  free(e);
}

ls_code lst_engine_add(lst_engine *e, const lst_request *request,
                       uint64_t *id, const char **why)
{
  lst_job *job;
  ls_code code;

  *why = NULL;
  code = lst_job_new(&e->options, request, &job, why);
  if(code != LS_OK)
    return code;
  if(lst_threaded(e) && !e->started) {
    code = lst_start_threads(e);
    if(code != LS_OK) {
      lst_job_free(job);
      return code;
    }
  }
  pthread_mutex_lock(&e->lock);
  *id = job->id = e->next_id++;
  lst_hash_add(e, job);
  lst_list_add(&e->queue, job);
  pthread_mutex_unlock(&e->lock);
  lst_wake_one(e);
  return LS_OK;
}

bool lst_engine_cancel(lst_engine *e, uint64_t id)
{
  lst_job *job;
  bool hit = false;

  pthread_mutex_lock(&e->lock);
  job = *lst_hash_find(e, id);
  if(job && job->state == LST_QUEUED) {
    hit = true;
    lst_mark_cancelled(job);
    lst_list_remove(&e->queue, job);
    lst_list_add(&e->finished, job);
    job->state = LST_FINISHED;
  }
  else if(job && job->state == LST_ACTIVE) {
    hit = true;
    if(!job->cancel)
      e->cancels++;
    job->cancel = true;
  }
  pthread_mutex_unlock(&e->lock);
  if(hit)
    lst_wake_all(e);
  return hit;
}

void lst_engine_stats(lst_engine *e, lst_stats *s)
{
  lst_job *job;

  pthread_mutex_lock(&e->lock);
  s->queued = e->queue.count;
  s->active = e->active.count;
  s->bytes_sent = atomic_load(&e->bytes_sent);
  s->bytes_received = atomic_load(&e->bytes_received);
  for(job = e->active.first; job; job = job->next) {
    s->bytes_sent += atomic_load(&job->sent);
    s->bytes_received += atomic_load(&job->received);
  }
  pthread_mutex_unlock(&e->lock);
  s->connections_opened = atomic_load(&e->connections_opened);
  s->buffer_bytes = atomic_load(&e->buffer_bytes);
}

void lst_engine_set_rate(lst_engine *e, uint64_t bytes_per_second)
{
  lst_rate_set(&e->rate, bytes_per_second, lst_now());
  lst_wake_all(e);
}

void lst_engine_set_connections(lst_engine *e, unsigned connections)
{
  pthread_mutex_lock(&e->lock);
  e->connections = connections;
  pthread_mutex_unlock(&e->lock);
  lst_wake_all(e);
}
