/* A disk that takes half a second for each fsync, each read at an offset and each
 * question how much room there is, while the file that SLOW_DISK names is there;
 * where that is a symbolic link, each takes until the link says something else.
 * Preloaded into nginx. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

static char *path;

/* nginx empties its environment before the first stall. */
__attribute__((constructor)) static void remember(void)
{
  const char *given = getenv("SLOW_DISK");

  path = given ? strdup(given) : NULL;
}

static void stall(void)
{
  struct timespec half = { 0, 500000000 }, moment = { 0, 2000000 };
  char then[64], now[64];
  ssize_t n;

  if(!path)
    return;
  n = readlink(path, then, sizeof(then));
  if(n < 0 && access(path, F_OK) == 0)
    nanosleep(&half, NULL);
  while(n >= 0 && readlink(path, now, sizeof(now)) == n &&
        !memcmp(now, then, (size_t)n))
    nanosleep(&moment, NULL);
}

#define REAL(type, name, ...) \
  ((type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

int fsync(int fd)
{
  stall();
  return REAL(int, "fsync", int)(fd);
}

int fdatasync(int fd)
{
  stall();
  return REAL(int, "fdatasync", int)(fd);
}

ssize_t pread64(int fd, void *to, size_t n, off64_t at)
{
  stall();
  return REAL(ssize_t, "pread64", int, void *, size_t, off64_t)(fd, to, n, at);
}

int statvfs(const char *where, struct statvfs *to)
{
  stall();
  return REAL(int, "statvfs", const char *, struct statvfs *)(where, to);
}
