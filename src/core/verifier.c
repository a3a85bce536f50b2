/* Checking a signature. See verifier.h. Room: src/core. */
#include "secure.h"
#include "uri.h"
#include "verifier_impl.h"

#include <stdlib.h>

/* Target and headers are at most this long. */
#define RECEIVED_MAX ((size_t)1 << 20)

#define NONE ((ls_str){ NULL, 0 })

ls_code ls_verifier_refuse(ls_verifier *v, ls_code code, const char *word,
                           const char *message, ls_str field)
{
  v->fault = (ls_fault){ word, message, field };
  return code;
}

const ls_fault *ls_verifier_fault(const ls_verifier *v)
{
  return &v->fault;
}

ls_code ls_verifier_new(ls_verifier **out)
{
  ls_verifier *v = *out = calloc(1, sizeof(*v));

  if(!v)
    return LS_ENOMEM;
  ls_pairs_init(&v->query, 4 * RECEIVED_MAX);
  ls_pairs_init(&v->headers, RECEIVED_MAX);
  ls_buf_init(&v->decoded, 4 * RECEIVED_MAX);
  ls_buf_init(&v->canonical, 16 * RECEIVED_MAX);
  return LS_OK;
}

void ls_verifier_free(ls_verifier *v)
{
  if(!v)
    return;
  ls_pairs_free(&v->query);
  ls_pairs_free(&v->headers);
  ls_buf_free(&v->decoded);
  ls_buf_free(&v->canonical);
  ls_wipe(v, sizeof(*v));
  free(v);
}

void ls_verifier_begin(ls_verifier *v, ls_str method, ls_str target)
{
  v->method = method;
  ls_pairs_clear(&v->query);
  ls_pairs_clear(&v->headers);
  ls_buf_clear(&v->canonical);
  v->sorted = false;
  v->fault = (ls_fault){ NULL, NULL, NONE };
  v->path = ls_str_cut(&target, '?');
  v->code = LS_EPARSE;
  if(v->path.n && v->path.p[0] == '/')
    v->code = ls_query_add_raw(&v->query, target);
}

void ls_verifier_header(ls_verifier *v, ls_str name, ls_str value)
{
  ls_header_add(&v->headers, name, value);
}

static ls_code refuse(ls_verifier *v, const char *word, const char *message,
                      ls_str field)
{
  return ls_verifier_refuse(v, LS_ESIG, word, message, field);
}

static ls_code check_scope(ls_verifier *v, const ls_auth *auth,
                           const ls_expected *expected)
{
  if(memcmp(auth->day.p, auth->date, 8) != 0)
    return refuse(v, "scope", "the credential's day is not that of the date",
                  NONE);
  if(expected->region.p && !ls_str_eq(auth->region, expected->region))
    return refuse(v, "scope", "the credential is for another region",
                  LS_LIT("region"));
  if(expected->service.p && !ls_str_eq(auth->service, expected->service))
    return refuse(v, "scope", "the credential is for another service",
                  LS_LIT("service"));
  return LS_OK;
}

static ls_code check_time(ls_verifier *v, const ls_auth *auth,
                          const ls_expected *expected)
{
  uint64_t now = expected->now;

  if(auth->time > now && auth->time - now > expected->skew)
    return refuse(v, "skewed", auth->form == LS_AUTH_QUERY ?
                  "the URL is not valid yet: the signer's clock is ahead" :
                  "the signer's clock is ahead", NONE);
  if(now <= auth->time)
    return LS_OK;
  if(auth->form == LS_AUTH_QUERY && now - auth->time > auth->expires)
    return refuse(v, "expired", "the URL has expired", NONE);
  if(auth->form == LS_AUTH_HEADER && now - auth->time > expected->skew)
    return refuse(v, "skewed", "the request is too old, or the signer's "
                  "clock is behind", NONE);
  return LS_OK;
}

/* A header that nobody signed and that would change what is stored. The
 * payload's hash is signed with the last line, listed or not. */
static bool is_dangerous(const ls_verifier *v, const ls_auth *auth, size_t i)
{
  ls_str name = ls_pairs_name(&v->headers, i);

  if(name.n < 6 || memcmp(name.p, "x-amz-", 6) != 0)
    return false;
  return !ls_str_eq(name, LS_LIT("x-amz-content-sha256")) ||
         !ls_str_eq(ls_pairs_value(&v->headers, i), auth->payload_hash);
}

/* Writes the signed headers. Both lists are sorted, so that one walk finds
 * the headers that are missing and those that are not signed. */
static ls_code write_headers(ls_verifier *v, const ls_auth *auth,
                             bool allow_unsigned)
{
  size_t n = ls_pairs_count(&v->headers), i = 0;
  ls_str list = auth->signed_headers;
  ls_code code = LS_OK;

  for(;;) {
    ls_str name = ls_str_cut(&list, ';');

    for(; i < n && (!name.p ||
        ls_str_cmp(ls_pairs_name(&v->headers, i), name) < 0); i++) {
      if(!allow_unsigned && is_dangerous(v, auth, i))
        return refuse(v, "unsigned_header",
                      "there were headers in the request that were not signed",
                      ls_pairs_name(&v->headers, i));
    }
    if(!name.p)
      return LS_OK;
    if(i == n || !ls_str_eq(ls_pairs_name(&v->headers, i), name))
      return refuse(v, "missing_header",
                    "a header that was signed is not in the request", name);
    i = ls_header_write(&v->headers, i, &v->canonical, &code);
    if(code)
      return refuse(v, "malformed", "a header has control characters", name);
  }
}

