/* See pairs.h. Room: src/core. */
#include "pairs.h"

void ls_pairs_init(ls_pairs *list, size_t ceiling)
{
  ls_buf_init(&list->text, ceiling);
  ls_buf_init(&list->items, ceiling);
}

void ls_pairs_free(ls_pairs *list)
{
  ls_buf_free(&list->text);
  ls_buf_free(&list->items);
}

void ls_pairs_clear(ls_pairs *list)
{
  ls_buf_clear(&list->text);
  ls_buf_clear(&list->items);
}

static ls_pair *last(ls_pairs *list)
{
  if(ls_pairs_code(list))
    return NULL;
  return (ls_pair *)(void *)(list->items.data + list->items.size) - 1;
}

void ls_pairs_begin(ls_pairs *list)
{
  ls_pair pair = { list->text.size, 0, 0 };

  ls_buf_add(&list->items, &pair, sizeof(pair));
}

void ls_pairs_named(ls_pairs *list)
{
  ls_pair *pair = last(list);

  if(pair)
    pair->name_n = list->text.size - pair->at;
}

void ls_pairs_end(ls_pairs *list)
{
  ls_pair *pair = last(list);

  if(pair)
    pair->value_n = list->text.size - pair->at - pair->name_n;
}

static int compare(const ls_pairs *list, const ls_pair *a, const ls_pair *b,
                   bool stable)
{
  const char *text = list->text.data;
  int order = ls_str_cmp((ls_str){ text + a->at, a->name_n },
                         (ls_str){ text + b->at, b->name_n });

  if(!order && !stable)
    order = ls_str_cmp((ls_str){ text + a->at + a->name_n, a->value_n },
                       (ls_str){ text + b->at + b->name_n, b->value_n });
  /* Text is only ever appended, so that `at` is the order of adding. */
  if(!order)
    order = (a->at > b->at) - (a->at < b->at);
  return order;
}

/* Shell's sort: no memory, no recursion, and an insertion sort for the few
 * names that a request normally has. */
void ls_pairs_sort(ls_pairs *list, bool stable)
{
  size_t n = ls_pairs_count(list), gap = 1, i, k;
  ls_pair *items = (ls_pair *)(void *)list->items.data;

  while(gap < n / 3)
    gap = gap * 3 + 1;
  for(; gap; gap /= 3) {
    for(i = gap; i < n; i++) {
      ls_pair pair = items[i];

      for(k = i; k >= gap &&
          compare(list, &items[k - gap], &pair, stable) > 0; k -= gap)
        items[k] = items[k - gap];
      items[k] = pair;
    }
  }
}

size_t ls_pairs_find(const ls_pairs *list, ls_str name, size_t from)
{
  size_t n = ls_pairs_count(list);

  while(from < n && !ls_str_eq(ls_pairs_name(list, from), name))
    from++;
  return from;
}
