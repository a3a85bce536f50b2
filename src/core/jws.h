/* Signatures of web tokens (RFC 7515, 7518, 8037) over OpenSSL's EVP.
 * Room: src/core.
 *
 * A key is made for one algorithm and verifies with no other: what a token
 * says of its algorithm is never asked here.
 */
#ifndef LS_JWS_H
#define LS_JWS_H

#include "ls.h"
#include "str.h"

typedef enum ls_jws_algorithm {
  LS_JWS_HS256, /* HMAC with SHA-256 */
  LS_JWS_RS256, /* RSASSA-PKCS1-v1_5 with SHA-256 */
  LS_JWS_ES256, /* ECDSA on P-256 with SHA-256 */
  LS_JWS_EDDSA  /* Ed25519 */
} ls_jws_algorithm;

/* The shortest secret and modulus that are taken. */
#define LS_JWS_SECRET_MIN 32
#define LS_JWS_RSA_BITS_MIN 2048

typedef struct ls_jws_key ls_jws_key;

/* A key for HS256. LS_ELIMIT when the secret is shorter than the hash. */
LS_MUST_CHECK ls_code ls_jws_key_secret(ls_jws_key **out, ls_str secret);

/* A public key as PEM (SubjectPublicKeyInfo). LS_EPARSE when it is none,
 * LS_EINVAL when it is not of the algorithm's kind and curve, LS_ELIMIT when
 * it is too short. */
LS_MUST_CHECK ls_code ls_jws_key_pem(ls_jws_key **out, ls_jws_algorithm alg,
                                     ls_str pem);

/* Public keys from their numbers, big-endian, as in a JWK. LS_EPARSE when they
 * are no key, LS_ELIMIT when it is too short. */
LS_MUST_CHECK ls_code ls_jws_key_rsa(ls_jws_key **out, ls_str n, ls_str e);
LS_MUST_CHECK ls_code ls_jws_key_p256(ls_jws_key **out, ls_str x, ls_str y);
LS_MUST_CHECK ls_code ls_jws_key_ed25519(ls_jws_key **out, ls_str x);

void ls_jws_key_free(ls_jws_key *key);

/* LS_OK, LS_ESIG, or LS_ENOMEM. */
LS_MUST_CHECK ls_code ls_jws_verify(const ls_jws_key *key, ls_str data,
                                    ls_str signature);

ls_jws_algorithm ls_jws_key_algorithm(const ls_jws_key *key);

#endif
