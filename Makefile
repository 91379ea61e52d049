# `make help` lists the targets. Everything is built under build/; sources are found by wildcard.
.DEFAULT_GOAL := all
CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
VERSION := 0.1.0
SOVERSION := 0# of libkvq's binary interface
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
PLUGINDIR ?= $(LIBDIR)/kvquant
OPTIMISE ?= -O2 -g

# SANITIZE=address,undefined builds in a folder of its own; so does BUILD=folder.
comma := ,
ifdef SANITIZE
BUILD ?= build/sanitize-$(subst $(comma),-,$(SANITIZE))
endif
BUILD ?= build
PLAIN := build
VENV := build/venv
VENV_HF := build/venv-hf
VENV_LLAMA := build/venv-llama
VENV_HOSTS := build/venv-hosts
RUN := build/run

Q := $(if $(V),,@)
# Targets that build on the way do so on all cores, unless told otherwise.
SUBMAKE = $(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))
say = @printf '  %-7s %s\n' $(1) $(2)

# What the compiler takes and where the libraries are, found out once. Another compiler or other
# flags than the folder was built with find out again, and build all of it again.
PROBED := $(BUILD)/probed.mk
PROBED_WITH := $(strip $(CC) $(SANITIZE) $(OPTIMISE) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS))
NOT_COMPILING := help deps lint test torture overload soak load coverage analyse run bench bench-peers bench-codec bench-recall bench-trace bench-quality quality recall-bench fuzz golden stop clean uninstall deb test-packages aarch64 test-aarch64 test-tiny test-metrics test-systemd test-hf test-hf-5 test-hf-4 test-llama test-hosts e2e
ifneq ($(filter-out $(NOT_COMPILING),$(or $(MAKECMDGOALS),all)),)
include $(PROBED)
ifneq ($(PROBED_WITH),$(BUILT_WITH))
$(PROBED): FORCE
endif
endif

CPPFLAGS_ALL = -I. -I$(BUILD)/gen -D_GNU_SOURCE -DKVQUANT_VERSION='"$(VERSION)"' $(CPPFLAGS)
CFLAGS_ALL = -std=gnu11 $(OPTIMISE) $(if $(WERROR),-Werror) $(HARDENING) -fPIC -pthread $(CFLAGS) $(FLOAT_FLAGS)
LDFLAGS_ALL = $(HARDENING) $(LINK_HARDENING) -pthread $(LDFLAGS)
PROGRAM_LDFLAGS = $(LDFLAGS_ALL) -pie $(SANITIZE_STATIC)
# The order of floating-point operations is part of the page format: no contraction, no libm errno.
# A stranger's OPTIMISE or CFLAGS must not change the bits: these come last.
$(BUILD)/proto/page/%.o: OPTIMISE := -O3 -g
$(BUILD)/proto/page/%.o: FLOAT_FLAGS := -fno-math-errno -ffp-contract=off $(ALIGNED_FRAMES)
$(BUILD)/daemon/recall/%.o: OPTIMISE := -O3 -g
$(BUILD)/daemon/recall/%_keys.o: FLOAT_FLAGS += -ffp-contract=off
$(BUILD)/tests/unit/test_page%.o: FLOAT_FLAGS := $(ALIGNED_FRAMES)

PROTO := $(wildcard proto/wire/*.proto)
GENERATED_C := $(PROTO:%.proto=$(BUILD)/gen/%.pb-c.c)
GENERATED = $(GENERATED_C) $(PROFILES) $(BUILD)/gen/page.inc
PROFILES := $(BUILD)/gen/profiles/tiny.inc
objects = $(patsubst %.c,$(BUILD)/%.o,$(1))
WIRE_OBJECTS := $(call objects,$(wildcard proto/wire/*.c)) $(GENERATED_C:.c=.o)
# On x86-64 the page codec's kernels are compiled for newer processors too: dispatch.c chooses.
ifneq ($(filter x86_64-%,$(shell $(CC) -dumpmachine 2>/dev/null)),)
PAGE_V3_OBJECTS := $(patsubst proto/page/%.c,$(BUILD)/proto/page/x86_64_v3/%.o, \
    $(wildcard proto/page/portable*.c))
$(BUILD)/proto/page/dispatch.o: CPPFLAGS_ALL += -DPAGE_X86_64_V3
endif
# In which clang's sanitizers take it a quarter of an hour; tests/fuzz/guarded.h is there all the same.
ifneq ($(findstring fuzzer,$(SANITIZE)),)
$(BUILD)/proto/page/avx512_overlap.o: CFLAGS += -fno-sanitize=all
endif
# Kernels written for one instruction set, each with its own flags.
ifdef PAGE_V3_OBJECTS
ifneq ($(wildcard proto/page/avx2*.c),)
$(BUILD)/proto/page/dispatch.o: CPPFLAGS_ALL += -DPAGE_AVX2
$(BUILD)/proto/page/avx2%: FLOAT_FLAGS += -march=x86-64-v3 -mtune=generic
endif
ifneq ($(wildcard proto/page/avx512*.c),)
$(BUILD)/proto/page/dispatch.o: CPPFLAGS_ALL += -DPAGE_AVX512
$(BUILD)/proto/page/avx512%: FLOAT_FLAGS += -march=x86-64-v4 -mavx512vbmi -mavx512vbmi2 \
    -mavx512bitalg -mavx512vnni -mgfni -mtune=generic
endif
PAGE_OBJECTS := $(call objects,$(wildcard proto/page/*.c)) $(PAGE_V3_OBJECTS)
$(BUILD)/daemon/recall/kernels.o $(BUILD)/daemon/recall/key_kernels.o: CPPFLAGS_ALL += -DRECALL_AVX2 -DRECALL_AVX512
$(BUILD)/daemon/recall/avx2%: FLOAT_FLAGS += -march=x86-64-v3 -mtune=generic
$(BUILD)/daemon/recall/avx512%: FLOAT_FLAGS += -march=x86-64-v4 -mtune=generic
$(BUILD)/daemon/recall/avx512_keys%: FLOAT_FLAGS += -mavx512vnni
# The stack that gcc's address sanitizer makes up is not aligned for their registers (gcc bug 110027).
ifneq ($(findstring address,$(SANITIZE)),)
ifeq ($(findstring clang,$(shell $(CC) --version)),)
$(BUILD)/daemon/recall/avx512%: FLOAT_FLAGS += --param=asan-use-after-return=0
endif
endif
else
PAGE_OBJECTS := $(call objects,$(filter-out proto/page/avx%,$(wildcard proto/page/*.c)))
OTHER_PROCESSORS := daemon/recall/avx%
endif
CLIENT_OBJECTS := $(call objects,$(wildcard client/c/*.c))
CLI_OBJECTS := $(call objects,$(wildcard client/cli/*.c))
DAEMON_MAIN := $(call objects,$(wildcard daemon/main.c))
DAEMON_OBJECTS := $(call objects,$(filter-out $(OTHER_PROCESSORS),\
    $(wildcard daemon/*/*.c daemon/*/*/*.c)))
