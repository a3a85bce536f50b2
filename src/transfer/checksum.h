/* The CRC32C of a file, by several threads. Room: src/transfer. */
#ifndef LST_CHECKSUM_H
#define LST_CHECKSUM_H

#include "../core/file.h"

#define LST_CHECKSUM_THREADS_MAX 64

/* The CRC32C of up to `length` bytes from `offset`; *got is how many there
 * were. Each of `threads` threads reads a part of the range; 0 stands for two
 * where the range is long enough to repay a second one and the machine has
 * one. Memory: LS_FILE_CHUNK for each thread. LS_EIO leaves the reason in
 * errno. */
LS_MUST_CHECK ls_code lst_crc32c_file(const char *path, uint64_t offset,
                                      uint64_t length, unsigned threads,
                                      uint32_t *crc, uint64_t *got);

#endif
