/* The canonical form of a raw query: sorted, stable under itself, and with as
 * many parameters as the raw one. */
#include "core/canonical.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
  if(!ok)
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  ls_str raw = { (const char *)data, size };
  ls_pairs first, second;
  ls_buf a, b;
  size_t n, i;

  ls_pairs_init(&first, 1 << 20);
  ls_pairs_init(&second, 1 << 20);
  ls_buf_init(&a, 1 << 20);
  ls_buf_init(&b, 1 << 20);
  if(ls_query_add_raw(&first, raw) == LS_OK) {
    ls_pairs_sort(&first, false);
    n = ls_pairs_count(&first);
    for(i = 1; i < n; i++) {
      int order = ls_str_cmp(ls_pairs_name(&first, i - 1),
                             ls_pairs_name(&first, i));

      must(order < 0 || (order == 0 && ls_str_cmp(
        ls_pairs_value(&first, i - 1), ls_pairs_value(&first, i)) <= 0));
    }
    ls_query_write(&first, (ls_str){ NULL, 0 }, &a);
    must(ls_buf_code(&a) == LS_OK);
    must(ls_query_add_raw(&second, ls_buf_view(&a)) == LS_OK);
    must(ls_pairs_count(&second) == n);
    ls_pairs_sort(&second, false);
    ls_query_write(&second, (ls_str){ NULL, 0 }, &b);
    must(ls_str_eq(ls_buf_view(&a), ls_buf_view(&b)));
  }
  ls_pairs_free(&first);
  ls_pairs_free(&second);
  ls_buf_free(&a);
  ls_buf_free(&b);
  return 0;
}
