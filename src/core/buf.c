/* See buf.h. Room: src/core. */
#include "buf.h"
#include "secure.h"

#include <stdlib.h>

void ls_buf_init(ls_buf *b, size_t ceiling)
{
  b->data = NULL;
  b->size = b->capacity = 0;
  b->ceiling = ceiling;
  b->code = LS_OK;
}

void ls_buf_free(ls_buf *b)
{
  if(b->data)
    ls_wipe(b->data, b->capacity);
  free(b->data);
  ls_buf_init(b, b->ceiling);
}

void ls_buf_clear(ls_buf *b)
{
  b->size = 0;
  b->code = LS_OK;
}

static char *fail(ls_buf *b, ls_code code)
{
  ls_buf_free(b);
  b->code = code;
  return NULL;
}

/* Not realloc: what the old block held may have to be wiped. */
static char *enlarge(ls_buf *b, size_t need)
{
  size_t capacity = b->capacity ? b->capacity : 256;
  char *data;

  while(capacity < need)
    capacity = capacity > b->ceiling / 2 ? b->ceiling : capacity * 2;
  data = malloc(capacity);
  if(!data)
    return fail(b, LS_ENOMEM);
  if(b->data) {
    memcpy(data, b->data, b->size);
    ls_wipe(b->data, b->capacity);
    free(b->data);
  }
  b->data = data;
  b->capacity = capacity;
  return data + b->size;
}

char *ls_buf_room(ls_buf *b, size_t n)
{
  if(b->code)
    return NULL;
  if(n > b->ceiling - b->size)
    return fail(b, LS_ELIMIT);
  if(n > b->capacity - b->size || !b->data)
    return enlarge(b, b->size + n);
  return b->data + b->size;
}

void ls_buf_add(ls_buf *b, const void *p, size_t n)
{
  char *to = ls_buf_room(b, n);

  if(!to || !n)
    return;
  memcpy(to, p, n);
  b->size += n;
}

void ls_buf_uint(ls_buf *b, uint64_t value)
{
  char digits[20];
  size_t at = sizeof(digits);

  do {
    digits[--at] = (char)('0' + value % 10);
    value /= 10;
  } while(value);
  ls_buf_add(b, digits + at, sizeof(digits) - at);
}
