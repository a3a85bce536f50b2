/* The canonical request of SigV4, as S3 has it. Room: src/core.
 *
 * Every byte of the path is encoded once and nothing is normalised; query and
 * headers are sorted by bytes; header values lose white space around them and
 * keep one space of any run inside.
 */
#ifndef LS_CANONICAL_H
#define LS_CANONICAL_H

#include "pairs.h"
#include "sha256.h"
#include "text.h"

#define LS_ALGORITHM "AWS4-HMAC-SHA256"

#define LS_UNSIGNED "UNSIGNED-PAYLOAD"

/* Whether a text is SHA-256 as SigV4 writes it: 64 digits, in lower case. */
bool ls_is_sha256_hex(ls_str s);

/* What the last line of a canonical request may say of the payload: its
 * SHA-256, LS_UNSIGNED or STREAMING-... */
bool ls_is_payload_hash(ls_str hash);

/* Adds a parameter, encoding it. */
void ls_query_add(ls_pairs *query, ls_str name, ls_str value);

/* Adds the parameters of a query as received: each name and value is decoded
 * (a plus sign is a space) and encoded once. LS_EPARSE for a bad escape. */
LS_MUST_CHECK ls_code ls_query_add_raw(ls_pairs *query, ls_str raw);

/* Appends the sorted parameters as name=value&name=value, without the one
 * named `except` (absent: with all). */
void ls_query_write(const ls_pairs *query, ls_str except, ls_buf *to);

/* Adds a header: the name in lower case, the value folded. */
void ls_header_add(ls_pairs *headers, ls_str name, ls_str value);

/* Appends name:value,value and a line feed for the run of pairs of one name
 * at index i of sorted headers; returns the index behind the run. A control
 * character in a value would forge lines: LS_EINVAL in *code. */
size_t ls_header_write(const ls_pairs *headers, size_t i, ls_buf *to,
                       ls_code *code);

/* The signing key of one day, region and service, ready for use. */
void ls_signing_key(ls_hmac *key, ls_str secret, ls_str day, ls_str region,
                    ls_str service);

/* All of a string to sign but the last line, digested: what is the same for
 * every request that one key signs in one second. */
typedef struct ls_moment {
  ls_hmac key;
  ls_sha256_state inner;               /* behind the whole blocks */
  uint64_t length;                     /* of those blocks, key's included */
  unsigned char rest[LS_SHA256_BLOCK]; /* what follows them */
  size_t rest_n;
} ls_moment;

/* `scope` is day/region/service/aws4_request. */
void ls_moment_init(ls_moment *moment, const ls_hmac *key, ls_str date,
                    ls_str scope);

#define LS_SIGNATURE_SIZE LS_HEX_SIZE(LS_SHA256_SIZE)

/* The signature, in hexadecimal, of a canonical request with this digest. */
void ls_moment_sign(const ls_moment *moment,
                    const unsigned char digest[LS_SHA256_SIZE],
                    char signature[2 * LS_SHA256_SIZE]);

/* The same for four requests at once. */
void ls_moment_sign4(const ls_moment *moment,
                     unsigned char digest[LS_SHA256_LANES][LS_SHA256_SIZE],
                     char *const signature[LS_SHA256_LANES]);

#endif
