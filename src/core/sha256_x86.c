/* SHA-256's compression with the SHA instructions of x86-64, for one message
 * and for four at once. Room: src/core.
 *
 * One message waits for the latency of sha256rnds2; four independent ones fill
 * those waits. The rounds are macros because the lanes must be spelled out to
 * stay in registers.
 */
#if defined(__x86_64__)
#include "sha256_impl.h"

#include <cpuid.h>
#include <immintrin.h>

#define SHANI __attribute__((target("sha,ssse3,sse4.1")))

static bool usable(void)
{
  unsigned a, b, c, d;

  return __builtin_cpu_supports("sse4.1") &&
         __builtin_cpu_supports("ssse3") &&
         __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & (1u << 29);
}

/* The instructions want the state as ABEF and CDGH. */
#define LOAD_STATE(l) \
  tmp = _mm_shuffle_epi32(LOADU(state[l].h), 0xb1); \
  cdgh##l = _mm_shuffle_epi32(LOADU(state[l].h + 4), 0x1b); \
  abef##l = _mm_alignr_epi8(tmp, cdgh##l, 8); \
  cdgh##l = _mm_blend_epi16(cdgh##l, tmp, 0xf0);

#define STORE_STATE(l) \
  tmp = _mm_shuffle_epi32(abef##l, 0x1b); \
  cdgh##l = _mm_shuffle_epi32(cdgh##l, 0xb1); \
  STOREU(state[l].h, _mm_blend_epi16(tmp, cdgh##l, 0xf0)); \
  STOREU(state[l].h + 4, _mm_alignr_epi8(cdgh##l, tmp, 8));

#define LOADU(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define STOREU(p, v) _mm_storeu_si128((__m128i *)(void *)(p), (v))

#define LOAD_BLOCK(l, at) \
  w##l##0 = _mm_shuffle_epi8(LOADU((at)), swap); \
  w##l##1 = _mm_shuffle_epi8(LOADU((at) + 16), swap); \
  w##l##2 = _mm_shuffle_epi8(LOADU((at) + 32), swap); \
  w##l##3 = _mm_shuffle_epi8(LOADU((at) + 48), swap); \
  abef_in##l = abef##l; \
  cdgh_in##l = cdgh##l;

/* Four rounds, with the message words in w. */
#define ROUNDS(l, i, w) \
  tmp = _mm_add_epi32(w, LOADU(ls_sha256_k + 4 * (i))); \
  cdgh##l = _mm_sha256rnds2_epu32(cdgh##l, abef##l, tmp); \
  abef##l = _mm_sha256rnds2_epu32(abef##l, cdgh##l, \
                                  _mm_shuffle_epi32(tmp, 0x0e));

/* Four rounds, and w becomes the words of sixteen rounds later. */
#define STEP(l, i, w, x, y, z) \
  ROUNDS(l, i, w) \
  w = _mm_sha256msg2_epu32( \
    _mm_add_epi32(_mm_sha256msg1_epu32(w, x), _mm_alignr_epi8(z, y, 4)), z);

#define STEP_A(l, i) STEP(l, i, w##l##0, w##l##1, w##l##2, w##l##3)
#define STEP_B(l, i) STEP(l, i, w##l##1, w##l##2, w##l##3, w##l##0)
#define STEP_C(l, i) STEP(l, i, w##l##2, w##l##3, w##l##0, w##l##1)
#define STEP_D(l, i) STEP(l, i, w##l##3, w##l##0, w##l##1, w##l##2)
#define LAST_A(l, i) ROUNDS(l, i, w##l##0)
#define LAST_B(l, i) ROUNDS(l, i, w##l##1)
#define LAST_C(l, i) ROUNDS(l, i, w##l##2)
#define LAST_D(l, i) ROUNDS(l, i, w##l##3)

#define ADD_IN(l) \
  abef##l = _mm_add_epi32(abef##l, abef_in##l); \
  cdgh##l = _mm_add_epi32(cdgh##l, cdgh_in##l);

/* The 64 rounds; EACH runs a macro for every lane. */
#define COMPRESS(EACH) \
  EACH(STEP_A, 0) EACH(STEP_B, 1) EACH(STEP_C, 2) EACH(STEP_D, 3) \
  EACH(STEP_A, 4) EACH(STEP_B, 5) EACH(STEP_C, 6) EACH(STEP_D, 7) \
  EACH(STEP_A, 8) EACH(STEP_B, 9) EACH(STEP_C, 10) EACH(STEP_D, 11) \
  EACH(LAST_A, 12) EACH(LAST_B, 13) EACH(LAST_C, 14) EACH(LAST_D, 15)

#define ONE(op, i) op(0, i)
#define FOUR(op, i) op(0, i) op(1, i) op(2, i) op(3, i)

#define LANE(l) \
  __m128i abef##l, cdgh##l, abef_in##l, cdgh_in##l; \
  __m128i w##l##0, w##l##1, w##l##2, w##l##3;

SHANI static void blocks(ls_sha256_state *state, const unsigned char *p,
                         size_t count)
{
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  __m128i tmp;
  LANE(0)

  LOAD_STATE(0)
  for(; count; count--, p += LS_SHA256_BLOCK) {
    LOAD_BLOCK(0, p)
    COMPRESS(ONE)
    ADD_IN(0)
  }
  STORE_STATE(0)
}

SHANI static void blocks4(ls_sha256_state state[LS_SHA256_LANES],
                          const unsigned char *const p[LS_SHA256_LANES],
                          size_t count)
{
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  __m128i tmp;
  size_t at;
  LANE(0)
  LANE(1)
  LANE(2)
  LANE(3)

  LOAD_STATE(0)
  LOAD_STATE(1)
  LOAD_STATE(2)
  LOAD_STATE(3)
  for(at = 0; count; count--, at += LS_SHA256_BLOCK) {
    LOAD_BLOCK(0, p[0] + at)
    LOAD_BLOCK(1, p[1] + at)
    LOAD_BLOCK(2, p[2] + at)
    LOAD_BLOCK(3, p[3] + at)
    COMPRESS(FOUR)
    ADD_IN(0)
    ADD_IN(1)
    ADD_IN(2)
    ADD_IN(3)
  }
  STORE_STATE(0)
  STORE_STATE(1)
  STORE_STATE(2)
  STORE_STATE(3)
}

const ls_sha256_impl ls_sha256_shani = {
  "sha-ni", usable, blocks, blocks4
};

#else
typedef int ls_sha256_x86_is_empty;
#endif
