/* SHA-256's compression with the SHA2 instructions of 64-bit ARM, for one
 * message and for four at once. Room: src/core. See sha256_x86.c for the
 * macros' pattern, and crc32c_arm.c for why this is assembly.
 */
#if defined(__aarch64__)
#include "sha256_impl.h"

#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

static bool usable(void)
{
#if defined(__linux__)
  return getauxval(AT_HWCAP) & (1ul << 6);
#else
  return true;
#endif
}

#define SHA(insn, to, x, y) \
  __asm__(".arch_extension sha2\n\t" insn : "+w"(to) : "w"(x), "w"(y))

#define LOAD_BLOCK(l, at) \
  w##l##0 = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(at))); \
  w##l##1 = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8((at) + 16))); \
  w##l##2 = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8((at) + 32))); \
  w##l##3 = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8((at) + 48))); \
  abcd_in##l = abcd##l; \
  efgh_in##l = efgh##l;

/* Four rounds, with the message words in w. */
#define ROUNDS(l, i, w) \
  sum = vaddq_u32(w, vld1q_u32(ls_sha256_k + 4 * (i))); \
  old = abcd##l; \
  SHA("sha256h %q0, %q1, %2.4s", abcd##l, efgh##l, sum); \
  SHA("sha256h2 %q0, %q1, %2.4s", efgh##l, old, sum);

/* Four rounds, and w becomes the words of sixteen rounds later. */
#define STEP(l, i, w, x, y, z) \
  ROUNDS(l, i, w) \
  __asm__(".arch_extension sha2\n\tsha256su0 %0.4s, %1.4s" \
          : "+w"(w) : "w"(x)); \
  SHA("sha256su1 %0.4s, %1.4s, %2.4s", w, y, z);

#define STEP_A(l, i) STEP(l, i, w##l##0, w##l##1, w##l##2, w##l##3)
#define STEP_B(l, i) STEP(l, i, w##l##1, w##l##2, w##l##3, w##l##0)
#define STEP_C(l, i) STEP(l, i, w##l##2, w##l##3, w##l##0, w##l##1)
#define STEP_D(l, i) STEP(l, i, w##l##3, w##l##0, w##l##1, w##l##2)
#define LAST_A(l, i) ROUNDS(l, i, w##l##0)
#define LAST_B(l, i) ROUNDS(l, i, w##l##1)
#define LAST_C(l, i) ROUNDS(l, i, w##l##2)
#define LAST_D(l, i) ROUNDS(l, i, w##l##3)

#define ADD_IN(l) \
  abcd##l = vaddq_u32(abcd##l, abcd_in##l); \
  efgh##l = vaddq_u32(efgh##l, efgh_in##l);

/* The 64 rounds; EACH runs a macro for every lane. */
#define COMPRESS(EACH) \
  EACH(STEP_A, 0) EACH(STEP_B, 1) EACH(STEP_C, 2) EACH(STEP_D, 3) \
  EACH(STEP_A, 4) EACH(STEP_B, 5) EACH(STEP_C, 6) EACH(STEP_D, 7) \
  EACH(STEP_A, 8) EACH(STEP_B, 9) EACH(STEP_C, 10) EACH(STEP_D, 11) \
  EACH(LAST_A, 12) EACH(LAST_B, 13) EACH(LAST_C, 14) EACH(LAST_D, 15)

#define ONE(op, i) op(0, i)
#define FOUR(op, i) op(0, i) op(1, i) op(2, i) op(3, i)

#define LANE(l) \
  uint32x4_t abcd##l = vld1q_u32(state[l].h); \
  uint32x4_t efgh##l = vld1q_u32(state[l].h + 4); \
  uint32x4_t abcd_in##l, efgh_in##l; \
  uint32x4_t w##l##0, w##l##1, w##l##2, w##l##3;

#define STORE_STATE(l) \
  vst1q_u32(state[l].h, abcd##l); \
  vst1q_u32(state[l].h + 4, efgh##l);

static void blocks(ls_sha256_state *state, const unsigned char *p,
                   size_t count)
{
  uint32x4_t sum, old;
  LANE(0)

  for(; count; count--, p += LS_SHA256_BLOCK) {
    LOAD_BLOCK(0, p)
    COMPRESS(ONE)
    ADD_IN(0)
  }
  STORE_STATE(0)
}

static void blocks4(ls_sha256_state state[LS_SHA256_LANES],
                    const unsigned char *const p[LS_SHA256_LANES],
                    size_t count)
{
  uint32x4_t sum, old;
  size_t at;
  LANE(0)
  LANE(1)
  LANE(2)
  LANE(3)

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

const ls_sha256_impl ls_sha256_arm = {
  "armv8-sha2", usable, blocks, blocks4
};

#else
typedef int ls_sha256_arm_is_empty;
#endif
