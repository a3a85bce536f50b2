/* An OpenSSL that refuses what is not FIPS, or everything: that is said, and no
 * error stays behind for the thread's TLS connections. */
#include "check.h"
#include "core/digest.h"
#include "core/seal.h"

#include <stdlib.h>
#include <unistd.h>

#include <openssl/err.h>

/* Nothing of OpenSSL's has these properties, so that nothing is found. */
static const char settings[] =
  "openssl_conf = init\n[init]\nalg_section = all\n"
  "[all]\ndefault_properties = longshore=none\n";

int main(void)
{
  char path[] = "/tmp/longshore-ctest-XXXXXX";
  unsigned char out[LS_SEAL_MORE + 1], nonce[LS_SEAL_NONCE] = "";
  char key[LS_SEAL_KEY] = "";
  ls_digest d;
  int fd = mkstemp(path);

  if(fd < 0 || write(fd, settings, sizeof(settings) - 1) < 0 ||
     setenv("OPENSSL_CONF", path, 1))
    return 2;
  close(fd);
  check_u64("MD5", ls_digest_init(&d, LS_DIGEST_MD5), LS_ECRYPTO);
  ls_digest_free(&d);
  check_u64("its errors", ERR_peek_error(), 0);
  check_u64("SHA-1", ls_digest_init(&d, LS_DIGEST_SHA1), LS_ECRYPTO);
  ls_digest_free(&d);
  check_u64("its errors", ERR_peek_error(), 0);
  check_u64("seal", ls_seal(out, (ls_str){ key, sizeof(key) }, nonce,
                            LS_LIT("x"), LS_LIT("")), LS_ECRYPTO);
  check_u64("its errors", ERR_peek_error(), 0);
  memset(out, 1, sizeof(out));
  check_u64("unseal", ls_unseal((unsigned char *)key, (ls_str){ key,
            sizeof(key) }, (ls_str){ (char *)out, sizeof(out) }, LS_LIT("")),
            LS_ECRYPTO);
  check_u64("its errors", ERR_peek_error(), 0);
  /* Our own do not ask OpenSSL, or ask it for no algorithm. */
  check_u64("SHA-256", ls_digest_init(&d, LS_DIGEST_SHA256), LS_OK);
  ls_digest_free(&d);
  unlink(path);
  return check_end();
}
