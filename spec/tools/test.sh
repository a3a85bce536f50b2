#!/usr/bin/env bash
# The whole test run: build, lint, C tests, specs on both Luas. The last line
# is the sum: "N passed, N failed".
set -u
cd "$(dirname "$0")/../.."
log=build/test
mkdir -p $log
passed=0
failed=0

step() { # step NAME COMMAND...: one thing that passes or fails as a whole
  local name=$1 start=$SECONDS; shift
  if "$@" >"$log/$name.log" 2>&1; then
    printf '%-14s ok (%d s)\n' "$name" $((SECONDS - start))
    return 0
  fi
  printf '%-14s FAILED (%d s)\n' "$name" $((SECONDS - start))
  tail -n 200 "$log/$name.log"
  return 1
}
one() { if step "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi; }

if ! step build make -j"$(nproc)" all; then
  echo "0 passed, 1 failed"
  exit 1
fi
one lint make lint

# A C test counts as one, however many checks it makes.
step ctest make -j"$(nproc)" ctest || failed=$((failed + 1))
passed=$((passed + $(grep -cE ' [0-9]+ passed, 0 failed$' $log/ctest.log)))

# On another machine the cross compiler and qemu are not what is needed.
if [ "$(uname -m)" = x86_64 ]; then one ctest-arm make ctest-arm; fi
quick="spec/core spec/transfer/transport_spec.lua spec/transfer/tls_spec.lua"
one spec-gc make spec-gc FILES="$quick"
one valgrind make spec-valgrind FILES="$quick"
one tsan make -j"$(nproc)" tsan
one fuzz make -j"$(nproc)" fuzz FUZZ_SECONDS=5

# Both Luas at once: the specs mostly wait, and they share nothing but the
# machine.
for lua in lua5.4 luajit; do
  (step "spec-$lua" spec/tools/busted.sh $lua -o spec/tools/output.lua spec >"$log/step-$lua.txt") &
done
wait
for lua in lua5.4 luajit; do
  cat "$log/step-$lua.txt"
  read -r p f < <(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed.*/\1 \2/p' "$log/spec-$lua.log" | tail -n 1)
  if [ -z "${p:-}" ]; then
    failed=$((failed + 1))
  else
    passed=$((passed + p)) failed=$((failed + f))
  fi
  # A run that fails without a failed spec has failed all the same.
  if [ "${f:-0}" = 0 ] && grep -q FAILED "$log/step-$lua.txt"; then failed=$((failed + 1)); fi
  unset p f
done

echo "$passed passed, $failed failed"
[ $failed = 0 ]
