/* Reading the signature of a request: the Authorization header or the
 * parameters of a presigned URL. See verifier.h. Room: src/core.
 */
#include "uri.h"
#include "verifier_impl.h"

static ls_code malformed(ls_verifier *v, const char *message, ls_str field)
{
  return ls_verifier_refuse(v, LS_EPARSE, "malformed", message, field);
}

/* The header of that name, or nothing; twice is wrong. */
static ls_code one_header(ls_verifier *v, ls_str name, ls_str *value)
{
  size_t n = ls_pairs_count(&v->headers);
  size_t i = ls_pairs_find(&v->headers, name, 0);

  *value = (ls_str){ NULL, 0 };
  if(i == n)
    return LS_OK;
  if(ls_pairs_find(&v->headers, name, i + 1) < n)
    return malformed(v, "the header was sent twice", name);
  *value = ls_pairs_value(&v->headers, i);
  return LS_OK;
}

/* The parameter of that name, decoded. `decoded` has room for all. */
static ls_code one_parameter(ls_verifier *v, ls_str name, ls_str *value)
{
  size_t n = ls_pairs_count(&v->query);
  size_t i = ls_pairs_find(&v->query, name, 0);
  size_t written;
  ls_code code;
  char *to;

  *value = (ls_str){ NULL, 0 };
  if(i == n)
    return LS_OK;
  if(ls_pairs_find(&v->query, name, i + 1) < n)
    return malformed(v, "the parameter was given twice", name);
  *value = ls_pairs_value(&v->query, i);
  to = ls_buf_room(&v->decoded, value->n);
  if(!to)
    return ls_buf_code(&v->decoded);
  code = ls_uri_decode(to, &written, *value, false);
  if(code)
    return code;
  *value = (ls_str){ to, written };
  v->decoded.size += written;
  return LS_OK;
}

/* The part of `s` behind its last slash, which is cut off with it. */
static ls_str cut_last(ls_str *s)
{
  ls_str tail = *s;
  size_t i = s->n;

  while(i && s->p[i - 1] != '/')
    i--;
  if(!i) {
    *s = (ls_str){ NULL, 0 };
    return tail;
  }
  tail.p += i;
  tail.n -= i;
  s->n = i - 1;
  return tail;
}

/* key/day/region/service/aws4_request; only the key may hold slashes. */
static ls_code read_credential(ls_verifier *v, ls_auth *auth, ls_str text,
                               ls_str field)
{
  ls_str rest = text, last = cut_last(&rest);
  size_t i;

  auth->service = cut_last(&rest);
  auth->region = cut_last(&rest);
  auth->day = cut_last(&rest);
  auth->access_key = rest;
  if(!rest.n || auth->day.n != 8 ||
     !ls_str_eq(last, LS_LIT("aws4_request")))
    return malformed(v, "a credential is KEY/YYYYMMDD/REGION/SERVICE/"
                        "aws4_request", field);
  for(i = 0; i < text.n; i++) {
    if(ls_is_control(text.p[i]))
      return malformed(v, "a credential has no control characters", field);
  }
  auth->scope.p = auth->day.p;
  auth->scope.n = (size_t)(text.p + text.n - auth->day.p);
  return LS_OK;
}

/* Names in lower case, sorted, none twice, host among them. */
static ls_code check_names(ls_verifier *v, ls_str list, ls_str field)
{
  ls_str before = { NULL, 0 };
  bool has_host = false;
  size_t i;

  while(list.p) {
    ls_str name = ls_str_cut(&list, ';');

    if(!ls_is_token(name) || (before.p && ls_str_cmp(before, name) >= 0))
      return malformed(v, "the signed headers must be names in order, "
                          "separated by semicolons", field);
    for(i = 0; i < name.n; i++) {
      if(ls_is_upper(name.p[i]))
        return malformed(v, "the signed headers must be in lower case", field);
    }
    has_host = has_host || ls_str_eq(name, LS_LIT("host"));
    before = name;
  }
  if(!has_host)
    return ls_verifier_refuse(v, LS_EPARSE, "unsigned_header",
                              "the host header must be signed",
                              LS_LIT("host"));
  return LS_OK;
}

