/* Several digests of the same bytes in one pass. Room: src/core. */
#ifndef LS_DIGEST_H
#define LS_DIGEST_H

#include "crc.h"
#include "crc32c.h"
#include "sha256.h"

enum {
  LS_DIGEST_MD5 = 1,
  LS_DIGEST_SHA1 = 2,
  LS_DIGEST_SHA256 = 4,
  LS_DIGEST_CRC32C = 8,
  LS_DIGEST_CRC32 = 16,
  LS_DIGEST_CRC64NVME = 32
};

#define LS_MD5_SIZE 16
#define LS_SHA1_SIZE 20

typedef struct ls_digest {
  unsigned wanted;  /* LS_DIGEST_* or-ed */
  uint64_t bytes;
  uint32_t crc32c;
  ls_sha256 stream;
  void *evp[2];     /* OpenSSL's MD5 and SHA-1 */
  ls_crc *crc[2];   /* CRC-32 and CRC-64/NVME */
  /* Filled in by ls_digest_final, as far as wanted. */
  unsigned char md5[LS_MD5_SIZE];
  unsigned char sha1[LS_SHA1_SIZE];
  unsigned char sha256[LS_SHA256_SIZE];
  uint32_t crc32;
  uint64_t crc64nvme;
} ls_digest;

/* LS_ECRYPTO where OpenSSL refuses an algorithm (MD5 under FIPS). After any
 * outcome ls_digest_free may be called, once or again. */
LS_MUST_CHECK ls_code ls_digest_init(ls_digest *d, unsigned wanted);
LS_MUST_CHECK ls_code ls_digest_update(ls_digest *d, const void *p, size_t n);
LS_MUST_CHECK ls_code ls_digest_final(ls_digest *d);
void ls_digest_free(ls_digest *d);

#endif
