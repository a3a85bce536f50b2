/* What the verifier's two files share. Room: src/core. */
#ifndef LS_VERIFIER_IMPL_H
#define LS_VERIFIER_IMPL_H

#include "canonical.h"
#include "verifier.h"

/* A signing key that was derived before. The secret is part of what it is
 * found by; ones too long for that are derived each time. */
typedef struct ls_kept_key {
  char id[256]; /* secret, day, region, service, with zeros between */
  size_t id_n;  /* 0: free */
  ls_hmac key;
} ls_kept_key;

#define LS_KEPT_KEYS 8

struct ls_verifier {
  ls_str method;
  ls_str path;
  ls_code code;     /* of reading the target */
  ls_pairs query;
  ls_pairs headers;
  bool sorted;
  ls_buf decoded;   /* values of the query that are needed as they are */
  ls_buf canonical;
  unsigned char digest[LS_SHA256_SIZE]; /* of `canonical` */
  ls_fault fault;
  ls_kept_key kept[LS_KEPT_KEYS];
  size_t next_kept;
};

/* Sets the fault; returns `code`. */
ls_code ls_verifier_refuse(ls_verifier *v, ls_code code, const char *word,
                           const char *message, ls_str field);

#endif
