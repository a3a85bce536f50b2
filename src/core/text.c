/* See text.h. Room: src/core. */
#include "text.h"

size_t ls_decimal(char to[LS_DECIMAL_MAX], uint64_t value)
{
  char digits[LS_DECIMAL_MAX];
  size_t at = sizeof(digits);

  do {
    digits[--at] = (char)('0' + value % 10);
    value /= 10;
  } while(value);
  memcpy(to, digits + at, sizeof(digits) - at);
  return sizeof(digits) - at;
}

/* Four bytes as eight digits in one word, as ls_hex4 does it for two. */
static uint64_t hex8(uint64_t x)
{
  uint64_t letters;

  x = (x | x << 16) & 0x0000ffff0000ffff;
  x = (x | x << 8) & 0x00ff00ff00ff00ff;
  x = (x | x << 4) & 0x0f0f0f0f0f0f0f0f;
  letters = (x + 0x0606060606060606) >> 4 & 0x0101010101010101;
  return x + 0x3030303030303030 + (letters << 5) + (letters << 3) - letters;
}

void ls_hex(char *to, const void *from, size_t n)
{
  const unsigned char *p = from;

  for(; n >= 4; n -= 4, p += 4, to += 8) {
    uint64_t text = hex8(ls_load32be(p));

    ls_store32be(to, (uint32_t)(text >> 32));
    ls_store32be(to + 4, (uint32_t)text);
  }
  for(; n; n--, p++, to += 2) {
    uint32_t text = ls_hex4(*p);

    to[0] = (char)(text >> 8);
    to[1] = (char)text;
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

#define EACH(c) (UINT64_C(0x0101010101010101) * (c))

/* The high bit of each byte of `x` that is zero, perhaps of others above it. */
static uint64_t zeros(uint64_t x)
{
  return (x - EACH(1)) & ~x & EACH(0x80);
}

bool ls_is_plain(ls_str s)
{
  size_t i = 0;
  uint64_t x;

  for(; i + 8 <= s.n; i += 8) {
    memcpy(&x, s.p + i, 8);
    /* Below a space, above a tilde, a quote, a backslash. */
    if((((x - EACH(0x20)) | x | (x + EACH(1))) & EACH(0x80)) |
       zeros(x ^ EACH('"')) | zeros(x ^ EACH('\\')))
      return false;
  }
  for(; i < s.n; i++) {
    unsigned char c = (unsigned char)s.p[i];

    if(c < 0x20 || c > 0x7e || c == '"' || c == '\\')
      return false;
  }
  return true;
}

static bool is_tail(unsigned char c)
{
  return c >= 0x80 && c <= 0xbf;
}

/* How long the character is that begins here; 0 when none does. Of what
 * follows the first byte, the second decides whether the form is the shortest,
 * no surrogate and not above U+10FFFF. */
static size_t utf8_character(const unsigned char *p, size_t n)
{
  unsigned char low = 0x80;
  unsigned char high = 0xbf;
  size_t size, i;

  if(*p < 0x80)
    return 1;
  if(*p < 0xc2 || *p > 0xf4)
    return 0;
  size = *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
  if(*p == 0xe0)
    low = 0xa0;
  else if(*p == 0xed)
    high = 0x9f;
  else if(*p == 0xf0)
    low = 0x90;
  else if(*p == 0xf4)
    high = 0x8f;
  if(n < size || p[1] < low || p[1] > high)
    return 0;
  for(i = 2; i < size; i++)
    if(!is_tail(p[i]))
      return 0;
  return size;
}

size_t ls_utf8_span(ls_str s)
{
  const unsigned char *p = (const unsigned char *)s.p;
  size_t i = 0;
  size_t size;
  uint64_t x;

  while(i < s.n) {
    if(i + 8 <= s.n) {
      memcpy(&x, p + i, 8);
      if(!(x & EACH(0x80))) {
        i += 8;
        continue;
      }
    }
    size = utf8_character(p + i, s.n - i);
    if(!size)
      break;
    i += size;
  }
  return i;
}
