/* Runs of parts in the wide form: word i of all parts' messages side by side,
 * from the tail of the canonical request to the signature. See run.h.
 * Room: src/core.
 *
 * The loops over LS_WIDE parts are for the compiler to make vectors of. Blocks
 * without digits are the same for all parts, and their schedule is worked out
 * once for a layout.
 */
#include "run_impl.h"

/* For the CPUs that have a wide form. */
#if defined(__x86_64__)
#define VECTORS __attribute__((target("avx512f,avx512bw")))
#else
#define VECTORS
#endif

typedef uint32_t words[LS_WIDE];

VECTORS static void broadcast(ls_sha256_wide *to, const ls_sha256_state *from)
{
  size_t i, m;

  for(i = 0; i < 8; i++) {
    for(m = 0; m < LS_WIDE; m++)
      to->h[i][m] = from->h[i];
  }
}

/* Whether [from, from + n) reaches into a block. */
static bool reaches(size_t from, size_t n, size_t block)
{
  size_t begin = block * LS_SHA256_BLOCK;

  return n && from < begin + LS_SHA256_BLOCK && from + n > begin;
}

static bool has_digits(const ls_run *run, size_t block)
{
  return reaches(run->number_pos, run->number_digits, block) ||
         reaches(run->length_pos, run->length_digits, block);
}

static uint32_t *schedule_of(const ls_run *run, size_t block)
{
  return (uint32_t *)(void *)run->schedules.data + 64 * block;
}

static ls_code make_schedules(ls_run *run)
{
  const unsigned char *tail = ls_run_tail(run, 0);
  size_t b;

  ls_buf_clear(&run->schedules);
  if(!ls_buf_room(&run->schedules, run->blocks * 64 * sizeof(uint32_t)))
    return ls_buf_code(&run->schedules);
  for(b = 0; b < run->blocks; b++) {
    if(!has_digits(run, b))
      ls_sha256_schedule(schedule_of(run, b), tail + b * LS_SHA256_BLOCK);
  }
  run->has_schedules = true;
  return LS_OK;
}

/* Adds the n digits of each value to a block whose text has zeros there: the
 * digits that lie in it, if any. */
VECTORS static void add_digits(words *restrict w, size_t block, size_t at,
                               size_t n, const uint64_t *restrict values)
{
  uint64_t rest[LS_WIDE];
  size_t m;

  memcpy(rest, values, sizeof(rest));
  for(at += n; n; n--) {
    size_t shift = 24 - 8 * (--at % 4);
    uint32_t *word = w[at % LS_SHA256_BLOCK / 4];
    bool inside = at / LS_SHA256_BLOCK == block;

    for(m = 0; m < LS_WIDE; m++) {
      uint64_t tenth = rest[m] / 10;

      if(inside)
        word[m] += (uint32_t)(rest[m] - 10 * tenth) << shift;
      rest[m] = tenth;
    }
  }
}

/* One block of every part, as words. Lanes without a part of their own do the
 * last one's again. */
VECTORS static void gather(const ls_run *run, const ls_part *parts,
                           size_t count, size_t block, words *w)
{
  const unsigned char *from = ls_run_tail(run, 0) + block * LS_SHA256_BLOCK;
  uint64_t numbers[LS_WIDE], lengths[LS_WIDE];
  size_t m, i;

  for(m = 0; m < LS_WIDE; m++) {
    numbers[m] = parts[m < count ? m : count - 1].number;
    lengths[m] = parts[m < count ? m : count - 1].length;
  }
  for(i = 0; i < 16; i++) {
    uint32_t word = ls_load32be(from + 4 * i);

    for(m = 0; m < LS_WIDE; m++)
      w[i][m] = word;
  }
  add_digits(w, block, run->number_pos, run->number_digits, numbers);
  add_digits(w, block, run->length_pos, run->length_digits, lengths);
}

VECTORS static void to_hex(words *restrict hex,
                           const ls_sha256_wide *restrict state)
{
  size_t i, m;

  for(i = 0; i < 8; i++) {
    for(m = 0; m < LS_WIDE; m++) {
      hex[2 * i][m] = ls_hex4(state->h[i][m] >> 16);
      hex[2 * i + 1][m] = ls_hex4(state->h[i][m] & 0xffff);
    }
  }
}

/* The last blocks of the strings to sign: their common bytes, the digests in
 * hexadecimal wherever in a word they begin, the padding. */
#define TAIL_BLOCKS 3

VECTORS static size_t string_tails(const ls_moment *moment,
                                   const words *restrict hex,
                                   words *restrict w)
{
  unsigned char common[TAIL_BLOCKS * LS_SHA256_BLOCK];
  size_t n = moment->rest_n + LS_SIGNATURE_SIZE, at = moment->rest_n / 4;
  size_t shift = moment->rest_n % 4 * 8, blocks, i, m;

  memset(common, 0, sizeof(common));
  memcpy(common, moment->rest, moment->rest_n);
  blocks = ls_sha256_pad(common, n, moment->length + n);
  for(i = 0; i < 16 * blocks; i++) {
    uint32_t word = ls_load32be(common + 4 * i);

    for(m = 0; m < LS_WIDE; m++)
      w[i][m] = word;
  }
  for(i = 0; i < 16; i++) {
    for(m = 0; m < LS_WIDE; m++)
      w[at + i][m] |= hex[i][m] >> shift;
    if(!shift)
      continue;
    for(m = 0; m < LS_WIDE; m++)
      w[at + i + 1][m] |= hex[i][m] << (32 - shift);
  }
  return blocks;
}

/* The digests as the only block of the outer hashes. */
VECTORS static void outer_blocks(const ls_sha256_wide *state, words *w)
{
  size_t i, m;

  memcpy(w, state->h, sizeof(state->h));
  for(i = 8; i < 16; i++) {
    uint32_t word = i == 8 ? 0x80000000u :
      i == 15 ? 8 * (LS_SHA256_BLOCK + LS_SHA256_SIZE) : 0;

    for(m = 0; m < LS_WIDE; m++)
      w[i][m] = word;
  }
}

VECTORS ls_code ls_run_wide(ls_run *run, const ls_part *parts, size_t count,
                    ls_signature *signatures)
{
  static const ls_part zeros = { 0, 0 };
  words w[TAIL_BLOCKS * 16], hex[16];
  ls_sha256_wide state;
  size_t b, i, m, blocks;

  if(!run->has_schedules) {
    ls_code code = make_schedules(run);

    if(code)
      return code;
  }
  ls_run_put(run, ls_run_tail(run, 0), &zeros);
  broadcast(&state, &run->prefix);
  for(b = 0; b < run->blocks; b++) {
    if(has_digits(run, b)) {
      gather(run, parts, count, b, w);
      ls_sha256_wide_each(&state, (const words *)w);
    }
    else {
      ls_sha256_wide_same(&state, schedule_of(run, b));
    }
  }
  to_hex(hex, &state);
  blocks = string_tails(&run->moment, (const words *)hex, w);
  broadcast(&state, &run->moment.inner);
  for(b = 0; b < blocks; b++)
    ls_sha256_wide_each(&state, (const words *)(w + 16 * b));
  outer_blocks(&state, w);
  broadcast(&state, &run->moment.key.outer);
  ls_sha256_wide_each(&state, (const words *)w);
  to_hex(hex, &state);
  for(m = 0; m < count; m++) {
    for(i = 0; i < 16; i++)
      ls_store32be(signatures[m] + 4 * i, hex[i][m]);
  }
  return LS_OK;
}
