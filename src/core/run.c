/* Runs of parts: the template and its layouts, four parts at a time. See
 * run.h. Room: src/core.
 */
#include "run_impl.h"
#include "secure.h"
#include "signer_impl.h"

#include <stdlib.h>

#define NUMBER "partNumber"
#define LENGTH "content-length"
#define SIGNATURE "&X-Amz-Signature="

/* So many parts repay the wide form's work of setting up. */
#define WIDE_FROM 13

ls_code ls_run_new(ls_run **out)
{
  ls_run *run = *out = calloc(1, sizeof(*run));

  if(!run)
    return LS_ENOMEM;
  ls_buf_init(&run->text, 4 * LS_SIGNER_MAX);
  ls_buf_init(&run->url, 4 * LS_SIGNER_MAX);
  ls_buf_init(&run->url_rest, 4 * LS_SIGNER_MAX);
  ls_buf_init(&run->tails, 32 * LS_SIGNER_MAX);
  ls_buf_init(&run->schedules, 32 * LS_SIGNER_MAX);
  return LS_OK;
}

void ls_run_free(ls_run *run)
{
  if(!run)
    return;
  ls_buf_free(&run->text);
  ls_buf_free(&run->url);
  ls_buf_free(&run->url_rest);
  ls_buf_free(&run->tails);
  ls_buf_free(&run->schedules);
  ls_wipe(run, sizeof(*run));
  free(run);
}

/* Where the value of partNumber goes in the canonical request. */
static size_t find_number(const ls_signer *s)
{
  size_t n = ls_pairs_count(&s->query), at = s->query_at, i;

  for(i = 0; i < n; i++) {
    const ls_pair *pair = ls_pairs_at(&s->query, i);

    if(ls_str_eq(ls_pairs_name(&s->query, i), LS_LIT(NUMBER)))
      break;
    at += pair->name_n + 1 + pair->value_n + 1;
  }
  return at + sizeof(NUMBER);
}

/* The same for content-length, in the lines behind the query. */
static size_t find_length(const ls_signer *s)
{
  size_t n = ls_pairs_count(&s->headers), at = s->query_end + 1, i;

  for(i = 0; i < n; i++) {
    const ls_pair *pair = ls_pairs_at(&s->headers, i);
    ls_str name = ls_pairs_name(&s->headers, i);

    if(ls_str_eq(name, LS_LIT(LENGTH)))
      break;
    if(i && ls_str_eq(name, ls_pairs_name(&s->headers, i - 1)))
      at += 1 + pair->value_n; /* ",value" in the line before */
    else
      at += pair->name_n + 1 + pair->value_n + 1;
  }
  return at + sizeof(LENGTH);
}

static ls_code check_added(ls_signer *s)
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

/* The URL up to the number, and what follows the number. */
static ls_code copy_url(ls_run *run, const ls_signer *s,
                        const ls_target *target, size_t number_at)
{
  const char *from = s->canonical.data;
  ls_buf *to = &run->url;

  ls_buf_clear(to);
  ls_signer_origin(s, target, to);
  ls_buf_add(to, from + s->path_at, s->query_at - 1 - s->path_at);
  ls_buf_lit(to, "?");
  ls_buf_add(to, from + s->query_at, number_at - s->query_at);
  run->url_number_at = to->size;
  run->url_digits = 0;
  ls_buf_clear(&run->url_rest);
  ls_buf_add(&run->url_rest, from + number_at, s->query_end - number_at);
  ls_buf_lit(&run->url_rest, SIGNATURE);
  if(ls_buf_code(&run->url_rest))
    return ls_buf_code(&run->url_rest);
  /* ls_run_url never fails: its room is made here. */
  ls_buf_room(to, LS_DECIMAL_MAX + run->url_rest.size + LS_SIGNATURE_SIZE);
  return ls_buf_code(to);
}

ls_code ls_run_prepare(ls_run *run, ls_signer *s, const ls_target *target,
                       uint64_t time, uint64_t expires, bool lengths)
{
  ls_code code = check_added(s);
  size_t number_at, length_at;

  run->prepared = false;
  if(code)
    return code;
  ls_signer_query(s, LS_LIT(NUMBER), LS_LIT(""));
  if(lengths)
    ls_signer_header(s, LS_LIT(LENGTH), LS_LIT(""));
  code = ls_signer_prepare(s, target, time, expires);
  if(code)
    return code;
  number_at = find_number(s);
  length_at = lengths ? find_length(s) : s->canonical.size;
  code = copy_url(run, s, target, number_at);
  if(code)
    return code;
  run->moment = s->moment;
  run->lengths = lengths;
  run->prefix_n = number_at - number_at % LS_SHA256_BLOCK;
  run->prefix = ls_sha256_start;
  ls_sha256_blocks(&run->prefix, (const unsigned char *)s->canonical.data,
                   run->prefix_n / LS_SHA256_BLOCK);
  run->number_at = number_at - run->prefix_n;
  run->length_at = length_at - run->prefix_n;
  ls_buf_clear(&run->text);
  ls_buf_add(&run->text, s->canonical.data + run->prefix_n,
             s->canonical.size - run->prefix_n);
  run->number_digits = 0;
  code = ls_buf_code(&run->text);
  run->prepared = !code;
  return code;
}

