#!/usr/bin/env bash
# install.sh PREFIX: the modules for both Luas and the command, where Lua on
# this system looks when PREFIX is /usr/local.
set -eu
prefix=$1
cd "$(dirname "$0")/../.."
for pair in lua5.4:5.4 luajit:5.1; do
  built=${pair%%:*} version=${pair##*:}
  install -d "$prefix/lib/lua/$version/longshore" "$prefix/share/lua/$version"
  install -m 755 "build/$built/longshore/core.so" "$prefix/lib/lua/$version/longshore/core.so"
  cp -R lua/longshore "$prefix/share/lua/$version/"
done
install -d "$prefix/bin"
cat > "$prefix/bin/longshore" <<SH
#!/bin/sh
LUA_PATH="$prefix/share/lua/5.4/?.lua;$prefix/share/lua/5.4/?/init.lua;\${LUA_PATH:-;}"
LUA_CPATH="$prefix/lib/lua/5.4/?.so;\${LUA_CPATH:-;}"
export LUA_PATH LUA_CPATH
exec lua5.4 "$prefix/share/lua/5.4/longshore/cli/main.lua" "\$@"
SH
chmod 755 "$prefix/bin/longshore"
echo "installed into $prefix"
