/* CRC-32 and CRC-64/NVME: published check values, any split, bit by bit. */
#include "check.h"
#include "core/crc.h"

static uint64_t slow(uint64_t poly, uint64_t mask, const unsigned char *p, size_t n)
{
  uint64_t r = mask;
  int k;

  for(; n; n--, p++) {
    r ^= *p;
    for(k = 0; k < 8; k++)
      r = (r >> 1) ^ (r & 1 ? poly : 0);
  }
  return ~r & mask;
}

int main(void)
{
  static ls_crc c;
  unsigned char data[300];
  size_t i, split;

  ls_crc_begin32(&c);
  ls_crc_update(&c, "123456789", 9);
  check_u64("CRC-32 check value", ls_crc_value(&c),
            UINT64_C(0xCBF43926));
  ls_crc_begin64nvme(&c);
  ls_crc_update(&c, "123456789", 9);
  check_u64("CRC-64/NVME check value", ls_crc_value(&c),
            UINT64_C(0xAE8B14860A799888));
  ls_crc_begin64nvme(&c);
  check_u64("CRC-64/NVME of nothing", ls_crc_value(&c),
            0);

  for(i = 0; i < sizeof(data); i++)
    data[i] = (unsigned char)(i * 167 + 13);
  for(split = 0; split <= 40; split++) {
    ls_crc_begin32(&c);
    ls_crc_update(&c, data, split);
    ls_crc_update(&c, data + split, sizeof(data) - split);
    check_u64("CRC-32, split", ls_crc_value(&c),
              slow(UINT64_C(0xEDB88320), UINT32_MAX, data, sizeof(data)));
    ls_crc_begin64nvme(&c);
    ls_crc_update(&c, data, split);
    ls_crc_update(&c, data + split, sizeof(data) - split);
    check_u64("CRC-64/NVME, split", ls_crc_value(&c),
              slow(UINT64_C(0x9A6C9329AC4BC9B5), UINT64_MAX, data, sizeof(data)));
  }
  return check_end();
}
