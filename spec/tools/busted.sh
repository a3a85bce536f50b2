#!/usr/bin/env bash
# busted.sh lua5.4|luajit FILE...: runs specs on one Lua with the built module.
set -eu
lua=$1; shift
here=$(cd "$(dirname "$0")/../.." && pwd)
case $lua in
  lua5.4) out=lua5.4 ;;
  luajit) out=luajit ;;
  *) echo "busted.sh: lua5.4 or luajit expected" >&2; exit 2 ;;
esac
export LONGSHORE_ROOT=$here
export LONGSHORE_LUA=$lua
export LUA_PATH="$here/lua/?.lua;$here/lua/?/init.lua;$here/?.lua;$here/?/init.lua;;"
export LUA_CPATH="$here/${BUILD:-build}/$out/?.so;;"
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY no_proxy NO_PROXY
cd "$here"
# WRAP runs the interpreter (valgrind); HELPER is a file that busted loads first.
exec ${WRAP:-} "$lua" /usr/bin/busted ${HELPER:+"--helper=$HELPER"} --pattern=_spec "$@"
