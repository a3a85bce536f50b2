/* Dividing an object into parts within a store's limits. Room: src/core.
 *
 * All parts but the last have the same size, or, for an object whose length
 * nobody knows yet, sizes that double after every tenth of the parts.
 */
#ifndef LS_PLAN_H
#define LS_PLAN_H

#include "ls.h"

#include <stdbool.h>

#define LS_SIZE_UNKNOWN UINT64_MAX

typedef struct ls_limits {
  uint64_t min_part;   /* of every part but the last; at least 1 */
  uint64_t max_part;
  uint64_t max_parts;  /* at least 1 */
  uint64_t max_object;
  bool equal_parts;    /* part sizes must not grow */
} ls_limits;

typedef struct ls_plan {
  uint64_t part_size;
  uint64_t max_part;    /* sizes grow no further */
  uint64_t grow_every;  /* 0: sizes do not grow */
  uint64_t count;       /* 0: not known yet */
  uint64_t last_length;
  uint64_t max_size;    /* what the plan can hold, within the store's limit */
} ls_plan;

/* Plans `size` bytes with parts of `preferred` size, or larger ones where
 * that would be too many. LS_EINVAL for limits that contradict each other,
 * LS_ELIMIT for an object that the store cannot hold. An empty object is one
 * part of no bytes. */
LS_MUST_CHECK ls_code ls_plan_make(ls_plan *plan, const ls_limits *limits,
                                   uint64_t size, uint64_t preferred);

/* Where part `number` lies, from 1, in an object of `size` bytes (which may be
 * LS_SIZE_UNKNOWN). LS_EINVAL for a part that the object does not have,
 * LS_ELIMIT for one beyond 2^64 bytes. */
LS_MUST_CHECK ls_code ls_plan_range(const ls_plan *plan, uint64_t size,
                                    uint64_t number, uint64_t *offset,
                                    uint64_t *length);

#endif
