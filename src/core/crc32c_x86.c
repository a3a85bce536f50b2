/* CRC32C on x86-64: the crc32 instruction, carry-less multiplication, and the
 * same on 512 bits. Room: src/core.
 *
 * Folding keeps several 128-bit remainders; one step multiplies each by
 * x^(distance) and adds the next bytes. The constants are those of
 * spec/tools/crc32c_table.lua: for a distance of d bytes, x^(8d + 31) for the
 * low half and x^(8d - 33) for the high one. One data stream only: several
 * streams win in the cache and lose a third from memory.
 */
#if defined(__x86_64__)
#include "crc32c_impl.h"

#include <immintrin.h>

#define SSE42 __attribute__((target("sse4.2")))
#define PCLMUL __attribute__((target("sse4.2,pclmul")))
#define AVX512 __attribute__((target( \
  "avx512f,avx512vl,avx512bw,avx512dq,vpclmulqdq,sse4.2,pclmul")))

static bool has_sse42(void)
{
  return __builtin_cpu_supports("sse4.2");
}

static bool has_pclmul(void)
{
  return has_sse42() && __builtin_cpu_supports("pclmul");
}

static bool has_avx512(void)
{
  return has_pclmul() && __builtin_cpu_supports("vpclmulqdq") &&
         __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq");
}

/* One instruction for eight bytes, three cycles each: the best there is below
 * some 200 bytes. */
SSE42 static uint32_t extend_sse42(uint32_t reg, const unsigned char *p,
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
  "sse4.2", has_sse42, extend_sse42, multiply_portable
};

/* The product of two reflected polynomials lacks a factor x; the crc32
 * instruction then reduces its 64 bits, multiplying by x^32. */
PCLMUL static uint32_t multiply_pclmul(uint32_t a, uint32_t b)
{
  __m128i product = _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)a),
                                         _mm_cvtsi32_si128((int)b), 0);
  uint64_t v = (uint64_t)_mm_cvtsi128_si64(product) << 1;

  return _mm_crc32_u32(0, (uint32_t)v) ^ (uint32_t)(v >> 32);
}

PCLMUL static inline __m128i load128(const unsigned char *p)
{
  return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* a times x^(8 * distance of k), plus b */
PCLMUL static inline __m128i fold128(__m128i a, __m128i k, __m128i b)
{
  __m128i low = _mm_clmulepi64_si128(a, k, 0x00);
  __m128i high = _mm_clmulepi64_si128(a, k, 0x11);

  return _mm_xor_si128(_mm_xor_si128(low, high), b);
}

PCLMUL static inline uint32_t reduce128(__m128i a)
{
  uint64_t r = _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(a));

  return (uint32_t)_mm_crc32_u64(r, (uint64_t)_mm_extract_epi64(a, 1));
}

#define FOLD16 _mm_set_epi64x(0x493c7d27, 0xf20c0dfe)
#define FOLD64 _mm_set_epi64x(0x9e4addf8, 0x740eef02)

PCLMUL static uint32_t extend_pclmul(uint32_t reg, const unsigned char *p,
                                     size_t n)
{
  if(n >= 256) {
    __m128i a = _mm_xor_si128(load128(p), _mm_cvtsi32_si128((int)reg));
    __m128i b = load128(p + 16), c = load128(p + 32), d = load128(p + 48);

    for(p += 64, n -= 64; n >= 64; p += 64, n -= 64) {
      a = fold128(a, FOLD64, load128(p));
      b = fold128(b, FOLD64, load128(p + 16));
      c = fold128(c, FOLD64, load128(p + 32));
      d = fold128(d, FOLD64, load128(p + 48));
    }
    b = fold128(a, FOLD16, b);
    c = fold128(b, FOLD16, c);
    reg = reduce128(fold128(c, FOLD16, d));
  }
  return extend_sse42(reg, p, n);
}

const ls_crc32c_impl ls_crc32c_pclmul = {
  "pclmul", has_pclmul, extend_pclmul, multiply_pclmul
};

const ls_crc32c_impl ls_crc32c_avx512 = {
  "avx512", has_avx512, extend_pclmul, multiply_pclmul
};

#else
typedef int ls_crc32c_x86_is_empty;
#endif
