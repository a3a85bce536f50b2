/* See canonical.h. Room: src/core. */
#include "canonical.h"
#include "secure.h"
#include "uri.h"

bool ls_is_sha256_hex(ls_str s)
{
  size_t i;

  for(i = 0; i < s.n; i++) {
    if(ls_hex_digit(s.p[i]) < 0 || ls_is_upper(s.p[i]))
      return false;
  }
  return s.n == LS_SIGNATURE_SIZE;
}

bool ls_is_payload_hash(ls_str hash)
{
  static const char streaming[] = "STREAMING-";
  size_t n = sizeof(streaming) - 1, i;

  if(hash.n <= n || memcmp(hash.p, streaming, n) != 0)
    return ls_str_eq(hash, LS_LIT(LS_UNSIGNED)) || ls_is_sha256_hex(hash);
  for(i = n; i < hash.n; i++) {
    if(!ls_is_alnum(hash.p[i]) && hash.p[i] != '-')
      return false;
  }
  return true;
}

void ls_query_add(ls_pairs *query, ls_str name, ls_str value)
{
  ls_pairs_begin(query);
  ls_uri_encode(&query->text, name, false);
  ls_pairs_named(query);
  ls_uri_encode(&query->text, value, false);
  ls_pairs_end(query);
}

ls_code ls_query_add_raw(ls_pairs *query, ls_str raw)
{
  while(raw.p) {
    ls_str value = ls_str_cut(&raw, '&');
    ls_str name;
    ls_code code;

    if(!value.n)
      continue;
    ls_pairs_begin(query);
    name = ls_str_cut(&value, '=');
    code = ls_uri_recode(&query->text, name, false, true);
    ls_pairs_named(query);
    if(!code)
      code = ls_uri_recode(&query->text, value, false, true);
    ls_pairs_end(query);
    if(code)
      return code;
  }
  return ls_pairs_code(query);
}

void ls_query_write(const ls_pairs *query, ls_str except, ls_buf *to)
{
  size_t n = ls_pairs_count(query), i;
  bool first = true;

  for(i = 0; i < n; i++) {
    ls_str name = ls_pairs_name(query, i);

    if(except.p && ls_str_eq(name, except))
      continue;
    if(!first)
      ls_buf_lit(to, "&");
    first = false;
    ls_buf_str(to, name);
    ls_buf_lit(to, "=");
    ls_buf_str(to, ls_pairs_value(query, i));
  }
}

static bool is_space(char c)
{
  return c == ' ' || c == '\t';
}

void ls_header_add(ls_pairs *headers, ls_str name, ls_str value)
{
  char *to;
  size_t i;
  bool gap = false;

  ls_pairs_begin(headers);
  to = ls_buf_room(&headers->text, name.n);
  if(to) {
    for(i = 0; i < name.n; i++)
      to[i] = ls_lower(name.p[i]);
    headers->text.size += name.n;
  }
  ls_pairs_named(headers);
  to = ls_buf_room(&headers->text, value.n);
  if(to) {
    char *begin = to;

    for(i = 0; i < value.n; i++) {
      if(is_space(value.p[i])) {
        gap = to != begin;
        continue;
      }
      if(gap)
        *to++ = ' ';
      gap = false;
      *to++ = value.p[i];
    }
    headers->text.size += (size_t)(to - begin);
  }
  ls_pairs_end(headers);
}

size_t ls_header_write(const ls_pairs *headers, size_t i, ls_buf *to,
                       ls_code *code)
{
  size_t n = ls_pairs_count(headers), k;
  ls_str name = ls_pairs_name(headers, i);
  bool first = true;

  ls_buf_str(to, name);
  for(; i < n && ls_str_eq(ls_pairs_name(headers, i), name); i++) {
    ls_str value = ls_pairs_value(headers, i);

    for(k = 0; k < value.n; k++) {
      if(ls_is_control(value.p[k]))
        *code = LS_EINVAL;
    }
    ls_buf_add(to, first ? ":" : ",", 1);
    first = false;
    ls_buf_str(to, value);
  }
  ls_buf_lit(to, "\n");
  return i;
}

