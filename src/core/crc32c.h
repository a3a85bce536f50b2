/* CRC32C (Castagnoli), the checksum that object stores keep. Room: src/core.
 *
 * A CRC is always the finished value: 0 for no bytes, so that
 * ls_crc32c(ls_crc32c(0, a, n), b, m) is the CRC of a followed by b.
 */
#ifndef LS_CRC32C_H
#define LS_CRC32C_H

#include "ls.h"

uint32_t ls_crc32c(uint32_t crc, const void *p, size_t n);

/* The CRC of two runs of bytes, one behind the other, from the CRC of each
 * and the length of the second; any length. */
uint32_t ls_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t length_b);

/* The same in two steps for equal lengths: the operator of a length, and
 * combining with it. */
uint32_t ls_crc32c_operator(uint64_t length_b);
uint32_t ls_crc32c_combine_op(uint32_t crc_a, uint32_t crc_b, uint32_t op);

/* The implementations that this CPU can run, best first; NULL behind the
 * last. */
const char *ls_crc32c_name(size_t index);

/* Uses the named implementation from now on, the best one for NULL. For tests
 * and benchmarks; LS_EINVAL for one that this CPU cannot run. */
LS_MUST_CHECK ls_code ls_crc32c_use(const char *name);

#endif
