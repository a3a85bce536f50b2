/* AES-256-GCM: a vector of the standard, every byte changed, every limit. */
#include "check.h"
#include "core/seal.h"
#include "core/text.h"

static ls_str str(const void *p, size_t n)
{
  return (ls_str){ p, n };
}

/* Test case 16 of the GCM specification: key, nonce, text and context. */
static void vector(void)
{
  static const char key_hex[] =
    "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
  static const char nonce_hex[] = "cafebabefacedbaddecaf888";
  static const char text_hex[] =
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39";
  static const char context_hex[] =
    "feedfacedeadbeeffeedfacedeadbeefabaddad2";
  static const char want[] =
    "cafebabefacedbaddecaf888"
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
    "76fc6ece0f4e1768cddf8853bb2d551b";
  char key[32], nonce[12], text[60], context[20];
  unsigned char out[60 + LS_SEAL_MORE], back[60];
  char hex[2 * sizeof(out)];
  size_t i;
  int accepted = 0;

  check_true("the vector is read",
             !ls_unhex(key, key_hex, 64) && !ls_unhex(nonce, nonce_hex, 24) &&
             !ls_unhex(text, text_hex, 120) &&
             !ls_unhex(context, context_hex, 40));
  check_true("seals", !ls_seal(out, str(key, 32), (const unsigned char *)nonce,
                 str(text, 60), str(context, 20)));
  ls_hex(hex, (const char *)out, sizeof(out));
  check_text("GCM test case 16", hex, sizeof(hex), want);
  check_true("opens", !ls_unseal(back, str(key, 32), str(out, sizeof(out)),
                   str(context, 20)));
  check_true("gives the text back", !memcmp(back, text, 60));
  for(i = 0; i < sizeof(out); i++) {
    out[i] ^= 1;
    accepted += ls_unseal(back, str(key, 32), str(out, sizeof(out)),
                          str(context, 20)) != LS_ESIG;
    out[i] ^= 1;
  }
  check_true("every changed byte is noticed", accepted == 0);
  check_true("what failed is wiped", back[0] == 0 && back[59] == 0);
  check_true("another context", ls_unseal(back, str(key, 32), str(out, sizeof(out)),
                  str(context, 19)) == LS_ESIG);
  key[31] ^= 1;
  check_true("another key", ls_unseal(back, str(key, 32), str(out, sizeof(out)),
                  str(context, 20)) == LS_ESIG);
}

static void limits(void)
{
  unsigned char key[32] = { 1 }, nonce[12] = { 2 }, out[64], back[64];
  ls_str none = { NULL, 0 };

  check_true("seals nothing", !ls_seal(out, str(key, 32), nonce, none, none));
  check_true("opens nothing", !ls_unseal(back, str(key, 32), str(out, LS_SEAL_MORE), none));
  check_true("too short", ls_unseal(back, str(key, 32), str(out, LS_SEAL_MORE - 1), none) ==
        LS_EPARSE);
  check_true("short key to seal", ls_seal(out, str(key, 31), nonce, none, none) == LS_EINVAL);
  check_true("short key to open", ls_unseal(back, str(key, 31), str(out, 40), none) == LS_EINVAL);
  check_true("too long", ls_seal(out, str(key, 32), nonce, str(out, LS_SEAL_MAX + 1), none) ==
        LS_ELIMIT);
}

int main(void)
{
  vector();
  limits();
  return check_end();
}
