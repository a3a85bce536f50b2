/* HMAC-SHA256 (RFC 2104) on kept states. See sha256.h. Room: src/core. */
#include "secure.h"
#include "sha256.h"

static void digest_key(ls_sha256_state *state, const unsigned char *key,
                       size_t n, unsigned char pad)
{
  unsigned char block[LS_SHA256_BLOCK];
  size_t i;

  memset(block, pad, sizeof(block));
  for(i = 0; i < n; i++)
    block[i] ^= key[i];
  *state = ls_sha256_start;
  ls_sha256_blocks(state, block, 1);
  ls_wipe(block, sizeof(block));
}

void ls_hmac_init(ls_hmac *key, const void *p, size_t n)
{
  unsigned char digest[LS_SHA256_SIZE];

  if(n > LS_SHA256_BLOCK) {
    ls_sha256_once(p, n, digest);
    p = digest;
    n = sizeof(digest);
  }
  digest_key(&key->inner, p, n, 0x36);
  digest_key(&key->outer, p, n, 0x5c);
  ls_wipe(digest, sizeof(digest));
}

void ls_hmac_sign(const ls_hmac *key, const void *p, size_t n,
                  unsigned char out[LS_SHA256_SIZE])
{
  unsigned char block[LS_SHA256_BLOCK];
  ls_sha256 inner;
  ls_sha256_state outer = key->outer;

  inner.state = key->inner;
  inner.length = LS_SHA256_BLOCK;
  ls_sha256_update(&inner, p, n);
  ls_sha256_final(&inner, block);
  ls_sha256_pad(block, LS_SHA256_SIZE, LS_SHA256_BLOCK + LS_SHA256_SIZE);
  ls_sha256_blocks(&outer, block, 1);
  ls_sha256_store(&outer, out);
  ls_wipe(block, sizeof(block));
  ls_wipe(&outer, sizeof(outer));
}
