/* The bandwidth cap: what goes in a second, also when it changes often. */
#include "check.h"
#include "transfer/rate.h"

/* How much goes in so many steps of a hundredth of a second. */
static size_t goes(lst_rate *r, int *step, int steps, uint64_t set)
{
  size_t total = 0;
  int end = *step + steps;

  for(; *step < end; ++*step) {
    double now = 0.01 * *step;

    if(set)
      lst_rate_set(r, set, now);
    total += lst_rate_take(r, 1 << 20, now);
  }
  return total;
}

static void between(const char *what, size_t n, size_t least, size_t most)
{
  if(!check_true(what, n >= least && n <= most))
    printf("     %zu, want %zu to %zu\n", n, least, most);
}

int main(void)
{
  lst_rate r;
  int step = 1;

  lst_rate_init(&r, 100000, 0);
  between("a second", goes(&r, &step, 100, 0), 90000, 100000);
  between("set to the same at every step", goes(&r, &step, 100, 100000),
          90000, 102000);
  between("twice as fast", goes(&r, &step, 100, 200000), 180000, 210000);
  lst_rate_set(&r, 0, 0.01 * step);
  between("none", goes(&r, &step, 2, 0), 2 << 20, 2 << 20);
  /* Nothing was saved up while there was none. */
  lst_rate_set(&r, 100000, 0.01 * step);
  between("again", goes(&r, &step, 100, 0), 90000, 100000);
  /* A debt is paid before anything goes. */
  check_true("on credit", lst_rate_accept(&r, 1000000, 0.01 * step));
  lst_rate_set(&r, 200000, 0.01 * step);
  between("in debt", goes(&r, &step, 400, 0), 0, 0);
  between("paid", goes(&r, &step, 200, 0), 180000, 220000);
  lst_rate_free(&r);
  return check_end();
}
