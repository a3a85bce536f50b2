# longshore. `make help` lists the targets; `make demo` and `make test` are all
# that a fresh machine needs.

SHELL := /bin/bash
.DEFAULT_GOAL := all
MAKEFLAGS += --no-print-directory

CC ?= gcc
CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
BUILD ?= build
# Which specs to run: make spec FILES=spec/core
FILES ?= spec

WARN := -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes
STD := -std=c11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -fPIC -fvisibility=hidden -pthread
LUA54_CFLAGS = $(shell pkg-config --cflags lua5.4)
LUAJIT_CFLAGS = $(shell pkg-config --cflags luajit)
LIBS := -lcurl -lssl -lcrypto -lpthread
# The module stays mapped: a thread of its may outlive lua_close.
SHARED := -shared -Wl,-z,nodelete -Wl,-z,relro,-z,now

PLAIN_SRC := $(sort $(wildcard src/core/*.c src/transfer/*.c))
BIND_SRC := $(sort $(wildcard src/bind/*.c))
PLAIN_OBJ := $(PLAIN_SRC:src/%.c=$(BUILD)/obj/%.o)
BIND54_OBJ := $(BIND_SRC:src/%.c=$(BUILD)/lua5.4/obj/%.o)
BINDJIT_OBJ := $(BIND_SRC:src/%.c=$(BUILD)/luajit/obj/%.o)

CORE54 := $(BUILD)/lua5.4/longshore/core.so
COREJIT := $(BUILD)/luajit/longshore/core.so

.PHONY: all help deps test demo serve lint doc bench bench-presign bench-crc32c \
  bench-transfer bench-broker bench-tables install clean run-test spec spec-5.4 spec-jit spec-gc spec-valgrind ctest ctest-arm tsan fuzz

## all: the C module for Lua 5.4 and for LuaJIT, and build/bin/longshore
all: $(CORE54) $(COREJIT) $(BUILD)/bin/longshore

help:
	@sed -n 's/^## /  make /p' Makefile

$(BUILD)/obj/%.o: src/%.c
	@mkdir -p $(@D)
	$(CC) $(STD) $(WARN) $(CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/lua5.4/obj/%.o: src/%.c
	@mkdir -p $(@D)
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LUA54_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/luajit/obj/%.o: src/%.c
	@mkdir -p $(@D)
	$(CC) $(STD) $(WARN) $(CFLAGS) $(LUAJIT_CFLAGS) -MMD -MP -c -o $@ $<

$(CORE54): $(PLAIN_OBJ) $(BIND54_OBJ)
	@mkdir -p $(@D)
	$(CC) $(SHARED) $(LDFLAGS) -o $@ $^ $(LIBS)

$(COREJIT): $(PLAIN_OBJ) $(BINDJIT_OBJ)
	@mkdir -p $(@D)
	$(CC) $(SHARED) $(LDFLAGS) -o $@ $^ $(LIBS)

# Runs from the checkout, on Lua 5.4 (LONGSHORE_LUA=luajit: on that), whatever
# the current folder is.
$(BUILD)/bin/longshore: Makefile
	@mkdir -p $(@D)
	@printf '%s\n' '#!/bin/sh' \
	  'here=$$(cd "$$(dirname "$$(readlink -f "$$0")")/../.." && pwd)' \
	  'LUA_PATH="$$here/lua/?.lua;$$here/lua/?/init.lua;$${LUA_PATH:-;;}"' \
	  'case $${LONGSHORE_LUA:=lua5.4} in *jit*) out=luajit ;; *) out=lua5.4 ;; esac' \
	  'LUA_CPATH="$$here/build/$$out/?.so;$${LUA_CPATH:-;;}"' \
	  'export LUA_PATH LUA_CPATH' \
	  'exec "$$LONGSHORE_LUA" "$$here/lua/longshore/cli/main.lua" "$$@"' > $@
	@chmod +x $@

-include $(PLAIN_OBJ:.o=.d) $(BIND54_OBJ:.o=.d) $(BINDJIT_OBJ:.o=.d)

## deps: installs what is missing (apt, as root or through sudo)
deps:
	@spec/tools/deps.sh run test

## test: installs what is missing, builds, lints, runs every spec on both Luas
test:
	@spec/tools/deps.sh run test
	@$(MAKE) run-test

run-test:
	@spec/tools/test.sh

## spec-5.4, spec-jit: the Lua specs on one Lua (FILES=spec/core for some)
spec: spec-5.4 spec-jit

spec-5.4: all
	@spec/tools/busted.sh lua5.4 $(FILES)

spec-jit: all
	@spec/tools/busted.sh luajit $(FILES)

## spec-gc: the specs with a collector that never rests (FILES as above)
spec-gc: all
	@for lua in lua5.4 luajit; do HELPER=spec/tools/gc.lua LONGSHORE_CASES=400 \
	  spec/tools/busted.sh $$lua $(FILES) || exit 1; done

# LuaJIT's own code reads past the ends of strings, which valgrind takes amiss.
## spec-valgrind: the specs on Lua 5.4 under valgrind (FILES as above)
spec-valgrind: all
	@WRAP="valgrind -q --error-exitcode=9 --leak-check=full \
	  --errors-for-leak-kinds=definite --show-leak-kinds=definite \
	  --child-silent-after-fork=yes" LONGSHORE_CASES=40 \
	  spec/tools/busted.sh lua5.4 $(FILES)

# Every spec/c/NAME.c is a program of its own; it is linked with the plain C
# under ASan and UBSan.
CTESTS := $(patsubst spec/c/%.c,%,$(filter-out spec/c/fuzz_%,$(wildcard spec/c/*.c)))
SAN := -fsanitize=address,undefined -fno-sanitize-recover=all
SAN_OBJ := $(PLAIN_SRC:src/%.c=$(BUILD)/san/%.o)

$(BUILD)/san/%.o: src/%.c
	@mkdir -p $(@D)
	@$(CC) $(STD) $(WARN) -O1 -g $(SAN) -MMD -MP -c -o $@ $<

$(BUILD)/ctest/%: spec/c/%.c $(SAN_OBJ)
	@mkdir -p $(@D)
	@$(CC) $(STD) $(WARN) -O1 -g $(SAN) -Isrc -o $@ $^ $(LIBS)

-include $(SAN_OBJ:.o=.d)

# The binding too, in a Lua 5.4 whose allocations fail one after another.
BIND_SAN_OBJ := $(BIND_SRC:src/%.c=$(BUILD)/san/%.o)
$(BIND_SAN_OBJ): STD += $(LUA54_CFLAGS)

$(BUILD)/ctest/bind_memory: spec/c/bind/memory.c $(SAN_OBJ) $(BIND_SAN_OBJ)
	@mkdir -p $(@D)
	@$(CC) $(STD) $(WARN) $(LUA54_CFLAGS) -O1 -g $(SAN) -o $@ $^ \
	  -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc \
	  $(LIBS) $(shell pkg-config --libs lua5.4)

-include $(BIND_SAN_OBJ:.o=.d)

## ctest: the C tests under ASan and UBSan
ctest: $(CTESTS:%=$(BUILD)/ctest/%) $(BUILD)/ctest/bind_memory
	@spec/tools/ctest.sh $^

## ctest-arm: the checksums and signatures on 64-bit ARM, by qemu-user
ctest-arm:
	@spec/tools/arm.sh

# The engine's threads under TSan. libcurl is not instrumented; what TSan sees
# is our code and every call into the C library.
TSAN_OBJ := $(PLAIN_SRC:src/%.c=$(BUILD)/tsan/%.o)

$(BUILD)/tsan/%.o: src/%.c
	@mkdir -p $(@D)
	@$(CC) $(STD) $(WARN) -O1 -g -fsanitize=thread -MMD -MP -c -o $@ $<

$(BUILD)/tsan/transfer_%: spec/c/transfer_%.c $(TSAN_OBJ)
	@$(CC) $(STD) $(WARN) -O1 -g -fsanitize=thread -Isrc -o $@ $^ $(LIBS)

-include $(TSAN_OBJ:.o=.d)

## tsan: the engine's and the checksum's threads under ThreadSanitizer
tsan: $(BUILD)/tsan/transfer_engine $(BUILD)/tsan/transfer_checksum
	@TSAN_OPTIONS=halt_on_error=1 spec/tools/ctest.sh $^

# Every spec/c/fuzz_NAME.c is a libFuzzer target. FUZZ_SECONDS is for each.
FUZZ_SECONDS ?= 600
FUZZERS := $(patsubst spec/c/%.c,$(BUILD)/fuzz/%,$(wildcard spec/c/fuzz_*.c))
FUZZ := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
FUZZ_OBJ := $(PLAIN_SRC:src/%.c=$(BUILD)/fuzz/%.o)

$(BUILD)/fuzz/%.o: src/%.c
	@mkdir -p $(@D)
	@clang $(STD) $(WARN) -O1 -g $(FUZZ) -MMD -MP -c -o $@ $<

$(BUILD)/fuzz/fuzz_%: spec/c/fuzz_%.c $(FUZZ_OBJ)
	@clang $(STD) $(WARN) -O1 -g $(FUZZ) -fsanitize=fuzzer -Isrc -o $@ $^ $(LIBS)

-include $(FUZZ_OBJ:.o=.d)
.SECONDARY: $(SAN_OBJ) $(TSAN_OBJ) $(FUZZ_OBJ)

## fuzz: every libFuzzer target for FUZZ_SECONDS (600) seconds
fuzz: $(FUZZERS)
	@spec/tools/fuzz.sh $(FUZZ_SECONDS) $^

$(BUILD)/bench/%_core: spec/bench/%_core.c $(PLAIN_OBJ)
	@mkdir -p $(@D)
	@$(CC) $(STD) $(WARN) $(CFLAGS) -Isrc -o $@ $^ $(LIBS) $(BENCH_LIBS)

$(BUILD)/bench/crc32c_core: BENCH_LIBS := -lisal -ldl

# A benchmark fails when a result is wrong, not when a goal is missed: that is
# printed, and written as "met": false.
## bench: the three primitives' benchmarks; results in build/bench
bench:
	@bad=0; for one in presign crc32c transfer; do \
	  $(MAKE) bench-$$one || bad=1; done; exit $$bad

## bench-presign: signing against awscrt, boto3, aws4, minio, the AWS SDK
bench-presign:
	@spec/tools/deps.sh run bench
	@$(MAKE) -s all $(BUILD)/bench/presign_core
	@spec/tools/bench.sh presign

## bench-crc32c: checksums against ISA-L, awscrt, Adler's, and pread alone
bench-crc32c:
	@spec/tools/deps.sh run bench
	@$(MAKE) -s all $(BUILD)/bench/crc32c_core
	@spec/tools/bench.sh crc32c

## bench-transfer: uploads against curl, aws-cli, rclone, s3cmd, and on links
bench-transfer:
	@spec/tools/deps.sh run bench
	@$(MAKE) -s all $(BUILD)/bench/transfer_core
	@spec/tools/bench.sh transfer

## doc: the reference of every module as HTML, in build/doc
doc:
	@spec/tools/deps.sh doc
	@rm -rf $(BUILD)/doc && mkdir -p $(BUILD)
	@lua5.4 spec/tools/core_doc.lua $(BUILD)/core.lua
	@{ cat spec/tools/config.ld; echo 'file = { "$(abspath lua/longshore)", "$(abspath $(BUILD)/core.lua)" }'; } > $(BUILD)/config.ld
	@ldoc -q -c $(BUILD)/config.ld -d $(abspath $(BUILD)/doc) . 2>$(BUILD)/doc.log || { cat $(BUILD)/doc.log; exit 1; }
	@echo "$(BUILD)/doc/index.html"

## lint: luacheck, the layers, the compilers' warnings, and what is undocumented
lint: all
	@spec/tools/lint.sh

## demo: upload, interrupt, resume, complete, read back, compare
demo:
	@spec/tools/deps.sh run
	@$(MAKE) all
	@spec/tools/demo.sh

## serve: a broker and a disk store on this machine, until Ctrl-C
serve:
	@spec/tools/deps.sh run
	@$(MAKE) all
	@$(BUILD)/bin/longshore serve

## bench-broker: the broker beside @uppy/companion, into build/bench/broker.json
bench-broker: all
	@spec/tools/deps.sh bench
	@LONGSHORE_ROOT="$(CURDIR)" LUA_PATH="lua/?.lua;lua/?/init.lua;./?.lua;./?/init.lua;;" \
	  LUA_CPATH="$(BUILD)/lua5.4/?.so;;" LONGSHORE_LUA=lua5.4 lua5.4 spec/bench/broker.lua

## bench-tables: the results in build/bench into the tables of the README
bench-tables: $(CORE54)
	@spec/tools/bench.sh tables

# What `luarocks make` calls. One output folder per Lua version, because
# luarocks leaves objects behind and the next Lua would take them.
ROCK_OUT := $(BUILD)/rock-$(ROCK_LUA_VERSION)
ROCK_OBJ := $(PLAIN_SRC:src/%.c=$(ROCK_OUT)/obj/%.o) $(BIND_SRC:src/%.c=$(ROCK_OUT)/obj/%.o)

$(ROCK_OUT)/obj/%.o: src/%.c
	@mkdir -p $(@D)
	$(CC) $(STD) $(CFLAGS) $(if $(ROCK_LUA_INCDIR),-I$(ROCK_LUA_INCDIR)) -c -o $@ $<

$(ROCK_OUT)/longshore/core.so: $(ROCK_OBJ)
	@mkdir -p $(@D)
	$(CC) $(SHARED) $(LDFLAGS) -o $@ $^ $(LIBS)

.PHONY: rock rock-install
rock: $(ROCK_OUT)/longshore/core.so

rock-install: rock
	@mkdir -p "$(ROCK_LIBDIR)/longshore" "$(ROCK_LUADIR)" "$(ROCK_BINDIR)"
	cp $(ROCK_OUT)/longshore/core.so "$(ROCK_LIBDIR)/longshore/"
	cp -R lua/longshore "$(ROCK_LUADIR)/"
	cp lua/longshore/cli/main.lua "$(ROCK_BINDIR)/longshore"
	chmod +x "$(ROCK_BINDIR)/longshore"

## install: into PREFIX (default /usr/local), for both Luas; DESTDIR as usual
install: all
	@DESTDIR="$(DESTDIR)" spec/tools/install.sh "$(PREFIX)"

## clean: removes the build folder
clean:
	rm -rf $(BUILD)
