# `make help` lists the targets. Everything is built under build/; sources are found by wildcard.
CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
VERSION := 0.1.0
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
OPTIMISE ?= -O2 -g

# SANITIZE=address,undefined builds in a folder of its own; so does BUILD=folder.
comma := ,
ifdef SANITIZE
BUILD ?= build/sanitize-$(subst $(comma),-,$(SANITIZE))
endif
BUILD ?= build
PLAIN := build
VENV := build/venv
RUN := build/run

Q := $(if $(V),,@)
# Targets that build on the way do so on all cores, unless told otherwise.
SUBMAKE = $(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))
say = @printf '  %-7s %s\n' $(1) $(2)

# What the compiler takes and where the libraries are, found out once for each compiler.
space := $(subst ,, )
PROBED := $(BUILD)/probed-$(subst $(space),-,$(notdir $(CC))).mk
NOT_COMPILING := help deps lint test run bench bench-peers quality stop clean
ifneq ($(filter-out $(NOT_COMPILING),$(or $(MAKECMDGOALS),all)),)
include $(PROBED)
endif

CPPFLAGS_ALL = -I. -I$(BUILD)/gen -D_GNU_SOURCE -DKVQUANT_VERSION='"$(VERSION)"' $(CPPFLAGS)
CFLAGS_ALL = -std=gnu11 $(OPTIMISE) $(if $(WERROR),-Werror) $(HARDENING) -fPIC -pthread $(CFLAGS) $(FLOAT_FLAGS)
LDFLAGS_ALL = $(HARDENING) $(LINK_HARDENING) -pthread $(LDFLAGS)
PROGRAM_LDFLAGS = $(LDFLAGS_ALL) -pie $(SANITIZE_STATIC)
# The order of floating-point operations is part of the page format: no contraction, no libm errno.
# A stranger's OPTIMISE or CFLAGS must not change the bits: these come last.
$(BUILD)/proto/page/%.o: OPTIMISE := -O3 -g
$(BUILD)/proto/page/%.o: FLOAT_FLAGS := -fno-math-errno -ffp-contract=off

