/* Signing what a caller puts together, as a URL and in headers. The input is a
 * request: method, path, then parameters (?name=value) and headers
 * (name:value), one to a line. Whatever the signer signs, the verifier accepts
 * with the same secret, and with no other. */
#include "core/signer.h"
#include "core/verifier.h"

#include <stdlib.h>

#define WHEN 1767225600
#define SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
  if(!ok)
    abort();
}

typedef struct request {
  ls_target target;
  ls_str fields;
} request;

static request read_request(ls_str rest)
{
  request r = { { LS_LIT("PUT"), LS_LIT("https"), LS_LIT("s3.example.com"),
                  LS_LIT("/") }, LS_LIT("") };

  r.target.method = ls_str_cut(&rest, '\n');
  r.target.path = ls_str_cut(&rest, '\n');
  r.fields = rest;
  return r;
}

static void add_fields(ls_signer *s, ls_str rest)
{
  ls_signer_begin(s);
  while(rest.p) {
    ls_str value = ls_str_cut(&rest, '\n');
    bool parameter = value.n && value.p[0] == '?';
    ls_str name = ls_str_cut(&value, parameter ? '=' : ':');

    if(parameter)
      ls_signer_query(s, (ls_str){ name.p + 1, name.n - 1 }, value);
    else
      ls_signer_header(s, name, value);
  }
}

/* Sends the request; `out` is absent for a URL, whose headers are those of the
 * caller alone. */
static void begin_verifying(ls_verifier *v, const request *r, ls_str target,
                            const ls_signed *out)
{
  ls_str rest = r->fields;

  ls_verifier_begin(v, r->target.method, target);
  ls_verifier_header(v, LS_LIT("Host"), r->target.host);
  while(rest.p) {
    ls_str value = ls_str_cut(&rest, '\n');
    ls_str name = value;

    if(!value.n || value.p[0] != '?') {
      name = ls_str_cut(&value, ':');
      ls_verifier_header(v, name, value);
    }
  }
  if(!out)
    return;
  ls_verifier_header(v, LS_LIT("Authorization"), out->authorization);
  ls_verifier_header(v, LS_LIT("X-Amz-Date"), out->date);
  ls_verifier_header(v, LS_LIT("X-Amz-Content-Sha256"), out->payload_hash);
  ls_verifier_header(v, LS_LIT("X-Amz-Security-Token"), out->session_token);
}

static void verify(ls_verifier *v, ls_auth_form form)
{
  ls_expected expected = { LS_LIT(SECRET), LS_LIT("to/ken"), LS_LIT("r"),
                           LS_LIT("s3"), WHEN, 0, false };
  ls_auth auth;
  ls_code code = ls_verifier_parse(v, &auth);

  if(code == LS_ELIMIT)
    return;
  must(code == LS_OK && auth.form == form);
  code = ls_verifier_check(v, &auth, &expected);
  must(code == LS_OK || code == LS_ELIMIT);
  expected.secret_key = LS_LIT("another");
  code = ls_verifier_check(v, &auth, &expected);
  must(code == LS_ESIG || code == LS_ELIMIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const ls_credentials credentials = {
    { "AKIA/EX", 7 }, { SECRET, sizeof(SECRET) - 1 }, { "to/ken", 6 },
    { "r", 1 }, { "s3", 2 }
  };
  static ls_signer *s;
  static ls_verifier *v;
  request r = read_request((ls_str){ (const char *)data, size });
  ls_signed out;
  ls_str url;

  if(!s && (ls_signer_new(&s, &credentials) || ls_verifier_new(&v)))
    return 0;
  add_fields(s, r.fields);
  if(ls_signer_presign(s, &r.target, WHEN, 60, &url) == LS_OK) {
    size_t origin = sizeof("https://") - 1 + r.target.host.n;

    begin_verifying(v, &r, (ls_str){ url.p + origin, url.n - origin }, NULL);
    verify(v, LS_AUTH_QUERY);
  }
  add_fields(s, r.fields);
  if(ls_signer_sign(s, &r.target, LS_LIT("UNSIGNED-PAYLOAD"), WHEN, &out) ==
     LS_OK) {
    begin_verifying(v, &r, out.target, &out);
    verify(v, LS_AUTH_HEADER);
  }
  return 0;
}
