/* CRC-32 (zlib's) and CRC-64/NVME: checksums that S3's clients may send.
 * Room: src/core.
 *
 * Both are verified now and then, never computed for every body as CRC32C is,
 * so one portable implementation serves: slicing by eight, with tables that
 * are made when one is begun (some microseconds).
 */
#ifndef LS_CRC_H
#define LS_CRC_H

#include "ls.h"

typedef struct ls_crc {
  uint64_t value;
  uint64_t mask; /* the register's width */
  uint64_t table[8][256];
} ls_crc;

void ls_crc_begin32(ls_crc *c);
void ls_crc_begin64nvme(ls_crc *c);
void ls_crc_update(ls_crc *c, const void *p, size_t n);

/* The checksum of what came so far. */
uint64_t ls_crc_value(const ls_crc *c);

#endif
