/* Signing and verifying without Lua, under the sanitizers: the published
 * examples on every implementation of SHA-256, runs of parts against single
 * URLs, ceilings, and mutations. */
#include "check.h"
#include "core/run.h"
#include "core/verifier.h"

#include <stdlib.h>

#define SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

static const uint64_t when = 1369353600; /* 20130524T000000Z */

static ls_str str(const char *s)
{
  return (ls_str){ s, strlen(s) };
}

static ls_signer *new_signer(const char *token)
{
  ls_credentials c = {
    LS_LIT("AKIAIOSFODNN7EXAMPLE"), LS_LIT(SECRET), str(token),
    LS_LIT("us-east-1"), LS_LIT("s3")
  };
  ls_signer *s = NULL;

  check_true("new signer", ls_signer_new(&s, &c) == LS_OK);
  return s;
}

static ls_target target_of(const char *method, const char *path)
{
  return (ls_target){ str(method), LS_LIT("https"),
                      LS_LIT("examplebucket.s3.amazonaws.com"), str(path) };
}

/* Gives a presigned URL to the verifier as a client would send it. */
static ls_code verify(ls_verifier *v, const char *method, ls_str url,
                      const char *length, const char *secret)
{
  const ls_str host = LS_LIT("examplebucket.s3.amazonaws.com");
  ls_str path = { url.p + sizeof("https://") - 1 + host.n,
                  url.n - (sizeof("https://") - 1) - host.n };
  ls_expected expected = { str(secret), { NULL, 0 }, LS_LIT("us-east-1"),
                           LS_LIT("s3"), when, 900, false };
  ls_auth auth;
  ls_code code;

  ls_verifier_begin(v, str(method), path);
  ls_verifier_header(v, LS_LIT("Host"), host);
  if(length)
    ls_verifier_header(v, LS_LIT("Content-Length"), str(length));
  code = ls_verifier_parse(v, &auth);
  if(code)
    return code;
  return auth.form == LS_AUTH_NONE ? LS_ESIG :
         ls_verifier_check(v, &auth, &expected);
}

