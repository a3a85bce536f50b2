/* Files: positioned reads, what a file is, making it durable. Room: src/core.
 *
 * LS_EIO leaves the reason in errno.
 */
#ifndef LS_FILE_H
#define LS_FILE_H

#include "digest.h"

#include <time.h>

typedef enum ls_file_type {
  LS_FILE_REGULAR,
  LS_FILE_DIRECTORY,
  LS_FILE_OTHER
} ls_file_type;

typedef struct ls_file_info {
  uint64_t size;
  int64_t mtime_ns; /* its content */
  int64_t ctime_ns; /* its content, names or rights */
  uint64_t inode;
  uint64_t device;
  ls_file_type type;
} ls_file_info;

/* A file's time in nanoseconds; the nearest one that fits, for a year beyond
 * 2262. */
int64_t ls_nanoseconds(struct timespec time);

LS_MUST_CHECK ls_code ls_file_stat(const char *path, ls_file_info *info);

/* Makes a file's content, or a directory's entries, survive a crash. */
LS_MUST_CHECK ls_code ls_file_sync(const char *path);

/* Bytes that this user may still write to the file system of a path. */
LS_MUST_CHECK ls_code ls_file_free(const char *path, uint64_t *bytes);

/* Opens for reading, and does not wait for the other end of a FIFO; the
 * descriptor is the caller's to close. */
LS_MUST_CHECK ls_code ls_file_open(const char *path, int *fd);
void ls_file_close(int fd);

/* Reads at `offset` until n bytes or the end of the file; *got says which. */
LS_MUST_CHECK ls_code ls_file_read(int fd, void *to, size_t n,
                                   uint64_t offset, size_t *got);

/* How much the functions below read at once; their `buffer` holds that. It
 * fits the second-level cache, where the digests find it again. */
#define LS_FILE_CHUNK ((size_t)256 << 10)

/* Such a buffer, or NULL; the caller frees it. It begins with a page: the
 * kernel copies an eighth slower to any other place. */
void *ls_file_buffer(void);

/* Adds up to `length` bytes from `offset` to the digests; less where the file
 * ends. */
LS_MUST_CHECK ls_code ls_file_digest(int fd, uint64_t offset, uint64_t length,
                                     ls_digest *d, void *buffer);

/* The CRC32C alone; *got is how many bytes there were. */
LS_MUST_CHECK ls_code ls_file_crc32c(int fd, uint64_t offset, uint64_t length,
                                     void *buffer, uint32_t *crc,
                                     uint64_t *got);

#endif
