/* The signer: its credentials, its key of the day, its host. See signer.h.
 * Room: src/core.
 */
#include "secure.h"
#include "signer_impl.h"

#include <stdlib.h>

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

ls_code ls_signer_set_time(ls_signer *s, uint64_t time)
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

ls_code ls_signer_set_host(ls_signer *s, const ls_target *target)
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
