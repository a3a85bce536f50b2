/* What the two signer files share. Room: src/core. */
#ifndef LS_SIGNER_IMPL_H
#define LS_SIGNER_IMPL_H

#include "canonical.h"
#include "date.h"
#include "signer.h"

/* Query, headers and a canonical request are at most this long. */
#define LS_SIGNER_MAX ((size_t)1 << 20)

/* One lane of a run of parts. */
typedef struct ls_lane {
  ls_buf tail; /* the canonical request behind the blocks common to all */
  ls_buf url;
} ls_lane;

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
  ls_buf authorization;
  size_t path_at;          /* in `canonical` */
  size_t query_at;
  size_t query_end;

  /* A run of parts: where its two values go in `canonical`. */
  bool lengths;
  size_t number_at;
  size_t length_at;
  ls_sha256_state prefix;  /* behind the blocks common to all parts */
  size_t prefix_n;         /* bytes in those blocks */
  ls_buf url_head;         /* of a URL, up to partNumber= */
  ls_lane lane[LS_PARTS_LANES];
};

/* Sets the signer's reason and returns LS_EINVAL. */
ls_code ls_signer_refuse(ls_signer *s, const char *why);

/* Everything of presigning but the hashing: `canonical` is complete but for
 * the payload hash, the moment is that of `time`. */
ls_code ls_signer_prepare(ls_signer *s, const ls_target *target,
                          uint64_t time, uint64_t expires);

/* scheme://host */
void ls_signer_origin(const ls_signer *s, const ls_target *target, ls_buf *to);

#endif
