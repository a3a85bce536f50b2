/* Byte strings and the character tests that the parsers share. Never locale
 * functions, nothing assumes a NUL. Room: src/core.
 */
#ifndef LS_STR_H
#define LS_STR_H

#include "ls.h"

#include <stdbool.h>
#include <string.h>

/* Somebody else's bytes. An absent value has p == NULL. */
typedef struct ls_str {
  const char *p;
  size_t n;
} ls_str;

#define LS_LIT(literal) ((ls_str){ "" literal, sizeof(literal) - 1 })

static inline bool ls_str_eq(ls_str a, ls_str b)
{
  return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* Byte order; a prefix comes before what it is a prefix of. */
static inline int ls_str_cmp(ls_str a, ls_str b)
{
  size_t n = a.n < b.n ? a.n : b.n;
  int order = n ? memcmp(a.p, b.p, n) : 0;

  if(order)
    return order;
  return (a.n > b.n) - (a.n < b.n);
}

static inline bool ls_is_digit(char c)
{
  return c >= '0' && c <= '9';
}

static inline bool ls_is_upper(char c)
{
  return c >= 'A' && c <= 'Z';
}

static inline bool ls_is_alnum(char c)
{
  return ls_is_digit(c) || ls_is_upper(c) || (c >= 'a' && c <= 'z');
}

static inline char ls_lower(char c)
{
  return ls_is_upper(c) ? (char)(c + ('a' - 'A')) : c;
}

/* A control character: what no header value, host or method may hold. A tab
 * counts as white space, not as control. */
static inline bool ls_is_control(char c)
{
  unsigned char u = (unsigned char)c;

  return (u < 0x20 && u != '\t') || u == 0x7f;
}

/* Words with their most significant byte first. */
static inline uint32_t ls_load32be(const void *p)
{
  const unsigned char *b = p;

  return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 |
         b[3];
}

static inline void ls_store32be(void *p, uint32_t v)
{
  unsigned char *b = p;

  b[0] = (unsigned char)(v >> 24);
  b[1] = (unsigned char)(v >> 16);
  b[2] = (unsigned char)(v >> 8);
  b[3] = (unsigned char)v;
}

/* 0..15, or -1 for what is no hexadecimal digit. */
static inline int ls_hex_digit(char c)
{
  if(ls_is_digit(c))
    return c - '0';
  if(c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  if(c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return -1;
}

/* Whether `s` is an HTTP token (a header's name, a method). */
static inline bool ls_is_token(ls_str s)
{
  size_t i;

  for(i = 0; i < s.n; i++) {
    if(!ls_is_alnum(s.p[i]) && (s.p[i] == 0 ||
       !memchr("!#$%&'*+-.^_`|~", s.p[i], 15)))
      return false;
  }
  return s.n > 0;
}

/* Splits `s` at its first `c`: the part before it is returned, `s` keeps the
 * part after it. Without `c` all of `s` is returned and `s` becomes absent. */
static inline ls_str ls_str_cut(ls_str *s, char c)
{
  const char *at = s->n ? memchr(s->p, c, s->n) : NULL;
  ls_str head = *s;

  if(!at) {
    s->p = NULL;
    s->n = 0;
    return head;
  }
  head.n = (size_t)(at - s->p);
  s->p = at + 1;
  s->n -= head.n + 1;
  return head;
}

#endif