/* Lays the four tails out for values of so many digits. */
static ls_code set_layout(ls_run *run, size_t number_digits,
                          size_t length_digits)
{
  const char *from = run->text.data;
  size_t n = run->text.size + number_digits + length_digits;
  size_t size = (n + 9 + LS_SHA256_BLOCK - 1) / LS_SHA256_BLOCK *
                LS_SHA256_BLOCK;
  size_t lane;
  char *to;

  run->number_digits = 0;
  run->has_schedules = false;
  ls_buf_clear(&run->tails);
  to = ls_buf_room(&run->tails, LS_SHA256_LANES * size);
  if(!to)
    return ls_buf_code(&run->tails);
  run->number_pos = run->number_at;
  run->length_pos = run->length_at + number_digits;
  memset(to, '0', n);
  memcpy(to, from, run->number_at);
  memcpy(to + run->number_at + number_digits, from + run->number_at,
         run->length_at - run->number_at);
  memcpy(to + run->length_pos + length_digits, from + run->length_at,
         run->text.size - run->length_at);
  run->blocks = ls_sha256_pad((unsigned char *)to, n, run->prefix_n + n);
  for(lane = 1; lane < LS_SHA256_LANES; lane++)
    memcpy(to + lane * size, to, size);
  run->number_digits = number_digits;
  run->length_digits = length_digits;
  return LS_OK;
}

static void sign_one(ls_run *run, const ls_part *part, char *signature)
{
  unsigned char digest[LS_SHA256_SIZE];
  ls_sha256_state state = run->prefix;

  ls_run_put(run, ls_run_tail(run, 0), part);
  ls_sha256_blocks(&state, ls_run_tail(run, 0), run->blocks);
  ls_sha256_store(&state, digest);
  ls_moment_sign(&run->moment, digest, signature);
}

static void sign_four(ls_run *run, const ls_part *parts, size_t count,
                      ls_signature *signatures)
{
  unsigned char digest[LS_SHA256_LANES][LS_SHA256_SIZE];
  ls_sha256_state state[LS_SHA256_LANES];
  const unsigned char *p[LS_SHA256_LANES];
  ls_signature spare[LS_SHA256_LANES];
  char *to[LS_SHA256_LANES];
  size_t l;

  for(l = 0; l < LS_SHA256_LANES; l++) {
    unsigned char *tail = ls_run_tail(run, l);

    /* Lanes without a part of their own do the last one's again. */
    ls_run_put(run, tail, &parts[l < count ? l : count - 1]);
    p[l] = tail;
    state[l] = run->prefix;
    to[l] = l < count ? signatures[l] : spare[l];
  }
  ls_sha256_blocks4(state, p, run->blocks);
  for(l = 0; l < LS_SHA256_LANES; l++)
    ls_sha256_store(&state[l], digest[l]);
  ls_moment_sign4(&run->moment, digest, to);
}

/* Signs parts of one layout. */
static ls_code sign_alike(ls_run *run, const ls_part *parts, size_t count,
                          ls_signature *signatures)
{
  if(count >= WIDE_FROM && ls_sha256_has_wide())
    return ls_run_wide(run, parts, count, signatures);
  while(count > 1) {
    size_t n = count < LS_SHA256_LANES ? count : LS_SHA256_LANES;

    sign_four(run, parts, n, signatures);
    parts += n;
    signatures += n;
    count -= n;
  }
  if(count)
    sign_one(run, parts, signatures[0]);
  return LS_OK;
}

static size_t digits_of(uint64_t value)
{
  size_t n = 1;

  for(; value >= 10; value /= 10)
    n++;
  return n;
}

ls_code ls_run_sign(ls_run *run, const ls_part *parts, size_t count,
                    ls_signature *signatures)
{
  size_t i, end;

  if(!run->prepared || count < 1 || count > LS_RUN_MAX)
    return LS_EINVAL;
  for(i = 0; i < count; i = end) {
    size_t number = digits_of(parts[i].number);
    size_t length = run->lengths ? digits_of(parts[i].length) : 0;
    ls_code code = LS_OK;

    for(end = i + 1; end < count; end++) {
      if(digits_of(parts[end].number) != number ||
         (run->lengths && digits_of(parts[end].length) != length))
        break;
    }
    if(number != run->number_digits || length != run->length_digits)
      code = set_layout(run, number, length);
    if(!code)
      code = sign_alike(run, parts + i, end - i, signatures + i);
    if(code)
      return code;
  }
  return LS_OK;
}

ls_str ls_run_url(ls_run *run, uint64_t number, const char *signature)
{
  char *to = run->url.data + run->url_number_at;
  size_t digits = digits_of(number);

  if(digits != run->url_digits) {
    memcpy(to + digits, run->url_rest.data, run->url_rest.size);
    run->url_digits = digits;
    run->url.size = run->url_number_at + digits + run->url_rest.size +
                    LS_SIGNATURE_SIZE;
  }
  ls_put_digits(to, digits, number);
  memcpy(run->url.data + run->url.size - LS_SIGNATURE_SIZE, signature,
         LS_SIGNATURE_SIZE);
  return ls_buf_view(&run->url);
}

bool ls_run_has_lengths(const ls_run *run)
{
  return run->lengths;
}

size_t ls_run_url_max(const ls_run *run)
{
  return run->url_number_at + LS_DECIMAL_MAX + run->url_rest.size +
         LS_SIGNATURE_SIZE;
}
