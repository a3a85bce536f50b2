/* CRC32C without special instructions: eight table look-ups for eight bytes.
 * Room: src/core.
 */
#include "crc32c_impl.h"
#include "crc32c_table.h"

static uint64_t load64le(const unsigned char *p)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  return ls_load64(p);
#else
  uint64_t v = 0;
  int i;

  for(i = 7; i >= 0; i--)
    v = v << 8 | p[i];
  return v;
#endif
}

static uint32_t extend(uint32_t reg, const unsigned char *p, size_t n)
{
  for(; n >= 8; n -= 8, p += 8) {
    uint64_t v = load64le(p) ^ reg;

    reg = slice[7][v & 255] ^ slice[6][v >> 8 & 255] ^
          slice[5][v >> 16 & 255] ^ slice[4][v >> 24 & 255] ^
          slice[3][v >> 32 & 255] ^ slice[2][v >> 40 & 255] ^
          slice[1][v >> 48 & 255] ^ slice[0][v >> 56];
  }
  for(; n; n--)
    reg = reg >> 8 ^ slice[0][(reg ^ *p++) & 255];
  return reg;
}

/* The polynomial without branches on the data: bit 31 is x^0. */
static uint32_t multiply(uint32_t a, uint32_t b)
{
  uint32_t product = 0;
  int i;

  for(i = 31; i >= 0; i--) {
    product ^= b & (0u - (a >> i & 1));
    b = b >> 1 ^ (0x82f63b78u & (0u - (b & 1)));
  }
  return product;
}

/* x has order 2^31 - 1 modulo this polynomial, so the exponent shrinks to 31
 * bits: modulo a Mersenne number, sums of digits in base 2^31. Times eight is
 * a rotation of those 31 bits. */
uint32_t ls_crc32c_power(uint64_t length,
                         uint32_t (*mul)(uint32_t a, uint32_t b))
{
  const uint64_t order = 0x7fffffff;
  uint64_t e = (length & order) + (length >> 31 & order) + (length >> 62);

  e = (e & order) + (e >> 31);
  e = (e << 3 & order) + (e >> 28);
  e = (e & order) + (e >> 31);
  return mul(mul(powers[0][e & 255], powers[1][e >> 8 & 255]),
             mul(powers[2][e >> 16 & 255], powers[3][e >> 24 & 255]));
}

static bool usable(void)
{
  return true;
}

const ls_crc32c_impl ls_crc32c_portable = {
  "portable", usable, extend, multiply
};
