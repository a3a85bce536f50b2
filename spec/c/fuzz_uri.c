/* Percent-encoding of any bytes: decoding undoes encoding, recoding has one
 * fixed point, and the text forms beside it are strict. */
#include "core/buf.h"
#include "core/text.h"
#include "core/uri.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
  if(!ok)
    abort();
}

static bool same(ls_str a, const void *p, size_t n)
{
  return ls_str_eq(a, (ls_str){ p, n });
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  ls_str s = { (const char *)data, size };
  char *back = malloc(3 * size + 4);
  ls_buf a, b;
  size_t n;
  int flags;

  if(!back)
    return 0;
  ls_buf_init(&a, 1 << 20);
  ls_buf_init(&b, 1 << 20);
  for(flags = 0; flags < 4; flags++) {
    bool slash = flags & 1, plus = flags & 2;

    ls_buf_clear(&a);
    ls_uri_encode(&a, s, slash);
    must(ls_buf_code(&a) == LS_OK);
    must(ls_uri_decode(back, &n, ls_buf_view(&a), plus) == LS_OK);
    must(same(s, back, n));

    ls_buf_clear(&a);
    ls_buf_clear(&b);
    if(ls_uri_recode(&a, s, slash, plus)) {
      must(a.size == 0);
      must(ls_uri_decode(back, &n, s, plus) == LS_EPARSE);
      continue;
    }
    must(ls_uri_decode(back, &n, s, plus) == LS_OK && n <= size);
    must(ls_uri_recode(&b, ls_buf_view(&a), slash, false) == LS_OK);
    must(same(ls_buf_view(&a), b.data, b.size));
  }
  for(flags = 0; flags < 2; flags++) {
    if(ls_unbase64(back, &n, s.p, s.n, flags) == LS_OK) {
      must(n <= LS_UNBASE64_SIZE(s.n));
      ls_buf_clear(&a);
      if(ls_buf_room(&a, LS_BASE64_SIZE(n)))
        a.size = ls_base64(a.data, back, n, flags);
      /* One text for each string, but for the padding of the URL form. */
      must(a.size <= s.n && (n == 0 || memcmp(a.data, s.p, a.size) == 0));
    }
  }
  if(ls_unhex(back, s.p, s.n) == LS_OK)
    must(s.n % 2 == 0);
  ls_buf_free(&a);
  ls_buf_free(&b);
  free(back);
  return 0;
}
