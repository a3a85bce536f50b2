/* CRC32C on 512-bit vectors, by folding. Room: src/core.
 *
 * Folding keeps several 128-bit remainders; one step multiplies each by
 * x^(distance) and adds the next bytes. The constants are those of
 * spec/tools/crc32c_table.lua: for a distance of d bytes, x^(8d + 31) for the
 * low half and x^(8d - 33) for the high one.
 *
 * Four vectors are enough: Zen 4 and 5 begin a 512-bit multiplication every
 * two cycles and end it after five, so that the eight of a step never wait.
 */
#if defined(__x86_64__)
#include "crc32c_x86.h"

#define AVX512 __attribute__((target( \
  "avx512f,avx512vl,avx512bw,avx512dq,vpclmulqdq,sse4.2,pclmul")))


static bool has_avx512(void)
{
  return ls_crc32c_pclmul.usable() && __builtin_cpu_supports("vpclmulqdq") &&
         __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq");
}

PCLMUL static inline uint32_t reduce128(__m128i a)
{
  uint64_t r = _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(a));

  return (uint32_t)_mm_crc32_u64(r, (uint64_t)_mm_extract_epi64(a, 1));
}

/* a times x^(8 * distance of k), plus b, in each of its four parts */
AVX512 static inline __m512i fold512(__m512i a, __m512i k, __m512i b)
{
  __m512i low = _mm512_clmulepi64_epi128(a, k, 0x00);
  __m512i high = _mm512_clmulepi64_epi128(a, k, 0x11);

  return _mm512_ternarylogic_epi64(low, high, b, 0x96);
}

AVX512 static inline __m512i load512(const unsigned char *p)
{
  return _mm512_loadu_si512((const void *)p);
}

AVX512 static inline __m512i all512(int64_t high, int64_t low)
{
  return _mm512_broadcast_i32x4(_mm_set_epi64x(high, low));
}

/* The four parts of a vector become one. */
AVX512 static inline __m128i join512(__m512i a)
{
  const __m512i k = _mm512_set_epi64(0, 0, 0x493c7d27, 0xf20c0dfe,
                                     0xba4fc28e, 0x3da6d0cb,
                                     0xddc0152b, 0x1c291d04);
  __m512i folded = fold512(a, k, _mm512_setzero_si512());
  __m256i half = _mm256_xor_si256(_mm512_castsi512_si256(folded),
                                  _mm512_extracti64x4_epi64(folded, 1));

  return _mm_xor_si128(_mm_xor_si128(_mm256_castsi256_si128(half),
                                     _mm256_extracti128_si256(half, 1)),
                       _mm512_extracti32x4_epi32(a, 3));
}

/* Four vectors, and the remainder they hold in the end. */
typedef struct four {
  __m512i a, b, c, d;
} four;

AVX512 static inline four load_four(const unsigned char *p, uint32_t reg)
{
  four v = { load512(p), load512(p + 64), load512(p + 128),
             load512(p + 192) };

  v.a = _mm512_xor_si512(v.a, _mm512_zextsi128_si512(
    _mm_cvtsi32_si128((int)reg)));
  return v;
}

AVX512 static inline four fold_four(four v, const unsigned char *p)
{
  const __m512i k = all512(0xb9e02b86, 0xdcb17aa4); /* 256 bytes */

  v.a = fold512(v.a, k, load512(p));
  v.b = fold512(v.b, k, load512(p + 64));
  v.c = fold512(v.c, k, load512(p + 128));
  v.d = fold512(v.d, k, load512(p + 192));
  return v;
}

AVX512 static inline __m512i join_four(four v)
{
  const __m512i k64 = all512(0x9e4addf8, 0x740eef02);
  const __m512i k128 = all512(0x0d3b6092, 0x6992cea2);
  const __m512i k192 = all512(0xab7aff2a, 0xa87ab8a8);
  const __m512i zero = _mm512_setzero_si512();

  v.d = fold512(v.a, k192, v.d);
  v.b = fold512(v.b, k128, zero);
  return fold512(v.c, k64, _mm512_xor_si512(v.b, v.d));
}

/* The crc32 instruction works beside the vectors: behind VECTOR_BYTES for
 * these lie three runs of RUN_BYTES for it. In a step, five times eight bytes of
 * each run go with 256. From memory such four streams would come a third slower
 * than one, so that what is not in the cache is asked for in its own order, one
 * block ahead. */
#define STEPS 48
#define VECTOR_BYTES ((STEPS + 1) * 256)
#define RUN_BYTES (STEPS * 40)
#define FUSED_BYTES (VECTOR_BYTES + 3 * RUN_BYTES)
#define AFTER_ONE_RUN 0x15e8653c
#define AFTER_TWO_RUNS 0x02331c01
#define AFTER_THREE_RUNS 0x0a154c1c

#define AHEAD_BYTES (FUSED_BYTES / STEPS / 64 * 64 + 64)

AVX512 static inline uint32_t fused(uint32_t reg, const unsigned char *p,
                                    bool ahead)
{
  const unsigned char *r = p + VECTOR_BYTES;
  uintptr_t next = (uintptr_t)p + FUSED_BYTES;
  four v = load_four(p, reg);
  uint64_t x = 0, y = 0, z = 0;
  int i;

#define ALL_RUNS(at) \
    x = _mm_crc32_u64(x, ls_load64(r + (at))); \
    y = _mm_crc32_u64(y, ls_load64(r + RUN_BYTES + (at))); \
    z = _mm_crc32_u64(z, ls_load64(r + 2 * RUN_BYTES + (at)));

  for(i = 0; i < STEPS; i++, r += 40) {
    if(ahead) {
      ls_prefetch(next, AHEAD_BYTES);
      next += AHEAD_BYTES;
    }
    p += 256;
    v = fold_four(v, p);
    ALL_RUNS(0)
    ALL_RUNS(8)
    ALL_RUNS(16)
    ALL_RUNS(24)
    ALL_RUNS(32)
  }
  reg = reduce128(join512(join_four(v)));
  return ls_crc32c_multiply_pclmul(AFTER_THREE_RUNS, reg) ^
         ls_crc32c_multiply_pclmul(AFTER_TWO_RUNS, (uint32_t)x) ^
         ls_crc32c_multiply_pclmul(AFTER_ONE_RUN, (uint32_t)y) ^ (uint32_t)z;
}

/* Larger buffers are not in the cache, or not all of them. */
#define CACHED_MAX ((size_t)512 << 10)

AVX512 static uint32_t extend_avx512(uint32_t reg, const unsigned char *p,
                                     size_t n)
{
  if(n <= CACHED_MAX) {
    for(; n >= FUSED_BYTES; p += FUSED_BYTES, n -= FUSED_BYTES)
      reg = fused(reg, p, false);
  }
  else {
    for(; n >= FUSED_BYTES; p += FUSED_BYTES, n -= FUSED_BYTES)
      reg = fused(reg, p, true);
  }
  if(n >= 256) {
    const __m512i k64 = all512(0x9e4addf8, 0x740eef02);
    four v = load_four(p, reg);
    __m512i d;

    for(p += 256, n -= 256; n >= 256; p += 256, n -= 256)
      v = fold_four(v, p);
    d = join_four(v);
    for(; n >= 64; p += 64, n -= 64)
      d = fold512(d, k64, load512(p));
    reg = reduce128(join512(d));
  }
  return ls_crc32c_extend_sse42(reg, p, n);
}

const ls_crc32c_impl ls_crc32c_avx512 = {
  "avx512", has_avx512, extend_avx512, ls_crc32c_multiply_pclmul
};

#else
typedef int ls_crc32c_avx512_is_empty;
#endif
