/* HTTP answers from untrusted bytes: line by line, and salvaged raw. */
#include "check.h"
#include "transfer/answer.h"

#include <stdlib.h>

struct row {
  const char *name;
  const char *raw;
  ls_code code;
  int status;
  const char *headers; /* "name=value|..." */
  const char *body;
};

static const struct row rows[] = {
  { "plain", "HTTP/1.1 403 Forbidden\r\nA: b\r\n\r\nbody", LS_OK, 403, "a=b|",
    "body" },
  { "bare line ends", "HTTP/1.0 500\nA:b\n\nx", LS_OK, 500, "a=b|", "x" },
  { "length cuts", "HTTP/1.1 403 F\r\nContent-Length: 2\r\n\r\nbody", LS_OK,
    403, "content-length=2|", "bo" },
  { "length longer than there is",
    "HTTP/1.1 403 F\r\nContent-Length: 99999999999999999999\r\n\r\nbody",
    LS_OK, 403, "content-length=99999999999999999999|", "body" },
  { "length that is none", "HTTP/1.1 403 F\r\nContent-Length: -1\r\n\r\nbody",
    LS_OK, 403, "content-length=-1|", "" },
  { "interim first",
    "HTTP/1.1 100 Continue\r\nX: 1\r\n\r\nHTTP/1.1 503 Slow\r\nY: 2\r\n\r\nz",
    LS_OK, 503, "y=2|", "z" },
  { "only interim", "HTTP/1.1 100 Continue\r\n\r\n", LS_EPARSE, 0, "", "" },
  { "chunked",
    "HTTP/1.1 503 S\r\nTransfer-Encoding: Chunked\r\n\r\n"
    "3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", LS_OK, 503,
    "transfer-encoding=Chunked|", "abc0123456789" },
  { "chunked and cut",
    "HTTP/1.1 503 S\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", LS_OK,
    503, "transfer-encoding=chunked|", "abc" },
  { "chunk size too long",
    "HTTP/1.1 503 S\r\nTransfer-Encoding: chunked\r\n\r\n"
    "fffffffffffffffff\r\nabc", LS_OK, 503, "transfer-encoding=chunked|",
    "" },
  { "chunk without size",
    "HTTP/1.1 503 S\r\nTransfer-Encoding: chunked\r\n\r\n\r\nabc", LS_OK, 503,
    "transfer-encoding=chunked|", "" },
  { "no header", "HTTP/1.1 200 OK\r\nbroken\r\n: x\r\n a: b\r\nb c: d\r\n\r\n",
    LS_OK, 200, "", "" },
  { "white space", "HTTP/1.1 200 OK\r\nA:  \t x y\t \r\nB:\r\n\r\n", LS_OK,
    200, "a=x y|b=|", "" },
  { "no end", "HTTP/1.1 200 OK\r\nA: b\r\n", LS_EPARSE, 0, "", "" },
  { "cut in a line", "HTTP/1.1 200 OK\r\nA: b", LS_EPARSE, 0, "", "" },
  { "nothing", "", LS_EPARSE, 0, "", "" },
  { "not HTTP", "SSH-2.0-x\r\n\r\n", LS_EPARSE, 0, "", "" },
  { "no version", "HTTP/ 200 OK\r\n\r\n", LS_EPARSE, 0, "", "" },
  { "status too short", "HTTP/1.1 20\r\n\r\n", LS_EPARSE, 0, "", "" },
  { "status too long", "HTTP/1.1 2000\r\n\r\n", LS_EPARSE, 0, "", "" },
  { "status below 100", "HTTP/1.1 099 x\r\n\r\n", LS_EPARSE, 0, "", "" },
};

static void compare(const struct row *row, const lst_answer *a)
{
  char text[4096];
  size_t n = 0;
  size_t i;

  check_u64(row->name, (uint64_t)a->status, (uint64_t)row->status);
  for(i = 0; i < a->headers.size; i++) {
    /* NUL ends name and value by turns. */
    static const char mark[] = { '=', '|' };
    char c = a->headers.data[i];

    text[n++] = c ? c : mark[0];
  }
  text[n] = 0;
  /* Every second mark is the end of a value. */
  {
    size_t m = 0;

    for(i = 0; i < n; i++)
      if(!a->headers.data[i] && m++ % 2)
        text[i] = '|';
  }
  check_text(row->name, text, n, row->headers);
  check_text(row->name, a->body.data ? a->body.data : "", a->body.size,
             row->body);
}

