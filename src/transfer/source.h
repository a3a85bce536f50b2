/* The byte range of a file that a job sends, and the file that an answer is
 * written to: positioned reads and writes only.
 *
 * Room: src/transfer. A source is checked when it is opened and again before
 * its last bytes are handed out, so that a body is either exactly the range
 * that was asked for or never complete at the receiver.
 */
#ifndef LST_SOURCE_H
#define LST_SOURCE_H

#include "../core/ls.h"

#include <stdbool.h>

/* Why a job failed. `code` is static text; the message is one line. */
typedef struct lst_error {
  const char *code;
  bool retryable;
  char message[384];
} lst_error;

void lst_error_set(lst_error *e, const char *code, bool retryable,
                   const char *fmt, ...)
  __attribute__((format(printf, 4, 5)));

typedef struct lst_source {
  char *path;
  int fd;             /* -1: not open */
  uint64_t offset;
  uint64_t length;
  bool has_size;
  uint64_t size;
  bool has_mtime;
  int64_t mtime_ns;
} lst_source;

/* Opens and checks: a regular file, of the size and time it was said to have,
 * long enough for the range. LS_EIO or LS_ECHANGED, and the error says why. */
LS_MUST_CHECK
ls_code lst_source_open(lst_source *s, lst_error *e);

/* Reads n bytes from `position` within the range (position + n <= length);
 * a file that ends earlier has changed. When these are the last ones the
 * file is checked again. */
LS_MUST_CHECK
ls_code lst_source_read(lst_source *s, uint64_t position, void *to, size_t n,
                        lst_error *e);

void lst_source_close(lst_source *s);

/* A file that bytes are written into, at positions; made if it is not there,
 * never truncated. */
typedef struct lst_sink {
  char *path;
  int fd;             /* -1: not open */
  uint64_t offset;
} lst_sink;

LS_MUST_CHECK
ls_code lst_sink_open(lst_sink *s, lst_error *e);

LS_MUST_CHECK
ls_code lst_sink_write(lst_sink *s, uint64_t position, const void *from,
                       size_t n, lst_error *e);

/* Closing can report an earlier failed write. */
LS_MUST_CHECK
ls_code lst_sink_close(lst_sink *s, lst_error *e);

#endif
