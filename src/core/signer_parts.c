/* Signing a run of parts: what their URLs have in common is built and hashed
 * once, and four are signed at a time. See signer.h. Room: src/core.
 *
 * The canonical request of part n is
 *
 *   prefix | head | n | middle | length | end
 *
 * where prefix is a whole number of blocks. partNumber= sorts behind every
 * X-Amz-* name, so that the prefix is most of it.
 */
#include "signer_impl.h"
#include "text.h"

#define NUMBER "partNumber"
#define LENGTH "content-length"
#define DIGITS_MAX 20

/* Where the value of a parameter begins in the canonical query. */
static size_t find_number(const ls_signer *s)
{
  size_t n = ls_pairs_count(&s->query), at = s->query_at, i;

  for(i = 0; i < n; i++) {
    const ls_pair *pair = ls_pairs_at(&s->query, i);

    if(ls_str_eq(ls_pairs_name(&s->query, i), LS_LIT(NUMBER)))
      return at + sizeof(NUMBER);
    at += pair->name_n + 1 + pair->value_n + 1;
  }
  return at;
}

/* The same for the content-length line, which is the last to begin so: the
 * names' line has no colon. */
static size_t find_length(const ls_signer *s)
{
  size_t n = ls_pairs_count(&s->headers), at = s->query_end + 1, i;

  for(i = 0; i < n; i++) {
    const ls_pair *pair = ls_pairs_at(&s->headers, i);
    ls_str name = ls_pairs_name(&s->headers, i);

    if(ls_str_eq(name, LS_LIT(LENGTH)))
      return at + sizeof(LENGTH);
    if(i && ls_str_eq(name, ls_pairs_name(&s->headers, i - 1)))
      at += 1 + pair->value_n; /* ",value" in the line before */
    else
      at += pair->name_n + 1 + pair->value_n + 1;
  }
  return at;
}

static ls_code check_parts(ls_signer *s)
{
  ls_str number = LS_LIT(NUMBER), length = LS_LIT(LENGTH);

  if(ls_pairs_code(&s->query))
    return ls_pairs_code(&s->query);
  if(ls_pairs_code(&s->headers))
    return ls_pairs_code(&s->headers);
  if(ls_pairs_find(&s->query, number, 0) < ls_pairs_count(&s->query))
    return ls_signer_refuse(s, "query: partNumber is added by the signer");
  if(ls_pairs_find(&s->headers, length, 0) < ls_pairs_count(&s->headers))
    return ls_signer_refuse(s, "headers: content-length is added by the "
                               "signer");
  return LS_OK;
}

ls_code ls_signer_parts(ls_signer *s, const ls_target *target, uint64_t time,
                        uint64_t expires, bool lengths)
{
  ls_code code = check_parts(s);
  size_t head, l;

  if(code)
    return code;
  s->lengths = lengths;
  ls_query_add(&s->query, LS_LIT(NUMBER), LS_LIT(""));
  if(lengths)
    ls_header_add(&s->headers, LS_LIT(LENGTH), LS_LIT(""));
  code = ls_signer_prepare(s, target, time, expires);
  if(code)
    return code;
  s->number_at = find_number(s);
  s->length_at = lengths ? find_length(s) : s->canonical.size;
  s->prefix_n = s->number_at - s->number_at % LS_SHA256_BLOCK;
  s->prefix = ls_sha256_start;
  ls_sha256_blocks(&s->prefix, (const unsigned char *)s->canonical.data,
                   s->prefix_n / LS_SHA256_BLOCK);

  ls_buf_clear(&s->url_head);
  ls_signer_origin(s, target, &s->url_head);
  ls_buf_add(&s->url_head, s->canonical.data + s->path_at,
             s->query_at - 1 - s->path_at);
  ls_buf_lit(&s->url_head, "?");
  ls_buf_add(&s->url_head, s->canonical.data + s->query_at,
             s->number_at - s->query_at);
  if(ls_buf_code(&s->url_head))
    return ls_buf_code(&s->url_head);

  head = s->number_at - s->prefix_n;
  for(l = 0; l < LS_PARTS_LANES; l++) {
    ls_lane *lane = &s->lane[l];

    ls_buf_clear(&lane->tail);
    ls_buf_clear(&lane->url);
    ls_buf_str(&lane->url, ls_buf_view(&s->url_head));
    /* Everything that ls_signer_next writes has its room from here on. */
    if(!ls_buf_room(&lane->url, s->query_end - s->number_at + DIGITS_MAX +
                    sizeof("&X-Amz-Signature=") + LS_SIGNATURE_SIZE))
      return ls_buf_code(&lane->url);
    if(!ls_buf_room(&lane->tail, s->canonical.size - s->prefix_n +
                    2 * DIGITS_MAX + 2 * LS_SHA256_BLOCK))
      return ls_buf_code(&lane->tail);
    memcpy(lane->tail.data, s->canonical.data + s->prefix_n, head);
  }
  return LS_OK;
}

