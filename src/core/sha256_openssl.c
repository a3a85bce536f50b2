/* SHA-256's compression by OpenSSL, for every CPU without an implementation
 * of ours. Room: src/core.
 *
 * SHA256_Transform is one of the calls that OpenSSL 3 deprecates. It is used
 * nonetheless: the recommended EVP_MD_CTX_copy_ex allocates for every state
 * that is copied, and there are three such copies for each URL.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "sha256_impl.h"
#include "secure.h"

#include <openssl/sha.h>

static void blocks(ls_sha256_state *state, const unsigned char *p,
                   size_t count)
{
  SHA256_CTX ctx;

  memset(&ctx, 0, sizeof(ctx));
  memcpy(ctx.h, state->h, sizeof(state->h));
  for(; count; count--, p += LS_SHA256_BLOCK)
    SHA256_Transform(&ctx, p);
  memcpy(state->h, ctx.h, sizeof(state->h));
  ls_wipe(ctx.h, sizeof(ctx.h));
}

static void blocks4(ls_sha256_state state[LS_SHA256_LANES],
                    const unsigned char *const p[LS_SHA256_LANES],
                    size_t count)
{
  size_t lane;

  for(lane = 0; lane < LS_SHA256_LANES; lane++)
    blocks(&state[lane], p[lane], count);
}

static bool usable(void)
{
  return true;
}

const ls_sha256_impl ls_sha256_openssl = {
  "openssl", usable, blocks, blocks4
};
