/* See crc.h. Room: src/core. */
#include "crc.h"

#define POLY_32 UINT64_C(0xEDB88320)
#define POLY_64NVME UINT64_C(0x9A6C9329AC4BC9B5)

/* Both are reflected, begin with ones and end inverted; the shorter register
 * is the lower half of the longer one. */
static void begin(ls_crc *c, uint64_t poly, uint64_t mask)
{
  unsigned i, k;

  c->mask = mask;
  c->value = mask;
  for(i = 0; i < 256; i++) {
    uint64_t r = i;

    for(k = 0; k < 8; k++)
      r = (r >> 1) ^ (r & 1 ? poly : 0);
    c->table[0][i] = r;
  }
  for(k = 1; k < 8; k++) {
    for(i = 0; i < 256; i++) {
      uint64_t r = c->table[k - 1][i];

      c->table[k][i] = (r >> 8) ^ c->table[0][r & 0xff];
    }
  }
}

void ls_crc_begin32(ls_crc *c)
{
  begin(c, POLY_32, UINT32_MAX);
}

void ls_crc_begin64nvme(ls_crc *c)
{
  begin(c, POLY_64NVME, UINT64_MAX);
}

static uint64_t little_endian(const unsigned char *p)
{
  uint64_t word = 0;
  unsigned i;

  for(i = 0; i < 8; i++)
    word |= (uint64_t)p[i] << (8 * i);
  return word;
}

void ls_crc_update(ls_crc *c, const void *p, size_t n)
{
  const unsigned char *at = p;
  uint64_t r = c->value;

  for(; n >= 8; n -= 8, at += 8) {
    uint64_t x = r ^ little_endian(at);
    unsigned k;

    r = 0;
    for(k = 0; k < 8; k++)
      r ^= c->table[7 - k][(x >> (8 * k)) & 0xff];
  }
  for(; n; n--, at++)
    r = (r >> 8) ^ c->table[0][(r ^ *at) & 0xff];
  c->value = r;
}

uint64_t ls_crc_value(const ls_crc *c)
{
  return ~c->value & c->mask;
}
