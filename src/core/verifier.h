/* Verifying requests that were signed with SigV4. Room: src/core.
 *
 *   ls_verifier_begin(v, method, target);
 *   ls_verifier_header(v, name, value);         for every header received
 *   ls_verifier_parse(v, &auth)                 who says to have signed?
 *   ls_verifier_check(v, &auth, &expected)      did they?
 *
 * The target is the raw one of the request line. Its path and query are
 * decoded and encoded once, as S3 does it, so that a client may leave bare
 * what it encoded for signing; a plus sign in the query is a space. A failure
 * is described by ls_verifier_fault(). One thread at a time.
 */
#ifndef LS_VERIFIER_H
#define LS_VERIFIER_H

#include "buf.h"
#include "date.h"

typedef struct ls_verifier ls_verifier;

typedef enum ls_auth_form {
  LS_AUTH_NONE,   /* not signed at all */
  LS_AUTH_HEADER,
  LS_AUTH_QUERY
} ls_auth_form;

/* Views are valid until the verifier's next ls_verifier_begin. */
typedef struct ls_auth {
  ls_auth_form form;
  ls_str access_key;
  ls_str scope;          /* day/region/service/aws4_request */
  ls_str day;
  ls_str region;
  ls_str service;
  ls_str signed_headers; /* separated by semicolons */
  ls_str signature;
  ls_str payload_hash;
  ls_str session_token;  /* absent: none */
  char date[LS_DATE_SIZE];
  uint64_t time;
  uint64_t expires;      /* seconds; query form only */
} ls_auth;

typedef struct ls_expected {
  ls_str secret_key;
  ls_str session_token;  /* absent or empty: none */
  ls_str region;         /* absent: any */
  ls_str service;        /* absent: any */
  uint64_t now;
  uint64_t skew;         /* how far the clocks may be apart, in seconds */
  bool allow_unsigned;   /* tolerate x-amz-* headers that are not signed */
} ls_expected;

/* What is wrong with a request. `code` is one of malformed, unsupported,
 * missing_header, unsigned_header, scope, skewed, expired, token,
 * signature_mismatch. */
typedef struct ls_fault {
  const char *code;
  const char *message;
  ls_str field;          /* the header or parameter; absent: none */
} ls_fault;

LS_MUST_CHECK ls_code ls_verifier_new(ls_verifier **out);
void ls_verifier_free(ls_verifier *v);

void ls_verifier_begin(ls_verifier *v, ls_str method, ls_str target);
void ls_verifier_header(ls_verifier *v, ls_str name, ls_str value);

/* LS_OK also for a request without a signature: form is LS_AUTH_NONE then.
 * LS_EPARSE with a fault. */
LS_MUST_CHECK ls_code ls_verifier_parse(ls_verifier *v, ls_auth *auth);

/* LS_OK, or LS_ESIG with a fault. Call it with what ls_verifier_parse gave,
 * of form LS_AUTH_HEADER or LS_AUTH_QUERY. */
LS_MUST_CHECK ls_code ls_verifier_check(ls_verifier *v, const ls_auth *auth,
                                        const ls_expected *expected);

const ls_fault *ls_verifier_fault(const ls_verifier *v);

/* After a signature_mismatch: what was signed here, for comparing with what
 * the client signed. Neither holds a key; a session token is in the first as
 * the client sent it. */
ls_str ls_verifier_canonical(const ls_verifier *v);
void ls_verifier_string_to_sign(const ls_verifier *v, const ls_auth *auth,
                                ls_buf *to);

#endif
