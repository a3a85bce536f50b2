/* Files as bodies: positioned reads with checks, positioned writes.
 * Room: src/transfer. */
#include "source.h"
#include "../core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void lst_error_set(lst_error *e, const char *code, bool retryable,
                   const char *fmt, ...)
{
  va_list ap;
  char *p;

  e->code = code;
  e->retryable = retryable;
  va_start(ap, fmt);
  vsnprintf(e->message, sizeof(e->message), fmt, ap);
  va_end(ap);
  for(p = e->message; *p; p++)
    if((unsigned char)*p < 0x20 || *p == 0x7f)
      *p = ' ';
}

static ls_code io_error(lst_error *e, const char *doing, const char *path)
{
  char why[128];
  int number = errno;

  /* The GNU strerror_r, which is the thread-safe one, returns its text. */
  lst_error_set(e, "io", false, "cannot %s %s: %s", doing, path,
                strerror_r(number, why, sizeof(why)));
  return LS_EIO;
}

static ls_code changed(lst_error *e, const lst_source *s, const char *how)
{
  lst_error_set(e, "changed", false, "the source file %s %s", s->path, how);
  return LS_ECHANGED;
}

static ls_code check(lst_source *s, lst_error *e)
{
  struct stat st;

  if(fstat(s->fd, &st))
    return io_error(e, "look at", s->path);
  if(!S_ISREG(st.st_mode)) {
    lst_error_set(e, "io", false, "cannot send %s: not a regular file",
                  s->path);
    return LS_EIO;
  }
  if(s->has_size && (uint64_t)st.st_size != s->size)
    return changed(e, s, (uint64_t)st.st_size < s->size ?
                   "is shorter than it was" : "is longer than it was");
  if(s->has_mtime && ls_nanoseconds(st.st_mtim) != s->mtime_ns)
    return changed(e, s, "was changed since the upload began");
  if((uint64_t)st.st_size < s->offset ||
     (uint64_t)st.st_size - s->offset < s->length)
    return changed(e, s, "ends before the range to send does");
  return LS_OK;
}

ls_code lst_source_open(lst_source *s, lst_error *e)
{
  ls_code code;

  /* Without O_NONBLOCK the open of a FIFO would wait for its other end. */
  s->fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if(s->fd < 0)
    return io_error(e, "open", s->path);
  code = check(s, e);
  if(code != LS_OK)
    lst_source_close(s);
  return code;
}

ls_code lst_source_read(lst_source *s, uint64_t position, void *to, size_t n,
                        lst_error *e)
{
  char *p = to;
  uint64_t at = s->offset + position;
  size_t left = n;

  while(left) {
    ssize_t got = pread(s->fd, p, left, (off_t)at);

    if(got < 0) {
      if(errno == EINTR)
        continue;
      return io_error(e, "read", s->path);
    }
    if(!got)
      return changed(e, s, "became shorter while it was sent");
    p += got;
    at += (uint64_t)got;
    left -= (size_t)got;
  }
  return position + n == s->length ? check(s, e) : LS_OK;
}

void lst_source_close(lst_source *s)
{
  if(s->fd >= 0)
    close(s->fd);
  s->fd = -1;
}

ls_code lst_sink_open(lst_sink *s, lst_error *e)
{
  s->fd = open(s->path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY |
               O_NONBLOCK, 0666);
  return s->fd < 0 ? io_error(e, "open", s->path) : LS_OK;
}

ls_code lst_sink_write(lst_sink *s, uint64_t position, const void *from,
                       size_t n, lst_error *e)
{
  const char *p = from;
  uint64_t at = s->offset + position;

  while(n) {
    ssize_t put = pwrite(s->fd, p, n, (off_t)at);

    if(put < 0) {
      if(errno == EINTR)
        continue;
      return io_error(e, "write", s->path);
    }
    p += put;
    at += (uint64_t)put;
    n -= (size_t)put;
  }
  return LS_OK;
}

ls_code lst_sink_close(lst_sink *s, lst_error *e)
{
  int fd = s->fd;

  s->fd = -1;
  if(fd >= 0 && close(fd))
    return io_error(e, "close", s->path);
  return LS_OK;
}
