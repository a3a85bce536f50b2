/* Stands in for OpenSSL in the ARM tests; see spec/tools/arm.sh. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "core/sha256_impl.h"

void OPENSSL_cleanse(void *p, size_t n)
{
  volatile unsigned char *b = p;

  while(n--)
    *b++ = 0;
}

int CRYPTO_memcmp(const void *a, const void *b, size_t n)
{
  const unsigned char *x = a, *y = b;
  int different = 0;

  while(n--)
    different |= *x++ ^ *y++;
  return different;
}

static uint32_t ror(uint32_t x, int n)
{
  return x >> n | x << (32 - n);
}

void SHA256_Transform(SHA256_CTX *c, const unsigned char *block)
{
  uint32_t kw[64], s[8];
  int i;

  ls_sha256_schedule(kw, block);
  for(i = 0; i < 8; i++)
    s[i] = c->h[i];
  for(i = 0; i < 64; i++) {
    uint32_t t = s[7] + kw[i] + (ror(s[4], 6) ^ ror(s[4], 11) ^
                 ror(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6]));
    uint32_t u = (ror(s[0], 2) ^ ror(s[0], 13) ^ ror(s[0], 22)) +
                 ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

    memmove(s + 1, s, 7 * sizeof(*s));
    s[4] += t;
    s[0] = t + u;
  }
  for(i = 0; i < 8; i++)
    c->h[i] += s[i];
}
