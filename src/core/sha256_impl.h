/* One implementation of SHA-256's compression; private to the sha256 files.
 * Room: src/core.
 */
#ifndef LS_SHA256_IMPL_H
#define LS_SHA256_IMPL_H

#include "sha256.h"

typedef struct ls_sha256_impl {
  const char *name;
  bool (*usable)(void);
  void (*blocks)(ls_sha256_state *state, const unsigned char *p,
                 size_t count);
  void (*blocks4)(ls_sha256_state state[LS_SHA256_LANES],
                  const unsigned char *const p[LS_SHA256_LANES],
                  size_t count);
} ls_sha256_impl;

typedef struct ls_sha256_wide_impl {
  bool (*usable)(void);
  void (*same)(ls_sha256_wide *state, const uint32_t kw[64]);
  void (*each)(ls_sha256_wide *state, const uint32_t w[16][LS_WIDE]);
} ls_sha256_wide_impl;

extern const ls_sha256_impl ls_sha256_openssl;
#if defined(__x86_64__)
extern const ls_sha256_wide_impl ls_sha256_avx512;
extern const ls_sha256_impl ls_sha256_shani;
#elif defined(__aarch64__)
extern const ls_sha256_impl ls_sha256_arm;
#endif

extern const uint32_t ls_sha256_k[64];

#endif
