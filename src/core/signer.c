/* Signing one request, in headers or in a URL. See signer.h. Room: src/core. */
#include "secure.h"
#include "signer_impl.h"
#include "uri.h"

#include <stdlib.h>

#define UNSIGNED "UNSIGNED-PAYLOAD"

ls_code ls_signer_refuse(ls_signer *s, const char *why)
{
  s->why = why;
  return LS_EINVAL;
}

const char *ls_signer_why(const ls_signer *s)
{
  return s->why;
}

/* Copies a field behind the others, and points the credential at the copy. */
static void own(ls_signer *s, ls_str *field, size_t *at)
{
  if(field->n) {
    memcpy(s->owned + *at, field->p, field->n);
    field->p = s->owned + *at;
    *at += field->n;
  }
}

ls_code ls_signer_new(ls_signer **out, const ls_credentials *credentials)
{
  ls_signer *s = calloc(1, sizeof(*s));
  ls_credentials *c;
  size_t at = 0;

  *out = NULL;
  if(!s)
    return LS_ENOMEM;
  s->credentials = *credentials;
  c = &s->credentials;
  s->owned_n = c->access_key.n + c->secret_key.n + c->session_token.n +
               c->region.n + c->service.n;
  s->owned = malloc(s->owned_n + 1);
  if(!s->owned) {
    free(s);
    return LS_ENOMEM;
  }
  own(s, &c->access_key, &at);
  own(s, &c->secret_key, &at);
  own(s, &c->session_token, &at);
  own(s, &c->region, &at);
  own(s, &c->service, &at);
  s->why = "";
  ls_buf_init(&s->scope, LS_SIGNER_MAX);
  ls_pairs_init(&s->query, LS_SIGNER_MAX);
  ls_pairs_init(&s->headers, LS_SIGNER_MAX);
  ls_buf_init(&s->host, LS_SIGNER_MAX);
  ls_buf_init(&s->names, LS_SIGNER_MAX);
  ls_buf_init(&s->canonical, 4 * LS_SIGNER_MAX);
  ls_buf_init(&s->result, 4 * LS_SIGNER_MAX);
  *out = s;
  return LS_OK;
}

void ls_signer_free(ls_signer *s)
{
  if(!s)
    return;
  ls_buf_free(&s->scope);
  ls_pairs_free(&s->query);
  ls_pairs_free(&s->headers);
  ls_buf_free(&s->host);
  ls_buf_free(&s->names);
  ls_buf_free(&s->canonical);
  ls_buf_free(&s->result);
  ls_wipe(s->owned, s->owned_n);
  free(s->owned);
  ls_wipe(s, sizeof(*s));
  free(s);
}

void ls_signer_begin(ls_signer *s)
{
  ls_pairs_clear(&s->query);
  ls_pairs_clear(&s->headers);
}

void ls_signer_query(ls_signer *s, ls_str name, ls_str value)
{
  ls_query_add(&s->query, name, value);
}

void ls_signer_header(ls_signer *s, ls_str name, ls_str value)
{
  ls_header_add(&s->headers, name, value);
}

/* The key for the day, the scope, and the moment of `time`. */
static ls_code set_time(ls_signer *s, uint64_t time)
{
  const ls_credentials *c = &s->credentials;
  char date[LS_DATE_SIZE];

  if(time > LS_DATE_MAX)
    return ls_signer_refuse(s, "time: a moment before the year 10000");
  ls_date_write(date, time);
  if(memcmp(date, s->date, sizeof(date)) == 0)
    return LS_OK;
  if(memcmp(date, s->day, sizeof(s->day)) != 0) {
    s->date[0] = 0;
    ls_signing_key(&s->key, c->secret_key, (ls_str){ date, 8 }, c->region,
                   c->service);
    memcpy(s->day, date, sizeof(s->day));
    ls_buf_clear(&s->scope);
    ls_buf_add(&s->scope, date, 8);
    ls_buf_lit(&s->scope, "/");
    ls_buf_str(&s->scope, c->region);
    ls_buf_lit(&s->scope, "/");
    ls_buf_str(&s->scope, c->service);
    ls_buf_lit(&s->scope, "/aws4_request");
    if(ls_buf_code(&s->scope)) {
      s->day[0] = 0;
      return ls_buf_code(&s->scope);
    }
  }
  ls_moment_init(&s->moment, &s->key, (ls_str){ date, sizeof(date) },
                 ls_buf_view(&s->scope));
  memcpy(s->date, date, sizeof(date));
  return LS_OK;
}

