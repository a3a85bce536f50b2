/* CRC32C on x86-64: the crc32 instruction, and three of them at a time merged
 * by carry-less multiplication. Room: src/core.
 */
#if defined(__x86_64__)
#include "crc32c_x86.h"

static bool has_sse42(void)
{
  return __builtin_cpu_supports("sse4.2");
}

static bool has_pclmul(void)
{
  return has_sse42() && __builtin_cpu_supports("pclmul");
}

/* One instruction for eight bytes, three cycles each: the best there is below
 * some 200 bytes. */
SSE42 uint32_t ls_crc32c_extend_sse42(uint32_t reg, const unsigned char *p,
                                      size_t n)
{
  uint64_t r = reg;

  for(; n >= 32; n -= 32, p += 32) {
    r = _mm_crc32_u64(r, ls_load64(p));
    r = _mm_crc32_u64(r, ls_load64(p + 8));
    r = _mm_crc32_u64(r, ls_load64(p + 16));
    r = _mm_crc32_u64(r, ls_load64(p + 24));
  }
  for(; n >= 8; n -= 8, p += 8)
    r = _mm_crc32_u64(r, ls_load64(p));
  reg = (uint32_t)r;
  if(n & 4) {
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    reg = _mm_crc32_u32(reg, v);
    p += 4;
  }
  if(n & 2) {
    uint16_t v;

    memcpy(&v, p, sizeof(v));
    reg = _mm_crc32_u16(reg, v);
    p += 2;
  }
  if(n & 1)
    reg = _mm_crc32_u8(reg, *p);
  return reg;
}

static uint32_t multiply_portable(uint32_t a, uint32_t b)
{
  return ls_crc32c_portable.multiply(a, b);
}

const ls_crc32c_impl ls_crc32c_sse42 = {
  "sse4.2", has_sse42, ls_crc32c_extend_sse42, multiply_portable
};

/* Three runs of `size` bytes, one behind the other, each by the crc32
 * instruction at the same time, since it can begin one every cycle. `once` and
 * `twice` are x^(8 size) and x^(16 size). */
PCLMUL static inline uint32_t three_runs(uint32_t reg, const unsigned char *p,
                                         size_t size, uint32_t once,
                                         uint32_t twice)
{
  uint64_t a = reg, b = 0, c = 0;
  size_t i;

  for(i = 0; i < size; i += 8) {
    a = _mm_crc32_u64(a, ls_load64(p + i));
    b = _mm_crc32_u64(b, ls_load64(p + size + i));
    c = _mm_crc32_u64(c, ls_load64(p + 2 * size + i));
  }
  return ls_crc32c_multiply_pclmul(twice, (uint32_t)a) ^
         ls_crc32c_multiply_pclmul(once, (uint32_t)b) ^ (uint32_t)c;
}

PCLMUL static uint32_t extend_pclmul(uint32_t reg, const unsigned char *p,
                                     size_t n)
{
  for(; n >= 3 * 1024; p += 3 * 1024, n -= 3 * 1024) {
    ls_prefetch((uintptr_t)p + 6 * 1024, 3 * 1024);
    reg = three_runs(reg, p, 1024, 0xe4172b16, 0x0d65762a);
  }
  for(; n >= 3 * 128; p += 3 * 128, n -= 3 * 128)
    reg = three_runs(reg, p, 128, 0xb8fdb1e7, 0x88e56f72);
  return ls_crc32c_extend_sse42(reg, p, n);
}

const ls_crc32c_impl ls_crc32c_pclmul = {
  "pclmul", has_pclmul, extend_pclmul, ls_crc32c_multiply_pclmul
};

#else
typedef int ls_crc32c_x86_is_empty;
#endif
