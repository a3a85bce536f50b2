/* Files: their times, and reads at positions. */
#include "check.h"
#include "core/file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[] = "/tmp/longshore-ctest-XXXXXX";

/* A time may be any number of seconds: some file systems keep 64 bits. */
static void times(void)
{
  static const int64_t seconds[] = { -9000000000, 0, 1700000000,
    9223372036, 9223372037, 16725225600, 253402300799 };
  ls_file_info info;
  size_t i;

  for(i = 0; i < sizeof(seconds) / sizeof(*seconds); i++) {
    struct timespec at[2] = { { (time_t)seconds[i], 5 },
                              { (time_t)seconds[i], 5 } };
    struct stat st;

    check_u64("nanoseconds", (uint64_t)ls_nanoseconds(at[1]),
              seconds[i] > 9223372036 ? (uint64_t)INT64_MAX :
              (uint64_t)(seconds[i] * 1000000000 + 5));
    /* The file system keeps the time, or the nearest one it can. */
    check_true("utimens", utimensat(AT_FDCWD, path, at, 0) == 0 &&
               stat(path, &st) == 0);
    check_true("stat", ls_file_stat(path, &info) == LS_OK);
    check_u64("mtime", (uint64_t)info.mtime_ns,
              (uint64_t)ls_nanoseconds(st.st_mtim));
  }
  check_u64("the earliest", (uint64_t)ls_nanoseconds(
              (struct timespec){ (time_t)-253402300799, 0 }),
            (uint64_t)INT64_MIN);
}

/* Nobody waits for the other end of a FIFO. */
static void fifos(void)
{
  char to[8], fifo[sizeof(path) + 5];
  size_t got;
  int fd;

  snprintf(fifo, sizeof(fifo), "%s.fifo", path);
  check_true("a FIFO", mkfifo(fifo, 0600) == 0);
  alarm(20);
  check_true("open", ls_file_open(fifo, &fd) == LS_OK);
  check_true("read", ls_file_read(fd, to, 8, 0, &got) == LS_EIO);
  ls_file_close(fd);
  alarm(0);
  unlink(fifo);
}

static void reads(void)
{
  const uint64_t far = (uint64_t)5 << 30;
  char to[8] = "";
  size_t got;
  int fd;

  check_true("a sparse file", truncate(path, (off_t)far) == 0);
  check_true("open", ls_file_open(path, &fd) == LS_OK);
  check_true("the last bytes", ls_file_read(fd, to, 8, far - 3, &got) ==
             LS_OK && got == 3);
  check_true("behind the end", ls_file_read(fd, to, 8, far + 3, &got) ==
             LS_OK && got == 0);
  check_true("beyond any file",
             ls_file_read(fd, to, 8, INT64_MAX, &got) == LS_EIO);
  check_true("beyond 64 bits",
             ls_file_read(fd, to, 8, UINT64_MAX - 3, &got) == LS_EIO);
  ls_file_close(fd);
}

int main(void)
{
  int fd = mkstemp(path);

  if(fd < 0)
    return 2;
  close(fd);
  times();
  fifos();
  reads();
  unlink(path);
  return check_end();
}