PROTO := $(wildcard proto/wire/*.proto)
GENERATED := $(PROTO:%.proto=$(BUILD)/gen/%.pb-c.c)
objects = $(patsubst %.c,$(BUILD)/%.o,$(1))
WIRE_OBJECTS := $(call objects,$(wildcard proto/wire/*.c)) $(GENERATED:.c=.o)
# On x86-64 the page codec's kernels are compiled for newer processors too: dispatch.c chooses.
ifneq ($(filter x86_64-%,$(shell $(CC) -dumpmachine 2>/dev/null)),)
PAGE_V3_OBJECTS := $(patsubst proto/page/%.c,$(BUILD)/proto/page/x86_64_v3/%.o, \
    $(wildcard proto/page/portable*.c))
$(BUILD)/proto/page/dispatch.o: CPPFLAGS_ALL += -DPAGE_X86_64_V3
endif
PAGE_OBJECTS := $(call objects,$(wildcard proto/page/*.c)) $(PAGE_V3_OBJECTS)
CLIENT_OBJECTS := $(call objects,$(wildcard client/c/*.c))
CLI_OBJECTS := $(call objects,$(wildcard client/cli/*.c))
DAEMON_MAIN := $(call objects,$(wildcard daemon/main.c))
DAEMON_OBJECTS := $(call objects,$(wildcard daemon/*/*.c daemon/*/*/*.c))
EXAMPLES := $(patsubst client/c/examples/%.c,$(BUILD)/examples/%,$(wildcard client/c/examples/*.c))
# tests/unit/test_*.c are programs of their own; what else lies there is linked into each.
UNIT_SOURCES := $(wildcard tests/unit/*.c)
UNIT_SUPPORT := $(call objects,$(filter-out tests/unit/test_%,$(UNIT_SOURCES)))
UNIT_TESTS := $(patsubst %.c,$(BUILD)/%,$(filter tests/unit/test_%,$(UNIT_SOURCES)))
BENCH_SOURCES := $(wildcard tests/bench/*.c)
BENCH_SUPPORT := $(call objects,$(filter-out tests/bench/bench_%,$(BENCH_SOURCES)))
BENCHES := $(patsubst %.c,$(BUILD)/%,$(filter tests/bench/bench_%,$(BENCH_SOURCES)))

LIBRARY_OBJECTS := $(if $(CLIENT_OBJECTS),$(CLIENT_OBJECTS) $(WIRE_OBJECTS) $(PAGE_OBJECTS))
LIBRARIES := $(if $(CLIENT_OBJECTS),$(BUILD)/libkvq.a $(BUILD)/libkvq.so)
PROGRAMS := $(if $(DAEMON_MAIN),$(BUILD)/kvquantd) $(if $(CLI_OBJECTS),$(BUILD)/kvq)
# Programs write their own pages, so there are none where what is built does not run.
ifneq ($(filter $(shell uname -m)-%,$(shell $(CC) -dumpmachine 2>/dev/null)),)
PAGES := $(if $(CLI_OBJECTS),$(BUILD)/man/kvq.1 $(BUILD)/completion/kvq)
endif

## all: build kvquantd, kvq and libkvq under build/
all: $(PROGRAMS) $(LIBRARIES) $(PAGES)
	@:

## deps: install what building, testing and running need and this machine lacks
deps:
	$(Q)tools/bootstrap.sh build test model

## test: install what is missing, build, run every test
test:
	$(Q)tools/bootstrap.sh build test model
	$(Q)$(SUBMAKE) SANITIZE= BUILD=$(PLAIN) python
	$(Q)$(SUBMAKE) all unit-tests examples
	$(Q)$(VENV)/bin/python tools/run-tests.py --build $(BUILD) --sanitize '$(SANITIZE)' $(TESTS)

## lint: check formatting, clang-tidy, the rooms' "may use" table, a build without warnings
lint:
	$(Q)tools/bootstrap.sh build lint
	$(Q)tools/lint.sh

## run: start a daemon of your own and let a real model leave and resume through it
run:
	$(Q)tools/bootstrap.sh build model
	$(Q)$(SUBMAKE) SANITIZE= BUILD=$(PLAIN) python
	$(Q)$(SUBMAKE) all
	$(Q)tools/run.sh $(BUILD) $(RUN)

## bench: measure, in minutes; the report is printed and in build/report/ (QUICK=1: a smoke test)
bench:
	$(Q)tools/bootstrap.sh build bench
	$(Q)$(SUBMAKE) all benches
	$(Q)$(REPORT)

## bench-peers: the same work against Redis and memcached (QUICK=1: a smoke test)
bench-peers:
	$(Q)tools/bootstrap.sh build bench peers
	$(Q)$(SUBMAKE) all benches
	$(Q)$(REPORT) --peers
REPORT = python3 tests/bench/report.py --build $(BUILD) $(if $(QUICK),--quick) \
    --compiler "$$($(CC) --version | head -n 1), $(OPTIMISE)"

## quality: what each level costs and does to a real model, in minutes (TEXTS='FILE...')
quality:
	$(Q)tools/bootstrap.sh build model
	$(Q)$(SUBMAKE) SANITIZE= BUILD=$(PLAIN) python
	$(Q)$(SUBMAKE) all
	$(Q)$(VENV)/bin/python tests/quality/levels.py --daemon $(BUILD)/kvquantd $(TEXTS)

## stop: end what `make run` left running
stop:
	$(Q)tools/stop.sh $(RUN)

## install: install under DESTDIR and PREFIX (/usr/local), configuration under SYSCONFDIR (/etc)
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/systemd/system \
	    $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(SYSCONFDIR)/kvquant
	install -m 755 $(BUILD)/kvquantd $(BUILD)/kvq $(DESTDIR)$(PREFIX)/bin
	install -m 644 client/c/kvq.h $(DESTDIR)$(PREFIX)/include
	install -m 644 $(BUILD)/libkvq.a $(DESTDIR)$(PREFIX)/lib
	install -m 755 $(BUILD)/libkvq.so $(DESTDIR)$(PREFIX)/lib/libkvq.so.0
	ln -sf libkvq.so.0 $(DESTDIR)$(PREFIX)/lib/libkvq.so
	sed 's|/usr/local/bin|$(PREFIX)/bin|; s|/etc/kvquant|$(SYSCONFDIR)/kvquant|' \
	    deploy/kvquantd.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/kvquantd.service
	chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/kvquantd.service
	test -e $(DESTDIR)$(SYSCONFDIR)/kvquant/kvquantd.conf || \
	    install -m 644 config/kvquantd.conf $(DESTDIR)$(SYSCONFDIR)/kvquant

## clean: remove build/, after ending what `make run` left running
clean: stop
	rm -rf build

## help: list the targets
help:
	@sed -n 's/^## \([a-z-]*\): /\1\t/p' Makefile | expand -t 13
	@echo 'Variables: CC=clang, V=1, WERROR=1, SANITIZE=address,undefined (or thread), BUILD=folder'

unit-tests: $(UNIT_TESTS)
	@:
examples: $(EXAMPLES)
	@:
benches: $(BENCHES)
	@:

# The Python package, built against this checkout's libkvq, in the checkout's own environment.
PYTHON_SOURCES := $(wildcard client/python/*.toml client/python/*.py client/python/kvquantd/*.py*)
python: $(if $(PYTHON_SOURCES),$(VENV)/.kvquantd)
	@:
$(VENV)/.kvquantd: $(PYTHON_SOURCES) $(PLAIN)/libkvq.a client/c/kvq.h
	$(call say,PYTHON,client/python)
	$(Q)rm -rf client/python/build # an extension built before libkvq changed would be taken as new
	$(Q)$(VENV)/bin/pip install -qq --no-deps --no-build-isolation --force-reinstall \
	    ./client/python
	$(Q)touch $@

$(BUILD)/kvquantd: $(DAEMON_MAIN) $(DAEMON_OBJECTS) $(WIRE_OBJECTS) $(PAGE_OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(PROGRAM_LDFLAGS) -o $@ $^ $(DAEMON_LIBS) -lm

$(BUILD)/kvq: $(CLI_OBJECTS) $(BUILD)/libkvq.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(PROGRAM_LDFLAGS) -o $@ $^ $(CLIENT_LIBS) -lm

$(BUILD)/man/kvq.1: $(BUILD)/kvq
	@mkdir -p $(@D)
	$(Q)$(BUILD)/kvq --man >$@

$(BUILD)/completion/kvq: $(BUILD)/kvq
	@mkdir -p $(@D)
	$(Q)$(BUILD)/kvq --completion >$@

$(BUILD)/libkvq.a: $(LIBRARY_OBJECTS)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

# Only the interface of kvq.h is visible: kvq_*, not the generated kvq__*.
$(BUILD)/libkvq.so: $(LIBRARY_OBJECTS)
	$(call say,LINK,$@)
	$(Q)echo '{ global: kvq_[!_]*; local: *; };' >$(BUILD)/libkvq.map
	$(Q)$(CC) $(LDFLAGS_ALL) -shared -Wl,-soname,libkvq.so.0 \
	    -Wl,--version-script=$(BUILD)/libkvq.map -o $@ $^ $(CLIENT_LIBS) -lm
	$(Q)ln -sf libkvq.so $(BUILD)/libkvq.so.0

$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(UNIT_SUPPORT) $(DAEMON_OBJECTS) \
    $(CLIENT_OBJECTS) $(WIRE_OBJECTS) $(PAGE_OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(PROGRAM_LDFLAGS) -o $@ $^ $(DAEMON_LIBS) -lcheck_pic -lsubunit -lrt -lm

$(BUILD)/tests/bench/%: $(BUILD)/tests/bench/%.o $(BENCH_SUPPORT) $(BUILD)/libkvq.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(PROGRAM_LDFLAGS) -o $@ $^ $(CLIENT_LIBS) -lm

$(BUILD)/examples/%: $(BUILD)/client/c/examples/%.o $(BUILD)/libkvq.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(PROGRAM_LDFLAGS) -o $@ $^ $(CLIENT_LIBS) -lm

$(BUILD)/%.o: %.c $(PROBED) | $(GENERATED)
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(WARNINGS) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(BUILD)/gen/%.o: $(BUILD)/gen/%.c $(PROBED)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(BUILD)/proto/page/x86_64_v3/%.o: proto/page/%.c $(PROBED)
	@mkdir -p $(@D)
	$(call say,CC,'$< for x86-64-v3')
	$(Q)$(CC) $(CPPFLAGS_ALL) -DPAGE_TARGET=x86_64_v3 $(WARNINGS) $(CFLAGS_ALL) \
	    -march=x86-64-v3 -mtune=generic -MMD -MP -c -o $@ $<

# An object is the stamp of what a file includes: a changed header is tidied again where it is used.
TIDIED := $(patsubst %.o,%.tidy,$(filter-out $(BUILD)/gen/% $(PAGE_V3_OBJECTS), \
    $(DAEMON_MAIN) $(DAEMON_OBJECTS) $(WIRE_OBJECTS) $(PAGE_OBJECTS) $(CLIENT_OBJECTS) $(CLI_OBJECTS)))
tidy: $(TIDIED)
	$(if $(TIDIED),,$(error clang-tidy matches no file))
$(BUILD)/%.tidy: %.c $(BUILD)/%.o .clang-tidy
	$(call say,TIDY,$<)
	$(Q)clang-tidy --quiet $< -- -isystem $(BUILD)/gen $(CPPFLAGS_ALL) $(WARNINGS) -std=gnu11 2>$@.err || \
	    { cat $@.err; exit 1; }
	@touch $@

$(BUILD)/gen/%.pb-c.c: %.proto
	@mkdir -p $(@D)
	$(call say,PROTOC,$<)
	$(Q)protoc-c --c_out=$(BUILD)/gen $<

$(PROBED): tools/probe.sh Makefile
	@mkdir -p $(@D)
	@CC='$(CC)' tools/probe.sh '$(SANITIZE)' >$@.new && mv $@.new $@

-include $(patsubst %.o,%.d,$(DAEMON_MAIN) $(DAEMON_OBJECTS) $(WIRE_OBJECTS) $(PAGE_OBJECTS) \
    $(CLIENT_OBJECTS) $(CLI_OBJECTS) $(UNIT_SUPPORT)) $(EXAMPLES:$(BUILD)/%=$(BUILD)/client/c/%.d) \
    $(BENCH_SUPPORT:.o=.d) $(UNIT_TESTS:=.d) $(BENCHES:=.d)

.PHONY: all deps test lint run bench bench-peers benches quality stop install clean help unit-tests examples python tidy
.SECONDARY:
.DELETE_ON_ERROR:
