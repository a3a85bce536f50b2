/* What the signer, signing one request and signing a run share. Room: src/core. */
#ifndef LS_SIGNER_IMPL_H
#define LS_SIGNER_IMPL_H

#include "canonical.h"
#include "date.h"
#include "signer.h"

/* Query, headers and a canonical request are at most this long. */
#define LS_SIGNER_MAX ((size_t)1 << 20)

struct ls_signer {
  ls_credentials credentials;
  char *owned;             /* the bytes of the credentials */
  size_t owned_n;
  const char *why;

  char day[8];             /* of `key`; a zero byte: no key yet */
  ls_hmac key;
  ls_moment moment;        /* of `date` */
  char date[LS_DATE_SIZE]; /* a zero byte: no moment yet */
  ls_buf scope;

  ls_pairs query;
  ls_pairs headers;
  ls_buf host;             /* in lower case, without the scheme's own port */
  ls_buf names;            /* of the signed headers */
  ls_buf canonical;
  ls_buf result;           /* the Authorization header, or a URL */
  size_t path_at;          /* in `canonical` */
  size_t query_at;
  size_t query_end;
};

/* Sets the signer's reason and returns LS_EINVAL. */
ls_code ls_signer_refuse(ls_signer *s, const char *why);

/* Makes the key for the day, the scope, and the moment of `time`, as far as
 * they are not those of the call before. */
ls_code ls_signer_set_time(ls_signer *s, uint64_t time);

/* Sets the host as a client will send it: in lower case, and without the port
 * that the scheme implies. */
ls_code ls_signer_set_host(ls_signer *s, const ls_target *target);

/* Everything of presigning but the hashing: `canonical` is complete but for
 * the payload hash, the moment is that of `time`. */
ls_code ls_signer_prepare(ls_signer *s, const ls_target *target,
                          uint64_t time, uint64_t expires);

/* scheme://host */
void ls_signer_origin(const ls_signer *s, const ls_target *target, ls_buf *to);

#endif