static void examples(const char *name)
{
  ls_signer *s = new_signer("");
  ls_target target = target_of("GET", "/test.txt");
  ls_signed out;
  ls_str url;
  int i;

  for(i = 0; i < 2; i++) {
    ls_signer_begin(s);
    check_true(name, ls_signer_presign(s, &target, when, 86400, &url) ==
               LS_OK);
    check_text(name, url.p, url.n,
      "https://examplebucket.s3.amazonaws.com/test.txt"
      "?X-Amz-Algorithm=AWS4-HMAC-SHA256"
      "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3"
      "%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400"
      "&X-Amz-SignedHeaders=host&X-Amz-Signature="
      "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
    ls_signer_begin(s);
    ls_signer_header(s, LS_LIT("Range"), LS_LIT("bytes=0-9"));
    check_true(name, ls_signer_sign(s, &target, LS_LIT(
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
      when, &out) == LS_OK);
    check_text(name, out.authorization.p, out.authorization.n,
      "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/"
      "s3/aws4_request, SignedHeaders=host;range;x-amz-content-sha256;"
      "x-amz-date, Signature="
      "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    check_text(name, out.target.p, out.target.n, "/test.txt");
  }
  ls_signer_free(s);
}

/* Runs of every size, of keys that move the place of partNumber through a
 * whole block, across every change in the number of digits. */
static void parts(const char *name, bool lengths)
{
  static const uint64_t firsts[] = { 1, 5, 95, 990, 9985, 2147483600 };
  ls_signer *s = new_signer("to/ken");
  ls_signer *one = new_signer("to/ken");
  char path[200] = "/k";
  ls_part part[LS_RUN_MAX + 1];
  ls_signature signatures[LS_RUN_MAX];
  ls_run *run = NULL;
  ls_str url, want;
  size_t n, i;

  check_true("new run", ls_run_new(&run) == LS_OK);
  check_true("not prepared", ls_run_sign(run, part, 1, signatures) ==
             LS_EINVAL);
  for(n = 1; n < 100; n++) {
    size_t size = 1 + (n - 1) % LS_RUN_MAX;
    ls_target target;

    path[n] = 'k';
    path[n + 1] = 0;
    target = target_of("PUT", path);
    ls_signer_begin(s);
    ls_signer_query(s, LS_LIT("uploadId"), LS_LIT("a+b"));
    check_true(name, ls_run_prepare(run, s, &target, when, 60, lengths) ==
               LS_OK);
    check_true(name, ls_run_has_lengths(run) == lengths);
    for(i = 0; i < size; i++) {
      part[i].number = firsts[n % 6] + i;
      part[i].length = n % 3 ? n * 1000 : i * i * i * n;
    }
    check_true(name, ls_run_sign(run, part, size, signatures) == LS_OK);
    for(i = 0; i < size; i++) {
      char text[24];

      ls_signer_begin(one);
      snprintf(text, sizeof(text), "%" PRIu64, part[i].number);
      ls_signer_query(one, LS_LIT("partNumber"), str(text));
      ls_signer_query(one, LS_LIT("uploadId"), LS_LIT("a+b"));
      snprintf(text, sizeof(text), "%" PRIu64, part[i].length);
      if(lengths)
        ls_signer_header(one, LS_LIT("content-length"), str(text));
      check_true(name, ls_signer_presign(one, &target, when, 60, &want) ==
                 LS_OK);
      url = ls_run_url(run, part[i].number, signatures[i]);
      check_bytes(name, url.p, url.n, want.p, want.n);
      check_true(name, url.n <= ls_run_url_max(run));
    }
    check_true("no part", ls_run_sign(run, part, 0, signatures) == LS_EINVAL);
    check_true("too many", ls_run_sign(run, part, LS_RUN_MAX + 1,
                                       signatures) == LS_EINVAL);
  }
  ls_run_free(run);
  ls_run_free(NULL);
  ls_signer_free(s);
  ls_signer_free(one);
  ls_signer_free(NULL);
}

/* A string to sign whose digest begins at every place in a word and a block:
 * regions of every length. */
static void regions(const char *name)
{
  char region[100];
  size_t n, i;

  for(n = 1; n < sizeof(region); n++) {
    ls_credentials c = {
      LS_LIT("AK"), LS_LIT(SECRET), { NULL, 0 }, { region, n }, LS_LIT("s3")
    };
    ls_target target = target_of("PUT", "/k");
    ls_part part[LS_RUN_MAX];
    ls_signature signatures[LS_RUN_MAX];
    ls_signer *s = NULL;
    ls_run *run = NULL;
    ls_str url, want;
    char text[4];

    memset(region, 'r', n);
    memset(part, 0, sizeof(part));
    for(i = 0; i < LS_RUN_MAX; i++)
      part[i].number = 10 + i;
    check_true(name, ls_signer_new(&s, &c) == LS_OK);
    check_true(name, ls_run_new(&run) == LS_OK);
    ls_signer_begin(s);
    check_true(name, ls_run_prepare(run, s, &target, when, 60, false) ==
               LS_OK);
    check_true(name, ls_run_sign(run, part, LS_RUN_MAX, signatures) == LS_OK);
    for(i = 0; i < LS_RUN_MAX; i += 13) {
      url = ls_run_url(run, part[i].number, signatures[i]);
      snprintf(text, sizeof(text), "%u", (unsigned)part[i].number);
      ls_signer_begin(s);
      ls_signer_query(s, LS_LIT("partNumber"), str(text));
      check_true(name, ls_signer_presign(s, &target, when, 60, &want) ==
                 LS_OK);
      check_bytes(name, url.p, url.n, want.p, want.n);
    }
    ls_run_free(run);
    ls_signer_free(s);
  }
}

/* Every byte of a URL replaced by every other. */
static void mutations(void)
{
  ls_signer *s = new_signer("");
  ls_target target = target_of("PUT", "/a//b/../c d+%");
  ls_verifier *v = NULL;
  ls_str url;
  char text[1024];
  size_t at;
  int c, accepted = 0;

  check_true("new verifier", ls_verifier_new(&v) == LS_OK);
  ls_signer_begin(s);
  ls_signer_query(s, LS_LIT("x y"), LS_LIT("1 + 1"));
  ls_signer_header(s, LS_LIT("content-length"), LS_LIT("5"));
  check_true("presign", ls_signer_presign(s, &target, when, 60, &url) ==
             LS_OK && url.n <= sizeof(text));
  memcpy(text, url.p, url.n);
  url.p = text;
  check_true("accepted", verify(v, "PUT", url, "5", SECRET) ==
             LS_OK);
  check_true("length", verify(v, "PUT", url, "6", SECRET) ==
             LS_ESIG);
  check_true("method", verify(v, "GET", url, "5", SECRET) ==
             LS_ESIG);
  check_true("secret", verify(v, "PUT", url, "5", SECRET "x") ==
             LS_ESIG);
  for(at = sizeof("https://examplebucket.s3.amazonaws.com") - 1;
      at < url.n; at++) {
    char old = text[at];

    for(c = 0; c < 256; c++) {
      if((char)c == old)
        continue;
      text[at] = (char)c;
      accepted += verify(v, "PUT", url, "5", SECRET) == LS_OK;
    }
    text[at] = old;
  }
  /* Seven escapes have a letter, %2B, %2F or %3B, and mean the same with the
   * other case of it. */
  check_u64("accepted mutations", (uint64_t)accepted, 7);
  check_true("unharmed", verify(v, "PUT", url, "5", SECRET) ==
             LS_OK);
  ls_verifier_free(v);
  ls_signer_free(s);
}

static void ceilings(void)
{
  ls_signer *s = new_signer("");
  ls_target target = target_of("GET", "/k");
  size_t size = (size_t)1 << 21;
  char *large = malloc(size);
  ls_run *run = NULL;
  ls_str url;

  if(!large || ls_run_new(&run))
    return;
  memset(large, '%', size);
  ls_signer_begin(s);
  ls_signer_query(s, LS_LIT("a"), (ls_str){ large, size });
  check_true("a large parameter",
             ls_signer_presign(s, &target, when, 60, &url) == LS_ELIMIT);
  check_true("run of it",
             ls_run_prepare(run, s, &target, when, 60, true) == LS_ELIMIT);
  ls_signer_begin(s);
  ls_signer_header(s, LS_LIT("a"), (ls_str){ large, size });
  check_true("a large header",
             ls_signer_presign(s, &target, when, 60, &url) == LS_ELIMIT);
  ls_signer_begin(s);
  check_true("works again",
             ls_signer_presign(s, &target, when, 60, &url) == LS_OK);
  target.path = (ls_str){ large, size };
  check_true("no slash",
             ls_signer_presign(s, &target, when, 60, &url) == LS_EINVAL);
  check_true("says why", strstr(ls_signer_why(s), "path") != NULL);
  large[0] = '/';
  ls_signer_begin(s);
  check_true("a large path",
             ls_signer_presign(s, &target, when, 60, &url) == LS_ELIMIT);
  target = target_of("GET", "/k");
  check_true("year 10000",
             ls_signer_presign(s, &target, LS_DATE_MAX + 1, 60, &url) ==
             LS_EINVAL);
  ls_run_free(run);
  ls_signer_free(s);
  free(large);
}

int main(void)
{
  const char *name;
  size_t i;

  for(i = 0; (name = ls_sha256_name(i)) != NULL; i++) {
    check_true(name, ls_sha256_use(name) == LS_OK);
    examples(name);
    parts(name, false);
    parts(name, true);
    regions(name);
  }
  check_true("default", ls_sha256_use(NULL) == LS_OK);
  mutations();
  ceilings();
  return check_end();
}
