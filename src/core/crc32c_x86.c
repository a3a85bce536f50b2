/* CRC32C on x86-64: the crc32 instruction, three of them at a time merged by
 * carry-less multiplication, and folding on 512-bit vectors. Room: src/core.
 *
 * Folding keeps several 128-bit remainders; one step multiplies each by
 * x^(distance) and adds the next bytes. The constants are those of
 * spec/tools/crc32c_table.lua: for a distance of d bytes, x^(8d + 31) for the
 * low half and x^(8d - 33) for the high one. It reads one stream of data only:
 * several win in the cache and lose a third from memory.
 */
#if defined(__x86_64__)
#include "crc32c_impl.h"

#include <immintrin.h>

#define SSE42 __attribute__((target("sse4.2")))
#define PCLMUL __attribute__((target("sse4.2,pclmul")))
#define AVX512 __attribute__((target( \
  "avx512f,avx512vl,avx512bw,avx512dq,vpclmulqdq,sse4.2,pclmul")))

/* Asks for cache lines ahead of use; beyond the end of the data it does no
 * harm. */
static inline void prefetch(uintptr_t at, size_t n)
{
  size_t i;

  for(i = 0; i < n; i += 64)
    __builtin_prefetch((const void *)(at + i));
}

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

PCLMUL static inline uint32_t reduce128(__m128i a)
{
  uint64_t r = _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(a));

  return (uint32_t)_mm_crc32_u64(r, (uint64_t)_mm_extract_epi64(a, 1));
}

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
  return multiply_pclmul(twice, (uint32_t)a) ^
         multiply_pclmul(once, (uint32_t)b) ^ (uint32_t)c;
}

PCLMUL static uint32_t extend_pclmul(uint32_t reg, const unsigned char *p,
                                     size_t n)
{
  for(; n >= 3 * 1024; p += 3 * 1024, n -= 3 * 1024) {
    prefetch((uintptr_t)p + 6 * 1024, 3 * 1024);
    reg = three_runs(reg, p, 1024, 0xe4172b16, 0x0d65762a);
  }
  for(; n >= 3 * 128; p += 3 * 128, n -= 3 * 128)
    reg = three_runs(reg, p, 128, 0xb8fdb1e7, 0x88e56f72);
  return extend_sse42(reg, p, n);
}

const ls_crc32c_impl ls_crc32c_pclmul = {
  "pclmul", has_pclmul, extend_pclmul, multiply_pclmul
};

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

/* What is in the cache is summed faster when the crc32 instruction works
 * beside the vectors: behind VECTOR_BYTES for these lie three runs of RUN_BYTES
 * for it. In a step, five times eight bytes of each run go with 256. */
#define STEPS 48
#define VECTOR_BYTES ((STEPS + 1) * 256)
#define RUN_BYTES (STEPS * 40)
#define FUSED_BYTES (VECTOR_BYTES + 3 * RUN_BYTES)
#define AFTER_ONE_RUN 0x15e8653c
#define AFTER_TWO_RUNS 0x02331c01
#define AFTER_THREE_RUNS 0x0a154c1c

AVX512 static uint32_t fused(uint32_t reg, const unsigned char *p)
{
  const unsigned char *r = p + VECTOR_BYTES;
  four v = load_four(p, reg);
  uint64_t x = 0, y = 0, z = 0;
  int i;

#define ALL_RUNS(at) \
    x = _mm_crc32_u64(x, ls_load64(r + (at))); \
    y = _mm_crc32_u64(y, ls_load64(r + RUN_BYTES + (at))); \
    z = _mm_crc32_u64(z, ls_load64(r + 2 * RUN_BYTES + (at)));

  for(i = 0; i < STEPS; i++, r += 40) {
    p += 256;
    v = fold_four(v, p);
    ALL_RUNS(0)
    ALL_RUNS(8)
    ALL_RUNS(16)
    ALL_RUNS(24)
    ALL_RUNS(32)
  }
  reg = reduce128(join512(join_four(v)));
  return multiply_pclmul(AFTER_THREE_RUNS, reg) ^
         multiply_pclmul(AFTER_TWO_RUNS, (uint32_t)x) ^
         multiply_pclmul(AFTER_ONE_RUN, (uint32_t)y) ^ (uint32_t)z;
}

/* Larger buffers come from memory, where one stream is faster than four. */
#define FUSED_MAX ((size_t)512 << 10)

AVX512 static uint32_t extend_avx512(uint32_t reg, const unsigned char *p,
                                     size_t n)
{
  if(n <= FUSED_MAX) {
    for(; n >= FUSED_BYTES; p += FUSED_BYTES, n -= FUSED_BYTES)
      reg = fused(reg, p);
  }
  if(n >= 256) {
    const __m512i k64 = all512(0x9e4addf8, 0x740eef02);
    four v = load_four(p, reg);
    __m512i d;

    for(p += 256, n -= 256; n >= 256; p += 256, n -= 256) {
      prefetch((uintptr_t)p + 4096, 256);
      v = fold_four(v, p);
    }
    d = join_four(v);
    for(; n >= 64; p += 64, n -= 64)
      d = fold512(d, k64, load512(p));
    reg = reduce128(join512(d));
  }
  return extend_sse42(reg, p, n);
}

const ls_crc32c_impl ls_crc32c_avx512 = {
  "avx512", has_avx512, extend_avx512, multiply_pclmul
};

#else
typedef int ls_crc32c_x86_is_empty;
#endif
