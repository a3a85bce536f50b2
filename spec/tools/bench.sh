#!/usr/bin/env bash
# bench.sh NAME [ARG...]: runs spec/bench/NAME.lua on Lua 5.4 with the built
# module. Its results go to build/bench/NAME.json.
set -eu
name=$1; shift
here=$(cd "$(dirname "$0")/../.." && pwd)
export LONGSHORE_ROOT=$here
export LONGSHORE_LUA=lua5.4
export LUA_PATH="$here/lua/?.lua;$here/lua/?/init.lua;$here/?.lua;$here/?/init.lua;;"
export LUA_CPATH="$here/${BUILD:-build}/lua5.4/?.so;;"
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY no_proxy NO_PROXY
cd "$here"
exec lua5.4 "spec/bench/$name.lua" "$@"
