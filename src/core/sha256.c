/* SHA-256 and HMAC over the compression of the CPU's choice. See sha256.h.
 * Room: src/core.
 */
#include "sha256.h"
#include "secure.h"
#include "sha256_impl.h"

#include <stdatomic.h>

const ls_sha256_state ls_sha256_start = {
  { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 }
};

const uint32_t ls_sha256_k[64] = {
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
  0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
  0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
  0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
  0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
  0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
  0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
  0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
  0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
};

/* Best first. */
static const ls_sha256_impl *const impls[] = {
#if defined(__x86_64__)
  &ls_sha256_shani,
#elif defined(__aarch64__)
  &ls_sha256_arm,
#endif
  &ls_sha256_openssl
};

#define IMPLS (sizeof(impls) / sizeof(impls[0]))

/* The name for the best of them together with the wide form. */
#if defined(__x86_64__)
#define WIDE "avx512"
static const ls_sha256_wide_impl *const wide_impl = &ls_sha256_avx512;
#else
#define WIDE "wide"
static const ls_sha256_wide_impl *const wide_impl = NULL;
#endif

/* Chosen on first use. Two threads may choose at once: both find the same. */
static _Atomic(const ls_sha256_impl *) chosen;
static _Atomic(const ls_sha256_wide_impl *) chosen_wide;

static bool wide_usable(void)
{
  return wide_impl && wide_impl->usable();
}

static const ls_sha256_impl *choose(const ls_sha256_impl *it, bool wide)
{
  atomic_store_explicit(&chosen_wide, wide ? wide_impl : NULL,
                        memory_order_relaxed);
  atomic_store_explicit(&chosen, it, memory_order_relaxed);
  return it;
}

static const ls_sha256_impl *choose_best(void)
{
  size_t i = 0;

  while(!impls[i]->usable())
    i++;
  return choose(impls[i], wide_usable());
}

static inline const ls_sha256_impl *impl(void)
{
  const ls_sha256_impl *it =
    atomic_load_explicit(&chosen, memory_order_relaxed);

  return it ? it : choose_best();
}

const char *ls_sha256_name(size_t index)
{
  size_t i;

  if(wide_usable() && index-- == 0)
    return WIDE;
  for(i = 0; i < IMPLS; i++) {
    if(impls[i]->usable() && index-- == 0)
      return impls[i]->name;
  }
  return NULL;
}

ls_code ls_sha256_use(const char *name)
{
  size_t i;

  if(!name || (strcmp(name, WIDE) == 0 && wide_usable())) {
    choose_best();
    return LS_OK;
  }
  for(i = 0; i < IMPLS; i++) {
    if(strcmp(impls[i]->name, name) == 0 && impls[i]->usable()) {
      choose(impls[i], false);
      return LS_OK;
    }
  }
  return LS_EINVAL;
}

bool ls_sha256_has_wide(void)
{
  impl();
  return atomic_load_explicit(&chosen_wide, memory_order_relaxed) != NULL;
}

void ls_sha256_wide_same(ls_sha256_wide *state, const uint32_t kw[64])
{
  wide_impl->same(state, kw);
}

void ls_sha256_wide_each(ls_sha256_wide *state,
                         const uint32_t w[16][LS_WIDE])
{
  wide_impl->each(state, w);
}

static uint32_t ror(uint32_t x, int n)
{
  return x >> n | x << (32 - n);
}

void ls_sha256_schedule(uint32_t kw[64],
                        const unsigned char block[LS_SHA256_BLOCK])
{
  uint32_t w[64];
  int i;

  for(i = 0; i < 16; i++)
    w[i] = ls_load32be(block + 4 * i);
  for(i = 16; i < 64; i++) {
    uint32_t x = w[i - 15], y = w[i - 2];

    w[i] = w[i - 16] + w[i - 7] + (ror(x, 7) ^ ror(x, 18) ^ x >> 3) +
           (ror(y, 17) ^ ror(y, 19) ^ y >> 10);
  }
  for(i = 0; i < 64; i++)
    kw[i] = w[i] + ls_sha256_k[i];
}

void ls_sha256_blocks(ls_sha256_state *state, const unsigned char *p,
                      size_t count)
{
  impl()->blocks(state, p, count);
}

void ls_sha256_blocks4(ls_sha256_state state[LS_SHA256_LANES],
                       const unsigned char *const p[LS_SHA256_LANES],
                       size_t count)
{
  impl()->blocks4(state, p, count);
}

size_t ls_sha256_pad(unsigned char *tail, size_t n, uint64_t length)
{
  size_t blocks = (n + 9 + LS_SHA256_BLOCK - 1) / LS_SHA256_BLOCK;
  size_t end = blocks * LS_SHA256_BLOCK;
  uint64_t bits = length * 8;
  int i;

  tail[n] = 0x80;
  memset(tail + n + 1, 0, end - n - 9);
  for(i = 1; i <= 8; i++) {
    tail[end - (size_t)i] = (unsigned char)bits;
    bits >>= 8;
  }
  return blocks;
}

void ls_sha256_store(const ls_sha256_state *state,
                     unsigned char out[LS_SHA256_SIZE])
{
  int i;

  for(i = 0; i < 8; i++)
    ls_store32be(out + 4 * i, state->h[i]);
}

void ls_sha256_init(ls_sha256 *s)
{
  s->state = ls_sha256_start;
  s->length = 0;
}

void ls_sha256_update(ls_sha256 *s, const void *p, size_t n)
{
  const unsigned char *from = p;
  size_t held = s->length % LS_SHA256_BLOCK;

  if(!n)
    return;
  s->length += n;
  if(held) {
    size_t take = LS_SHA256_BLOCK - held < n ? LS_SHA256_BLOCK - held : n;

    memcpy(s->block + held, from, take);
    from += take;
    n -= take;
    if(held + take < LS_SHA256_BLOCK)
      return;
    ls_sha256_blocks(&s->state, s->block, 1);
  }
  if(n >= LS_SHA256_BLOCK) {
    ls_sha256_blocks(&s->state, from, n / LS_SHA256_BLOCK);
    from += n - n % LS_SHA256_BLOCK;
    n %= LS_SHA256_BLOCK;
  }
  memcpy(s->block, from, n);
}

void ls_sha256_final(ls_sha256 *s, unsigned char out[LS_SHA256_SIZE])
{
  unsigned char tail[2 * LS_SHA256_BLOCK];
  size_t held = s->length % LS_SHA256_BLOCK;

  memcpy(tail, s->block, held);
  ls_sha256_blocks(&s->state, tail, ls_sha256_pad(tail, held, s->length));
  ls_sha256_store(&s->state, out);
  ls_wipe(tail, sizeof(tail));
  ls_wipe(s, sizeof(*s));
}

void ls_sha256_once(const void *p, size_t n, unsigned char out[LS_SHA256_SIZE])
{
  ls_sha256 s;

  ls_sha256_init(&s);
  ls_sha256_update(&s, p, n);
  ls_sha256_final(&s, out);
}