/* The host as a client will send it: in lower case, and without the port that
 * the scheme implies. */
static ls_code set_host(ls_signer *s, const ls_target *target)
{
  bool https = ls_str_eq(target->scheme, LS_LIT("https"));
  ls_str host = target->host;
  ls_str port = https ? LS_LIT(":443") : LS_LIT(":80");
  char *to;
  size_t i;

  if(!https && !ls_str_eq(target->scheme, LS_LIT("http")))
    return ls_signer_refuse(s, "scheme: https or http expected");
  if(host.n > port.n &&
     memcmp(host.p + host.n - port.n, port.p, port.n) == 0)
    host.n -= port.n;
  ls_buf_clear(&s->host);
  to = ls_buf_room(&s->host, host.n);
  if(!to)
    return ls_buf_code(&s->host);
  for(i = 0; i < host.n; i++) {
    char c = host.p[i];

    if(!ls_is_alnum(c) && (c == 0 || !strchr(".-_:[]", c)))
      return ls_signer_refuse(s, "host: only a name or address, and a port");
    to[i] = ls_lower(c);
  }
  s->host.size = host.n;
  if(!host.n)
    return ls_signer_refuse(s, "host: must not be empty");
  return LS_OK;
}

static bool is_reserved(ls_str name, bool in_url)
{
  return ls_str_eq(name, LS_LIT("host")) ||
         ls_str_eq(name, LS_LIT("authorization")) ||
         (!in_url && (ls_str_eq(name, LS_LIT("x-amz-date")) ||
                      ls_str_eq(name, LS_LIT("x-amz-content-sha256")) ||
                      ls_str_eq(name, LS_LIT("x-amz-security-token"))));
}

/* Checks what the caller added. */
static ls_code check_added(ls_signer *s, bool in_url)
{
  static const ls_str fixed[] = {
    { "X-Amz-Algorithm", 15 }, { "X-Amz-Credential", 16 },
    { "X-Amz-Date", 10 }, { "X-Amz-Expires", 13 },
    { "X-Amz-Security-Token", 20 }, { "X-Amz-Signature", 15 },
    { "X-Amz-SignedHeaders", 19 }
  };
  size_t i, k;

  if(ls_pairs_code(&s->query))
    return ls_pairs_code(&s->query);
  if(ls_pairs_code(&s->headers))
    return ls_pairs_code(&s->headers);
  for(i = 0; i < ls_pairs_count(&s->query); i++) {
    ls_str name = ls_pairs_name(&s->query, i);

    for(k = 0; k < sizeof(fixed) / sizeof(*fixed); k++) {
      if(ls_str_eq(name, fixed[k]))
        return ls_signer_refuse(s, "query: the signature's own parameters "
                                   "are added by the signer");
    }
  }
  for(i = 0; i < ls_pairs_count(&s->headers); i++) {
    ls_str name = ls_pairs_name(&s->headers, i);

    if(!ls_is_token(name))
      return ls_signer_refuse(s, "headers: a name has characters that no "
                                 "header may have");
    if(is_reserved(name, in_url))
      return ls_signer_refuse(s, "headers: host and the signature's own "
                                 "headers are added by the signer");
  }
  return LS_OK;
}

