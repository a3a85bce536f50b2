#!/usr/bin/env bash
# install.sh PREFIX: the modules for both Luas and the command, where Lua on
# this system looks when PREFIX is /usr/local. With DESTDIR below that, for who
# makes a package. Of an older one that was there nothing stays.
set -eu
prefix=$(realpath -ms "$1")
to=${DESTDIR:-}$prefix
cd "$(dirname "$0")/../.."
for pair in lua5.4:5.4 luajit:5.1; do
  built=${pair%%:*} version=${pair##*:}
  install -d "$to/lib/lua/$version/longshore" "$to/share/lua/$version"
  install -m 755 "build/$built/longshore/core.so" "$to/lib/lua/$version/longshore/core.so"
  # A server that runs from there misses its modules for no longer than a rename.
  new=$(mktemp -d "$to/share/lua/$version/.longshore.XXXXXX")
  cp -R lua/longshore "$new/new"
  chmod -R u=rwX,go=rX "$new/new"
  [ ! -e "$to/share/lua/$version/longshore" ] || mv "$to/share/lua/$version/longshore" "$new/old"
  mv "$new/new" "$to/share/lua/$version/longshore"
  rm -rf "$new"
done
install -d "$to/bin"
cat > "$to/bin/longshore" <<SH
#!/bin/sh
LUA_PATH="$prefix/share/lua/5.4/?.lua;$prefix/share/lua/5.4/?/init.lua;\${LUA_PATH:-;}"
LUA_CPATH="$prefix/lib/lua/5.4/?.so;\${LUA_CPATH:-;}"
export LUA_PATH LUA_CPATH
exec lua5.4 "$prefix/share/lua/5.4/longshore/cli/main.lua" "\$@"
SH
chmod 755 "$to/bin/longshore"
echo "installed into $to"
[ "$prefix" != /usr/local ] && [ "$prefix" != /usr ] && [ -z "${DESTDIR:-}" ] || exit 0
echo "$prefix/bin/longshore needs nothing more; for require \"longshore\" elsewhere:"
for version in 5.4 5.1; do
  [ $version = 5.4 ] && echo "  Lua 5.4:" || echo "  LuaJIT:"
  echo "    export LUA_PATH='$prefix/share/lua/$version/?.lua;$prefix/share/lua/$version/?/init.lua;;'"
  echo "    export LUA_CPATH='$prefix/lib/lua/$version/?.so;;'"
done
