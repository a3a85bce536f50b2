#!/usr/bin/env bash
# npm.sh FOLDER PACKAGE@VERSION...: installs npm packages below build/npm once
# and prints the folder with node_modules. Fails when there is no network.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
name=$1; shift
dir="$here/${BUILD:-build}/npm/$name"
stamp="$dir/.installed"
# The specs of both Luas may ask at once.
mkdir -p "$dir"
exec 9>"$dir/.lock"
flock 9
if [ "$(cat "$stamp" 2>/dev/null)" != "$*" ]; then
  command -v npm >/dev/null || { echo "npm is missing: make deps" >&2; exit 1; }
  cd "$dir"
  # (Companion names a version of one package that the registry does not have.)
  [ -e package.json ] || printf '{"private":true,"type":"module","overrides":%s}\n' \
    '{"@aws-sdk/s3-presigned-post":"3.1162.0"}' > package.json
  npm install --fetch-retries=5 --no-audit --no-fund --loglevel=error --no-save "$@" >"$dir/npm.log" 2>&1 || {
    cat "$dir/npm.log" >&2
    exit 1
  }
  printf '%s\n' "$*" > "$stamp"
fi
printf '%s\n' "$dir"