static bool begins(ls_str s, ls_str with)
{
  return s.n >= with.n && memcmp(s.p, with.p, with.n) == 0;
}

/* What both forms have in common. */
static ls_code check_fields(ls_verifier *v, ls_auth *auth, ls_str names_field,
                            ls_str signature_field)
{
  ls_code code = check_names(v, auth->signed_headers, names_field);

  if(code)
    return code;
  if(!ls_is_sha256_hex(auth->signature))
    return malformed(v, "a signature is 64 hexadecimal digits in lower case",
                     signature_field);
  if(!ls_is_payload_hash(auth->payload_hash))
    return malformed(v, "the payload's hash is SHA-256 in hexadecimal, "
                        LS_UNSIGNED " or STREAMING-...",
                     LS_LIT("x-amz-content-sha256"));
  return LS_OK;
}

static ls_str trim(ls_str s)
{
  while(s.n && s.p[0] == ' ') {
    s.p++;
    s.n--;
  }
  while(s.n && s.p[s.n - 1] == ' ')
    s.n--;
  return s;
}

/* Credential=..., SignedHeaders=..., Signature=... in any order, each once. */
static ls_code read_authorization(ls_verifier *v, ls_auth *auth, ls_str text)
{
  const ls_str field = LS_LIT("authorization");
  ls_str credential = { NULL, 0 };

  while(text.p) {
    ls_str value = trim(ls_str_cut(&text, ','));
    ls_str name = trim(ls_str_cut(&value, '='));
    ls_str *to = NULL;

    if(ls_str_eq(name, LS_LIT("Credential")))
      to = &credential;
    else if(ls_str_eq(name, LS_LIT("SignedHeaders")))
      to = &auth->signed_headers;
    else if(ls_str_eq(name, LS_LIT("Signature")))
      to = &auth->signature;
    if(!to || to->p || !value.p)
      return malformed(v, "Credential, SignedHeaders and Signature expected, "
                          "each once", field);
    *to = trim(value);
  }
  if(!credential.p || !auth->signed_headers.p || !auth->signature.p)
    return malformed(v, "Credential, SignedHeaders and Signature expected",
                     field);
  return read_credential(v, auth, credential, field);
}

static ls_code read_date_header(ls_verifier *v, ls_auth *auth)
{
  ls_str name = LS_LIT("x-amz-date"), text;
  ls_code code = one_header(v, name, &text);

  if(!code && !text.p) {
    name = LS_LIT("date");
    code = one_header(v, name, &text);
  }
  if(code)
    return code;
  if(!text.p)
    return ls_verifier_refuse(v, LS_EPARSE, "missing_header",
                              "a signed request needs x-amz-date or date",
                              LS_LIT("x-amz-date"));
  if(ls_date_read(text, &auth->time) &&
     (name.n != 4 || ls_date_read_http(text, &auth->time)))
    return malformed(v, "a date like 20260131T235959Z expected", name);
  ls_date_write(auth->date, auth->time);
  return LS_OK;
}

static ls_code parse_header(ls_verifier *v, ls_auth *auth, ls_str text)
{
  const ls_str field = LS_LIT("authorization");
  ls_code code;

  auth->form = LS_AUTH_HEADER;
  if(!begins(text, LS_LIT(LS_ALGORITHM " ")))
    return ls_verifier_refuse(v, LS_EPARSE, "unsupported",
                              "only " LS_ALGORITHM " is supported", field);
  text.p += sizeof(LS_ALGORITHM);
  text.n -= sizeof(LS_ALGORITHM);
  code = read_authorization(v, auth, text);
  if(!code)
    code = read_date_header(v, auth);
  if(!code)
    code = one_header(v, LS_LIT("x-amz-security-token"),
                      &auth->session_token);
  if(!code)
    code = one_header(v, LS_LIT("x-amz-content-sha256"),
                      &auth->payload_hash);
  if(code)
    return code;
  if(!auth->payload_hash.p)
    return ls_verifier_refuse(v, LS_EPARSE, "missing_header",
                              "a signed request needs x-amz-content-sha256",
                              LS_LIT("x-amz-content-sha256"));
  return check_fields(v, auth, field, field);
}

