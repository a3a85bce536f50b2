/* See digest.h. Room: src/core. */
#include "digest.h"

#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/evp.h>

/* In the order of ls_digest.evp. */
static const unsigned evp_flag[2] = { LS_DIGEST_MD5, LS_DIGEST_SHA1 };

/* In the order of ls_digest.crc. */
static const unsigned crc_flag[2] = { LS_DIGEST_CRC32, LS_DIGEST_CRC64NVME };

/* The thread's queue of errors is also that of its TLS connections, which must
 * not take ours for theirs. */
static ls_code refused(void)
{
  ERR_clear_error();
  return LS_ECRYPTO;
}

ls_code ls_digest_init(ls_digest *d, unsigned wanted)
{
  int i;

  memset(d, 0, sizeof(*d));
  d->wanted = wanted;
  ls_sha256_init(&d->stream);
  for(i = 0; i < 2; i++) {
    if(!(wanted & evp_flag[i]))
      continue;
    d->evp[i] = EVP_MD_CTX_new();
    if(!d->evp[i])
      return LS_ENOMEM;
    if(EVP_DigestInit_ex(d->evp[i], i ? EVP_sha1() : EVP_md5(), NULL) != 1)
      return refused();
  }
  for(i = 0; i < 2; i++) {
    if(!(wanted & crc_flag[i]))
      continue;
    d->crc[i] = malloc(sizeof(*d->crc[i]));
    if(!d->crc[i])
      return LS_ENOMEM;
    if(i)
      ls_crc_begin64nvme(d->crc[i]);
    else
      ls_crc_begin32(d->crc[i]);
  }
  return LS_OK;
}

ls_code ls_digest_update(ls_digest *d, const void *p, size_t n)
{
  int i;

  d->bytes += n;
  if(d->wanted & LS_DIGEST_CRC32C)
    d->crc32c = ls_crc32c(d->crc32c, p, n);
  if(d->wanted & LS_DIGEST_SHA256)
    ls_sha256_update(&d->stream, p, n);
  for(i = 0; i < 2; i++) {
    if(d->evp[i] && EVP_DigestUpdate(d->evp[i], p, n) != 1)
      return refused();
    if(d->crc[i])
      ls_crc_update(d->crc[i], p, n);
  }
  return LS_OK;
}

ls_code ls_digest_final(ls_digest *d)
{
  if(d->crc[0])
    d->crc32 = (uint32_t)ls_crc_value(d->crc[0]);
  if(d->crc[1])
    d->crc64nvme = ls_crc_value(d->crc[1]);
  if(d->wanted & LS_DIGEST_SHA256)
    ls_sha256_final(&d->stream, d->sha256);
  if(d->evp[0] && EVP_DigestFinal_ex(d->evp[0], d->md5, NULL) != 1)
    return refused();
  if(d->evp[1] && EVP_DigestFinal_ex(d->evp[1], d->sha1, NULL) != 1)
    return refused();
  return LS_OK;
}

void ls_digest_free(ls_digest *d)
{
  int i;

  for(i = 0; i < 2; i++) {
    EVP_MD_CTX_free(d->evp[i]);
    d->evp[i] = NULL;
    free(d->crc[i]);
    d->crc[i] = NULL;
  }
}
