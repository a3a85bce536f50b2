#!/usr/bin/env bash
# ctest.sh PROGRAM...: runs the C tests; each prints its own checks and ends
# with "N passed, N failed".
set -u
bad=0
for program in "$@"; do
  if output=$("$program" 2>&1); then
    printf '%-24s %s\n' "$(basename "$program")" "$(tail -n 1 <<<"$output")"
  else
    bad=1
    printf '%-24s FAILED\n%s\n' "$(basename "$program")" "$output"
  fi
done
exit $bad
