/* CRC32C beside ISA-L, in pairs: one round of ours, one of the peer's, one
 * after the other; the ratio is the median of the rounds'. Google's crc32c,
 * which Debian 12 does not package, is compared where the system has it.
 *
 *   crc32c_core BIG_FILE [BYTES]
 *
 * Prints "case|ours|peer|ratio" lines; GB/s of CPU time unless the case says
 * otherwise. Every CRC is compared.
 */
#include "core/crc32c.h"
#include "transfer/checksum.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <inttypes.h>
#include <isa-l/crc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 11

typedef uint32_t checksum(uint32_t crc, const unsigned char *p, size_t n);

static double clock_of(clockid_t id)
{
  struct timespec ts;

  clock_gettime(id, &ts);
  return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
  double x = *(const double *)a, y = *(const double *)b;

  return (x > y) - (x < y);
}

static double median(const double list[ROUNDS])
{
  double sorted[ROUNDS];

  memcpy(sorted, list, sizeof(sorted));
  qsort(sorted, ROUNDS, sizeof(*sorted), ascending);
  return sorted[ROUNDS / 2];
}

static void print(const char *what, const double ours[ROUNDS],
                  const double theirs[ROUNDS])
{
  double ratio[ROUNDS];
  int i;

  for(i = 0; i < ROUNDS; i++)
    ratio[i] = ours[i] / theirs[i];
  printf("%s|%.3f|%.3f|%.3f\n", what, median(ours), median(theirs),
         median(ratio));
  fflush(stdout);
}

static uint32_t ours(uint32_t crc, const unsigned char *p, size_t n)
{
  return ls_crc32c(crc, p, n);
}

/* ISA-L's has no inversions, and an int for the length. */
static uint32_t isal(uint32_t crc, const unsigned char *p, size_t n)
{
  crc = ~crc;
  while(n) {
    size_t now = n < (1u << 30) ? n : 1u << 30;

    crc = crc32_iscsi((unsigned char *)(uintptr_t)p, (int)now, crc);
    p += now;
    n -= now;
  }
  return ~crc;
}

/* Google's, if there is one; its function has the same form. */
static checksum *google(void)
{
  void *library = dlopen("libcrc32c.so.1", RTLD_NOW);
  void *symbol = library ? dlsym(library, "crc32c_extend") : NULL;
  checksum *function;

  memcpy(&function, &symbol, sizeof(function));
  return function;
}

/* GB/s. Each call takes the CRC of the one before, as a stream does. */
static double speed(checksum *sum, const unsigned char *p, size_t n,
                    size_t times, uint32_t *crc)
{
  double begun = clock_of(CLOCK_PROCESS_CPUTIME_ID);
  size_t i;

  *crc = 0;
  for(i = 0; i < times; i++)
    *crc = sum(*crc, p, n);
  return (double)n * (double)times /
         (clock_of(CLOCK_PROCESS_CPUTIME_ID) - begun);
}

static void compare(const char *peer_name, checksum *peer,
                    const unsigned char *p, size_t n)
{
  size_t times = n > 1 << 28 ? 1 : (1 << 28) / n + 1;
  double a[ROUNDS], b[ROUNDS];
  uint32_t x, y;
  char what[80];
  int i;

  if(n < 4096)
    times = 1 << 21;
  for(i = 0; i < ROUNDS; i++) {
    a[i] = speed(ours, p, n, times, &x);
    b[i] = speed(peer, p, n, times, &y);
    if(x != y) {
      printf("%s differs for %zu bytes\n", peer_name, n);
      exit(1);
    }
  }
  snprintf(what, sizeof(what), "%s %zu", peer_name, n);
  print(what, a, b);
}

static void combining(void)
{
  double any[ROUNDS], same[ROUNDS];
  uint32_t crc = 1, op = ls_crc32c_operator(8 << 20);
  int i, k;

  for(i = 0; i < ROUNDS; i++) {
    double begun = clock_of(CLOCK_PROCESS_CPUTIME_ID);

    for(k = 0; k < 1000000; k++)
      crc = ls_crc32c_combine(crc, 7, (uint64_t)k * 1249999999999);
    any[i] = (clock_of(CLOCK_PROCESS_CPUTIME_ID) - begun) / 1e6;
    begun = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    for(k = 0; k < 1000000; k++)
      crc = ls_crc32c_combine_op(crc, 7, op);
    same[i] = (clock_of(CLOCK_PROCESS_CPUTIME_ID) - begun) / 1e6;
  }
  printf("combine any|%.2f|1|%.2f\n", median(any), median(any));
  printf("combine same|%.2f|1|%.2f\n", median(same), median(same) +
         (crc == 0 ? 1e-9 : 0));
}

