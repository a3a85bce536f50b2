/* libFuzzer: the reader of HTTP answers. The first byte chooses how the bytes
 * arrive: raw and whole, or in lines as libcurl cuts them. */
#include "transfer/answer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const lst_answer *a)
{
  size_t i;
  size_t nuls = 0;

  for(i = 0; i < a->headers.size; i++)
    nuls += !a->headers.data[i];
  if(nuls % 2 || (a->headers.size && a->headers.data[a->headers.size - 1]) ||
     a->headers.size > LST_MAX_HEADERS_BYTES || a->body.size > 512 ||
     (a->complete && a->status < 200))
    abort();
  (void)lst_answer_header(a, "content-length");
  (void)lst_answer_header(a, "");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  lst_answer a;
  const char *p = (const char *)data + 1;
  size_t n = size - 1;

  if(!size)
    return 0;
  lst_answer_init(&a, 512);
  if(data[0] % 2) {
    if(lst_answer_salvage(&a, p, n) == LS_OK && !a.complete)
      abort();
    check(&a);
    if(a.complete && lst_answer_more(&a, p, n) != LS_OK)
      abort();
  }
  while(n && !(data[0] % 2)) {
    const char *eol = memchr(p, '\n', n);
    size_t length = eol ? (size_t)(eol + 1 - p) : n;

    if(lst_answer_line(&a, p, length) != LS_OK)
      break;
    p += length;
    n -= length;
  }
  check(&a);
  lst_answer_free(&a);
  return 0;
}
