/* See run_sink.h. Room: src/bind. */
#include "run_sink.h"
#include "../core/text.h"

void lsb_sink_add(lua_State *L, lsb_sink *to, ls_str text)
{
  lua_pushlstring(L, text.p, text.n);
  lua_rawseti(L, -2, ++to->count);
}

static void add_decimal(ls_buf *text, uint64_t value)
{
  char digits[LS_DECIMAL_MAX];

  ls_buf_add(text, digits, ls_decimal(digits, value));
}

/* %n the number, %o the offset, %l the length (null for a part that was given
 * none), %u the URL, %% itself. */
static void add_shape(const lsb_sink *to, const ls_part *part, ls_str url)
{
  ls_str rest = to->shape;

  while(rest.n) {
    const char *mark = memchr(rest.p, '%', rest.n);
    size_t n = mark ? (size_t)(mark - rest.p) : rest.n;

    ls_buf_add(to->json, rest.p, n);
    if(!mark || n + 1 == rest.n)
      break;
    switch(mark[1]) {
    case 'n':
      add_decimal(to->json, part->number);
      break;
    case 'o':
      add_decimal(to->json, (part->number - 1) * to->part_size);
      break;
    case 'l':
      if(part->length == UINT64_MAX)
        ls_buf_lit(to->json, "null");
      else
        add_decimal(to->json, part->length);
      break;
    case 'u':
      ls_buf_add(to->json, url.p, url.n);
      break;
    default:
      ls_buf_add(to->json, mark + 1, 1);
    }
    rest.p = mark + 2;
    rest.n -= n + 2;
  }
}

/* What is between, and three numbers. */
size_t lsb_sink_room(const lsb_sink *to, size_t url)
{
  return url + 4 + to->shape.n + (to->shape.n ? 3 * LS_DECIMAL_MAX : 0);
}

void lsb_sink_take(lua_State *L, lsb_sink *to, bool first, const ls_part *part,
                   ls_str url)
{
  char *p;

  if(!to->json) {
    lsb_sink_add(L, to, url);
    return;
  }
  if(to->piece && to->json->size + lsb_sink_room(to, url.n) > to->piece) {
    lsb_sink_add(L, to, ls_buf_view(to->json));
    ls_buf_clear(to->json);
  }
  if(to->shape.n) {
    ls_buf_add(to->json, first ? "[" : ",", 1);
    add_shape(to, part, url);
    return;
  }
  p = ls_buf_room(to->json, url.n + 3);
  if(!p)
    return;
  /* No character of a URL needs an escape in JSON. */
  *p++ = first ? '[' : ',';
  *p++ = '"';
  memcpy(p, url.p, url.n);
  p[url.n] = '"';
  to->json->size += url.n + 3;
}