static char *put(char *to, const char *p, size_t n)
{
  memcpy(to, p, n);
  return to + n;
}

/* Writes at most DIGITS_MAX digits. */
static char *put_uint(char *to, uint64_t value)
{
  char digits[DIGITS_MAX];
  size_t at = sizeof(digits);

  do {
    digits[--at] = (char)('0' + value % 10);
    value /= 10;
  } while(value);
  return put(to, digits + at, sizeof(digits) - at);
}

/* The tail of a part's canonical request, padded; the number of blocks. */
static size_t fill(const ls_signer *s, ls_lane *lane, const ls_part *part)
{
  const char *from = s->canonical.data;
  char *to = lane->tail.data + (s->number_at - s->prefix_n);
  size_t n;

  to = put_uint(to, part->number);
  to = put(to, from + s->number_at, s->length_at - s->number_at);
  if(s->lengths)
    to = put_uint(to, part->length);
  to = put(to, from + s->length_at, s->canonical.size - s->length_at);
  n = (size_t)(to - lane->tail.data);
  return ls_sha256_pad((unsigned char *)lane->tail.data, n, s->prefix_n + n);
}

/* The part's URL but its signature, whose place is returned. */
static char *write_url(const ls_signer *s, ls_lane *lane, const ls_part *part)
{
  char *to = lane->url.data + s->url_head.size;

  to = put_uint(to, part->number);
  to = put(to, s->canonical.data + s->number_at, s->query_end - s->number_at);
  to = put(to, "&X-Amz-Signature=", 17);
  lane->url.size = (size_t)(to - lane->url.data) + LS_SIGNATURE_SIZE;
  return to;
}

/* All lanes' tails through the hash; four at a time as far as the shortest
 * goes, the rest one by one. */
static void digest(const ls_signer *s, const size_t blocks[LS_PARTS_LANES],
                   unsigned char out[LS_PARTS_LANES][LS_SHA256_SIZE])
{
  ls_sha256_state state[LS_PARTS_LANES];
  const unsigned char *p[LS_PARTS_LANES];
  size_t l, common = blocks[0];

  for(l = 0; l < LS_PARTS_LANES; l++) {
    state[l] = s->prefix;
    p[l] = (const unsigned char *)s->lane[l].tail.data;
    if(blocks[l] < common)
      common = blocks[l];
  }
  ls_sha256_blocks4(state, p, common);
  for(l = 0; l < LS_PARTS_LANES; l++) {
    if(blocks[l] > common)
      ls_sha256_blocks(&state[l], p[l] + common * LS_SHA256_BLOCK,
                       blocks[l] - common);
    ls_sha256_store(&state[l], out[l]);
  }
}

ls_code ls_signer_next(ls_signer *s, const ls_part *parts, size_t count,
                       ls_str urls[LS_PARTS_LANES])
{
  unsigned char digests[LS_PARTS_LANES][LS_SHA256_SIZE];
  char *signature[LS_PARTS_LANES];
  size_t blocks[LS_PARTS_LANES], l;

  if(count < 1 || count > LS_PARTS_LANES)
    return ls_signer_refuse(s, "count: 1 to 4 parts");
  for(l = 0; l < LS_PARTS_LANES; l++) {
    /* Lanes without a part of their own do the last one's again. */
    const ls_part *part = &parts[l < count ? l : count - 1];

    blocks[l] = fill(s, &s->lane[l], part);
    signature[l] = write_url(s, &s->lane[l], part);
    urls[l] = ls_buf_view(&s->lane[l].url);
  }
  digest(s, blocks, digests);
  ls_moment_sign4(&s->moment, digests, signature);
  return LS_OK;
}
