/* CRC32C: vectors, all implementations against a bitwise one, splitting
 * anywhere, combining. */
#include "check.h"
#include "core/crc32c.h"

#include <stdlib.h>

static uint32_t bitwise(uint32_t crc, const unsigned char *p, size_t n)
{
  int i;

  crc = ~crc;
  while(n--) {
    crc ^= *p++;
    for(i = 0; i < 8; i++)
      crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
  }
  return ~crc;
}

static void vectors(const char *name)
{
  unsigned char zeros[32] = { 0 }, ones[32], up[32], down[32];
  /* RFC 3720, B.4, the last one is an iSCSI read command. */
  static const unsigned char command[48] = {
    0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0,
    0x04, 0, 0, 0, 0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0,
    0, 0, 0, 0, 0, 0
  };
  int i;

  memset(ones, 0xff, 32);
  for(i = 0; i < 32; i++) {
    up[i] = (unsigned char)i;
    down[i] = (unsigned char)(31 - i);
  }
  check_u64(name, ls_crc32c(0, zeros, 32), 0x8a9136aa);
  check_u64(name, ls_crc32c(0, ones, 32), 0x62a8ab43);
  check_u64(name, ls_crc32c(0, up, 32), 0x46dd794e);
  check_u64(name, ls_crc32c(0, down, 32), 0x113fdb5c);
  check_u64(name, ls_crc32c(0, command, 48), 0xd9963a56);
  check_u64(name, ls_crc32c(0, "123456789", 9), 0xe3069283);
  check_u64(name, ls_crc32c(0, "", 0), 0);
  check_u64(name, ls_crc32c(7, NULL, 0), 7);
}

/* Every length to 2600 at every alignment to 15, then longer ones. */
static void lengths(const char *name, const unsigned char *data, size_t size)
{
  size_t n, at;

  for(n = 0; n < 2600; n++) {
    at = n % 16;
    check_u64(name, ls_crc32c(0, data + at, n), bitwise(0, data + at, n));
  }
  for(n = 2600; n < size - 16; n = n * 9 / 7 + 3) {
    at = n % 16;
    check_u64(name, ls_crc32c(5, data + at, n), bitwise(5, data + at, n));
  }
}

static void splits(const char *name, const unsigned char *data)
{
  size_t total = 1500, at;
  uint32_t whole = bitwise(0, data, total);

  for(at = 0; at <= total; at++) {
    uint32_t a = ls_crc32c(0, data, at);
    uint32_t b = ls_crc32c(0, data + at, total - at);

    check_u64(name, ls_crc32c(a, data + at, total - at), whole);
    check_u64(name, ls_crc32c_combine(a, b, total - at), whole);
    check_u64(name, ls_crc32c_combine_op(
      a, b, ls_crc32c_operator(total - at)), whole);
  }
}

/* Appending n zero bytes, n a sum of what was appended before: lengths that
 * no buffer has. */
static void far(const char *name)
{
  static const uint64_t lengths_of[] = {
    1, 0x7ffffffe, 0x7fffffff, 0x80000000, 5368709120, 53656702746624,
    (uint64_t)1 << 53, UINT64_MAX / 2
  };
  size_t i, k;

  for(i = 0; i < sizeof(lengths_of) / sizeof(*lengths_of); i++) {
    for(k = 0; k < sizeof(lengths_of) / sizeof(*lengths_of); k++) {
      uint32_t one = ls_crc32c_combine(
        ls_crc32c_combine(0x12345678, 0, lengths_of[i]), 0, lengths_of[k]);

      check_u64(name, ls_crc32c_combine(0x12345678, 0,
                                        lengths_of[i] + lengths_of[k]), one);
    }
  }
  /* x^(8 * 2^k) by squaring alone */
  check_u64(name, ls_crc32c_operator(0), 0x80000000);
  check_u64(name, ls_crc32c_operator(1), 0x00800000);
}

int main(void)
{
  size_t size = 1 << 20, i; /* more than counts as cached */
  unsigned char *data = malloc(size);
  uint32_t seed = 1;
  const char *name;

  if(!data)
    return 1;
  for(i = 0; i < size; i++) {
    seed = seed * 1664525 + 1013904223;
    data[i] = (unsigned char)(seed >> 24);
  }
  for(i = 0; (name = ls_crc32c_name(i)) != NULL; i++) {
    check_true(name, ls_crc32c_use(name) == LS_OK);
    vectors(name);
    lengths(name, data, size);
    splits(name, data);
    far(name);
  }
  check_true("portable is always there", i >= 1);
  check_true("unknown name", ls_crc32c_use("abacus") == LS_EINVAL);
  check_true("default", ls_crc32c_use(NULL) == LS_OK);
  free(data);
  return check_end();
}
