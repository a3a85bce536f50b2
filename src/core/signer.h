/* Signing requests with SigV4. Room: src/core.
 *
 *   ls_signer_begin(s);
 *   ls_signer_query(s, name, value);       any number of times
 *   ls_signer_header(s, name, value);      any number of times
 *   ls_signer_presign(s, &target, time, expires, &url)
 *     or ls_signer_sign or ls_run_prepare
 *
 * A signer owns its credentials (wiped when freed), the signing key of the
 * day it last signed for, and memory that it uses again for every request.
 * One thread at a time. When a call fails with LS_EINVAL, ls_signer_why()
 * says in words what was wrong.
 */
#ifndef LS_SIGNER_H
#define LS_SIGNER_H

#include "buf.h"

typedef struct ls_signer ls_signer;

typedef struct ls_credentials {
  ls_str access_key;
  ls_str secret_key;
  ls_str session_token; /* absent or empty: none */
  ls_str region;
  ls_str service;
} ls_credentials;

typedef struct ls_target {
  ls_str method;
  ls_str scheme;  /* https or http */
  ls_str host;    /* with the port where it is not the scheme's own */
  ls_str path;    /* not encoded, begins with a slash */
} ls_target;

LS_MUST_CHECK ls_code ls_signer_new(ls_signer **out,
                                    const ls_credentials *credentials);
void ls_signer_free(ls_signer *s);
const char *ls_signer_why(const ls_signer *s);

/* Forgets the query and headers of the request before. */
void ls_signer_begin(ls_signer *s);

/* A query parameter, not encoded; a name may occur more than once. */
void ls_signer_query(ls_signer *s, ls_str name, ls_str value);

/* A header that is to be signed; host is always signed, from the target. */
void ls_signer_header(ls_signer *s, ls_str name, ls_str value);

/* The headers that carry the signature. Valid until the signer's next call. */
typedef struct ls_signed {
  ls_str authorization;
  ls_str date;
  ls_str payload_hash;
  ls_str session_token;  /* absent: none */
  ls_str target;         /* path and query as they must go out */
  ls_str host;
} ls_signed;

/* `payload_hash`: 64 hexadecimal digits, UNSIGNED-PAYLOAD, or what else the
 * store documents. */
LS_MUST_CHECK ls_code ls_signer_sign(ls_signer *s, const ls_target *target,
                                     ls_str payload_hash, uint64_t time,
                                     ls_signed *out);

#define LS_EXPIRES_MAX 604800

/* A URL that is good for `expires` seconds, 1 to LS_EXPIRES_MAX. The signature
 * is its last parameter; the payload is not signed, unless a header
 * x-amz-content-sha256 or a parameter X-Amz-Content-Sha256 was added. The text
 * is valid until the signer's next call. */
LS_MUST_CHECK ls_code ls_signer_presign(ls_signer *s, const ls_target *target,
                                        uint64_t time, uint64_t expires,
                                        ls_str *url);

#endif
