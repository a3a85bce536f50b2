/* SHA-256 and HMAC-SHA256 with states that can be kept. Room: src/core.
 *
 * OpenSSL's interfaces either allocate for every digest or cost more than the
 * hashing of a signature's few blocks; signing therefore works on the plain
 * state, eight words after a whole number of 64-byte blocks, which anyone can
 * copy and continue from.
 */
#ifndef LS_SHA256_H
#define LS_SHA256_H

#include "str.h"

#define LS_SHA256_SIZE 32
#define LS_SHA256_BLOCK 64
#define LS_SHA256_LANES 4

typedef struct ls_sha256_state {
  uint32_t h[8];
} ls_sha256_state;

/* The stream form: init, update any number of times, final. */
typedef struct ls_sha256 {
  ls_sha256_state state;
  uint64_t length;
  unsigned char block[LS_SHA256_BLOCK];
} ls_sha256;

void ls_sha256_init(ls_sha256 *s);
void ls_sha256_update(ls_sha256 *s, const void *p, size_t n);
void ls_sha256_final(ls_sha256 *s, unsigned char out[LS_SHA256_SIZE]);
void ls_sha256_once(const void *p, size_t n,
                    unsigned char out[LS_SHA256_SIZE]);

extern const ls_sha256_state ls_sha256_start;

/* Runs `count` blocks through a state. */
void ls_sha256_blocks(ls_sha256_state *state, const unsigned char *p,
                      size_t count);

/* The same for four independent messages of `count` blocks each, at not much
 * more than the price of one where the CPU has the instructions. */
void ls_sha256_blocks4(ls_sha256_state state[LS_SHA256_LANES],
                       const unsigned char *const p[LS_SHA256_LANES],
                       size_t count);

/* The states of LS_WIDE messages, word by word: h[i][m] is word i of message
 * m. For long runs of alike messages, where the CPU has the vectors for it. */
#define LS_WIDE 32

typedef struct ls_sha256_wide {
  uint32_t h[8][LS_WIDE];
} ls_sha256_wide;

/* Whether the two functions below may be called. */
bool ls_sha256_has_wide(void);

/* Runs a block that all messages share through every state. `kw` comes from
 * ls_sha256_schedule. */
void ls_sha256_wide_same(ls_sha256_wide *state, const uint32_t kw[64]);

/* Runs a block of each message: w[i][m] is its word i, most significant byte
 * first. */
void ls_sha256_wide_each(ls_sha256_wide *state,
                         const uint32_t w[16][LS_WIDE]);

/* A block's schedule with the rounds' constants added. */
void ls_sha256_schedule(uint32_t kw[64],
                        const unsigned char block[LS_SHA256_BLOCK]);

/* Pads a message in place: `tail` holds its last n bytes, all that follow the
 * last whole block of `length` bytes, and has room up to the end of the block
 * (or the next) that the padding fills. Returns the number of blocks. */
size_t ls_sha256_pad(unsigned char *tail, size_t n, uint64_t length);

/* Writes a state as the 32 bytes of a digest. */
void ls_sha256_store(const ls_sha256_state *state,
                     unsigned char out[LS_SHA256_SIZE]);

/* An HMAC key, digested: the two states behind the padded key. */
typedef struct ls_hmac {
  ls_sha256_state inner;
  ls_sha256_state outer;
} ls_hmac;

void ls_hmac_init(ls_hmac *key, const void *p, size_t n);

/* The MAC of a message; `key` can be used again. */
void ls_hmac_sign(const ls_hmac *key, const void *p, size_t n,
                  unsigned char out[LS_SHA256_SIZE]);

/* As for CRC32C: what this CPU can run, and forcing one of them. */
const char *ls_sha256_name(size_t index);
LS_MUST_CHECK ls_code ls_sha256_use(const char *name);

#endif
