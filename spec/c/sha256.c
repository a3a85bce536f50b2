/* SHA-256 and HMAC: FIPS 180-4, RFC 4231, all implementations agree, the four
 * lanes agree with one, splitting anywhere. */
#include "check.h"
#include "core/sha256.h"
#include "core/text.h"

#include <stdlib.h>

static void check_digest(const char *what, const unsigned char *got,
                         const char *want)
{
  char text[2 * LS_SHA256_SIZE];

  ls_hex(text, got, LS_SHA256_SIZE);
  check_text(what, text, sizeof(text), want);
}

static void digests(const char *name)
{
  static const char two[] =
    "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  unsigned char out[32];
  char *million = malloc(1000000);

  ls_sha256_once("", 0, out);
  check_digest(name, out, "e3b0c44298fc1c149afbf4c8996fb924"
                          "27ae41e4649b934ca495991b7852b855");
  ls_sha256_once("abc", 3, out);
  check_digest(name, out, "ba7816bf8f01cfea414140de5dae2223"
                          "b00361a396177a9cb410ff61f20015ad");
  ls_sha256_once(two, strlen(two), out);
  check_digest(name, out, "248d6a61d20638b8e5c026930c3e6039"
                          "a33ce45964ff2167f6ecedd419db06c1");
  if(million) {
    memset(million, 'a', 1000000);
    ls_sha256_once(million, 1000000, out);
    check_digest(name, out, "cdc76e5c9914fb9281a1c7e284d73e67"
                            "f1809a48a497200e046d39ccc7112cd0");
  }
  free(million);
}

/* RFC 4231, all but the truncated one. */
static void macs(const char *name)
{
  static const struct {
    unsigned char key_byte;
    size_t key_size;
    const char *key, *message, *mac;
  } rows[] = {
    { 0x0b, 20, NULL, "Hi There",
      "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" },
    { 0, 4, "Jefe", "what do ya want for nothing?",
      "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
    { 0xaa, 20, NULL, NULL, /* 50 times 0xdd */
      "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe" },
    { 0xaa, 131, NULL, "Test Using Larger Than Block-Size Key - Hash Key First",
      "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54" },
    { 0xaa, 131, NULL, "This is a test using a larger than block-size key and "
      "a larger than block-size data. The key needs to be hashed before being "
      "used by the HMAC algorithm.",
      "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2" }
  };
  unsigned char key[131], out[32];
  char fifty[50];
  size_t i;

  memset(fifty, 0xdd, sizeof(fifty));
  for(i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
    ls_hmac mac;
    const char *m = rows[i].message;

    memset(key, rows[i].key_byte, sizeof(key));
    if(rows[i].key)
      memcpy(key, rows[i].key, rows[i].key_size);
    ls_hmac_init(&mac, key, rows[i].key_size);
    ls_hmac_sign(&mac, m ? m : fifty, m ? strlen(m) : sizeof(fifty), out);
    check_digest(name, out, rows[i].mac);
    ls_hmac_sign(&mac, m ? m : fifty, m ? strlen(m) : sizeof(fifty), out);
    check_digest("a key serves twice", out, rows[i].mac);
  }
}

static void splits(const char *name, const unsigned char *data)
{
  unsigned char whole[32], out[32];
  size_t n, at;

  for(n = 0; n < 300; n++) {
    check_true("reference", ls_sha256_use("openssl") == LS_OK);
    ls_sha256_once(data, n, whole);
    check_true(name, ls_sha256_use(name) == LS_OK);
    for(at = 0; at <= n; at += 1 + n / 40) {
      ls_sha256 s;

      ls_sha256_init(&s);
      ls_sha256_update(&s, data, at);
      ls_sha256_update(&s, data + at, n - at);
      ls_sha256_final(&s, out);
      check_true(name, memcmp(out, whole, 32) == 0);
    }
  }
}

static void lanes(const char *name, const unsigned char *data)
{
  const unsigned char *p[4];
  ls_sha256_state four[4], one[4];
  size_t count, l;

  for(count = 0; count < 20; count++) {
    for(l = 0; l < 4; l++) {
      p[l] = data + 7 * l + 64 * l;
      four[l] = one[l] = ls_sha256_start;
      four[l].h[l] = one[l].h[l] = (uint32_t)(count * l);
      ls_sha256_blocks(&one[l], p[l], count);
    }
    ls_sha256_blocks4(four, p, count);
    check_true(name, memcmp(four, one, sizeof(four)) == 0);
  }
}

/* The wide form against one message at a time. */
static void wide(const unsigned char *data)
{
  static ls_sha256_wide state;
  static uint32_t w[16][LS_WIDE];
  ls_sha256_state one[LS_WIDE];
  uint32_t kw[64];
  size_t round, i, m;

  if(!ls_sha256_has_wide())
    return;
  for(m = 0; m < LS_WIDE; m++) {
    one[m] = ls_sha256_start;
    one[m].h[3] = (uint32_t)m;
    for(i = 0; i < 8; i++)
      state.h[i][m] = one[m].h[i];
  }
  for(round = 0; round < 20; round++) {
    bool same = round % 3 == 1;

    for(m = 0; m < LS_WIDE; m++) {
      const unsigned char *p = data + 64 * round + (same ? 0 : 7 * m);

      for(i = 0; i < 16; i++)
        w[i][m] = ls_load32be(p + 4 * i);
      ls_sha256_blocks(&one[m], p, 1);
    }
    if(same) {
      ls_sha256_schedule(kw, data + 64 * round);
      ls_sha256_wide_same(&state, kw);
    }
    else {
      ls_sha256_wide_each(&state, (const uint32_t (*)[LS_WIDE])w);
    }
    for(m = 0; m < LS_WIDE; m++) {
      for(i = 0; i < 8; i++)
        check_u64("wide", state.h[i][m], one[m].h[i]);
    }
  }
}

int main(void)
{
  unsigned char data[4096];
  const char *name;
  size_t i;

  for(i = 0; i < sizeof(data); i++)
    data[i] = (unsigned char)(i * 131 + (i >> 8));
  for(i = 0; (name = ls_sha256_name(i)) != NULL; i++) {
    check_true(name, ls_sha256_use(name) == LS_OK);
    digests(name);
    macs(name);
    lanes(name, data);
    wide(data);
    splits(name, data);
  }
  check_true("unknown name", ls_sha256_use("abacus") == LS_EINVAL);
  check_true("default", ls_sha256_use(NULL) == LS_OK);
  return check_end();
}