typedef struct range {
  int fd;
  off_t from, to;
  size_t chunk;
} range;

/* Reading alone. */
static void *bare_loop(void *arg)
{
  range *r = arg;
  void *buffer = aligned_alloc(4096, r->chunk);
  off_t at = r->from;

  while(buffer && at < r->to) {
    ssize_t n = pread(r->fd, buffer, r->chunk, at);

    if(n <= 0)
      break;
    at += n;
  }
  free(buffer);
  if(at < r->to)
    exit(1);
  return NULL;
}

static void bare(const char *path, uint64_t size, size_t chunk, int threads)
{
  int fd = open(path, O_RDONLY);
  off_t half = threads == 2 ? (off_t)size / 2 : 0;
  range one = { fd, half, (off_t)size, chunk }, two = { fd, 0, half, chunk };
  pthread_t thread;

  if(fd < 0 || (half && pthread_create(&thread, NULL, bare_loop, &two)))
    exit(1);
  bare_loop(&one);
  if(half)
    pthread_join(thread, NULL);
  close(fd);
}

static uint32_t whole_file(const char *path, unsigned threads, uint64_t *size)
{
  uint32_t crc;

  if(lst_crc32c_file(path, 0, UINT64_MAX, threads, &crc, size))
    exit(1);
  return crc;
}

enum { BARE, BARE_TWO, ONE, TWO, DEFAULT, WAYS };

static uint32_t one_way(int way, const char *path, uint64_t *size)
{
  if(way == BARE)
    bare(path, *size, 1 << 20, 1);
  else if(way == BARE_TWO)
    bare(path, *size, 256 << 10, 2);
  else
    return whole_file(path, way == DEFAULT ? 0 : way == ONE ? 1 : 2, size);
  return 0;
}

static void files(const char *path)
{
  double cpu[WAYS][ROUNDS], wall[WAYS][ROUNDS];
  uint64_t size;
  uint32_t crc = whole_file(path, 1, &size);
  int i, w;

  for(i = 0; i < ROUNDS; i++) {
    for(w = 0; w < WAYS; w++) {
      double c = clock_of(CLOCK_PROCESS_CPUTIME_ID);
      double m = clock_of(CLOCK_MONOTONIC);
      uint32_t sum = one_way(w, path, &size);

      if(w >= ONE && sum != crc)
        exit(1);
      wall[w][i] = (double)size / (clock_of(CLOCK_MONOTONIC) - m);
      cpu[w][i] = (double)size / (clock_of(CLOCK_PROCESS_CPUTIME_ID) - c);
    }
  }
  printf("file crc|%" PRIu32 "|%" PRIu64 "|1\n", crc, size);
  print("file default", wall[DEFAULT], wall[BARE]);
  print("file one thread", cpu[ONE], cpu[BARE]);
  print("file two threads", wall[TWO], wall[ONE]);
  print("file two bare", wall[TWO], wall[BARE_TWO]);
  print("bare two threads", wall[BARE_TWO], wall[BARE]);
}

int main(int argc, char **argv)
{
  static const size_t sizes[] = {
    64, 256, 1024, 4096, 65536, 1 << 20, 64 << 20
  };
  size_t most = argc > 2 ? (size_t)strtoull(argv[2], NULL, 10) :
                (size_t)2 << 30;
  unsigned char *data = malloc(most);
  checksum *peer = google();
  const char *name;
  size_t i, k;

  if(argc < 2 || !data)
    return 1;
  for(i = 0; i < most; i++)
    data[i] = (unsigned char)(i * 2654435761u >> 24);
  for(i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
    compare("isal", isal, data, sizes[i]);
    if(peer)
      compare("google", peer, data, sizes[i]);
  }
  compare("isal", isal, data, most);
  if(peer)
    compare("google", peer, data, most);
  for(k = 0; (name = ls_crc32c_name(k)) != NULL; k++) {
    char what[40];

    if(ls_crc32c_use(name))
      return 1;
    snprintf(what, sizeof(what), "path_%s", name);
    compare(what, isal, data, 1 << 20);
  }
  free(data);
  if(ls_crc32c_use(NULL))
    return 1;
  combining();
  files(argv[1]);
  return 0;
}
