/* One implementation of CRC32C; private to the crc32c files. Room: src/core. */
#ifndef LS_CRC32C_IMPL_H
#define LS_CRC32C_IMPL_H

#include "ls.h"

#include <stdbool.h>
#include <string.h>

typedef struct ls_crc32c_impl {
  const char *name;
  bool (*usable)(void);
  /* Works on the register, that is without the inversions around it. */
  uint32_t (*extend)(uint32_t reg, const unsigned char *p, size_t n);
  /* The product of two reflected polynomials modulo the CRC's. */
  uint32_t (*multiply)(uint32_t a, uint32_t b);
} ls_crc32c_impl;

extern const ls_crc32c_impl ls_crc32c_portable;
#if defined(__x86_64__)
extern const ls_crc32c_impl ls_crc32c_avx512;
extern const ls_crc32c_impl ls_crc32c_pclmul;
extern const ls_crc32c_impl ls_crc32c_sse42;
#elif defined(__aarch64__)
extern const ls_crc32c_impl ls_crc32c_arm_pmull;
extern const ls_crc32c_impl ls_crc32c_arm;
#endif

/* x^(8 * length) modulo the polynomial, by the tables of the portable file. */
uint32_t ls_crc32c_power(uint64_t length,
                         uint32_t (*multiply)(uint32_t a, uint32_t b));

static inline uint64_t ls_load64(const unsigned char *p)
{
  uint64_t v;

  memcpy(&v, p, sizeof(v));
  return v;
}

#endif
