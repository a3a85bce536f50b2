/* A growable buffer with a ceiling. Room: src/core.
 *
 * Failure is sticky: when memory or the ceiling is exhausted the buffer frees
 * what it had, is empty, and every later addition does nothing. A chain of
 * additions therefore needs one check at its end: ls_buf_code().
 */
#ifndef LS_BUF_H
#define LS_BUF_H

#include "str.h"

typedef struct ls_buf {
  char *data;
  size_t size;
  size_t capacity;
  size_t ceiling;   /* `size` never exceeds this */
  ls_code code;     /* LS_OK, LS_ENOMEM or LS_ELIMIT */
} ls_buf;

void ls_buf_init(ls_buf *b, size_t ceiling);

/* The buffer can be used again, with the same ceiling. Nothing is wiped: no key
 * ever goes into a buffer, and a session token only on its way into a request
 * that shows it. */
void ls_buf_free(ls_buf *b);

/* Forgets the content and a failure, keeps the memory. */
void ls_buf_clear(ls_buf *b);

/* The slow half of ls_buf_room. */
char *ls_buf_enlarge(ls_buf *b, size_t n);

/* Room for `n` more bytes at the end; NULL after a failure. The caller writes
 * there and adds what it wrote to `size`. */
static inline char *ls_buf_room(ls_buf *b, size_t n)
{
  if(n < b->capacity - b->size)
    return b->data + b->size;
  return ls_buf_enlarge(b, n);
}

static inline void ls_buf_add(ls_buf *b, const void *p, size_t n)
{
  char *to = ls_buf_room(b, n);

  if(!to || !n)
    return;
  memcpy(to, p, n);
  b->size += n;
}

void ls_buf_uint(ls_buf *b, uint64_t value); /* in decimal */

static inline void ls_buf_str(ls_buf *b, ls_str s)
{
  ls_buf_add(b, s.p, s.n);
}

#define ls_buf_lit(b, literal) ls_buf_add((b), "" literal, sizeof(literal) - 1)

static inline ls_code ls_buf_code(const ls_buf *b)
{
  return b->code;
}

static inline ls_str ls_buf_view(const ls_buf *b)
{
  return (ls_str){ b->data, b->size };
}

#endif