static void table(void)
{
  size_t i;

  for(i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
    lst_answer a;
    /* A copy without a NUL, for the sanitizer to guard. */
    size_t n = strlen(rows[i].raw);
    char *raw = malloc(n + 1);

    memcpy(raw, rows[i].raw, n);
    raw = realloc(raw, n ? n : 1);
    lst_answer_init(&a, 1000);
    check_u64(rows[i].name, lst_answer_salvage(&a, raw, n), rows[i].code);
    compare(&rows[i], &a);
    lst_answer_free(&a);
    free(raw);
  }
}

/* However the answer is cut, what is there is a prefix of the whole. */
static void every_cut(void)
{
  static const char raw[] =
    "HTTP/1.1 103 E\r\nL: x\r\n\r\nHTTP/1.1 503 S\r\nTransfer-Encoding: chunked"
    "\r\nRetry-After: 3\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
  size_t head = (size_t)(strstr(raw, "3\r\nabc") - raw);
  size_t n;
  lst_answer a;

  lst_answer_init(&a, 1000);
  for(n = 0; n < sizeof(raw); n++) {
    ls_code code = lst_answer_salvage(&a, raw, n);

    check_u64("cut", code, n < head ? LS_EPARSE : LS_OK);
    if(code == LS_OK) {
      check_true("prefix", a.body.size <= 7 &&
                 (!a.body.size || !memcmp(a.body.data, "abcdefg",
                                          a.body.size)));
      check_text("header", lst_answer_header(&a, "retry-after"), 1, "3");
      check_true("none", !lst_answer_header(&a, "l"));
    }
  }
  lst_answer_free(&a);
}

static void ceilings(void)
{
  lst_answer a;
  char line[1024];
  int i;
  ls_code code = LS_OK;

  lst_answer_init(&a, 4);
  check_true("body is cut at its ceiling", lst_answer_salvage(&a,
    "HTTP/1.1 400 B\r\n\r\n0123456789", 28) == LS_OK);
  check_text("cut", a.body.data, a.body.size, "0123");
  check_true("more of it", lst_answer_more(&a, "456", 3) == LS_OK);
  check_u64("stays", a.body.size, 4);
  memset(line, 'x', sizeof(line));
  memcpy(line, "Name: ", 6);
  lst_answer_reset(&a);
  check_true("status", lst_answer_line(&a, "HTTP/1.1 200 OK\r\n", 17)
             == LS_OK);
  for(i = 0; i < 1000 && code == LS_OK; i++)
    code = lst_answer_line(&a, line, sizeof(line));
  check_u64("headers end somewhere", code, LS_ELIMIT);
  check_true("not late", i <= LST_MAX_HEADERS_BYTES / 1000 + 1);
  lst_answer_free(&a);
}

static void trailers(void)
{
  lst_answer a;

  lst_answer_init(&a, 100);
  check_true("1", lst_answer_line(&a, "HTTP/1.1 200 OK\r\n", 17) == LS_OK);
  check_true("2", lst_answer_line(&a, "A: 1\r\n", 6) == LS_OK);
  check_true("3", lst_answer_line(&a, "\r\n", 2) == LS_OK && a.complete);
  check_true("4", lst_answer_line(&a, "A: 2\r\n", 6) == LS_OK);
  check_true("5", lst_answer_line(&a, "HTTP/1.1 500 X\r\n", 16) == LS_OK);
  check_u64("status stays", (uint64_t)a.status, 200);
  check_text("header stays", lst_answer_header(&a, "a"), 1, "1");
  lst_answer_reset(&a);
  check_true("a new request begins anew", !a.complete && !a.status &&
             !lst_answer_header(&a, "a"));
  check_true("a NUL in a line", lst_answer_line(&a, "HTTP/1.1 200 OK", 15)
             == LS_OK && lst_answer_line(&a, "B: x\0y\r\n", 8) == LS_OK);
  check_true("is ignored", !lst_answer_header(&a, "b"));
  lst_answer_free(&a);
}

int main(void)
{
  table();
  every_cut();
  ceilings();
  trailers();
  return check_end();
}
