/* CRC32C on 64-bit ARM: the crc32c instructions, and three of them at a time
 * merged by polynomial multiplication. Room: src/core.
 *
 * The instructions are written as assembly, because compilers differ in how
 * they let a single function use them.
 */
#if defined(__aarch64__)
#include "crc32c_impl.h"

#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

static bool has(unsigned long bit)
{
#if defined(__linux__)
  return getauxval(AT_HWCAP) & bit;
#else
  (void)bit;
  return true; /* Apple's all have them */
#endif
}

#define CAP_PMULL (1ul << 4)
#define CAP_CRC32 (1ul << 7)

static bool has_crc(void)
{
  return has(CAP_CRC32);
}

static bool has_pmull(void)
{
  return has_crc() && has(CAP_PMULL);
}

#define STEP(insn, reg, v) \
  __asm__(".arch_extension crc\n\t" insn : "+r"(reg) : "r"(v))

static inline uint32_t step64(uint32_t reg, uint64_t v)
{
  STEP("crc32cx %w0, %w0, %x1", reg, v);
  return reg;
}

static uint32_t extend_crc(uint32_t reg, const unsigned char *p, size_t n)
{
  for(; n >= 8; n -= 8, p += 8)
    reg = step64(reg, ls_load64(p));
  if(n & 4) {
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    STEP("crc32cw %w0, %w0, %w1", reg, v);
    p += 4;
  }
  if(n & 2) {
    uint16_t v;

    memcpy(&v, p, sizeof(v));
    STEP("crc32ch %w0, %w0, %w1", reg, v);
    p += 2;
  }
  if(n & 1)
    STEP("crc32cb %w0, %w0, %w1", reg, *p);
  return reg;
}

static uint32_t multiply_portable(uint32_t a, uint32_t b)
{
  return ls_crc32c_portable.multiply(a, b);
}

/* As in crc32c_x86.h: the product lacks a factor x, and the instruction
 * reduces its low half. */
static uint32_t multiply_pmull(uint32_t a, uint32_t b)
{
  uint64x2_t product;
  uint32_t high, reg = 0;
  uint64_t v;

  __asm__(".arch_extension aes\n\tpmull %0.1q, %1.1d, %2.1d"
          : "=w"(product) : "w"(vcreate_u64(a)), "w"(vcreate_u64(b)));
  v = vgetq_lane_u64(product, 0) << 1;
  high = (uint32_t)(v >> 32);
  STEP("crc32cw %w0, %w0, %w1", reg, (uint32_t)v);
  return reg ^ high;
}

static inline uint32_t three_runs(uint32_t reg, const unsigned char *p,
                                  size_t size, uint32_t once, uint32_t twice)
{
  uint32_t b = 0, c = 0;
  size_t i;

  for(i = 0; i < size; i += 8) {
    reg = step64(reg, ls_load64(p + i));
    b = step64(b, ls_load64(p + size + i));
    c = step64(c, ls_load64(p + 2 * size + i));
  }
  return multiply_pmull(twice, reg) ^ multiply_pmull(once, b) ^ c;
}

static uint32_t extend_pmull(uint32_t reg, const unsigned char *p, size_t n)
{
  for(; n >= 3 * 1024; p += 3 * 1024, n -= 3 * 1024)
    reg = three_runs(reg, p, 1024, 0xe4172b16, 0x0d65762a);
  for(; n >= 3 * 128; p += 3 * 128, n -= 3 * 128)
    reg = three_runs(reg, p, 128, 0xb8fdb1e7, 0x88e56f72);
  return extend_crc(reg, p, n);
}

const ls_crc32c_impl ls_crc32c_arm = {
  "armv8-crc", has_crc, extend_crc, multiply_portable
};

const ls_crc32c_impl ls_crc32c_arm_pmull = {
  "armv8-pmull", has_pmull, extend_pmull, multiply_pmull
};

#else
typedef int ls_crc32c_arm_is_empty;
#endif