/* Sorts the headers and lists their names. */
static ls_code list_headers(ls_signer *s)
{
  size_t n, i;

  ls_header_add(&s->headers, LS_LIT("host"), ls_buf_view(&s->host));
  if(ls_pairs_code(&s->headers))
    return ls_pairs_code(&s->headers);
  ls_pairs_sort(&s->headers, true);
  ls_buf_clear(&s->names);
  n = ls_pairs_count(&s->headers);
  for(i = 0; i < n; i++) {
    ls_str name = ls_pairs_name(&s->headers, i);

    if(i && ls_str_eq(name, ls_pairs_name(&s->headers, i - 1)))
      continue;
    if(i)
      ls_buf_lit(&s->names, ";");
    ls_buf_str(&s->names, name);
  }
  return ls_buf_code(&s->names);
}

/* All lines of the canonical request but the last. */
static ls_code write_canonical(ls_signer *s, const ls_target *target)
{
  ls_buf *to = &s->canonical;
  ls_code code = LS_OK;
  size_t n, i = 0;

  if(ls_pairs_code(&s->query))
    return ls_pairs_code(&s->query);
  ls_pairs_sort(&s->query, false);
  ls_buf_clear(to);
  ls_buf_str(to, target->method);
  ls_buf_lit(to, "\n");
  s->path_at = to->size;
  ls_uri_encode(to, target->path, true);
  ls_buf_lit(to, "\n");
  s->query_at = to->size;
  ls_query_write(&s->query, (ls_str){ NULL, 0 }, to);
  s->query_end = to->size;
  ls_buf_lit(to, "\n");
  n = ls_pairs_count(&s->headers);
  while(i < n)
    i = ls_header_write(&s->headers, i, to, &code);
  ls_buf_lit(to, "\n");
  ls_buf_str(to, ls_buf_view(&s->names));
  ls_buf_lit(to, "\n");
  if(code)
    return ls_signer_refuse(s, "headers: a value has control characters");
  return ls_buf_code(to);
}

static ls_code begin_target(ls_signer *s, const ls_target *target,
                            uint64_t time, bool in_url)
{
  ls_code code;

  if(!ls_is_token(target->method))
    return ls_signer_refuse(s, "method: an HTTP method expected");
  if(!target->path.n || target->path.p[0] != '/')
    return ls_signer_refuse(s, "path: must begin with a slash");
  code = set_host(s, target);
  if(!code)
    code = check_added(s, in_url);
  if(!code)
    code = set_time(s, time);
  return code;
}

static void sign_canonical(ls_signer *s, char signature[LS_SIGNATURE_SIZE])
{
  unsigned char digest[LS_SHA256_SIZE];

  ls_sha256_once(s->canonical.data, s->canonical.size, digest);
  ls_moment_sign(&s->moment, digest, signature);
}

ls_code ls_signer_sign(ls_signer *s, const ls_target *target,
                       ls_str payload_hash, uint64_t time, ls_signed *out)
{
  ls_buf *to = &s->result;
  char signature[LS_SIGNATURE_SIZE];
  ls_code code = begin_target(s, target, time, false);

  if(code)
    return code;
  if(!ls_is_token(payload_hash))
    return ls_signer_refuse(s, "payload_hash: hexadecimal digits or "
                               UNSIGNED " expected");
  ls_header_add(&s->headers, LS_LIT("x-amz-content-sha256"), payload_hash);
  ls_header_add(&s->headers, LS_LIT("x-amz-date"),
                (ls_str){ s->date, LS_DATE_SIZE });
  if(s->credentials.session_token.n)
    ls_header_add(&s->headers, LS_LIT("x-amz-security-token"),
                  s->credentials.session_token);
  code = list_headers(s);
  if(!code)
    code = write_canonical(s, target);
  if(code)
    return code;
  ls_buf_str(&s->canonical, payload_hash);
  if(ls_buf_code(&s->canonical))
    return ls_buf_code(&s->canonical);
  sign_canonical(s, signature);

  ls_buf_clear(to);
  ls_buf_lit(to, LS_ALGORITHM " Credential=");
  ls_buf_str(to, s->credentials.access_key);
  ls_buf_lit(to, "/");
  ls_buf_str(to, ls_buf_view(&s->scope));
  ls_buf_lit(to, ", SignedHeaders=");
  ls_buf_str(to, ls_buf_view(&s->names));
  ls_buf_lit(to, ", Signature=");
  ls_buf_add(to, signature, sizeof(signature));
  if(ls_buf_code(to))
    return ls_buf_code(to);

  out->authorization = ls_buf_view(to);
  out->date = (ls_str){ s->date, LS_DATE_SIZE };
  out->session_token = s->credentials.session_token;
  out->host = ls_buf_view(&s->host);
  /* The payload hash is the last line of the canonical request. */
  out->payload_hash.p =
    s->canonical.data + s->canonical.size - payload_hash.n;
  out->payload_hash.n = payload_hash.n;
  /* Path and query are two lines of it; one line feed becomes a "?". */
  s->canonical.data[s->query_at - 1] = '?';
  out->target.p = s->canonical.data + s->path_at;
  out->target.n = s->query_end == s->query_at ?
    s->query_at - 1 - s->path_at : s->query_end - s->path_at;
  return LS_OK;
}

