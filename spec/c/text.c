/* Dates, encoding, buffers, pairs, plans: the small parts of the core. */
#include "check.h"
#include "core/date.h"
#include "core/pairs.h"
#include "core/plan.h"
#include "core/secure.h"
#include "core/text.h"
#include "core/uri.h"

#include <stdlib.h>
#include <time.h>

/* Every byte at every place of a text of every length. */
static void plain(void)
{
  char text[24];
  size_t n, at;
  int c;

  for(n = 0; n < sizeof(text); n++) {
    memset(text, '~', sizeof(text));
    check_true("plain", ls_is_plain((ls_str){ text, n }));
    for(at = 0; at < n; at++) {
      for(c = 0; c < 256; c++) {
        bool want = c >= 0x20 && c < 0x7f && c != '"' && c != '\\';

        text[at] = (char)c;
        if(ls_is_plain((ls_str){ text, n }) != want)
          check_u64("byte of a text", (uint64_t)c, 256);
      }
      text[at] = ' ';
    }
  }
}

static bool all_utf8(const unsigned char *p, size_t n)
{
  return ls_utf8_span((ls_str){ (const char *)p, n }) == n;
}

static size_t encode(unsigned char to[4], uint32_t c)
{
  static const unsigned char heads[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
  size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  size_t i;

  for(i = n; --i;) {
    to[i] = (unsigned char)(0x80 | (c & 63));
    c >>= 6;
  }
  to[0] = (unsigned char)(heads[n] | c);
  return n;
}

/* Every character is one, at every place of a text; and as many texts of two,
 * three and four bytes are UTF-8 as there are characters to make them of. */
static void utf8(void)
{
  static const unsigned char some[] = { 0, 0x7f, 0x80, 0xbf, 0xc0, 0xff };
  unsigned char text[24];
  uint64_t two = 0, three = 0, four = 0;
  uint32_t c;
  size_t n, at;

  for(c = 0x80; c < 0x110000; c++) {
    at = c % 20;
    memset(text, 'a', sizeof(text));
    n = encode(text + at, c);
    if(all_utf8(text, sizeof(text)) != (c < 0xd800 || c > 0xdfff))
      check_u64("character", c, 0);
    if(ls_utf8_span((ls_str){ (char *)text, at + n - 1 }) != at)
      check_u64("character that is cut off", c, 0);
  }
  for(c = 0; c < 0x1000000; c++) {
    text[0] = (unsigned char)(c >> 16);
    text[1] = (unsigned char)(c >> 8);
    text[2] = (unsigned char)c;
    two += c < 0x10000 && all_utf8(text + 1, 2);
    three += all_utf8(text, 3);
  }
  check_u64("texts of two", two, 128 * 128 + 1920);
  check_u64("texts of three", three,
            128 * 128 * 128 + 2 * 128 * 1920 + 61440);
  /* (Of the last two bytes it only matters whether they are tails.) */
  for(c = 0; c < 0x1000 * 36; c++) {
    text[0] = (unsigned char)(0xf0 | (c / 36) >> 8);
    text[1] = (unsigned char)(c / 36);
    text[2] = some[c % 6];
    text[3] = some[c / 6 % 6];
    four += all_utf8(text, 4);
  }
  check_u64("texts of four", four, 256 * 2 * 2);
}

/* Against the system's calendar: every day from 1970 to 2105, and each
 * century's end after that. */
static void dates(void)
{
  uint64_t t, back;
  char text[LS_DATE_SIZE], want[LS_DATE_SIZE + 1];
  struct tm tm;

  for(t = 0; t <= LS_DATE_MAX; t += t < 4260211200 ? 86399 : 86400 * 365) {
    time_t seconds = (time_t)t;

    gmtime_r(&seconds, &tm);
    strftime(want, sizeof(want), "%Y%m%dT%H%M%SZ", &tm);
    ls_date_write(text, t);
    check_text("date", text, sizeof(text), want);
    check_true("read", ls_date_read((ls_str){ text, 16 }, &back) == LS_OK);
    check_u64("back", back, t);
  }
  ls_date_write(text, LS_DATE_MAX);
  check_text("last", text, sizeof(text), "99991231T235959Z");
  check_true("http", ls_date_read_http(
    LS_LIT("Sun, 06 Nov 1994 08:49:37 GMT"), &t) == LS_OK);
  check_u64("http", t, 784111777);
  check_true("leap", ls_date_read(LS_LIT("20240229T000000Z"), &t) == LS_OK);
  check_true("no leap", ls_date_read(LS_LIT("20230229T000000Z"), &t));
  check_true("no leap", ls_date_read(LS_LIT("21000229T000000Z"), &t));
  check_true("no month", ls_date_read_http(
    LS_LIT("Sun, 06 Nop 1994 08:49:37 GMT"), &t));
  check_true("short", ls_date_read(LS_LIT("20240229T000000"), &t));
  check_true("signs", ls_date_read(LS_LIT("2024+2-9T000000Z"), &t));
}

static void uris(void)
{
  unsigned char all[256];
  char back[768];
  size_t n;
  ls_buf b;
  int i;

  for(i = 0; i < 256; i++)
    all[i] = (unsigned char)i;
  ls_buf_init(&b, 4096);
  ls_uri_encode(&b, (ls_str){ (char *)all, 256 }, false);
  check_u64("size", b.size, 66 + 190 * 3);
  check_true("decode", ls_uri_decode(back, &n, ls_buf_view(&b), false) ==
             LS_OK);
  check_bytes("identity", back, n, (char *)all, 256);
  ls_buf_clear(&b);
  check_true("recode", ls_uri_recode(&b, LS_LIT("a%2fb+c%7E!"), true, true) ==
             LS_OK);
  check_text("recode", b.data, b.size, "a/b%20c~%21");
  check_true("bad", ls_uri_recode(&b, LS_LIT("a%2"), true, true));
  check_u64("nothing added", b.size, 11);
  ls_buf_free(&b);
  ls_buf_init(&b, 4096);
  ls_uri_encode(&b, (ls_str){ (char *)all, SIZE_MAX / 2 }, false);
  check_true("a ceiling, not an overflow", ls_buf_code(&b) == LS_ELIMIT);
}

static void buffers(void)
{
  ls_buf b;
  int i;

  ls_buf_init(&b, 1000);
  for(i = 0; i < 100; i++)
    ls_buf_lit(&b, "0123456789");
  check_true("to the brim", ls_buf_code(&b) == LS_OK && b.size == 1000);
  ls_buf_add(&b, "x", 0);
  check_true("nothing more fits", ls_buf_code(&b) == LS_OK);
  ls_buf_add(&b, "x", 1);
  check_true("one more does not", ls_buf_code(&b) == LS_ELIMIT);
  check_true("empty", b.size == 0 && b.data == NULL && b.capacity == 0);
  ls_buf_add(&b, "x", 1);
  check_true("stays so", ls_buf_code(&b) == LS_ELIMIT && b.size == 0);
  ls_buf_clear(&b);
  ls_buf_uint(&b, 0);
  ls_buf_uint(&b, UINT64_MAX);
  check_text("digits", b.data, b.size, "018446744073709551615");
  ls_buf_free(&b);
  ls_buf_free(&b);
}

static void hexes(void)
{
  unsigned char all[256], back[256];
  char text[513], want[3];
  size_t n, i;

  for(i = 0; i < 256; i++)
    all[i] = (unsigned char)(i * 167);
  for(n = 0; n <= 256; n += n < 20 ? 1 : 59) {
    text[2 * n] = '!';
    ls_hex(text, all, n);
    check_true("no more than its size", text[2 * n] == '!');
    for(i = 0; i < n; i++) {
      snprintf(want, sizeof(want), "%02x", all[i]);
      check_text("hex", text + 2 * i, 2, want);
    }
    check_true("unhex", ls_unhex(back, text, 2 * n) == LS_OK);
    check_bytes("unhex", (char *)back, n, (char *)all, n);
  }
}

static void add(ls_pairs *list, const char *name, const char *value)
{
  ls_pairs_begin(list);
  ls_buf_add(&list->text, name, strlen(name));
  ls_pairs_named(list);
  ls_buf_add(&list->text, value, strlen(value));
  ls_pairs_end(list);
}

static void pairs(void)
{
  ls_pairs list;
  char name[8];
  size_t i;

  ls_pairs_init(&list, 1 << 20);
  add(&list, "a-b", "");
  add(&list, "a", "2");
  add(&list, "a", "1");
  add(&list, "", "x");
  add(&list, "a", "10");
  ls_pairs_sort(&list, false);
  check_text("empty name first", ls_pairs_value(&list, 0).p, 1, "x");
  check_text("by value", ls_pairs_value(&list, 1).p, 1, "1");
  check_text("by value", ls_pairs_value(&list, 2).p, 2, "10");
  check_text("by value", ls_pairs_value(&list, 3).p, 1, "2");
  check_text("prefix first", ls_pairs_name(&list, 4).p, 3, "a-b");
  ls_pairs_sort(&list, true);
  check_text("as added", ls_pairs_value(&list, 1).p, 1, "2");
  check_text("as added", ls_pairs_value(&list, 3).p, 2, "10");
  check_u64("find", ls_pairs_find(&list, LS_LIT("a"), 2), 2);
  check_u64("not found", ls_pairs_find(&list, LS_LIT("b"), 0), 5);
  ls_pairs_clear(&list);
  for(i = 0; i < 1000; i++) {
    snprintf(name, sizeof(name), "%03u", (unsigned)(i * 607 % 1000));
    add(&list, name, "v");
  }
  ls_pairs_sort(&list, false);
  for(i = 0; i < 1000; i++) {
    snprintf(name, sizeof(name), "%03u", (unsigned)i);
    check_text("sorted", ls_pairs_name(&list, i).p, 3, name);
  }
  ls_pairs_free(&list);
}

static void plans(void)
{
  const uint64_t gib = (uint64_t)1 << 30;
  ls_limits s3 = { 5 << 20, 5 * gib, 10000, UINT64_MAX, false };
  ls_limits huge = { 1, UINT64_MAX - 1, UINT64_MAX, UINT64_MAX, false };
  uint64_t offset, length, size;
  ls_plan plan;

  check_true("48.8 TiB", ls_plan_make(&plan, &s3, 50000 * gib, 1) == LS_OK);
  check_u64("parts", plan.count, 10000);
  check_true("more", ls_plan_make(&plan, &s3, 50000 * gib + 1, 1) ==
             LS_ELIMIT);
  check_true("no overflow", ls_plan_make(&plan, &huge, UINT64_MAX - 1,
                                         UINT64_MAX - 1) == LS_OK);
  check_u64("one part", plan.count, 1);
  check_true("no overflow", ls_plan_make(&plan, &huge, UINT64_MAX - 1, 1) ==
             LS_OK);
  check_u64("as many parts as bytes", plan.count, UINT64_MAX - 1);
  check_true("last", ls_plan_range(&plan, UINT64_MAX - 1, UINT64_MAX - 1,
                                   &offset, &length) == LS_OK);
  check_u64("last", length, 1);
  check_true("too far", ls_plan_range(&plan, LS_SIZE_UNKNOWN, UINT64_MAX,
                                      &offset, &length) == LS_ELIMIT);
  check_true("unknown", ls_plan_make(&plan, &s3, LS_SIZE_UNKNOWN, 8 << 20) ==
             LS_OK);
  for(size = 0; ls_plan_range(&plan, LS_SIZE_UNKNOWN, 1 + size / 1000,
                              &offset, &length) == LS_OK && size < 10000000;
      size += 1000)
    check_true("grows no further than allowed", length <= s3.max_part);
  check_true("zero parts", ls_plan_range(&plan, 5, 0, &offset, &length) ==
             LS_EINVAL);
  s3.min_part = 6 * gib;
  check_true("contradiction", ls_plan_make(&plan, &s3, 1, 1) == LS_EINVAL);
  s3.min_part = 0;
  check_true("contradiction", ls_plan_make(&plan, &s3, 1, 1) == LS_EINVAL);
}

int main(void)
{
  plain();
  utf8();
  dates();
  uris();
  buffers();
  hexes();
  pairs();
  plans();
  check_true("equal", ls_equal(LS_LIT("ab"), LS_LIT("ab")));
  check_true("not equal", !ls_equal(LS_LIT("ab"), LS_LIT("ac")));
  return check_end();
}
