/* A list of names with values, in text of its own, that can be sorted. It
 * holds the parameters of a query and the headers of a request. Room: src/core.
 *
 * Like ls_buf it fails once and stays so; ls_pairs_code() tells.
 */
#ifndef LS_PAIRS_H
#define LS_PAIRS_H

#include "buf.h"

typedef struct ls_pair {
  size_t at;       /* where the name begins in the text; the value follows */
  size_t name_n;
  size_t value_n;
} ls_pair;

typedef struct ls_pairs {
  ls_buf text;
  ls_buf items;    /* of ls_pair */
} ls_pairs;

/* `ceiling` bounds the text, and as many bytes of list. */
void ls_pairs_init(ls_pairs *list, size_t ceiling);
void ls_pairs_free(ls_pairs *list);
void ls_pairs_clear(ls_pairs *list);

/* A pair is added in three steps: begin, write its name to `text`, call
 * ls_pairs_named, write its value to `text`, call ls_pairs_end. */
void ls_pairs_begin(ls_pairs *list);
void ls_pairs_named(ls_pairs *list);
void ls_pairs_end(ls_pairs *list);

static inline size_t ls_pairs_count(const ls_pairs *list)
{
  return list->items.size / sizeof(ls_pair);
}

static inline const ls_pair *ls_pairs_at(const ls_pairs *list, size_t i)
{
  return (const ls_pair *)(const void *)list->items.data + i;
}

static inline ls_str ls_pairs_name(const ls_pairs *list, size_t i)
{
  const ls_pair *pair = ls_pairs_at(list, i);

  return (ls_str){ list->text.data + pair->at, pair->name_n };
}

static inline ls_str ls_pairs_value(const ls_pairs *list, size_t i)
{
  const ls_pair *pair = ls_pairs_at(list, i);

  return (ls_str){ list->text.data + pair->at + pair->name_n, pair->value_n };
}

static inline ls_code ls_pairs_code(const ls_pairs *list)
{
  return list->text.code ? list->text.code : list->items.code;
}

/* Sorts by name in byte order; equal names by value, or with `stable` in the
 * order in which they were added. */
void ls_pairs_sort(ls_pairs *list, bool stable);

/* The first pair of that name from index `from` on, or ls_pairs_count(). */
size_t ls_pairs_find(const ls_pairs *list, ls_str name, size_t from);

#endif