ls_code ls_signer_prepare(ls_signer *s, const ls_target *target,
                          uint64_t time, uint64_t expires)
{
  ls_pairs *query = &s->query;
  ls_code code;

  if(expires < 1 || expires > LS_EXPIRES_MAX)
    return ls_signer_refuse(s, "expires: 1 to 604800 seconds");
  code = begin_target(s, target, time, true);
  if(!code)
    code = list_headers(s);
  if(code)
    return code;
  ls_query_add(query, LS_LIT("X-Amz-Algorithm"), LS_LIT(LS_ALGORITHM));
  ls_pairs_begin(query);
  ls_buf_lit(&query->text, "X-Amz-Credential");
  ls_pairs_named(query);
  ls_uri_encode(&query->text, s->credentials.access_key, false);
  ls_buf_lit(&query->text, "%2F");
  ls_uri_encode(&query->text, ls_buf_view(&s->scope), false);
  ls_pairs_end(query);
  ls_query_add(query, LS_LIT("X-Amz-Date"),
               (ls_str){ s->date, LS_DATE_SIZE });
  ls_pairs_begin(query);
  ls_buf_lit(&query->text, "X-Amz-Expires");
  ls_pairs_named(query);
  ls_buf_uint(&query->text, expires);
  ls_pairs_end(query);
  if(s->credentials.session_token.n)
    ls_query_add(query, LS_LIT("X-Amz-Security-Token"),
                 s->credentials.session_token);
  ls_query_add(query, LS_LIT("X-Amz-SignedHeaders"), ls_buf_view(&s->names));
  code = write_canonical(s, target);
  if(code)
    return code;
  ls_buf_lit(&s->canonical, UNSIGNED);
  return ls_buf_code(&s->canonical);
}

void ls_signer_origin(const ls_signer *s, const ls_target *target, ls_buf *to)
{
  ls_buf_str(to, target->scheme);
  ls_buf_lit(to, "://");
  ls_buf_str(to, ls_buf_view(&s->host));
}

ls_code ls_signer_presign(ls_signer *s, const ls_target *target,
                          uint64_t time, uint64_t expires, ls_str *url)
{
  char signature[LS_SIGNATURE_SIZE];
  ls_buf *to = &s->result;
  ls_code code = ls_signer_prepare(s, target, time, expires);

  if(code)
    return code;
  sign_canonical(s, signature);
  ls_buf_clear(to);
  ls_signer_origin(s, target, to);
  ls_buf_add(to, s->canonical.data + s->path_at,
             s->query_at - 1 - s->path_at);
  ls_buf_lit(to, "?");
  ls_buf_add(to, s->canonical.data + s->query_at,
             s->query_end - s->query_at);
  ls_buf_lit(to, "&X-Amz-Signature=");
  ls_buf_add(to, signature, sizeof(signature));
  *url = ls_buf_view(to);
  return ls_buf_code(to);
}
