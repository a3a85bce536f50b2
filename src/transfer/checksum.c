/* See checksum.h. Room: src/transfer.
 *
 * The range is cut into pieces, and each thread takes the next one until there
 * is none, so that a thread that is held up does not hold up the others. The
 * CRCs of the pieces are combined in the end.
 */
#include "checksum.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A second thread costs some 30 microseconds; this much takes longer to
 * read. */
#define PIECE_MIN ((uint64_t)2 << 20)
#define PIECES_MAX 256

typedef struct piece {
  uint32_t crc;
  uint64_t got;
} piece;

typedef struct job {
  int fd;
  uint64_t offset;
  uint64_t length;
  uint64_t size;         /* of every piece but the last */
  size_t count;
  atomic_size_t next;
  piece pieces[PIECES_MAX];
} job;

typedef struct worker {
  pthread_t thread;
  bool started;
  job *job;
  void *buffer;
  ls_code code;
  int error;
} worker;

static uint64_t piece_length(const job *j, size_t i)
{
  return i + 1 < j->count ? j->size : j->length - i * j->size;
}

static void *run(void *arg)
{
  worker *w = arg;
  job *j = w->job;
  size_t i;

  while(!w->code && (i = atomic_fetch_add(&j->next, 1)) < j->count) {
    piece *p = &j->pieces[i];

    w->code = ls_file_crc32c(j->fd, j->offset + i * j->size,
                             piece_length(j, i), w->buffer, &p->crc, &p->got);
    w->error = errno;
  }
  return NULL;
}

/* Runs the workers, the first one here. One that gets no thread leaves its
 * share to the others. */
static ls_code run_all(worker *workers, unsigned n)
{
  unsigned i;

  for(i = 1; i < n; i++)
    workers[i].started =
      pthread_create(&workers[i].thread, NULL, run, &workers[i]) == 0;
  run(&workers[0]);
  for(i = 1; i < n; i++) {
    if(workers[i].started)
      pthread_join(workers[i].thread, NULL);
  }
  for(i = 0; i < n; i++) {
    if(workers[i].code) {
      errno = workers[i].error;
      return workers[i].code;
    }
  }
  return LS_OK;
}

/* The pieces in order, up to the first that found the file to be shorter. */
static void combine(const job *j, uint32_t *crc, uint64_t *got)
{
  size_t i;

  for(i = 0; i < j->count; i++) {
    const piece *p = &j->pieces[i];

    *crc = ls_crc32c_combine(*crc, p->crc, p->got);
    *got += p->got;
    if(p->got < piece_length(j, i))
      break;
  }
}

static ls_code sum(job *j, unsigned threads, uint32_t *crc, uint64_t *got)
{
  worker workers[LST_CHECKSUM_THREADS_MAX];
  ls_code code = LS_OK;
  unsigned i;

  memset(workers, 0, sizeof(workers));
  for(i = 0; i < threads; i++) {
    workers[i].job = j;
    workers[i].buffer = ls_file_buffer();
    if(!workers[i].buffer)
      code = LS_ENOMEM;
  }
  if(!code)
    code = run_all(workers, threads);
  if(!code)
    combine(j, crc, got);
  for(i = 0; i < threads; i++)
    free(workers[i].buffer);
  return code;
}

/* One piece for one thread; otherwise pieces that are worth the combining,
 * whole chunks, and several for each thread. */
static void cut(job *j, unsigned threads)
{
  j->size = j->length;
  j->count = 1;
  if(threads == 1)
    return;
  j->size = j->length / PIECES_MAX + 1;
  if(j->size < PIECE_MIN)
    j->size = PIECE_MIN;
  j->size += LS_FILE_CHUNK - 1;
  j->size -= j->size % LS_FILE_CHUNK;
  if(j->length > j->size)
    j->count = (size_t)((j->length - 1) / j->size + 1);
}

static unsigned choose_threads(uint64_t length)
{
  return length >= 2 * PIECE_MIN && sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 2 : 1;
}

ls_code lst_crc32c_file(const char *path, uint64_t offset, uint64_t length,
                        unsigned threads, uint32_t *crc, uint64_t *got)
{
  job j;
  struct stat st;
  ls_code code;
  int error;

  *crc = 0;
  *got = 0;
  if(threads > LST_CHECKSUM_THREADS_MAX)
    return LS_EINVAL;
  memset(&j, 0, sizeof(j));
  code = ls_file_open(path, &j.fd);
  if(code)
    return code;
  j.offset = offset;
  j.length = length;
  /* What is no file has no length to cut: one thread reads to its end. */
  if(fstat(j.fd, &st) == 0 && S_ISREG(st.st_mode)) {
    uint64_t size = (uint64_t)st.st_size;

    if(length > size - (offset < size ? offset : size))
      j.length = size - (offset < size ? offset : size);
    if(!threads)
      threads = choose_threads(j.length);
  }
  else {
    threads = 1;
  }
  cut(&j, threads);
  code = sum(&j, threads, crc, got);
  error = errno;
  ls_file_close(j.fd);
  errno = error;
  return code;
}
