#!/usr/bin/env bash
# The C tests of the checksums, hashes and signatures on 64-bit ARM, run by
# qemu-user. Debian has no OpenSSL for a cross compiler beside the native one,
# so that three small functions stand in for it here.
set -eu
cd "$(dirname "$0")/../.."
cc=aarch64-linux-gnu-gcc
for tool in $cc qemu-aarch64; do
  if ! command -v $tool >/dev/null; then
    echo "arm: $tool is missing (make deps)"
    exit 1
  fi
done
out=build/arm
mkdir -p $out/include/openssl
cp /usr/include/openssl/*.h "/usr/include/$(gcc -print-multiarch)"/openssl/*.h $out/include/openssl/
flags="-std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -Isrc -I$out/include"
rm -f $out/libcore.a
for source in src/core/*.c spec/c/arm/openssl.c; do
  object=$out/$(basename "$source" .c).o
  $cc $flags -c -o "$object" "$source"
  aarch64-linux-gnu-ar rcs $out/libcore.a "$object"
done
for test in crc32c sha256 sigv4 text; do
  $cc $flags -static -o $out/$test spec/c/$test.c $out/libcore.a
  result=$(qemu-aarch64 -cpu max $out/$test | tail -n 20)
  printf '%-24s %s\n' "arm-$test" "$(tail -n 1 <<<"$result")"
  grep -q ' 0 failed$' <<<"$result" || { printf '%s\n' "$result"; exit 1; }
done
