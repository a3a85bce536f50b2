/* What the two CRC32C files for x86-64 share. Room: src/core. */
#ifndef LS_CRC32C_X86_H
#define LS_CRC32C_X86_H

#include "crc32c_impl.h"

#include <immintrin.h>

#define SSE42 __attribute__((target("sse4.2")))
#define PCLMUL __attribute__((target("sse4.2,pclmul")))

/* Asks for cache lines ahead of use; beyond the end of the data it does no
 * harm. */
static inline void ls_prefetch(uintptr_t at, size_t n)
{
  size_t i;

#pragma GCC unroll 64
  for(i = 0; i < n; i += 64)
    __builtin_prefetch((const void *)(at + i));
}

uint32_t ls_crc32c_extend_sse42(uint32_t reg, const unsigned char *p,
                                size_t n);

/* The product of two reflected polynomials lacks a factor x; the crc32
 * instruction then reduces its 64 bits, multiplying by x^32. */
PCLMUL static inline uint32_t ls_crc32c_multiply_pclmul(uint32_t a,
                                                              uint32_t b)
{
  __m128i product = _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)a),
                                         _mm_cvtsi32_si128((int)b), 0);
  uint64_t v = (uint64_t)_mm_cvtsi128_si64(product) << 1;

  return _mm_crc32_u32(0, (uint32_t)v) ^ (uint32_t)(v >> 32);
}

#endif
