#!/usr/bin/env bash
# fuzz.sh SECONDS PROGRAM...: runs each libFuzzer target for so long. What it
# finds interesting is kept in build/fuzz/corpus, a finding in build/fuzz.
set -u
seconds=$1
shift
bad=0
# As in ctest.sh.
fixed=
setarch -R true 2>/dev/null && fixed="setarch -R"
for program in "$@"; do
  name=$(basename "$program")
  corpus=build/fuzz/corpus/$name
  mkdir -p "$corpus"
  seeds=spec/c/seeds/$name
  [ -d "$seeds" ] || seeds=
  if output=$($fixed "$program" -max_total_time="$seconds" -max_len=4096 -timeout=10 \
    -rss_limit_mb=2048 -artifact_prefix="build/fuzz/$name-" "$corpus" $seeds 2>&1); then
    printf '%-24s %s\n' "$name" "$(grep -aE '^Done|stat::number_of_executed' <<<"$output" | tail -n 1)"
  else
    bad=1
    printf '%-24s FAILED\n%s\n' "$name" "$(tail -n 60 <<<"$output")"
  fi
done
exit $bad
