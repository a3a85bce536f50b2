#!/usr/bin/env bash
# Installs the packages that are missing, in the groups named: run (what the
# software itself needs), test, bench, doc. Quiet when nothing is missing.
set -eu

run="build-essential pkg-config lua5.4 liblua5.4-dev luajit2 libluajit2-5.1-dev
  libcurl4-openssl-dev libssl-dev lua-cjson lua-dbi-sqlite3 lua-argparse
  lua-filesystem lua-luv nginx libnginx-mod-http-lua lua-resty-core
  lua-resty-lrucache"
test="lua-dbi-postgresql postgresql lua-busted lua-check lua-socket clang luarocks sqlite3 curl openssl
  libclang-rt-dev python3 python3-prometheus-client python3-boto3 python3-awscrt awscli rclone s3cmd
  ceph-mon ceph-osd radosgw ceph-common valgrind procps iproute2 wrk"
if [ "$(uname -m)" = x86_64 ]; then
  test="$test gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
fi
bench="$test libisal-dev python3-crc32c"

doc="lua-ldoc"

wanted=
for group in "$@"; do
  case $group in
    run) wanted="$wanted $run" ;;
    test) wanted="$wanted $test" ;;
    bench) wanted="$wanted $bench" ;;
    doc) wanted="$wanted $doc" ;;
    *) echo "deps.sh: no group named $group" >&2; exit 2 ;;
  esac
done

# Some specs run npm packages, installed into the build folder; any npm will do.
case " $* " in *" test "* | *" bench "*) command -v npm >/dev/null || wanted="$wanted npm" ;; esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "This system has no apt. Install these (Debian's names), then repeat:" >&2
  echo $wanted >&2
  # On another system the user may have installed them all; go on when the
  # three that decide are there.
  command -v lua5.4 >/dev/null && command -v luajit >/dev/null &&
    command -v nginx >/dev/null && exit 0
  exit 1
fi

missing=
for package in $wanted; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "These packages are missing; install them as root, then repeat:" >&2
    echo "  apt-get install --no-install-recommends$missing" >&2
    exit 1
  fi
  as_root=sudo
fi

echo "installing:$missing"
# nginx and postgresql must not start as services because we install them.
policy=/usr/sbin/policy-rc.d
made_policy=
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
  $as_root chmod +x $policy
  made_policy=yes
fi
cleanup() { [ -z "$made_policy" ] || $as_root rm -f $policy; }
trap cleanup EXIT

log=$(mktemp)
install() {
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y \
    --no-install-recommends $missing >"$log" 2>&1
}
if ! install; then
  $as_root apt-get update >>"$log" 2>&1 || true
  if ! install; then
    cat "$log" >&2
    echo "apt-get could not install:$missing" >&2
    exit 1
  fi
fi
rm -f "$log"