static ls_code read_expires(ls_verifier *v, ls_auth *auth, ls_str text)
{
  uint64_t value = 0;
  size_t i;

  for(i = 0; i < text.n; i++) {
    if(!ls_is_digit(text.p[i]) || i >= 6)
      value = UINT32_MAX;
    else if(value != UINT32_MAX)
      value = value * 10 + (uint64_t)(text.p[i] - '0');
  }
  if(value < 1 || value > 604800)
    return malformed(v, "X-Amz-Expires is 1 to 604800 seconds",
                     LS_LIT("X-Amz-Expires"));
  auth->expires = value;
  return LS_OK;
}

static ls_code parse_query(ls_verifier *v, ls_auth *auth)
{
  static const char missing[] = "a presigned URL needs this parameter";
  ls_str algorithm, credential, date, expires, hash;
  struct {
    ls_str name;
    ls_str *to;
    bool needed;
  } rows[] = {
    { LS_LIT("X-Amz-Algorithm"), &algorithm, true },
    { LS_LIT("X-Amz-Credential"), &credential, true },
    { LS_LIT("X-Amz-Date"), &date, true },
    { LS_LIT("X-Amz-Expires"), &expires, true },
    { LS_LIT("X-Amz-SignedHeaders"), &auth->signed_headers, true },
    { LS_LIT("X-Amz-Signature"), &auth->signature, true },
    { LS_LIT("X-Amz-Security-Token"), &auth->session_token, false },
    { LS_LIT("X-Amz-Content-Sha256"), &hash, false }
  };
  size_t i;
  ls_code code;

  auth->form = LS_AUTH_QUERY;
  ls_buf_clear(&v->decoded);
  if(!ls_buf_room(&v->decoded, v->query.text.size))
    return ls_buf_code(&v->decoded);
  for(i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
    code = one_parameter(v, rows[i].name, rows[i].to);
    if(code)
      return code;
    if(rows[i].needed && !rows[i].to->p)
      return malformed(v, missing, rows[i].name);
  }
  if(!ls_str_eq(algorithm, LS_LIT(LS_ALGORITHM)))
    return ls_verifier_refuse(v, LS_EPARSE, "unsupported",
                              "only " LS_ALGORITHM " is supported",
                              rows[0].name);
  if(ls_date_read(date, &auth->time))
    return malformed(v, "a date like 20260131T235959Z expected",
                     rows[2].name);
  memcpy(auth->date, date.p, LS_DATE_SIZE);
  code = read_credential(v, auth, credential, rows[1].name);
  if(!code)
    code = read_expires(v, auth, expires);
  if(!code && !hash.p)
    code = one_header(v, LS_LIT("x-amz-content-sha256"), &hash);
  if(code)
    return code;
  auth->payload_hash = hash.p ? hash : LS_LIT(LS_UNSIGNED);
  return check_fields(v, auth, rows[4].name, rows[5].name);
}

static bool has_parameter(const ls_verifier *v, ls_str name)
{
  return ls_pairs_find(&v->query, name, 0) < ls_pairs_count(&v->query);
}

ls_code ls_verifier_parse(ls_verifier *v, ls_auth *auth)
{
  ls_str text;
  ls_code code;

  memset(auth, 0, sizeof(*auth));
  if(v->code == LS_EPARSE)
    return malformed(v, "the target is a path that begins with a slash, "
                        "with two hexadecimal digits behind every %",
                     (ls_str){ NULL, 0 });
  if(v->code)
    return v->code;
  if(ls_pairs_code(&v->headers))
    return ls_pairs_code(&v->headers);
  if(!ls_is_token(v->method))
    return malformed(v, "an HTTP method expected", (ls_str){ NULL, 0 });
  code = one_header(v, LS_LIT("authorization"), &text);
  if(code)
    return code;
  if(!has_parameter(v, LS_LIT("X-Amz-Algorithm")) &&
     !has_parameter(v, LS_LIT("X-Amz-Credential")) &&
     !has_parameter(v, LS_LIT("X-Amz-Signature")))
    return text.p ? parse_header(v, auth, text) : LS_OK;
  if(text.p)
    return malformed(v, "a request is signed in its headers or in its query, "
                        "not in both", LS_LIT("authorization"));
  return parse_query(v, auth);
}
