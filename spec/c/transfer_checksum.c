/* The CRC32C of a file by several threads: the same as by one, for any range,
 * also of a file that ends before the range does. */
#include "check.h"
#include "core/file.h"
#include "transfer/checksum.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define SIZE (((size_t)9 << 20) + 77)

int main(void)
{
  static const struct {
    uint64_t offset, length;
  } ranges[] = {
    { 0, UINT64_MAX }, { 1, SIZE }, { 12345, 7000001 }, { SIZE - 1, 9 },
    { SIZE, 5 }, { SIZE + 7, UINT64_MAX }, { 5, 0 }, { UINT64_MAX, 1 }
  };
  char path[] = "/tmp/longshore-checksum-XXXXXX";
  unsigned char *data = malloc(SIZE);
  int fd = mkstemp(path);
  uint32_t crc, want;
  uint64_t got, n;
  unsigned threads;
  size_t i;

  if(!data || fd < 0)
    return 1;
  for(i = 0; i < SIZE; i++)
    data[i] = (unsigned char)(i * 2654435761u >> 23);
  if(write(fd, data, SIZE) != (ssize_t)SIZE)
    return 1;
  close(fd);
  for(threads = 0; threads < 9; threads++) {
    for(i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
      uint64_t at = ranges[i].offset < SIZE ? ranges[i].offset : SIZE;

      n = ranges[i].length < SIZE - at ? ranges[i].length : SIZE - at;
      want = ls_crc32c(0, data + at, (size_t)n);
      check_true("reads", lst_crc32c_file(path, ranges[i].offset,
                 ranges[i].length, threads, &crc, &got) == LS_OK);
      check_u64("crc", crc, want);
      check_u64("bytes", got, n);
    }
  }
  check_true("too many threads", lst_crc32c_file(
    path, 0, 1, LST_CHECKSUM_THREADS_MAX + 1, &crc, &got) == LS_EINVAL);
  unlink(path);
  check_true("no file", lst_crc32c_file(path, 0, 1, 2, &crc, &got) == LS_EIO);
  check_true("says why", errno == ENOENT);
  check_true("a folder", lst_crc32c_file("/", 0, 1, 2, &crc, &got) == LS_EIO);
  check_true("says why", errno == EISDIR);
  free(data);
  return check_end();
}
