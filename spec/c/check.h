/* What the C tests share: checks that count. Include in one file per program. */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Atomic: some programs check in several threads. */
static _Atomic unsigned long check_passed, check_failed;

static inline bool check_true(const char *what, bool ok)
{
  if(ok) {
    check_passed++;
  }
  else {
    check_failed++;
    printf("FAIL %s\n", what);
  }
  return ok;
}

static inline bool check_u64(const char *what, uint64_t got, uint64_t want)
{
  if(got == want) {
    check_passed++;
    return true;
  }
  check_failed++;
  printf("FAIL %s: got 0x%" PRIx64 ", want 0x%" PRIx64 "\n", what, got, want);
  return false;
}

static inline bool check_bytes(const char *what, const char *got, size_t n,
                               const char *want, size_t want_n)
{
  if(n == want_n && (n == 0 || memcmp(got, want, n) == 0)) {
    check_passed++;
    return true;
  }
  check_failed++;
  printf("FAIL %s: got \"%.*s\"\n     want \"%.*s\"\n", what, (int)n, got,
         (int)want_n, want);
  return false;
}

static inline bool check_text(const char *what, const char *got, size_t n,
                              const char *want)
{
  return check_bytes(what, got, n, want, strlen(want));
}

static inline int check_end(void)
{
  printf("%lu passed, %lu failed\n", check_passed, check_failed);
  return check_failed ? 1 : 0;
}

#endif
