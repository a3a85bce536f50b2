/* Presigned URLs for a run of parts. Room: src/core.
 *
 *   ls_signer_begin(s);
 *   ls_signer_query(s, "uploadId", id); ...
 *   ls_run_prepare(run, s, &target, time, expires, lengths);
 *   ls_run_sign(run, parts, count, signatures);
 *   ls_run_url(run, parts[i].number, signatures[i]);
 *
 * What the URLs have in common is built and hashed once; a URL costs seven
 * blocks of SHA-256 then, and several are hashed side by side. A prepared run
 * stands alone: the signer may sign something else meanwhile, or be freed.
 */
#ifndef LS_RUN_H
#define LS_RUN_H

#include "canonical.h"
#include "signer.h"

typedef struct ls_run ls_run;

LS_MUST_CHECK ls_code ls_run_new(ls_run **out);
void ls_run_free(ls_run *run);

/* Prepares for URLs that differ in partNumber only, and with `lengths` in the
 * signed content-length. The other parameters and headers are those that were
 * added to the signer since ls_signer_begin; a refusal is explained by
 * ls_signer_why(). */
LS_MUST_CHECK ls_code ls_run_prepare(ls_run *run, ls_signer *s,
                                     const ls_target *target, uint64_t time,
                                     uint64_t expires, bool lengths);

typedef struct ls_part {
  uint64_t number;
  uint64_t length; /* for runs with lengths */
} ls_part;

/* How many parts ls_run_sign takes at once; as many as that are cheapest. */
#define LS_RUN_MAX LS_WIDE

typedef char ls_signature[LS_SIGNATURE_SIZE];

/* Signs 1 to LS_RUN_MAX parts of a prepared run. */
LS_MUST_CHECK ls_code ls_run_sign(ls_run *run, const ls_part *parts,
                                  size_t count, ls_signature *signatures);

/* The URL of a part; the text is valid until the run's next call. */
ls_str ls_run_url(ls_run *run, uint64_t number, const char *signature);

bool ls_run_has_lengths(const ls_run *run);

/* The longest URL of the run. */
size_t ls_run_url_max(const ls_run *run);

#endif