void ls_signing_key(ls_hmac *key, ls_str secret, ls_str day, ls_str region,
                    ls_str service)
{
  ls_str steps[4] = { day, region, service, LS_LIT("aws4_request") };
  unsigned char digest[LS_SHA256_SIZE];
  ls_sha256 long_secret;
  char first[LS_SHA256_BLOCK] = "AWS4";
  size_t i;

  if(secret.n <= sizeof(first) - 4) {
    if(secret.n)
      memcpy(first + 4, secret.p, secret.n);
    ls_hmac_init(key, first, secret.n + 4);
  }
  else {
    ls_sha256_init(&long_secret);
    ls_sha256_update(&long_secret, "AWS4", 4);
    ls_sha256_update(&long_secret, secret.p, secret.n);
    ls_sha256_final(&long_secret, digest);
    ls_hmac_init(key, digest, sizeof(digest));
  }
  for(i = 0; i < 4; i++) {
    ls_hmac_sign(key, steps[i].p, steps[i].n, digest);
    ls_hmac_init(key, digest, sizeof(digest));
  }
  ls_wipe(first, sizeof(first));
  ls_wipe(digest, sizeof(digest));
}

void ls_moment_init(ls_moment *moment, const ls_hmac *key, ls_str date,
                    ls_str scope)
{
  ls_sha256 s;

  s.state = key->inner;
  s.length = LS_SHA256_BLOCK;
  ls_sha256_update(&s, LS_ALGORITHM "\n", sizeof(LS_ALGORITHM));
  ls_sha256_update(&s, date.p, date.n);
  ls_sha256_update(&s, "\n", 1);
  ls_sha256_update(&s, scope.p, scope.n);
  ls_sha256_update(&s, "\n", 1);
  moment->key = *key;
  moment->inner = s.state;
  moment->rest_n = s.length % LS_SHA256_BLOCK;
  moment->length = s.length - moment->rest_n;
  memcpy(moment->rest, s.block, moment->rest_n);
  ls_wipe(&s, sizeof(s));
}

/* The last blocks of a string to sign: 63 bytes, the digest in hexadecimal,
 * the padding. */
#define TAIL_SIZE (3 * LS_SHA256_BLOCK)

static size_t fill_tail(const ls_moment *moment,
                        const unsigned char digest[LS_SHA256_SIZE],
                        unsigned char tail[TAIL_SIZE])
{
  size_t n = moment->rest_n + LS_HEX_SIZE(LS_SHA256_SIZE);

  memcpy(tail, moment->rest, moment->rest_n);
  ls_hex((char *)tail + moment->rest_n, digest, LS_SHA256_SIZE);
  return ls_sha256_pad(tail, n, moment->length + n);
}

static void fill_outer(const ls_sha256_state *inner,
                       unsigned char block[LS_SHA256_BLOCK])
{
  ls_sha256_store(inner, block);
  ls_sha256_pad(block, LS_SHA256_SIZE, LS_SHA256_BLOCK + LS_SHA256_SIZE);
}

void ls_moment_sign(const ls_moment *moment,
                    const unsigned char digest[LS_SHA256_SIZE],
                    char signature[2 * LS_SHA256_SIZE])
{
  unsigned char tail[TAIL_SIZE], out[LS_SHA256_SIZE];
  ls_sha256_state state = moment->inner;
  size_t blocks = fill_tail(moment, digest, tail);

  ls_sha256_blocks(&state, tail, blocks);
  fill_outer(&state, tail);
  state = moment->key.outer;
  ls_sha256_blocks(&state, tail, 1);
  ls_sha256_store(&state, out);
  ls_hex(signature, out, sizeof(out));
}

void ls_moment_sign4(const ls_moment *moment,
                     unsigned char digest[LS_SHA256_LANES][LS_SHA256_SIZE],
                     char *const signature[LS_SHA256_LANES])
{
  unsigned char tail[LS_SHA256_LANES][TAIL_SIZE], out[LS_SHA256_SIZE];
  const unsigned char *const p[LS_SHA256_LANES] = {
    tail[0], tail[1], tail[2], tail[3]
  };
  ls_sha256_state state[LS_SHA256_LANES];
  size_t l, blocks = 0;

  for(l = 0; l < LS_SHA256_LANES; l++) {
    state[l] = moment->inner;
    blocks = fill_tail(moment, digest[l], tail[l]);
  }
  ls_sha256_blocks4(state, p, blocks);
  for(l = 0; l < LS_SHA256_LANES; l++) {
    fill_outer(&state[l], tail[l]);
    state[l] = moment->key.outer;
  }
  ls_sha256_blocks4(state, p, 1);
  for(l = 0; l < LS_SHA256_LANES; l++) {
    ls_sha256_store(&state[l], out);
    ls_hex(signature[l], out, sizeof(out));
  }
}
