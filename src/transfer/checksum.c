/* See checksum.h. Room: src/transfer.
 *
 * The range is cut into one piece for each thread; the CRCs of the pieces are
 * combined, so that no byte is read twice and nothing is shared but the
 * descriptor.
 */
#include "checksum.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A second thread costs some 30 microseconds; this much takes longer to
 * read. */
#define PIECE_MIN ((uint64_t)2 << 20)

typedef struct piece {
  pthread_t thread;
  bool started;
  int fd;
  uint64_t offset;
  uint64_t length;
  void *buffer;
  ls_code code;
  int error;
  uint32_t crc;
  uint64_t got;
} piece;

static void *run(void *arg)
{
  piece *p = arg;

  p->code = ls_file_crc32c(p->fd, p->offset, p->length, p->buffer, &p->crc,
                           &p->got);
  p->error = errno;
  return NULL;
}

static unsigned choose_threads(uint64_t length)
{
  return length >= 2 * PIECE_MIN && sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 2 : 1;
}

/* Runs all pieces, the first one here; one that gets no thread too. */
static void run_all(piece *pieces, unsigned n)
{
  unsigned i;

  for(i = 1; i < n; i++)
    pieces[i].started =
      pthread_create(&pieces[i].thread, NULL, run, &pieces[i]) == 0;
  for(i = 0; i < n; i++) {
    if(!pieces[i].started)
      run(&pieces[i]);
  }
  for(i = 1; i < n; i++) {
    if(pieces[i].started)
      pthread_join(pieces[i].thread, NULL);
  }
}

/* The pieces in order, up to the first that found the file to be shorter. */
static ls_code combine(const piece *pieces, unsigned n, uint32_t *crc,
                       uint64_t *got)
{
  unsigned i;

  for(i = 0; i < n; i++) {
    const piece *p = &pieces[i];

    if(p->code) {
      errno = p->error;
      return p->code;
    }
    *crc = ls_crc32c_combine(*crc, p->crc, p->got);
    *got += p->got;
    if(p->got < p->length)
      break;
  }
  return LS_OK;
}

static ls_code cut(int fd, uint64_t offset, uint64_t length, unsigned threads,
                   piece *pieces, uint32_t *crc, uint64_t *got)
{
  uint64_t share = length / threads;
  ls_code code = LS_OK;
  unsigned i;

  share -= share % LS_FILE_CHUNK;
  for(i = 0; i < threads; i++) {
    piece *p = &pieces[i];

    p->fd = fd;
    p->offset = offset + i * share;
    p->length = i + 1 < threads ? share : length - i * share;
    p->buffer = ls_file_buffer();
    if(!p->buffer)
      code = LS_ENOMEM;
  }
  if(!code) {
    run_all(pieces, threads);
    code = combine(pieces, threads, crc, got);
  }
  for(i = 0; i < threads; i++)
    free(pieces[i].buffer);
  return code;
}

ls_code lst_crc32c_file(const char *path, uint64_t offset, uint64_t length,
                        unsigned threads, uint32_t *crc, uint64_t *got)
{
  piece pieces[LST_CHECKSUM_THREADS_MAX];
  struct stat st;
  ls_code code;
  int fd, error;

  *crc = 0;
  *got = 0;
  if(threads > LST_CHECKSUM_THREADS_MAX)
    return LS_EINVAL;
  code = ls_file_open(path, &fd);
  if(code)
    return code;
  /* What is no file has no length to cut: one thread reads to its end. */
  if(fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
    uint64_t size = (uint64_t)st.st_size;

    if(length > size - (offset < size ? offset : size))
      length = size - (offset < size ? offset : size);
    if(!threads)
      threads = choose_threads(length);
  }
  else {
    threads = 1;
  }
  memset(pieces, 0, sizeof(pieces));
  code = cut(fd, offset, length, threads, pieces, crc, got);
  error = errno;
  ls_file_close(fd);
  errno = error;
  return code;
}
