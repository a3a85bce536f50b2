/* Sealing: AES-256-GCM, for secrets that lie in a database. Room: src/core.
 *
 * A sealed text is nonce, ciphertext, tag. The context is not in it but must
 * be the same when it is opened: it binds the secret to its place.
 */
#ifndef LS_SEAL_H
#define LS_SEAL_H

#include "str.h"

#define LS_SEAL_KEY 32
#define LS_SEAL_NONCE 12
#define LS_SEAL_TAG 16
#define LS_SEAL_MORE (LS_SEAL_NONCE + LS_SEAL_TAG)

/* Texts and contexts above this are refused (LS_ELIMIT). */
#define LS_SEAL_MAX ((size_t)1 << 20)

/* Writes text.n + LS_SEAL_MORE bytes to `out`. A nonce must never be used
 * twice with a key; it is the caller's, random. LS_EINVAL for a key of the
 * wrong length. */
LS_MUST_CHECK ls_code ls_seal(unsigned char *out, ls_str key,
                              const unsigned char nonce[LS_SEAL_NONCE],
                              ls_str text, ls_str context);

/* Writes sealed.n - LS_SEAL_MORE bytes to `out`. LS_ESIG, with `out` wiped,
 * for another key, another context or a changed text; LS_EPARSE for what is
 * too short to be sealed. */
LS_MUST_CHECK ls_code ls_unseal(unsigned char *out, ls_str key, ls_str sealed,
                                ls_str context);

#endif
