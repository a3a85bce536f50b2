#!/usr/bin/env bash
# The main job, as a user sees it: a server, a real file, an interruption, the
# same command again, and the bytes read back and compared.
set -eu
cd "$(dirname "$0")/../.."
here=$PWD
longshore=$here/build/bin/longshore
work=$(mktemp -d "${TMPDIR:-/tmp}/longshore-demo.XXXXXX")
size_mib=${DEMO_MIB:-300}
server=
export XDG_STATE_HOME=$work/state
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '  $ %s\n' "$*"; }
cleanup() {
  if [ -n "$server" ] && kill "$server" 2>/dev/null; then wait "$server" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
fail() { echo "demo: $*" >&2; exit 1; }

free_port() { # a port below 32768 that nobody listens on
  local port
  while :; do
    port=$((18000 + RANDOM % 14000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo $port; return; }
  done
}
broker=127.0.0.1:$(free_port)
store=127.0.0.1:$(free_port)
url=http://$broker

say "1. A broker and an object store on this machine"
run "longshore serve --data $work/data --listen $broker --store-listen $store"
"$longshore" serve --data "$work/data" --listen "$broker" --store-listen "$store" >"$work/serve.log" 2>&1 &
server=$!
for _ in $(seq 200); do
  grep -q 'upload with' "$work/serve.log" && break
  kill -0 $server 2>/dev/null || { cat "$work/serve.log" >&2; fail "the server did not start"; }
  sleep 0.05
done
sed -n '1,3s/^/  /p' "$work/serve.log"
LONGSHORE_TOKEN=$(cat "$work/data/token")
export LONGSHORE_TOKEN

say "2. A file of $size_mib MiB, uploaded, and killed (kill -9) half-way"
head -c "$((size_mib * 1048576))" /dev/urandom >"$work/cargo.bin"
run "longshore put cargo.bin $url"
# A bandwidth limit, so that half-way is a moment one can hit.
"$longshore" put --limit-rate $((size_mib / 4))MiB --json "$work/cargo.bin" "$url" >"$work/put.json" 2>&1 &
put=$!
half=$((size_mib * 1048576 / 2))
for _ in $(seq 600); do
  sent=$(sed -nE 's/.*"event":"progress".*/&/p' "$work/put.json" | tail -n 1 | grep -oE '"bytes":[0-9]+' | cut -d: -f2 || true)
  [ "${sent:-0}" -ge $half ] && break
  kill -0 $put 2>/dev/null || break
  sleep 0.02
done
kill -9 $put 2>/dev/null || fail "the upload ended before it could be interrupted: $(tail -n 2 "$work/put.json")"
wait $put 2>/dev/null || true
printf '  killed after %d of %d MiB\n' $((${sent:-0} / 1048576)) "$size_mib"

say "3. The same command again: only what is missing is sent"
run "longshore put cargo.bin $url"
"$longshore" put --json "$work/cargo.bin" "$url" >"$work/put.json" || { cat "$work/put.json" >&2; fail "the upload failed"; }
result=$(grep '"event":"result"' "$work/put.json" | sed -E 's/"checks":\{[^}]*\}//')
field() { grep -oE "\"$1\":(\"[^\"]*\"|[0-9.]+|true|false)" <<<"$result" | head -n 1 | cut -d: -f2- | tr -d '"'; }
printf '  %s parts were there already, %s were sent (%d MiB)\n' \
  "$(field resumed_parts)" "$(field sent_parts)" $(($(field sent_bytes) / 1048576))
[ "$(field resumed_parts)" -gt 0 ] || fail "nothing was resumed"
printf '  every part compared with the store by %s; whole file CRC32C %s, confirmed by the service: %s\n' \
  "$(field compared)" "$(field crc32c)" "$(field whole_checked)"
[ "$(field whole_checked)" = true ] || fail "the whole file was not checked"

say "4. Read back and compared"
run "longshore get $(field file_id) $url -o back.bin"
"$longshore" get --quiet "$(field file_id)" "$url" -o "$work/back.bin"
cmp "$work/cargo.bin" "$work/back.bin" || fail "the bytes differ"
printf '  identical: %s\n' "$(cd "$work" && "$longshore" crc32c --base64 cargo.bin back.bin | tr '\n' ' ')"

say "5. Stopped"
kill "$server"
wait "$server" || fail "the server did not stop cleanly"
server=
tail -n 1 "$work/serve.log" | sed 's/^/  /'
printf '\nDone in %d s. Your own: make serve, then longshore put FILE %s\n' "$SECONDS" "http://127.0.0.1:8080"
