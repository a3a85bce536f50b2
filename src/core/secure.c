/* See secure.h. Room: src/core. */
#include "secure.h"

#include <openssl/crypto.h>

void ls_wipe(void *p, size_t n)
{
  OPENSSL_cleanse(p, n);
}

bool ls_equal(ls_str a, ls_str b)
{
  return a.n == b.n && (a.n == 0 || CRYPTO_memcmp(a.p, b.p, a.n) == 0);
}