static ls_code write_canonical(ls_verifier *v, const ls_auth *auth,
                               bool allow_unsigned)
{
  ls_buf *to = &v->canonical;
  ls_code code;

  if(!v->sorted) {
    ls_pairs_sort(&v->query, false);
    ls_pairs_sort(&v->headers, true);
    v->sorted = true;
  }
  ls_buf_clear(to);
  ls_buf_str(to, v->method);
  ls_buf_lit(to, "\n");
  if(ls_uri_recode(to, v->path, true, false))
    return refuse(v, "malformed", "the path has a percent sign without two "
                  "hexadecimal digits behind it", NONE);
  ls_buf_lit(to, "\n");
  ls_query_write(&v->query, auth->form == LS_AUTH_QUERY ?
                 LS_LIT("X-Amz-Signature") : NONE, to);
  ls_buf_lit(to, "\n");
  code = write_headers(v, auth, allow_unsigned);
  if(code)
    return code;
  ls_buf_lit(to, "\n");
  ls_buf_str(to, auth->signed_headers);
  ls_buf_lit(to, "\n");
  ls_buf_str(to, auth->payload_hash);
  return ls_buf_code(to);
}

/* Returns how long it is; 0 for none, though a part of it may be there. */
static size_t key_id(char id[256], const ls_auth *auth, ls_str secret)
{
  const ls_str fields[4] = { secret, auth->day, auth->region, auth->service };
  size_t n = 0, i;

  for(i = 0; i < 4; i++) {
    if(fields[i].n >= 255 - n)
      return 0;
    if(fields[i].n)
      memcpy(id + n, fields[i].p, fields[i].n);
    n += fields[i].n;
    id[n++] = 0;
  }
  return n;
}

static void find_key(ls_verifier *v, const ls_auth *auth, ls_str secret,
                     ls_hmac *key)
{
  char id[256];
  size_t n = key_id(id, auth, secret), i;

  for(i = 0; n && i < LS_KEPT_KEYS; i++) {
    const ls_kept_key *kept = &v->kept[i];

    if(ls_equal((ls_str){ kept->id, kept->id_n }, (ls_str){ id, n })) {
      *key = kept->key;
      ls_wipe(id, sizeof(id));
      return;
    }
  }
  ls_signing_key(key, secret, auth->day, auth->region, auth->service);
  if(n) {
    ls_kept_key *kept = &v->kept[v->next_kept++ % LS_KEPT_KEYS];

    memcpy(kept->id, id, n);
    kept->id_n = n;
    kept->key = *key;
  }
  ls_wipe(id, sizeof(id));
}

ls_code ls_verifier_check(ls_verifier *v, const ls_auth *auth,
                          const ls_expected *expected)
{
  char signature[LS_SIGNATURE_SIZE];
  ls_moment moment;
  ls_hmac key;
  ls_code code;

  code = check_scope(v, auth, expected);
  if(!code)
    code = check_time(v, auth, expected);
  if(!code && !ls_equal(auth->session_token, expected->session_token))
    code = refuse(v, "token", auth->session_token.n ?
                  "the session token is not that of the credential" :
                  "the credential needs its session token", NONE);
  if(!code)
    code = write_canonical(v, auth, expected->allow_unsigned);
  if(code)
    return code;
  ls_sha256_once(v->canonical.data, v->canonical.size, v->digest);
  find_key(v, auth, expected->secret_key, &key);
  ls_moment_init(&moment, &key, (ls_str){ auth->date, LS_DATE_SIZE },
                 auth->scope);
  ls_moment_sign(&moment, v->digest, signature);
  if(!ls_equal((ls_str){ signature, sizeof(signature) }, auth->signature))
    code = refuse(v, "signature_mismatch",
                  "the signature is not that of this request", NONE);
  ls_wipe(&key, sizeof(key));
  ls_wipe(&moment, sizeof(moment));
  ls_wipe(signature, sizeof(signature));
  return code;
}

ls_str ls_verifier_canonical(const ls_verifier *v)
{
  return ls_buf_view(&v->canonical);
}

void ls_verifier_string_to_sign(const ls_verifier *v, const ls_auth *auth,
                                ls_buf *to)
{
  char hex[LS_HEX_SIZE(LS_SHA256_SIZE)];

  ls_hex(hex, v->digest, sizeof(v->digest));
  ls_buf_lit(to, LS_ALGORITHM "\n");
  ls_buf_add(to, auth->date, LS_DATE_SIZE);
  ls_buf_lit(to, "\n");
  ls_buf_str(to, auth->scope);
  ls_buf_lit(to, "\n");
  ls_buf_add(to, hex, sizeof(hex));
}
