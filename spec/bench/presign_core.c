/* The presigning core without Lua: nanoseconds of CPU for each URL, beside
 * the bound that its SHA-256 blocks alone set on this machine.
 *
 * Prints "implementation_case nanoseconds" lines.
 */
#include "core/sha256.h"
#include "core/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PARTS 10000
#define ROUNDS 9

static double cpu(void)
{
  struct timespec ts;

  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
  return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static double best(double value, double now)
{
  return value < 0 || now < value ? now : value;
}

/* One message, or four, of six blocks: what a part's tail has. */
static double block_cost(bool four)
{
  unsigned char data[4][6 * 64];
  const unsigned char *p[4] = { data[0], data[1], data[2], data[3] };
  ls_sha256_state state[4];
  double result = -1;
  int round, i, l;

  memset(data, 7, sizeof(data));
  for(l = 0; l < 4; l++)
    state[l] = ls_sha256_start;
  for(round = 0; round < ROUNDS; round++) {
    double begun = cpu();

    for(i = 0; i < 20000; i++) {
      if(four)
        ls_sha256_blocks4(state, p, 6);
      else
        ls_sha256_blocks(&state[0], p[0], 6);
    }
    result = best(result, (cpu() - begun) / (20000.0 * 6 * (four ? 4 : 1)));
  }
  return result;
}

static ls_signer *new_signer(void)
{
  ls_credentials c = {
    LS_LIT("AKIAIOSFODNN7EXAMPLE"),
    LS_LIT("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), { NULL, 0 },
    LS_LIT("us-east-1"), LS_LIT("s3")
  };
  ls_signer *s;

  if(ls_signer_new(&s, &c))
    exit(1);
  return s;
}

static char key[70], upload_id[134];
static ls_target target = {
  { "PUT", 3 }, { "https", 5 }, { "bucket.s3.us-east-1.amazonaws.com", 33 },
  { key, 61 }
};

static double run_cost(size_t count)
{
  ls_signer *s = new_signer();
  ls_run *run;
  ls_part parts[LS_RUN_MAX];
  ls_signature signatures[LS_RUN_MAX];
  double result = -1;
  size_t round, i, k, n;
  uint64_t sum = 0;

  if(ls_run_new(&run))
    exit(1);
  memset(parts, 0, sizeof(parts));
  for(round = 0; round < ROUNDS; round++) {
    double begun = cpu();

    for(k = 0; k < PARTS / count; k++) {
      ls_signer_begin(s);
      ls_signer_query(s, LS_LIT("uploadId"), (ls_str){ upload_id, 133 });
      if(ls_run_prepare(run, s, &target, 1767225600, 900, false))
        exit(1);
      for(i = 0; i < count; i += n) {
        for(n = 0; n < LS_RUN_MAX && i + n < count; n++)
          parts[n].number = 1 + i + n;
        if(ls_run_sign(run, parts, n, signatures))
          exit(1);
        for(n = 0; n < LS_RUN_MAX && i + n < count; n++) {
          ls_str url = ls_run_url(run, parts[n].number, signatures[n]);

          sum += (unsigned char)url.p[url.n - 1];
        }
      }
    }
    result = best(result, (cpu() - begun) / PARTS);
  }
  ls_run_free(run);
  ls_signer_free(s);
  return sum ? result : -1;
}

static double single_cost(void)
{
  ls_signer *s = new_signer();
  ls_str url;
  double result = -1;
  int round, i;

  for(round = 0; round < ROUNDS; round++) {
    double begun = cpu();

    for(i = 1; i <= PARTS; i++) {
      char number[16];
      int n = snprintf(number, sizeof(number), "%d", i);

      ls_signer_begin(s);
      ls_signer_query(s, LS_LIT("partNumber"), (ls_str){ number, (size_t)n });
      ls_signer_query(s, LS_LIT("uploadId"), (ls_str){ upload_id, 133 });
      if(ls_signer_presign(s, &target, 1767225600, 900, &url))
        exit(1);
    }
    result = best(result, (cpu() - begun) / PARTS);
  }
  ls_signer_free(s);
  return result;
}

/* The same of the wide form. */
static double wide_cost(void)
{
  static ls_sha256_wide state;
  static uint32_t w[16][LS_WIDE];
  double result = -1;
  int round, i;

  for(round = 0; round < ROUNDS; round++) {
    double begun = cpu();

    for(i = 0; i < 5000; i++)
      ls_sha256_wide_each(&state, (const uint32_t (*)[LS_WIDE])w);
    result = best(result, (cpu() - begun) / (5000.0 * LS_WIDE));
  }
  return result;
}

int main(void)
{
  const char *name;
  size_t i;

  memset(key, 'k', sizeof(key));
  key[0] = '/';
  memset(upload_id, 'u', sizeof(upload_id) - 1);
  for(i = 0; (name = ls_sha256_name(i)) != NULL; i++) {
    if(ls_sha256_use(name))
      return 1;
    printf("%s_block %.2f\n", name, block_cost(false));
    printf("%s_bound %.2f\n", name,
           ls_sha256_has_wide() ? wide_cost() : block_cost(true));
    printf("%s_run10000 %.1f\n", name, run_cost(PARTS));
    printf("%s_run100 %.1f\n", name, run_cost(100));
    printf("%s_presign %.1f\n", name, single_cost());
  }
  return 0;
}
