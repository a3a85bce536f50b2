#!/usr/bin/env bash
# install.sh PREFIX: the modules for both Luas and the command, where Lua on
# this system looks when PREFIX is /usr/local. With DESTDIR below that, for who
# makes a package.
set -eu
prefix=$(realpath -ms "$1")
to=${DESTDIR:-}$prefix
cd "$(dirname "$0")/../.."
for pair in lua5.4:5.4 luajit:5.1; do
  built=${pair%%:*} version=${pair##*:}
  install -d "$to/lib/lua/$version/longshore" "$to/share/lua/$version"
  install -m 755 "build/$built/longshore/core.so" "$to/lib/lua/$version/longshore/core.so"
  cp -R lua/longshore "$to/share/lua/$version/"
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
