/* See buf.h. Room: src/core. */
#include "buf.h"
#include "text.h"

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

char *ls_buf_enlarge(ls_buf *b, size_t n)
{
  size_t capacity = b->capacity ? b->capacity :
                    b->ceiling < 256 ? b->ceiling : 256;
  size_t need = b->size + n;
  char *data;

  if(b->code)
    return NULL;
  if(n > b->ceiling - b->size)
    return fail(b, LS_ELIMIT);
  if(b->data && need <= b->capacity)
    return b->data + b->size;
  while(capacity < need)
    capacity = capacity > b->ceiling / 2 ? b->ceiling : capacity * 2;
  data = realloc(b->data, capacity ? capacity : 1);
  if(!data)
    return fail(b, LS_ENOMEM);
  b->data = data;
  b->capacity = capacity;
  return data + b->size;
}

void ls_buf_uint(ls_buf *b, uint64_t value)
{
  char digits[LS_DECIMAL_MAX];

  ls_buf_add(b, digits, ls_decimal(digits, value));
}
