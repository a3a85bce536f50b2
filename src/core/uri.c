/* See uri.h. Room: src/core. */
#include "uri.h"

/* 1: stands for itself; 2: the slash. */
static const unsigned char kinds[256] = {
  ['-'] = 1, ['.'] = 1, ['_'] = 1, ['~'] = 1, ['/'] = 2,
  ['0'] = 1, ['1'] = 1, ['2'] = 1, ['3'] = 1, ['4'] = 1, ['5'] = 1,
  ['6'] = 1, ['7'] = 1, ['8'] = 1, ['9'] = 1,
  ['A'] = 1, ['B'] = 1, ['C'] = 1, ['D'] = 1, ['E'] = 1, ['F'] = 1,
  ['G'] = 1, ['H'] = 1, ['I'] = 1, ['J'] = 1, ['K'] = 1, ['L'] = 1,
  ['M'] = 1, ['N'] = 1, ['O'] = 1, ['P'] = 1, ['Q'] = 1, ['R'] = 1,
  ['S'] = 1, ['T'] = 1, ['U'] = 1, ['V'] = 1, ['W'] = 1, ['X'] = 1,
  ['Y'] = 1, ['Z'] = 1,
  ['a'] = 1, ['b'] = 1, ['c'] = 1, ['d'] = 1, ['e'] = 1, ['f'] = 1,
  ['g'] = 1, ['h'] = 1, ['i'] = 1, ['j'] = 1, ['k'] = 1, ['l'] = 1,
  ['m'] = 1, ['n'] = 1, ['o'] = 1, ['p'] = 1, ['q'] = 1, ['r'] = 1,
  ['s'] = 1, ['t'] = 1, ['u'] = 1, ['v'] = 1, ['w'] = 1, ['x'] = 1,
  ['y'] = 1, ['z'] = 1
};

static char *put(char *to, unsigned char c, unsigned bare)
{
  static const char digits[] = "0123456789ABCDEF";

  if(kinds[c] & bare) {
    *to++ = (char)c;
  }
  else {
    *to++ = '%';
    *to++ = digits[c >> 4];
    *to++ = digits[c & 15];
  }
  return to;
}

/* Room for the longest encoded form of n bytes. */
static char *room(ls_buf *to, size_t n)
{
  return ls_buf_room(to, n > SIZE_MAX / 3 ? SIZE_MAX : n * 3);
}

void ls_uri_encode(ls_buf *to, ls_str s, bool keep_slash)
{
  unsigned bare = keep_slash ? 3 : 1;
  char *out = room(to, s.n);
  size_t i;

  if(!out)
    return;
  for(i = 0; i < s.n; i++)
    out = put(out, (unsigned char)s.p[i], bare);
  to->size = (size_t)(out - to->data);
}

/* Reads one decoded byte at *i and moves *i behind it; -1 for a bad escape. */
static int next_byte(ls_str s, size_t *i, bool plus_is_space)
{
  char c = s.p[*i];
  int high, low;

  if(c != '%') {
    *i += 1;
    return c == '+' && plus_is_space ? ' ' : (unsigned char)c;
  }
  if(s.n - *i < 3)
    return -1;
  high = ls_hex_digit(s.p[*i + 1]);
  low = ls_hex_digit(s.p[*i + 2]);
  *i += 3;
  return high < 0 || low < 0 ? -1 : high << 4 | low;
}

ls_code ls_uri_decode(char *to, size_t *written, ls_str s, bool plus_is_space)
{
  char *out = to;
  size_t i = 0;

  *written = 0;
  while(i < s.n) {
    int c = next_byte(s, &i, plus_is_space);

    if(c < 0)
      return LS_EPARSE;
    *out++ = (char)c;
  }
  *written = (size_t)(out - to);
  return LS_OK;
}

ls_code ls_uri_recode(ls_buf *to, ls_str s, bool keep_slash,
                      bool plus_is_space)
{
  unsigned bare = keep_slash ? 3 : 1;
  char *out = room(to, s.n);
  size_t i = 0;

  if(!out)
    return ls_buf_code(to);
  while(i < s.n) {
    int c = next_byte(s, &i, plus_is_space);

    if(c < 0)
      return LS_EPARSE;
    out = put(out, (unsigned char)c, bare);
  }
  to->size = (size_t)(out - to->data);
  return LS_OK;
}
