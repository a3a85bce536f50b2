/* See plan.h. Room: src/core. */
#include "plan.h"

#include <string.h>

#define MIB ((uint64_t)1 << 20)

static uint64_t min_u64(uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
  return a > b ? a : b;
}

/* a / b rounded up, for b > 0; never overflows. */
static uint64_t divide_up(uint64_t a, uint64_t b)
{
  return a / b + (a % b != 0);
}

/* a * b, or UINT64_MAX where that is more. */
static uint64_t multiply(uint64_t a, uint64_t b)
{
  uint64_t product;

  return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint64_t add(uint64_t a, uint64_t b)
{
  uint64_t sum;

  return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

/* The size of the parts in the given step of growth. */
static uint64_t step_size(const ls_plan *plan, uint64_t step)
{
  if(step >= 63 || plan->part_size > plan->max_part >> step)
    return plan->max_part;
  return plan->part_size << step;
}

/* What the first `count` parts hold. */
static uint64_t hold(const ls_plan *plan, uint64_t count)
{
  uint64_t total = 0, step;

  if(!plan->grow_every)
    return multiply(plan->part_size, count);
  for(step = 0; count; step++) {
    uint64_t size = step_size(plan, step);
    uint64_t n = size == plan->max_part ? count :
                 min_u64(count, plan->grow_every);

    total = add(total, multiply(size, n));
    count -= n;
  }
  return total;
}

static void plan_unknown(ls_plan *plan, const ls_limits *limits,
                         uint64_t largest)
{
  uint64_t tenth = limits->max_parts / 10;

  /* Small steps for small objects, and room for the largest one. */
  if(!limits->equal_parts && tenth) {
    plan->grow_every = tenth;
    plan->max_size = min_u64(hold(plan, limits->max_parts), largest);
    if(plan->max_size == largest)
      return;
    plan->grow_every = 0;
  }
  plan->part_size = max_u64(plan->part_size,
                            divide_up(largest, limits->max_parts));
  plan->max_size = largest;
}

ls_code ls_plan_make(ls_plan *plan, const ls_limits *limits, uint64_t size,
                     uint64_t preferred)
{
  uint64_t largest, needed;

  memset(plan, 0, sizeof(*plan));
  if(!limits->min_part || limits->min_part > limits->max_part ||
     !limits->max_parts)
    return LS_EINVAL;
  largest = min_u64(limits->max_object,
                    multiply(limits->max_part, limits->max_parts));
  plan->max_part = limits->max_part;
  plan->part_size = min_u64(max_u64(preferred, limits->min_part),
                            limits->max_part);
  if(size == LS_SIZE_UNKNOWN) {
    plan_unknown(plan, limits, largest);
    return LS_OK;
  }
  if(size > largest)
    return LS_ELIMIT;
  needed = divide_up(size, limits->max_parts);
  if(needed > plan->part_size) {
    /* Whole mebibytes are easier to read, where they fit. */
    uint64_t round = multiply(divide_up(needed, MIB), MIB);

    plan->part_size = round <= limits->max_part ? round : needed;
  }
  plan->count = size ? divide_up(size, plan->part_size) : 1;
  plan->last_length = size - (plan->count - 1) * plan->part_size;
  plan->max_size = largest;
  return LS_OK;
}

ls_code ls_plan_range(const ls_plan *plan, uint64_t size, uint64_t number,
                      uint64_t *offset, uint64_t *length)
{
  if(!number)
    return LS_EINVAL;
  *offset = hold(plan, number - 1);
  *length = plan->grow_every ?
    step_size(plan, (number - 1) / plan->grow_every) : plan->part_size;
  if(*offset == UINT64_MAX || add(*offset, *length) == UINT64_MAX)
    return LS_ELIMIT;
  if(size == LS_SIZE_UNKNOWN)
    return LS_OK;
  /* Only an empty object has a part that begins at its end. */
  if(*offset > size || (*offset == size && number > 1))
    return LS_EINVAL;
  *length = min_u64(*length, size - *offset);
  return LS_OK;
}
