/* CRC32C: the choice of an implementation, and combining. See crc32c.h.
 * Room: src/core.
 */
#include "crc32c.h"
#include "crc32c_impl.h"

#include <stdatomic.h>

/* Best first. */
static const ls_crc32c_impl *const impls[] = {
#if defined(__x86_64__)
  &ls_crc32c_avx512,
  &ls_crc32c_pclmul,
  &ls_crc32c_sse42,
#elif defined(__aarch64__)
  &ls_crc32c_arm_pmull,
  &ls_crc32c_arm,
#endif
  &ls_crc32c_portable
};

#define IMPLS (sizeof(impls) / sizeof(impls[0]))

/* Chosen on first use. Two threads may choose at once: both find the same. */
static _Atomic(const ls_crc32c_impl *) chosen;

static const ls_crc32c_impl *choose(void)
{
  size_t i = 0;

  while(!impls[i]->usable())
    i++;
  atomic_store_explicit(&chosen, impls[i], memory_order_relaxed);
  return impls[i];
}

static inline const ls_crc32c_impl *impl(void)
{
  const ls_crc32c_impl *it =
    atomic_load_explicit(&chosen, memory_order_relaxed);

  return it ? it : choose();
}

uint32_t ls_crc32c(uint32_t crc, const void *p, size_t n)
{
  return ~impl()->extend(~crc, p, n);
}

uint32_t ls_crc32c_operator(uint64_t length_b)
{
  return ls_crc32c_power(length_b, impl()->multiply);
}

uint32_t ls_crc32c_combine_op(uint32_t crc_a, uint32_t crc_b, uint32_t op)
{
  return impl()->multiply(op, crc_a) ^ crc_b;
}

uint32_t ls_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t length_b)
{
  const ls_crc32c_impl *it = impl();

  return it->multiply(ls_crc32c_power(length_b, it->multiply), crc_a) ^ crc_b;
}

const char *ls_crc32c_name(size_t index)
{
  size_t i;

  for(i = 0; i < IMPLS; i++) {
    if(impls[i]->usable() && index-- == 0)
      return impls[i]->name;
  }
  return NULL;
}

ls_code ls_crc32c_use(const char *name)
{
  size_t i;

  if(!name) {
    choose();
    return LS_OK;
  }
  for(i = 0; i < IMPLS; i++) {
    if(strcmp(impls[i]->name, name) == 0 && impls[i]->usable()) {
      atomic_store_explicit(&chosen, impls[i], memory_order_relaxed);
      return LS_OK;
    }
  }
  return LS_EINVAL;
}