EXAMPLES := $(patsubst client/c/examples/%.c,$(BUILD)/examples/%,$(wildcard client/c/examples/*.c))
# tests/unit/test_*.c are programs of their own; what else lies there is linked into each.
UNIT_SOURCES := $(wildcard tests/unit/*.c)
UNIT_SUPPORT := $(call objects,$(filter-out tests/unit/test_%,$(UNIT_SOURCES)) $(wildcard tests/fuzz/page_*.c tests/golden/golden_*.c))
UNIT_TESTS := $(patsubst %.c,$(BUILD)/%,$(filter tests/unit/test_%,$(UNIT_SOURCES)))
# tests/fuzz: fuzz_* are targets, with libFuzzer's main or replay.c's, the rest is linked into each.
FUZZ_TARGETS := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_SUPPORT := $(call objects,$(filter-out $(FUZZ_TARGETS) tests/fuzz/replay.c tests/fuzz/write_seeds.c, \
    $(wildcard tests/fuzz/*.c)))
FUZZERS := $(patsubst %.c,$(BUILD)/%,$(FUZZ_TARGETS)) $(BUILD)/tests/fuzz/write_seeds
REPLAYS := $(patsubst tests/fuzz/fuzz_%.c,$(BUILD)/tests/fuzz/replay_%,$(filter-out tests/fuzz/fuzz_page_%,$(FUZZ_TARGETS)))
# tests/faults: model_check and its like are programs, the rest is linked into each.
FAULT_SOURCES := $(wildcard tests/faults/*.c)
FAULT_SUPPORT := $(call objects,$(filter-out tests/faults/%_check.c tests/faults/fail_%,$(FAULT_SOURCES)))
FAULT_PROGRAMS := $(patsubst %.c,$(BUILD)/%,$(filter tests/faults/%_check.c,$(FAULT_SOURCES))) \
    $(patsubst %.c,$(BUILD)/%.so,$(filter tests/faults/fail_%.c,$(FAULT_SOURCES)))
TEST_PLUGINS := $(patsubst %.c,$(BUILD)/%.so,$(wildcard tests/plugins/*.c))
BENCH_SOURCES := $(wildcard tests/bench/*.c)
BENCH_SUPPORT := $(call objects,$(filter-out tests/bench/bench_%,$(BENCH_SOURCES)))
BENCHES := $(patsubst %.c,$(BUILD)/%,$(filter tests/bench/bench_%,$(BENCH_SOURCES)))
# The page codec's portable C and a program of tests/tiny, for processors without a system.
TINY := $(BUILD)/tiny
TINY_CC := arm-none-eabi-gcc
TINY_CFLAGS = -std=gnu11 -O2 -g -ffreestanding -ffp-contract=off -fno-math-errno \
    -ffunction-sections -fdata-sections -fstack-usage -fcallgraph-info=su \
    -Wall -Wextra -Wconversion -Werror -I. -isystem tests/tiny/freestanding
TINY_SOURCES := $(filter-out proto/page/avx% proto/page/dispatch.c,$(wildcard proto/page/*.c)) \
    $(addprefix tests/tiny/,startup.c semihosting.c stack.c target.c freestanding/memory.c)
TINY_IMAGES := $(TINY)/cortex-m3/check_decoder.elf $(TINY)/cortex-m7/check_codec.elf
$(foreach image,$(TINY_IMAGES),$(eval $(image): \
    $(patsubst %.c,$(dir $(image))%.o,$(TINY_SOURCES) tests/tiny/$(notdir $(image:.elf=.c)))))

# What `make install` puts where: tools/install.sh says what the words mean.
define INSTALLED
file 755 $(BUILD)/kvquantd $(PREFIX)/bin
file 755 $(BUILD)/kvq $(PREFIX)/bin
file 644 client/c/kvq.h $(INCLUDEDIR)
file 644 daemon/recall/kvq_retriever.h $(INCLUDEDIR)
file 644 $(BUILD)/libkvq.a $(LIBDIR)
as   755 $(BUILD)/libkvq.so $(LIBDIR)/libkvq.so.$(VERSION)
link libkvq.so.$(VERSION) $(LIBDIR)/libkvq.so.$(SOVERSION)
link libkvq.so.$(SOVERSION) $(LIBDIR)/libkvq.so
file 755 $(BUILD)/recall-hnswlib.so $(PLUGINDIR)
text client/c/libkvq.pc.in $(LIBDIR)/pkgconfig/libkvq.pc
file 644 $(BUILD)/man/*.1 $(MANDIR)/man1
file 644 $(BUILD)/man/*.5 $(MANDIR)/man5
file 644 $(BUILD)/man/*.8 $(MANDIR)/man8
file 644 $(BUILD)/completion/kvq $(PREFIX)/share/bash-completion/completions
text deploy/kvquantd.service $(UNITDIR)/kvquantd.service
file 644 deploy/kvquantd.socket $(UNITDIR)
text deploy/user/kvquantd.service $(PREFIX)/lib/systemd/user/kvquantd.service
file 644 deploy/user/kvquantd.socket $(PREFIX)/lib/systemd/user
file 644 deploy/kvquantd-tcp.conf $(PREFIX)/share/kvquant
file 644 deploy/kvquantd-tls.socket $(PREFIX)/share/kvquant
file 644 deploy/HARDENING.md $(PREFIX)/share/kvquant
as   644 deploy/sysusers.conf $(PREFIX)/lib/sysusers.d/kvquantd.conf
as   644 deploy/tmpfiles.conf $(PREFIX)/lib/tmpfiles.d/kvquantd.conf
file 644 deploy/grafana.json $(PREFIX)/share/kvquant
file 644 deploy/alerts.yml $(PREFIX)/share/kvquant
file 644 deploy/RUNBOOK.md $(PREFIX)/share/kvquant
file 644 deploy/UPGRADE.md $(PREFIX)/share/kvquant
file 644 config/profiles/*.json $(PREFIX)/share/kvquant/profiles
keep config/kvquantd.conf $(SYSCONFDIR)/kvquant/kvquantd.conf
endef
export INSTALLED
INSTALL_PATHS = DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' LIBDIR='$(LIBDIR)' \
    INCLUDEDIR='$(INCLUDEDIR)' SYSCONFDIR='$(SYSCONFDIR)' VERSION='$(VERSION)'

LIBRARY_OBJECTS := $(if $(CLIENT_OBJECTS),$(CLIENT_OBJECTS) $(WIRE_OBJECTS) $(PAGE_OBJECTS))
LIBRARIES := $(if $(CLIENT_OBJECTS),$(BUILD)/libkvq.a $(BUILD)/libkvq.so)
PROGRAMS := $(if $(DAEMON_MAIN),$(BUILD)/kvquantd) $(if $(CLI_OBJECTS),$(BUILD)/kvq)
# Programs write their own pages, so there are none where what is built does not run.
ifneq ($(filter $(shell uname -m)-%,$(shell $(CC) -dumpmachine 2>/dev/null)),)
PAGES := $(if $(CLI_OBJECTS),$(BUILD)/man/kvq.1 $(BUILD)/completion/kvq) \
    $(if $(DAEMON_MAIN),$(BUILD)/man/kvquantd.8 $(BUILD)/man/kvquantd.conf.5)
# The one part in C++, where the headers of libhnswlib-dev are.
HNSWLIB_PLUGIN := $(if $(wildcard /usr/include/hnswlib/hnswlib.h),$(if $(shell command -v $(CXX)),\
    $(BUILD)/recall-hnswlib.so))
endif

## all: build kvquantd, kvq and libkvq under build/
all: $(PROGRAMS) $(LIBRARIES) $(PAGES) $(HNSWLIB_PLUGIN)
	@:

## deps: install what building, testing and running need and this machine lacks
deps:
	$(Q)tools/bootstrap.sh build test model

## test: install what is missing, build, run every test
test:
	$(Q)tools/bootstrap.sh build test model
	$(Q)tools/bootstrap.sh hnswlib || echo 'the retriever over hnswlib is not tested'
	$(Q)+$(SUBMAKE) SANITIZE= BUILD=$(PLAIN) python
	$(Q)+$(SUBMAKE) all unit-tests examples $(if $(findstring address,$(SANITIZE)),sanitized-python)
	$(Q)$(VENV)/bin/python tools/run-tests.py --build $(BUILD) --sanitize '$(SANITIZE)' $(TESTS)

## test-hf: kvquantd.hf with torch and transformers 5, then 4, in build/venv-hf (TESTS='tests/hf/...')
test-hf: test-hf-5
	$(Q)+$(SUBMAKE) test-hf-4
test-hf-4: OLDER = PYTHONPATH=$(CURDIR)/$(VENV_HF)/transformers-4
test-hf-5 test-hf-4:
	$(Q)tools/bootstrap.sh build hf browser
	$(Q)+$(SUBMAKE) SANITIZE= BUILD=$(PLAIN) VENV=$(VENV_HF) all python
	$(Q)$(OLDER) OMP_NUM_THREADS=1 $(VENV_HF)/bin/python tools/run-tests.py --build $(PLAIN) \
	    $(or $(TESTS),tests/hf)

## test-llama: kvquantd.llama with llama.cpp, built first (minutes, once), in build/venv-llama
test-llama:
	$(Q)tools/bootstrap.sh build llama
	$(Q)+$(SUBMAKE) SANITIZE= BUILD=$(PLAIN) VENV=$(VENV_LLAMA) all python
	$(Q)$(VENV_LLAMA)/bin/python tools/run-tests.py --build $(PLAIN) $(or $(TESTS),tests/llama)

## test-hosts: the adapters to LMCache, SGLang and vLLM against theirs, in build/venv-hosts
test-hosts:
	$(Q)tools/bootstrap.sh build hosts
	$(Q)+$(SUBMAKE) SANITIZE= BUILD=$(PLAIN) VENV=$(VENV_HOSTS) all python
	$(Q)OMP_NUM_THREADS=1 $(VENV_HOSTS)/bin/python tools/run-tests.py --build $(PLAIN) \
	    $(or $(TESTS),tests/hosts)

## e2e: a real model generates with and without kvquantd.hf: build/report/e2e/ (E2E='--tokens 32')
e2e:
	$(Q)tools/bootstrap.sh build hf
	$(Q)+$(SUBMAKE) SANITIZE= BUILD=$(PLAIN) VENV=$(VENV_HF) all python
	$(Q)KVQUANTD=$(PLAIN)/kvquantd $(VENV_HF)/bin/python client/python/examples/e2e_benchmark.py \
	    --output-dir $(PLAIN)/report/e2e $(E2E)

## overload: three times the memory limit by mixed clients, for two minutes: what holds, as a table
overload:
	$(Q)tools/bootstrap.sh build test
	$(Q)+$(SUBMAKE) all
	$(Q)$(VENV)/bin/python tests/faults/overload.py

## soak: all operations on twice the memory, by several tenants: what grows or is left (TIME=600)
soak:
	$(Q)tools/bootstrap.sh build test
	$(Q)+$(SUBMAKE) all
	$(Q)KVQUANTD=$(abspath $(BUILD))/kvquantd $(VENV)/bin/python tests/faults/soak.py --seconds $(or $(TIME),600)

## coverage: what the tests run of proto/ and daemon/server, in lines: build/coverage (TESTS=)
COVERAGE := build/coverage
coverage:
	$(Q)tools/bootstrap.sh build test
	$(Q)+$(SUBMAKE) SANITIZE= BUILD=$(PLAIN) python
	$(Q)+$(SUBMAKE) CC=gcc SANITIZE= BUILD=$(COVERAGE) OPTIMISE='-O1 -g' LDFLAGS=--coverage \
	    CFLAGS='--coverage -fprofile-update=atomic' all unit-tests examples
	$(Q)find $(COVERAGE) -name '*.gcda' -delete
	$(Q)$(VENV)/bin/python tools/run-tests.py --build $(COVERAGE) $(TESTS) || true
	$(Q)python3 tools/coverage.py $(COVERAGE) proto/wire proto/page daemon/server

## analyse: gcc -fanalyzer and cppcheck over all C; what they say and is accepted: tools/analysis.txt
analyse:
	$(Q)tools/bootstrap.sh build analyse
	$(Q)tools/analyse.sh

## load: ten thousand connections, slow and broken clients, floods: what it costs, in a minute or two
load:
	$(Q)tools/bootstrap.sh build test
	$(Q)+$(SUBMAKE) all
	$(Q)KVQUANTD=$(abspath $(BUILD))/kvquantd $(VENV)/bin/python -m pytest -q -s \
	    -p no:cacheprovider tests/load/test_load.py

## timing: whether the time of an answer tells what another tenant has, in a few minutes
timing:
	$(Q)tools/bootstrap.sh build test
	$(Q)+$(SUBMAKE) all
	$(Q)KVQUANTD=$(abspath $(BUILD))/kvquantd $(VENV)/bin/python -m pytest -q -s \
	    -p no:cacheprovider tests/load/test_timing.py

## torture: the tests of tests/faults, and of damaged pools, at full length, in hours
torture:
	$(Q)tools/bootstrap.sh build test
	$(Q)+$(SUBMAKE) SANITIZE= BUILD=$(PLAIN) python
	$(Q)+$(SUBMAKE) all unit-tests examples
	$(Q)KVQ_TORTURE=1 $(VENV)/bin/python tools/run-tests.py --build $(BUILD) \
	    --sanitize '$(SANITIZE)' --seconds 40000 $(or $(TESTS),tests/unit/test_store_takeover.c tests/faults)

## lint: check formatting, clang-tidy, the rooms' "may use" table, a build without warnings
lint:
	$(Q)tools/bootstrap.sh build lint
	$(Q)tools/lint.sh

## run: start a daemon of your own and let a real model leave and resume through it
run:
	$(Q)tools/bootstrap.sh build model
	$(Q)+$(SUBMAKE) SANITIZE= BUILD=$(PLAIN) python
	$(Q)+$(SUBMAKE) all
	$(Q)tools/run.sh $(BUILD) $(RUN)

## bench: measure, in minutes; the report is printed and in build/report/ (QUICK=1: a smoke test)
bench:
	$(Q)tools/bootstrap.sh build bench
	$(Q)+$(SUBMAKE) all benches
	$(Q)$(REPORT)

## bench-peers: the same work against Redis and memcached (QUICK=1: a smoke test)
bench-peers:
	$(Q)tools/bootstrap.sh build bench peers
	$(Q)+$(SUBMAKE) all benches
	$(Q)$(REPORT) --peers
REPORT = python3 tests/bench/report.py --build $(BUILD) $(if $(QUICK),--quick) \
    --compiler "$$($(CC) --version | head -n 1), $(OPTIMISE)"

## bench-codec: the page codec alone, each table of kernels against memcpy (QUICK=1: a smoke test)
bench-codec:
	$(Q)tools/bootstrap.sh build bench
	$(Q)+$(SUBMAKE) all benches
	$(Q)[ -n "$(QUICK)" ] || [ -f $(BUILD)/report/kv/smollm2.f16 ] || { tools/bootstrap.sh model && \
	    $(VENV)/bin/python tests/bench/dump_kv.py $(BUILD)/report/kv --work $(RUN); } || true
	$(Q)python3 tests/bench/codec_report.py --build $(BUILD) $(if $(QUICK),--quick) \
	    --compiler "$$($(CC) --version | head -n 1), $(OPTIMISE)"

## bench-recall: recall's search beside a plain read of memory, and plugins' (RECALL=, RECALL_KEYS=)
bench-recall:
	$(Q)tools/bootstrap.sh build bench hnswlib
	$(Q)+$(SUBMAKE) all benches
	$(Q)$(BUILD)/tests/bench/bench_recall $(RECALL)
	$(Q)$(BUILD)/tests/bench/bench_recall_keys $(RECALL_KEYS)
	$(Q)$(BUILD)/tests/bench/bench_recall_keys --query-heads 32 $(RECALL_KEYS)
	$(Q)$(BUILD)/tests/bench/bench_recall_plugin --plugin $(abspath $(BUILD))/recall-hnswlib.so

## bench-trace: what a pool saves of real chats' prefill, and loses (TRACE_REQUESTS=all; QUICK=1)
bench-trace:
	$(Q)tools/bootstrap.sh build model
	$(Q)+$(SUBMAKE) SANITIZE= BUILD=$(PLAIN) python
	$(Q)+$(SUBMAKE) all
	$(Q)$(VENV)/bin/python tests/bench/trace_report.py --build $(BUILD) $(if $(QUICK),--quick) \
	    $(TRACE_REQUESTS:%=--requests %) --compiler "$$($(CC) --version | head -n 1), $(OPTIMISE)"

## quality: what each level costs and does to a real model, in minutes (TEXTS='FILE...')
quality: QUALITY = --context 1024 --score 256 --no-known --active --output $(BUILD)/report/levels
quality: bench-quality
## bench-quality: levels and known methods at 1 to 8 thousand tokens (QUICK=1; METHOD=, MODEL=, CONTEXT=)
bench-quality:
	$(Q)tools/bootstrap.sh build model
	$(Q)+$(SUBMAKE) SANITIZE= BUILD=$(PLAIN) python
	$(Q)+$(SUBMAKE) all
	$(Q)$(VENV)/bin/python tests/quality/bench.py --daemon $(BUILD)/kvquantd \
	    $(if $(QUICK),--quick) $(QUALITY) $(METHOD:%=--method %) $(MODEL:%=--model %) \
	    $(if $(CONTEXT),--context $(CONTEXT)) $(if $(TEXTS),--texts $(TEXTS))

## recall-bench: what a model loses that sees only what is recalled (QUICK=1; CONTEXT=, BUDGET=)
recall-bench:
	$(Q)tools/bootstrap.sh build model $(if $(QUICK),,embeddings)
	$(Q)+$(SUBMAKE) SANITIZE= BUILD=$(PLAIN) python
	$(Q)+$(SUBMAKE) all
	$(Q)$(VENV)/bin/python tests/quality/recall.py --daemon $(BUILD)/kvquantd \
	    $(if $(QUICK),--quick) $(if $(CONTEXT),--context $(CONTEXT)) \
	    $(if $(BUDGET),--budget $(BUDGET))

## fuzz: libFuzzer with sanitizers on all that reads what others wrote, TIME=60 seconds a target
FUZZ := build/fuzz
fuzz:
	$(Q)tools/bootstrap.sh build fuzz
	$(Q)+$(SUBMAKE) CC=clang SANITIZE=fuzzer-no-link,address,undefined BUILD=$(FUZZ) fuzzers
	$(Q)tools/fuzz.sh $(FUZZ) $(or $(TIME),$(SECONDS),60)

## golden: freeze the page format as it is now, in tests/golden: what tests hold it to
golden:
	$(Q)tools/bootstrap.sh build
	$(Q)+$(SUBMAKE) $(BUILD)/tests/golden/write_golden
	$(Q)rm -f tests/golden/*.page tests/golden/*.values
	$(Q)$(BUILD)/tests/golden/write_golden tests/golden

## aarch64: cross build everything under build/aarch64
AARCH64 := build/aarch64
SYSROOT := $(CURDIR)/$(AARCH64)/sysroot
aarch64:
	$(Q)tools/bootstrap.sh build aarch64
	$(Q)+PKG_CONFIG_SYSROOT_DIR='$(SYSROOT)' \
	    PKG_CONFIG_LIBDIR='$(SYSROOT)/usr/lib/aarch64-linux-gnu/pkgconfig' \
	    $(SUBMAKE) SANITIZE= BUILD=$(AARCH64) AR=aarch64-linux-gnu-ar \
	    CC='aarch64-linux-gnu-gcc --sysroot=$(SYSROOT)' all unit-tests examples

## test-aarch64: the same, and run the unit tests under qemu (TESTS='tests/unit/test_x.c...')
test-aarch64: aarch64
	$(Q)python3 tools/run-tests.py --build $(AARCH64) --under 'qemu-aarch64 -L $(SYSROOT)' \
	    $(or $(TESTS),$(filter tests/unit/test_%,$(UNIT_SOURCES)))

## test-tiny: the page codec without a C library, on emulated Cortex-M3 and M7
test-tiny:
	$(Q)tools/bootstrap.sh build test tiny
	$(Q)+$(SUBMAKE) $(PROGRAMS) tiny
	$(Q)$(VENV)/bin/python tools/run-tests.py --build $(BUILD) $(or $(TESTS),tests/tiny)

## test-metrics: metrics and alerts by Prometheus's promtool, the status page in a browser
test-metrics:
	$(Q)tools/bootstrap.sh build test promtool browser
	$(Q)+$(SUBMAKE) all
	$(Q)$(VENV)/bin/python tools/run-tests.py --build $(BUILD) $(or $(TESTS),tests/monitor)

## test-systemd: the service under systemd, in a Debian booted in qemu; as root (TESTS=)
test-systemd: deb
	$(Q)tools/bootstrap.sh test systemd
	$(Q)tests/systemd/root.sh $(BUILD)/systemd
	$(Q)$(VENV)/bin/python tools/run-tests.py --build $(BUILD) $(or $(TESTS),tests/systemd/test_guest.py)

## stop: end what `make run` left running
stop:
	$(Q)tools/stop.sh $(RUN)

## install: install under DESTDIR and PREFIX (/usr/local), configuration under SYSCONFDIR (/etc)
install: all
	$(Q)echo "$$INSTALLED" | $(INSTALL_PATHS) tools/install.sh install

## uninstall: remove what install puts there; the configuration stays
uninstall:
	$(Q)echo "$$INSTALLED" | $(INSTALL_PATHS) tools/install.sh uninstall

## deb: build the Debian packages into build/deb
deb:
	$(Q)tools/bootstrap.sh build hnswlib deb
	$(Q)tools/deb.sh

## test-packages: as root, the packages in a Debian of their own: installed, upgraded, purged
test-packages:
	$(Q)[ "$$(id -u)" = 0 ] || { echo '$@ installs packages into a folder: it needs root' >&2; exit 1; }
	$(Q)tools/bootstrap.sh build test packages
	$(Q)+$(SUBMAKE) SANITIZE= BUILD=$(PLAIN) deb
	$(Q)tests/packages/root.sh $(PLAIN)/packages/debian
	$(Q)$(VENV)/bin/python tools/run-tests.py --build $(PLAIN) $(or $(TESTS),tests/packages)

## clean: remove build/, after ending what `make run` left running
clean: stop
	rm -rf build

## help: list the targets
help:
	@sed -n 's/^## \([a-z0-9-]*\): /\1\t/p' Makefile | expand -t 14
	@echo 'Variables: CC=clang, V=1, WERROR=1, SANITIZE=address,undefined (or thread), BUILD=folder'

tiny: $(TINY)/vectors $(TINY_IMAGES)
	@:
unit-tests: $(UNIT_TESTS) $(FAULT_PROGRAMS) $(TEST_PLUGINS) $(REPLAYS)
	@:
examples: $(EXAMPLES)
	@:
benches: $(BENCHES)
	@:
fuzzers: $(FUZZERS)
	@:

# The Python package, built against this checkout's libkvq, in the checkout's own environment.
PYTHON_SOURCES := $(wildcard client/python/*.toml client/python/*.py client/python/kvquantd/*.py* client/python/kvquantd/*/*.py)
python: $(if $(PYTHON_SOURCES),$(VENV)/.kvquantd)
	@:
$(VENV)/.kvquantd: $(PYTHON_SOURCES) $(PLAIN)/libkvq.a client/c/kvq.h
	$(call say,PYTHON,client/python)
	$(Q)rm -rf client/python/build # an extension built before libkvq changed would be taken as new
	$(Q)$(VENV)/bin/pip install -qq --no-deps --no-build-isolation --force-reinstall \
	    ./client/python
	$(Q)touch $@

# The same with the address sanitizer in it, for tests alone: run-tests.py says how it is loaded. The
# thread sanitizer would have nothing to see there, since libkvq starts no thread.
sanitized-python: $(BUILD)/python/preload
	@:
$(BUILD)/python/preload: $(PYTHON_SOURCES) $(BUILD)/libkvq.a client/c/kvq.h
	$(call say,PYTHON,'client/python with -fsanitize=$(SANITIZE)')
	$(Q)rm -rf $(@D)
	$(Q)KVQUANT_BUILD=$(abspath $(BUILD)) CC='$(CC)' CFLAGS='$(HARDENING) -g' LDFLAGS='$(HARDENING)' \
	    $(VENV)/bin/pip install -qq --no-deps --no-build-isolation --target $(@D) ./client/python
	$(Q)echo '$(SANITIZE_PRELOAD)' >$@

$(BUILD)/kvquantd: $(DAEMON_MAIN) $(DAEMON_OBJECTS) $(WIRE_OBJECTS) $(PAGE_OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(PROGRAM_LDFLAGS) -o $@ $^ $(DAEMON_LIBS) -lm

$(BUILD)/kvq: $(CLI_OBJECTS) $(BUILD)/libkvq.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(PROGRAM_LDFLAGS) -o $@ $^ $(CLI_LIBS) -lm

# Searches are its hot path, whatever the rest is built for; it runs beside sanitizers, not under.
$(BUILD)/recall-hnswlib.so: daemon/recall/hnswlib/plugin.cc $(PROBED)
	$(call say,LINK,$@)
	$(Q)$(CXX) -std=c++17 -O3 -g -I. -Wall -Wextra -fPIC -fvisibility=hidden -shared \
	    $(LINK_HARDENING) $(CPPFLAGS) $(CXXFLAGS) $(LDFLAGS) -MMD -MP -MF $@.d -o $@ $<

$(BUILD)/man/kvq.1: $(BUILD)/kvq
	@mkdir -p $(@D)
	$(Q)$(BUILD)/kvq --man >$@

$(BUILD)/man/kvquantd.8: $(BUILD)/kvquantd
	@mkdir -p $(@D)
	$(Q)$(BUILD)/kvquantd --man >$@

$(BUILD)/man/kvquantd.conf.5: $(BUILD)/kvquantd
	@mkdir -p $(@D)
	$(Q)$(BUILD)/kvquantd --man-config >$@

$(BUILD)/completion/kvq: $(BUILD)/kvq
	@mkdir -p $(@D)
	$(Q)$(BUILD)/kvq --completion >$@

$(BUILD)/libkvq.a: $(LIBRARY_OBJECTS)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/libkvq.so: client/c/libkvq.map $(LIBRARY_OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -shared -Wl,-soname,libkvq.so.$(SOVERSION) \
	    -Wl,--version-script=$< -o $@ $(LIBRARY_OBJECTS) $(CLIENT_LIBS) -lm
	$(Q)ln -sf libkvq.so $@.$(SOVERSION)

# The page codec alone, for the scripts of tests/quality that load it.
$(BUILD)/page.so: $(PAGE_OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -shared -o $@ $^ -lm

$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(UNIT_SUPPORT) $(DAEMON_OBJECTS) \
    $(CLIENT_OBJECTS) $(WIRE_OBJECTS) $(PAGE_OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(PROGRAM_LDFLAGS) -o $@ $^ $(DAEMON_LIBS) -lcheck_pic -lsubunit -lrt -lm

$(BUILD)/tests/unit/test_recall_plugin: | $(TEST_PLUGINS)

# Those that look into kvq: without the daemon, which has names in common with it.
$(BUILD)/tests/unit/test_cli_%: $(BUILD)/tests/unit/test_cli_%.o \
    $(filter-out $(BUILD)/client/cli/main.o,$(CLI_OBJECTS)) $(BUILD)/libkvq.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(PROGRAM_LDFLAGS) -o $@ $^ $(CLI_LIBS) -lcheck_pic -lsubunit -lrt -lm

$(BUILD)/tests/faults/%_check: $(BUILD)/tests/faults/%_check.o $(FAULT_SUPPORT) \
    $(DAEMON_OBJECTS) $(WIRE_OBJECTS) $(PAGE_OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(PROGRAM_LDFLAGS) -o $@ $^ $(DAEMON_LIBS) -lm

# Without the sanitizers that the daemon may have: it comes under them.
SHARED_OBJECT = $(CC) -std=gnu11 -I. -D_GNU_SOURCE $(WARNINGS) -O2 -fPIC -shared -MMD -MP -MF $@.d
$(BUILD)/tests/faults/fail_%.so: tests/faults/fail_%.c $(PROBED)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(SHARED_OBJECT) -o $@ $<

$(BUILD)/tests/plugins/%.so: tests/plugins/%.c $(PROBED)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(SHARED_OBJECT) -o $@ $< -lm

$(BUILD)/tests/bench/%: $(BUILD)/tests/bench/%.o $(BENCH_SUPPORT) $(BUILD)/libkvq.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(PROGRAM_LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(CLIENT_LIBS) -lm

# The benches that look into the daemon.
DAEMON_BENCHES := $(addprefix $(BUILD)/tests/bench/,bench_disk bench_recall bench_recall_plugin \
    bench_recall_keys)
$(DAEMON_BENCHES): CLIENT_LIBS = $(DAEMON_LIBS)
$(DAEMON_BENCHES): $(DAEMON_OBJECTS)

$(BUILD)/tests/fuzz/fuzz_%: $(BUILD)/tests/fuzz/fuzz_%.o $(FUZZ_SUPPORT) $(DAEMON_OBJECTS) \
    $(WIRE_OBJECTS) $(PAGE_OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(PROGRAM_LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(DAEMON_LIBS) -lm

$(BUILD)/tests/fuzz/replay_%: $(BUILD)/tests/fuzz/fuzz_%.o $(BUILD)/tests/fuzz/replay.o \
    $(FUZZ_SUPPORT) $(DAEMON_OBJECTS) $(WIRE_OBJECTS) $(PAGE_OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(PROGRAM_LDFLAGS) -o $@ $^ $(DAEMON_LIBS) -lm

$(BUILD)/tests/fuzz/fuzz_retriever $(BUILD)/tests/fuzz/replay_retriever: | $(BUILD)/tests/plugins/answering.so

$(BUILD)/tests/fuzz/write_seeds: $(BUILD)/tests/fuzz/write_seeds.o $(PAGE_OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(PROGRAM_LDFLAGS) -o $@ $^ -lm

$(BUILD)/tests/golden/write_golden: $(BUILD)/tests/golden/write_golden.o \
    $(BUILD)/tests/golden/golden_cases.o $(PAGE_OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(PROGRAM_LDFLAGS) -o $@ $^ -lxxhash -lm

$(TINY)/vectors: $(BUILD)/tests/tiny/write_vectors
	@mkdir -p $(@D)
	$(Q)$< $@

$(BUILD)/tests/tiny/write_vectors: $(BUILD)/tests/tiny/write_vectors.o \
    $(BUILD)/tests/golden/golden_cases.o $(BUILD)/client/cli/model_values.o $(PAGE_OBJECTS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(PROGRAM_LDFLAGS) -o $@ $^ -lxxhash -lm

$(TINY)/cortex-m3/%: TINY_CPU := -mcpu=cortex-m3
$(TINY)/cortex-m7/%: TINY_CPU := -mcpu=cortex-m7 -mfpu=fpv5-d16 -mfloat-abi=hard

$(TINY)/%.elf: tests/tiny/mps2.ld
	$(call say,LINK,$@)
	$(Q)$(TINY_CC) $(TINY_CPU) -mthumb -nostdlib -Wl,--gc-sections,-T,$< -o $@ \
	    $(filter %.o,$^) -lgcc

define TINY_OBJECT
$(TINY)/$(1)/%.o: %.c
	@mkdir -p $$(@D)
	$$(call say,CC,'$$< for $(1)')
	$$(Q)$$(TINY_CC) $$(TINY_CPU) -mthumb $$(TINY_CFLAGS) -MMD -MP -c -o $$@ $$<
endef
$(foreach cpu,cortex-m3 cortex-m7,$(eval $(call TINY_OBJECT,$(cpu))))

$(BUILD)/examples/%: $(BUILD)/client/c/examples/%.o $(BUILD)/libkvq.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(PROGRAM_LDFLAGS) -o $@ $^ $(CLIENT_LIBS) -lm

# A profile as a string of C, so that kvq has it wherever it runs.
$(BUILD)/gen/profiles/%.inc: config/profiles/%.json
	@mkdir -p $(@D)
	$(Q)sed 's/[\\"]/\\&/g; s/.*/"&\\n"/' $< >$@

# The status page likewise.
$(BUILD)/gen/%.inc: daemon/ops/%.html
	@mkdir -p $(@D)
	$(Q)sed 's/[\\"]/\\&/g; s/.*/"&\\n"/' $< >$@

$(BUILD)/daemon/ops/page.o: $(BUILD)/gen/page.inc

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
	$(Q)clang-tidy --quiet $< -- -isystem $(BUILD)/gen $(CPPFLAGS_ALL) $(WARNINGS) \
	    $(filter -m%,$(FLOAT_FLAGS)) -std=gnu11 2>$@.err || \
	    { cat $@.err; exit 1; }
	@touch $@

$(BUILD)/gen/%.pb-c.c $(BUILD)/gen/%.pb-c.h: %.proto
	@mkdir -p $(@D)
	$(call say,PROTOC,$<)
	$(Q)protoc-c --c_out=$(BUILD)/gen $<

$(PROBED): tools/probe.sh Makefile
	@mkdir -p $(@D)
	@CC='$(CC)' tools/probe.sh '$(SANITIZE)' >$@.new
	@echo 'BUILT_WITH := $(subst ','\'',$(subst $$,$$$$,$(PROBED_WITH)))' >>$@.new
	@mv $@.new $@

-include $(wildcard $(TINY)/*/*/*/*.d)
-include $(patsubst %.o,%.d,$(DAEMON_MAIN) $(DAEMON_OBJECTS) $(WIRE_OBJECTS) $(PAGE_OBJECTS) \
    $(CLIENT_OBJECTS) $(CLI_OBJECTS) $(UNIT_SUPPORT)) $(EXAMPLES:$(BUILD)/%=$(BUILD)/client/c/%.d) \
    $(BENCH_SUPPORT:.o=.d) $(UNIT_TESTS:=.d) $(TEST_PLUGINS:=.d) $(HNSWLIB_PLUGIN:=.d) $(FAULT_SOURCES:%.c=$(BUILD)/%.d) $(BENCHES:=.d) $(FUZZERS:=.d) $(FUZZ_SUPPORT:.o=.d) $(BUILD)/tests/fuzz/replay.d

FORCE:
.PHONY: all deps deb test-packages test torture overload soak load timing coverage analyse lint run bench bench-peers bench-codec bench-recall bench-trace bench-quality benches quality recall-bench fuzz fuzzers golden aarch64 test-aarch64 test-tiny test-metrics test-systemd tiny test-hf test-hf-5 test-hf-4 test-llama test-hosts e2e stop install \
    uninstall clean help unit-tests examples python sanitized-python tidy \
    FORCE
.SECONDARY:
.DELETE_ON_ERROR:
