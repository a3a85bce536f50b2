/* SHA-256's compression of 32 messages at once on 512-bit vectors, one word
 * of sixteen messages in each. Room: src/core.
 *
 * Two groups of sixteen run side by side, because one alone waits for the
 * latency of its own additions. Where all messages have the same block, its
 * schedule is worked out once for all and a round is sixteen instructions.
 */
#if defined(__x86_64__)
#include "sha256_impl.h"

#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw")))

static bool usable(void)
{
  return __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw");
}

#define ADD(x, y) _mm512_add_epi32((x), (y))
#define ROR(x, n) _mm512_ror_epi32((x), (n))
#define SHR(x, n) _mm512_srli_epi32((x), (n))
#define XOR3(x, y, z) _mm512_ternarylogic_epi32((x), (y), (z), 0x96)
#define CHOOSE(x, y, z) _mm512_ternarylogic_epi32((x), (y), (z), 0xca)
#define MAJORITY(x, y, z) _mm512_ternarylogic_epi32((x), (y), (z), 0xe8)
#define ALL(x) _mm512_set1_epi32((int)(x))
#define LOADU(p) _mm512_loadu_si512((const void *)(p))
#define STOREU(p, v) _mm512_storeu_si512((void *)(p), (v))

/* One round; kw is the round's constant plus the message word. The sums are
 * grouped so that the new e waits for nothing but the old one. */
#define ROUND(a, b, c, d, e, f, g, h, kw) do { \
    __m512i hk_ = ADD(h, kw); \
    __m512i dk_ = ADD(d, hk_); \
    __m512i choose_ = CHOOSE(e, f, g); \
    __m512i sum_ = XOR3(ROR(e, 6), ROR(e, 11), ROR(e, 25)); \
    d = ADD(ADD(dk_, choose_), sum_); \
    h = ADD(ADD(ADD(hk_, choose_), sum_), \
            ADD(XOR3(ROR(a, 2), ROR(a, 13), ROR(a, 22)), \
                MAJORITY(a, b, c))); \
  } while(0)

/* A round of both groups; x(i) and y(i) are their words. */
#define BOTH(a, b, c, d, e, f, g, h, i, x, y) \
  ROUND(a##0, b##0, c##0, d##0, e##0, f##0, g##0, h##0, x(i)); \
  ROUND(a##1, b##1, c##1, d##1, e##1, f##1, g##1, h##1, y(i));

#define EIGHT(i, x, y) \
  BOTH(a, b, c, d, e, f, g, h, (i), x, y) \
  BOTH(h, a, b, c, d, e, f, g, (i) + 1, x, y) \
  BOTH(g, h, a, b, c, d, e, f, (i) + 2, x, y) \
  BOTH(f, g, h, a, b, c, d, e, (i) + 3, x, y) \
  BOTH(e, f, g, h, a, b, c, d, (i) + 4, x, y) \
  BOTH(d, e, f, g, h, a, b, c, (i) + 5, x, y) \
  BOTH(c, d, e, f, g, h, a, b, (i) + 6, x, y) \
  BOTH(b, c, d, e, f, g, h, a, (i) + 7, x, y)

#define LOAD_STATE(s) \
  __m512i a0 = LOADU(s->h[0]), a1 = LOADU(s->h[0] + 16); \
  __m512i b0 = LOADU(s->h[1]), b1 = LOADU(s->h[1] + 16); \
  __m512i c0 = LOADU(s->h[2]), c1 = LOADU(s->h[2] + 16); \
  __m512i d0 = LOADU(s->h[3]), d1 = LOADU(s->h[3] + 16); \
  __m512i e0 = LOADU(s->h[4]), e1 = LOADU(s->h[4] + 16); \
  __m512i f0 = LOADU(s->h[5]), f1 = LOADU(s->h[5] + 16); \
  __m512i g0 = LOADU(s->h[6]), g1 = LOADU(s->h[6] + 16); \
  __m512i h0 = LOADU(s->h[7]), h1 = LOADU(s->h[7] + 16);

#define ADD_TO(p, v0, v1) \
  STOREU((p), ADD(LOADU(p), (v0))); \
  STOREU((p) + 16, ADD(LOADU((p) + 16), (v1)));

#define ADD_STATE(s) \
  ADD_TO(s->h[0], a0, a1) ADD_TO(s->h[1], b0, b1) \
  ADD_TO(s->h[2], c0, c1) ADD_TO(s->h[3], d0, d1) \
  ADD_TO(s->h[4], e0, e1) ADD_TO(s->h[5], f0, f1) \
  ADD_TO(s->h[6], g0, g1) ADD_TO(s->h[7], h0, h1)

AVX512 static void same(ls_sha256_wide *s, const uint32_t kw[64])
{
  int i;
  LOAD_STATE(s)

#define WORD(k) ALL(kw[k])
  for(i = 0; i < 64; i += 16) {
    EIGHT(i, WORD, WORD)
    EIGHT(i + 8, WORD, WORD)
  }
#undef WORD
  ADD_STATE(s)
}

/* Word i of the schedule takes the place of word i - 16. */
#define SCHEDULE(w, i) do { \
    __m512i x_ = w[((i) + 1) & 15], y_ = w[((i) + 14) & 15]; \
    w[(i) & 15] = ADD( \
      ADD(w[(i) & 15], w[((i) + 9) & 15]), \
      ADD(XOR3(ROR(x_, 7), ROR(x_, 18), SHR(x_, 3)), \
          XOR3(ROR(y_, 17), ROR(y_, 19), SHR(y_, 10)))); \
  } while(0)

AVX512 static void each(ls_sha256_wide *s, const uint32_t w[16][LS_WIDE])
{
  __m512i u[16], v[16];
  int i, k;
  LOAD_STATE(s)

  for(i = 0; i < 16; i++) {
    u[i] = LOADU(w[i]);
    v[i] = LOADU(w[i] + 16);
  }
#define WORD_U(n) ADD(u[(n) & 15], ALL(ls_sha256_k[n]))
#define WORD_V(n) ADD(v[(n) & 15], ALL(ls_sha256_k[n]))
  EIGHT(0, WORD_U, WORD_V)
  EIGHT(8, WORD_U, WORD_V)
  for(i = 16; i < 64; i += 16) {
    for(k = 0; k < 16; k++) {
      SCHEDULE(u, k);
      SCHEDULE(v, k);
    }
    EIGHT(i, WORD_U, WORD_V)
    EIGHT(i + 8, WORD_U, WORD_V)
  }
#undef WORD_U
#undef WORD_V
  ADD_STATE(s)
}

const ls_sha256_wide_impl ls_sha256_avx512 = { usable, same, each };

#else
typedef int ls_sha256_avx512_is_empty;
#endif
