/* Numbers and bytes as text: decimal, hexadecimal, Base64; what a text
 * consists of. Room: src/core.
 *
 * Encoders write exactly the size their macro says and no NUL. Decoders are
 * strict: one text for each byte string, so no white space, no missing or
 * superfluous padding, no bits set that carry nothing.
 */
#ifndef LS_TEXT_H
#define LS_TEXT_H

#include "str.h"

#define LS_HEX_SIZE(n) ((n) * 2)
#define LS_BASE64_SIZE(n) (((n) + 2) / 3 * 4)
/* An upper bound for what a text of n characters decodes to. */
#define LS_UNBASE64_SIZE(n) (((n) + 3) / 4 * 3)

/* Whether every byte is printable ASCII other than `"` and `\\`: a text that
 * is its own JSON, and UTF-8 in any case. */
bool ls_is_plain(ls_str s);

/* How many bytes from the beginning are well-formed UTF-8 (RFC 3629, section
 * 4): s.n when all are. */
size_t ls_utf8_span(ls_str s);

#define LS_DECIMAL_MAX 20

/* Writes a number in decimal; returns how many digits it has. */
size_t ls_decimal(char to[LS_DECIMAL_MAX], uint64_t value);

/* Two bytes as four digits, the first of them most significant: the digits of
 * a word side by side, without a table. */
static inline uint32_t ls_hex4(uint32_t x)
{
  uint32_t letters;

  x = (x | x << 8) & 0x00ff00ff;
  x = (x | x << 4) & 0x0f0f0f0f;
  letters = (x + 0x06060606) >> 4 & 0x01010101;
  return x + 0x30303030 + (letters << 5) + (letters << 3) - letters;
}

void ls_hex(char *to, const void *from, size_t n); /* lower case */

/* Writes n / 2 bytes. LS_EPARSE for an odd length or a character that is no
 * hexadecimal digit; both cases of letter are read. */
LS_MUST_CHECK ls_code ls_unhex(void *to, const char *from, size_t n);

/* The standard alphabet with padding, or with `url` RFC 4648's URL-safe one
 * without padding. Returns the number of characters written. */
size_t ls_base64(char *to, const void *from, size_t n, bool url);

/* The reverse; the URL-safe form takes padding or none. */
LS_MUST_CHECK ls_code ls_unbase64(void *to, size_t *written,
                                  const char *from, size_t n, bool url);

#endif
