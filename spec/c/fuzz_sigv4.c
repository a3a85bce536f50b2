/* The parser and checker of signatures, header and query form. The input is a
 * request: method, target and headers, one to a line, a name and a value
 * separated by a colon. Whatever it says, its signature must not be accepted,
 * unless it was made with the very secret. */
#include "core/verifier.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
  if(!ok)
    abort();
}

static bool within(ls_str part, ls_str whole)
{
  return !part.n || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static ls_verifier *v; /* kept, so that what one request leaves is seen */
  ls_str rest = { (const char *)data, size };
  ls_str method, target;
  ls_auth auth;
  ls_code code;

  if(!v && ls_verifier_new(&v))
    return 0;
  method = ls_str_cut(&rest, '\n');
  target = ls_str_cut(&rest, '\n');
  ls_verifier_begin(v, method, target);
  while(rest.p) {
    ls_str value = ls_str_cut(&rest, '\n');
    ls_str name = ls_str_cut(&value, ':');

    ls_verifier_header(v, name, value);
  }
  code = ls_verifier_parse(v, &auth);
  if(code) {
    must(code == LS_ELIMIT || ls_verifier_fault(v)->code);
    return 0;
  }
  if(auth.form != LS_AUTH_NONE) {
    ls_expected expected = {
      LS_LIT("a secret that no input knows"), auth.session_token,
      auth.region, auth.service, auth.time, 900, size % 2
    };

    must(auth.access_key.n && auth.signature.n == 64);
    must(within(auth.day, auth.scope) && within(auth.region, auth.scope));
    must(auth.form == LS_AUTH_HEADER ||
         (auth.expires >= 1 && auth.expires <= 604800));
    code = ls_verifier_check(v, &auth, &expected);
    must(code == LS_ESIG || code == LS_ELIMIT);
    must(code == LS_ELIMIT || ls_verifier_fault(v)->code);
  }
  return 0;
}
