/* Signing one request, in headers or in a URL. See signer.h. Room: src/core. */
#include "signer_impl.h"
#include "uri.h"

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
  code = ls_signer_set_host(s, target);
  if(!code)
    code = check_added(s, in_url);
  if(!code)
    code = ls_signer_set_time(s, time);
  return code;
}

/* The only value of a name, if there is any. False: there are several. */
static bool only_value(const ls_pairs *pairs, ls_str name, ls_str *value)
{
  size_t n = ls_pairs_count(pairs), i = ls_pairs_find(pairs, name, 0);

  if(i == n)
    return true;
  *value = ls_pairs_value(pairs, i);
  return ls_pairs_find(pairs, name, i + 1) == n;
}

/* The last line of a presigned request: what a signed header or a parameter
 * says of the payload, as verifiers read them; most say nothing. */
static ls_code write_payload(ls_signer *s)
{
  ls_str header = { NULL, 0 }, parameter = { NULL, 0 }, hash;
  bool once = only_value(&s->headers, LS_LIT("x-amz-content-sha256"),
                         &header);

  once = only_value(&s->query, LS_LIT("X-Amz-Content-Sha256"), &parameter) &&
    once;
  hash = parameter.p ? parameter : header;
  if(!once || (parameter.p && header.p && !ls_str_eq(parameter, header)))
    return ls_signer_refuse(s, "x-amz-content-sha256: one value expected");
  if(!hash.p)
    hash = LS_LIT(LS_UNSIGNED);
  if(!ls_is_payload_hash(hash))
    return ls_signer_refuse(s, "x-amz-content-sha256: 64 hexadecimal digits, "
                               LS_UNSIGNED " or STREAMING-... expected");
  ls_buf_str(&s->canonical, hash);
  return ls_buf_code(&s->canonical);
}

static void sign_canonical(ls_signer *s, char signature[LS_SIGNATURE_SIZE])
{
  unsigned char digest[LS_SHA256_SIZE];

  ls_sha256_once(s->canonical.data, s->canonical.size, digest);
  ls_moment_sign(&s->moment, digest, signature);
}

/* In a URL they are encoded, in a header they would forge lines. */
static bool has_control(ls_str s)
{
  size_t i;

  for(i = 0; i < s.n; i++) {
    if(ls_is_control(s.p[i]))
      return true;
  }
  return false;
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
                               LS_UNSIGNED " expected");
  if(has_control(s->credentials.access_key) ||
     has_control(ls_buf_view(&s->scope)))
    return ls_signer_refuse(s, "credentials: access key, region or service "
                               "with control characters");
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
  return code ? code : write_payload(s);
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
