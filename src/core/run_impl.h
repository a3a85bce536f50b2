/* What the two files of runs share. Room: src/core.
 *
 * The canonical request of a part is
 *
 *   prefix | head | number | middle | length | end
 *
 * where prefix is a whole number of blocks: partNumber= sorts behind every
 * X-Amz-* name, so that it is most of the request. The rest is the tail. It
 * has the same layout for all parts whose numbers and lengths have as many
 * digits, and only the blocks with digits in them differ between these parts.
 */
#ifndef LS_RUN_IMPL_H
#define LS_RUN_IMPL_H

#include "run.h"

struct ls_run {
  bool prepared;
  bool lengths;
  ls_moment moment;
  ls_sha256_state prefix;
  size_t prefix_n;
  ls_buf text;           /* the tail without the two values */
  size_t number_at;      /* where they go in `text` */
  size_t length_at;

  ls_buf url;            /* of one part */
  ls_buf url_rest;       /* what follows its number */
  size_t url_number_at;
  size_t url_digits;     /* of the number in `url` */

  /* The layout; number_digits is 0 where there is none yet. */
  size_t number_digits;
  size_t length_digits;
  size_t number_pos;     /* in a tail */
  size_t length_pos;
  size_t blocks;
  ls_buf tails;          /* four, padded, but for the digits */
  ls_buf schedules;      /* of each block, if the wide form is to be used */
  bool has_schedules;
};

/* Writes exactly n digits. */
static inline void ls_put_digits(char *to, size_t n, uint64_t value)
{
  while(n) {
    to[--n] = (char)('0' + value % 10);
    value /= 10;
  }
}

static inline unsigned char *ls_run_tail(const ls_run *run, size_t lane)
{
  return (unsigned char *)run->tails.data +
         lane * run->blocks * LS_SHA256_BLOCK;
}

static inline void ls_run_put(const ls_run *run, unsigned char *tail,
                              const ls_part *part)
{
  ls_put_digits((char *)tail + run->number_pos, run->number_digits,
                part->number);
  ls_put_digits((char *)tail + run->length_pos, run->length_digits,
                part->length);
}

/* Signs parts of one layout in the wide form. LS_ENOMEM. */
LS_MUST_CHECK ls_code ls_run_wide(ls_run *run, const ls_part *parts,
                                  size_t count, ls_signature *signatures);

#endif
