#!/usr/bin/env bash
# The three kinds of lint: luacheck, the layers, the compilers' warnings.
set -u
cd "$(dirname "$0")/../.."
bad=0

luacheck -q lua spec || bad=1

# A file belongs to one room and does not reach up.
forbid() { # forbid "why" PATTERN PATH...
  local why=$1 pattern=$2 hits; shift 2
  hits=$(grep -rnE "$pattern" "$@" 2>/dev/null) || return 0
  printf 'layers: %s\n%s\n' "$why" "$hits"
  bad=1
}
forbid "lua.h belongs to src/bind" '#include *[<"](lua|lauxlib|lualib)\.h' src/core src/transfer
forbid "no sockets, threads or stdio in src/core" \
  '#include *<(sys/socket|netinet/.*|netdb|pthread|threads|stdio|curl/.*)(\.h)?>' src/core
up='require *\(?["'"'"']longshore\.'
low="lua/longshore/errors.lua lua/longshore/json.lua lua/longshore/json lua/longshore/clock.lua lua/longshore/plan.lua
  lua/longshore/provider lua/longshore/store lua/longshore/policy lua/longshore/http"
forbid "a lower room reaches up" "$up(broker|service|nginx|cli|uploader|diskstore)" $low
forbid "the broker reaches up" "$up(service|nginx|cli|uploader|diskstore)" lua/longshore/broker
forbid "a service reaches up" "$up(nginx|cli|diskstore)" lua/longshore/service
forbid "the uploader reaches up" "$up(broker|nginx|cli|store|diskstore)" lua/longshore/uploader
forbid "the disk store stands alone" "$up(broker|service|nginx|cli|uploader|store|policy|provider)" lua/longshore/diskstore
hits=$(grep -rnE '(^|[^%w_."a-zA-Z])ngx\.' lua --include='*.lua' | grep -v '^lua/longshore/nginx/' | grep -vE '^[^:]+:[0-9]+: *--')
[ -z "$hits" ] || { printf 'layers: ngx belongs to nginx/\n%s\n' "$hits"; bad=1; }

warn="-std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Werror -fsyntax-only"
for cc in gcc clang; do
  command -v $cc >/dev/null || { echo "lint: $cc is missing (make deps)"; bad=1; continue; }
  for f in $(find src -name '*.c'); do
    case $f in
      src/bind/*)
        $cc $warn $(pkg-config --cflags lua5.4) "$f" || bad=1
        $cc $warn $(pkg-config --cflags luajit) "$f" || bad=1 ;;
      *) $cc $warn "$f" || bad=1 ;;
    esac
  done
done

# Public functions have a comment and are run by a spec.
LUA_CPATH="${BUILD:-build}/lua5.4/?.so;;" lua5.4 spec/tools/documented.lua || bad=1

# Files of unreasonable length are two files.
find src lua -name '*.[ch]' -o -name '*.lua' | xargs wc -l |
  awk '$2 != "total" && $1 > 600 {print "long file: " $2 " (" $1 " lines)"; bad = 1} END {exit bad}' || bad=1

[ $bad = 0 ] && echo "lint: clean"
exit $bad
