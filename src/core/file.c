/* See file.h. Room: src/core. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

_Static_assert(sizeof(off_t) == 8, "files of 2 GiB and more need "
               "-D_FILE_OFFSET_BITS=64 on 32-bit systems");

int64_t ls_nanoseconds(struct timespec time)
{
  int64_t ns;

  if(__builtin_mul_overflow((int64_t)time.tv_sec, 1000000000, &ns) ||
     __builtin_add_overflow(ns, (int64_t)time.tv_nsec, &ns))
    return time.tv_sec < 0 ? INT64_MIN : INT64_MAX;
  return ns;
}

ls_code ls_file_stat(const char *path, ls_file_info *info)
{
  struct stat st;

  if(stat(path, &st))
    return LS_EIO;
  info->size = (uint64_t)st.st_size;
  info->mtime_ns = ls_nanoseconds(st.st_mtim);
  info->ctime_ns = ls_nanoseconds(st.st_ctim);
  info->inode = (uint64_t)st.st_ino;
  info->device = (uint64_t)st.st_dev;
  info->type = S_ISREG(st.st_mode) ? LS_FILE_REGULAR :
               S_ISDIR(st.st_mode) ? LS_FILE_DIRECTORY : LS_FILE_OTHER;
  return LS_OK;
}

ls_code ls_file_free(const char *path, uint64_t *bytes)
{
  struct statvfs st;
  int result;

  do {
    result = statvfs(path, &st);
  } while(result && errno == EINTR);
  if(result)
    return LS_EIO;
  if(st.f_frsize && st.f_bavail > UINT64_MAX / st.f_frsize)
    *bytes = UINT64_MAX;
  else
    *bytes = (uint64_t)st.f_bavail * st.f_frsize;
  return LS_OK;
}

ls_code ls_file_open(const char *path, int *fd)
{
  do {
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  } while(*fd < 0 && errno == EINTR);
  return *fd < 0 ? LS_EIO : LS_OK;
}

void ls_file_close(int fd)
{
  close(fd);
}

ls_code ls_file_sync(const char *path)
{
  int fd, result, error;
  ls_code code = ls_file_open(path, &fd);

  if(code)
    return code;
  do {
    result = fsync(fd);
  } while(result && errno == EINTR);
  error = errno;
  close(fd);
  errno = error;
  return result ? LS_EIO : LS_OK;
}

ls_code ls_file_read(int fd, void *to, size_t n, uint64_t offset, size_t *got)
{
  char *out = to;

  *got = 0;
  if(offset > (uint64_t)INT64_MAX - n) {
    errno = EOVERFLOW;
    return LS_EIO;
  }
  while(*got < n) {
    ssize_t r = pread(fd, out + *got, n - *got, (off_t)(offset + *got));

    if(r < 0 && errno == EINTR)
      continue;
    if(r < 0)
      return LS_EIO;
    if(r == 0)
      break;
    *got += (size_t)r;
  }
  return LS_OK;
}

void *ls_file_buffer(void)
{
  return aligned_alloc(4096, LS_FILE_CHUNK);
}

static size_t chunk(uint64_t left)
{
  return left < LS_FILE_CHUNK ? (size_t)left : LS_FILE_CHUNK;
}

ls_code ls_file_digest(int fd, uint64_t offset, uint64_t length, ls_digest *d,
                       void *buffer)
{
  while(length) {
    size_t n = chunk(length), got;
    ls_code code = ls_file_read(fd, buffer, n, offset, &got);

    if(!code)
      code = ls_digest_update(d, buffer, got);
    if(code || got < n)
      return code;
    offset += n;
    length -= n;
  }
  return LS_OK;
}

ls_code ls_file_crc32c(int fd, uint64_t offset, uint64_t length, void *buffer,
                       uint32_t *crc, uint64_t *got)
{
  *crc = 0;
  *got = 0;
  while(length) {
    size_t n = chunk(length), now;
    ls_code code = ls_file_read(fd, buffer, n, offset, &now);

    if(code)
      return code;
    *crc = ls_crc32c(*crc, buffer, now);
    *got += now;
    if(now < n)
      break;
    offset += n;
    length -= n;
  }
  return LS_OK;
}
