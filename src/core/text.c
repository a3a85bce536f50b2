/* See text.h. Room: src/core. */
#include "text.h"

void ls_hex(char *to, const void *from, size_t n)
{
  static const char digits[] = "0123456789abcdef";
  const unsigned char *p = from;
  size_t i;

  for(i = 0; i < n; i++) {
    to[2 * i] = digits[p[i] >> 4];
    to[2 * i + 1] = digits[p[i] & 15];
  }
}

ls_code ls_unhex(void *to, const char *from, size_t n)
{
  unsigned char *out = to;
  size_t i;

  if(n % 2)
    return LS_EPARSE;
  for(i = 0; i < n; i += 2) {
    int high = ls_hex_digit(from[i]);
    int low = ls_hex_digit(from[i + 1]);

    if(high < 0 || low < 0)
      return LS_EPARSE;
    out[i / 2] = (unsigned char)(high << 4 | low);
  }
  return LS_OK;
}

size_t ls_base64(char *to, const void *from, size_t n, bool url)
{
  static const char alphabets[2][65] = {
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
  };
  const char *alphabet = alphabets[url];
  const unsigned char *p = from;
  char *out = to;
  size_t i;

  for(i = 0; i + 3 <= n; i += 3) {
    uint32_t v = (uint32_t)p[i] << 16 | (uint32_t)p[i + 1] << 8 | p[i + 2];

    *out++ = alphabet[v >> 18];
    *out++ = alphabet[v >> 12 & 63];
    *out++ = alphabet[v >> 6 & 63];
    *out++ = alphabet[v & 63];
  }
  if(i < n) {
    bool two = i + 2 == n;
    uint32_t v = (uint32_t)p[i] << 16 | (two ? (uint32_t)p[i + 1] << 8 : 0);

    *out++ = alphabet[v >> 18];
    *out++ = alphabet[v >> 12 & 63];
    if(two)
      *out++ = alphabet[v >> 6 & 63];
    if(!url) {
      if(!two)
        *out++ = '=';
      *out++ = '=';
    }
  }
  return (size_t)(out - to);
}

static int base64_digit(char c, bool url)
{
  if(ls_is_upper(c))
    return c - 'A';
  if(c >= 'a' && c <= 'z')
    return c - 'a' + 26;
  if(ls_is_digit(c))
    return c - '0' + 52;
  if(c == (url ? '-' : '+'))
    return 62;
  if(c == (url ? '_' : '/'))
    return 63;
  return -1;
}

ls_code ls_unbase64(void *to, size_t *written, const char *from, size_t n,
                    bool url)
{
  unsigned char *out = to;
  uint32_t bits = 0;
  size_t i;

  *written = 0;
  if(!url || n % 4 == 0) {
    if(n % 4)
      return LS_EPARSE;
    for(i = 0; i < 2 && n && from[n - 1] == '='; i++)
      n--;
  }
  if(n % 4 == 1)
    return LS_EPARSE;
  for(i = 0; i < n; i++) {
    int digit = base64_digit(from[i], url);

    if(digit < 0)
      return LS_EPARSE;
    bits = bits << 6 | (uint32_t)digit;
    if(i % 4)
      *out++ = (unsigned char)(bits >> (6 - 2 * (i % 4)));
  }
  /* What is left of the last digit carries nothing and must be zero. */
  if((n % 4 == 2 && bits & 15) || (n % 4 == 3 && bits & 3))
    return LS_EPARSE;
  *written = (size_t)(out - (unsigned char *)to);
  return LS_OK;
}
