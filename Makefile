# SPDX-License-Identifier: Apache-2.0
# One Makefile for the whole tree; `make help` lists what it does.
#
# B      where it builds (build); a sanitizer's or fuzzer's build is a run of
#        this Makefile with another B and SAN
# DEPS   the libraries that tools/setup.sh builds, shared by all of those
# V=1    shows the commands      SETUP=:   installs nothing

B := build
DEPS := build/deps
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
SETUP ?= DEPS=$(DEPS) tools/setup.sh

ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif

VERSION := 0.1.0
PREFIX ?= /usr/local
DESTDIR ?=

CC := gcc
PKGS := fuse3 composefs libcurl openssl lmdb libzstd libisal jansson \
	zlib yaml-0.1 libmicrohttpd gnutls
export PKG_CONFIG_PATH := $(abspath $(DEPS))/lib/pkgconfig

WARN := -Wall -Wextra -Wshadow -Wconversion -Wvla -Wstrict-prototypes \
	-Wmissing-prototypes -Wpointer-arith -Wundef -Werror
HARDEN := -fstack-protector-strong -fPIE -fstack-clash-protection \
	-fcf-protection
SAN ?=
# glibc's checks hide the accesses that sanitizers look for.
FORTIFY := $(if $(SAN),,-D_FORTIFY_SOURCE=2)
OPT ?= -O2 -g
CPPFLAGS += -I. -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 \
	-DQL_VERSION='"$(VERSION)"' $(FORTIFY)
CFLAGS += -std=gnu11 $(OPT) $(WARN) $(HARDEN) $(SAN)
LDFLAGS += -pie -Wl,-z,relro,-z,now -Wl,--as-needed

AGENT_SRC := fs/quicklayerd.c
SCHEDULER_SRC := sched-exporter/quicklayer-scheduler.c
LIB_SRC := $(filter-out $(AGENT_SRC) $(SCHEDULER_SRC),$(wildcard \
	store/base/*.c store/cache/*.c store/*.c fetch/*.c refactor/*.c fs/*.c sched-exporter/*.c \
	tools/cachesim/*.c))
CLI_SRC := $(wildcard tools/*.c)
UNIT_SRC := $(wildcard tests/unit/test-*.c)
LAB_SRC := $(wildcard tests/lab/*.c)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz-*.c)
ALL_SRC := $(LIB_SRC) $(AGENT_SRC) $(SCHEDULER_SRC) $(CLI_SRC) $(wildcard tests/*/*.c)
HEADERS := $(wildcard store/base/*.h store/cache/*.h store/*.h fetch/*.h \
	refactor/*.h fs/*.h sched-exporter/*.h tools/*.h tools/cachesim/*.h tests/*/*.h)
SCRIPTS := .ci/run $(wildcard tools/*.sh tools/*/*.sh tools/*/*/*.sh \
	tests/lab/*.sh \
	tests/e2e/*.sh tests/e2e/*.t tests/e2e/run tests/fuzz/*.sh tools/completion/*)
MAN := $(wildcard tools/man/*.1 tools/man/*.5 tools/man/*.8)
E2E := $(wildcard tests/e2e/*.t)

LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o)
AGENT_OBJ := $(AGENT_SRC:%.c=$(B)/%.o)
SCHEDULER_OBJ := $(SCHEDULER_SRC:%.c=$(B)/%.o)
CLI_OBJ := $(CLI_SRC:%.c=$(B)/%.o)
UNIT_BIN := $(UNIT_SRC:%.c=$(B)/%)
LAB_BIN := $(LAB_SRC:%.c=$(B)/%)
FUZZ_BIN := $(FUZZ_SRC:%.c=$(B)/%)
LIB := $(B)/libquicklayer.a

##@ Building

all: $(B)/quicklayer $(B)/quicklayerd $(B)/quicklayer-scheduler ## build the programs into build/

# Asking pkg-config once, not for every file.  The headers of libraries are
# theirs to keep clean, hence -isystem.
NO_FLAGS := help clean distclean house
ifneq ($(filter-out $(NO_FLAGS),$(or $(MAKECMDGOALS),all)),)
include $(DEPS)/flags.mk
DEP_LIBS += -lm
endif

$(DEPS)/flags.mk: $(DEPS)/.stamp Makefile
	$(Q)pkg-config --print-errors --exists $(PKGS)
	$(Q){ echo "DEP_CFLAGS := $$(pkg-config --cflags $(PKGS) | \
		sed -e 's,-I */usr/include[^ ]*,,g' -e 's/-I */-isystem /g')"; \
	echo "DEP_LIBS := $$(pkg-config --libs $(PKGS))"; } >$@.$$$$ && \
	mv $@.$$$$ $@

$(DEPS)/.stamp: tools/setup.sh
	$(Q)$(SETUP) build

# Builds that need more than the compiler wait for it to be installed.
.PHONY: setup-build setup-test setup-lint setup-demo setup-bench setup-fuzz \
	setup-cover setup-kube
setup-build setup-test setup-lint setup-demo setup-bench setup-fuzz setup-cover:
	$(Q)$(SETUP) $(@:setup-%=%)

# Where it cannot be built, some stories fail, and others need not.
setup-kube:
	-$(Q)$(SETUP) kube

$(LIB): $(LIB_OBJ)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/quicklayer: $(CLI_OBJ) $(LIB)
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(DEP_LIBS)

$(B)/quicklayerd: $(AGENT_OBJ) $(LIB)
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(DEP_LIBS)

$(B)/quicklayer-scheduler: $(SCHEDULER_OBJ) $(LIB)
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(DEP_LIBS)

$(B)/%.o: %.c | $(DEPS)/.stamp
	@echo "  CC    $<"
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(DEP_CFLAGS) -MMD -MP -c -o $@ $<

define LINK_TEST
	@echo "  TEST  $@"
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(DEP_CFLAGS) -MMD -MP $(LDFLAGS) -o $@ \
		$(filter %.c %.o,$^) $(LIB) -lcmocka $(DEP_LIBS)
endef

$(UNIT_BIN) $(LAB_BIN): $(B)/%: %.c $(LIB) | setup-test
	$(LINK_TEST)

# What of tools/ is tested by itself.
$(B)/tests/unit/test-human: $(B)/tools/human.o

$(FUZZ_BIN): $(B)/%: %.c tests/fuzz/replay.c $(LIB) | setup-test
	$(LINK_TEST)

-include $(LIB_OBJ:.o=.d) $(AGENT_OBJ:.o=.d) $(SCHEDULER_OBJ:.o=.d) \
	$(CLI_OBJ:.o=.d) $(UNIT_BIN:=.d) $(LAB_BIN:=.d)

##@ Testing

test: all $(UNIT_BIN) $(LAB_BIN) $(FUZZ_BIN) | setup-test setup-kube ## everything below, ends with prove's summary
	$(Q)B=$(B) tests/e2e/run $(UNIT_BIN) $(FUZZ_BIN) $(E2E)

unit: $(UNIT_BIN) ## the unit tests alone
	$(Q)B=$(B) tests/e2e/run $(UNIT_BIN)

fuzz-replay: $(FUZZ_BIN) ## every fuzz target over its corpus
	$(Q)B=$(B) tests/e2e/run $(FUZZ_BIN)

e2e: all $(LAB_BIN) | setup-test ## the end-to-end tests alone; T=tests/e2e/NN-name.t for one
	$(Q)B=$(B) tests/e2e/run $(or $(T),$(E2E))

asan: | setup-test ## unit tests and corpus with address and UB sanitizers
	$(Q)$(MAKE) B=$(B)/asan OPT="-O1 -g -fno-omit-frame-pointer" \
		SAN="-fsanitize=address,undefined -fno-sanitize-recover=all" \
		DEPS=$(DEPS) unit fuzz-replay

tsan: | setup-test ## unit tests with the thread sanitizer
	$(Q)$(MAKE) B=$(B)/tsan OPT="-O1 -g" SAN=-fsanitize=thread \
		DEPS=$(DEPS) unit

FUZZ_TIME ?= 20
fuzz: | setup-fuzz ## run each fuzz target for FUZZ_TIME seconds (20)
	$(Q)$(MAKE) B=$(B)/fuzz CC="$$(command -v clang || command -v clang-14)" \
		OPT="-O1 -g" WARN= DEPS=$(DEPS) FUZZ_TIME=$(FUZZ_TIME) \
		SAN="-fsanitize=fuzzer-no-link,address,undefined" fuzz-run

fuzz-run: $(FUZZ_BIN:%=%.fuzzer)
	$(Q)for f in $^; do B=$(B) FUZZ_TIME=$(FUZZ_TIME) \
		tests/fuzz/run.sh $$f || exit 1; done

$(B)/%.fuzzer: %.c $(LIB)
	@echo "  FUZZ  $@"
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(DEP_CFLAGS) -fsanitize=fuzzer \
		$(LDFLAGS) -o $@ $< $(LIB) $(DEP_LIBS)

cover: | setup-cover ## the unit tests' line coverage, by folder and file
	$(Q)$(MAKE) B=$(B)/cover OPT="-O0 -g --coverage" HARDEN= FORTIFY= \
		DEPS=$(DEPS) unit
	$(Q)gcovr --root . --object-directory $(B)/cover --exclude tests/ \
		$(B)/cover

##@ Checking

TIDY := $(filter-out tests/%,$(ALL_SRC))
lint: format-check tidy cppcheck shellcheck manlint house ## formatting, clang-tidy, cppcheck, shellcheck, arrows, sizes

house: ## includes follow the arrows; sizes; banned functions; headings
	$(Q)tools/lint/house.py

format-check: | setup-lint
	$(Q)clang-format --dry-run -Werror $(ALL_SRC) $(HEADERS)

format: | setup-lint ## let clang-format write
	$(Q)clang-format -i $(ALL_SRC) $(HEADERS)

tidy: $(TIDY:%.c=$(B)/lint/%.tidy)
cppcheck: $(TIDY:%.c=$(B)/lint/%.cppcheck)
shellcheck: $(SCRIPTS:%=$(B)/lint/%.shellcheck)

$(B)/lint/%.tidy: %.c .clang-tidy $(HEADERS) | setup-lint
	@echo "  TIDY  $<"
	@mkdir -p $(@D)
	$(Q)clang-tidy --quiet $< -- $(CPPFLAGS) $(DEP_CFLAGS) -std=gnu11 \
		-Wall -Wextra 2>$@.log || { cat $@.log; exit 1; }
	@touch $@

$(B)/lint/%.cppcheck: %.c $(HEADERS) | setup-lint
	@echo "  CPPCH $<"
	@mkdir -p $(@D)
	$(Q)cppcheck --quiet --error-exitcode=1 --std=c11 --inline-suppr \
		--enable=warning,performance,portability \
		--suppress=missingIncludeSystem --suppress=memleak -I. -D_GNU_SOURCE \
		-DQL_VERSION='""' $<
	@touch $@

$(B)/lint/%.shellcheck: % | setup-lint
	@mkdir -p $(@D)
	$(Q)shellcheck -s bash $<
	@touch $@

manlint: | setup-lint
	@# Pages that this machine has not installed are no fault of ours.
	$(Q)! mandoc -Tlint -Wstyle $(MAN) 2>&1 | \
		grep -vE 'referenced manual not found|outdated mandoc.db'

##@ Measuring

bench: bench-pull bench-fs ## full pulls and the mount: ratios against peers of the same run

bench-pull: all | setup-bench ## full pull against podman and containerd
	$(Q)B=$(B) tests/lab/bench-pull.sh

bench-fs: all | setup-bench ## the mount against native overlayfs
	$(Q)B=$(B) tests/lab/bench-fs.sh

bench-lazy: all $(LAB_BIN) | setup-bench ## cold starts over slow links against stargz-snapshotter and full pulls
	$(Q)B=$(B) tests/lab/bench-lazy.sh

bench-agent-rss: all | setup-bench ## the agent's memory with ten large images
	$(Q)B=$(B) tests/lab/bench-agent-rss.sh

bench-cache: all | setup-bench ## cache policies over generated traces
	$(Q)B=$(B) tests/lab/bench-cache.sh

bench-node-cache: all | setup-bench ## the node under a budget against cachesim, PULLS=1000
	$(Q)B=$(B) tests/lab/bench-node-cache.sh

bench-cooperate: all $(LAB_BIN) | setup-bench ## sites of nodes that fetch together, against nodes that do not
	$(Q)B=$(B) tests/lab/bench-cooperate.sh

bench-refactor: all | setup-bench ## what sharing layers wins over 17 images, and what it takes
	$(Q)B=$(B) tests/lab/bench-refactor.sh

bench-fs: bench-fs-after-pull
bench-fs-after-pull: $(if $(filter bench,$(MAKECMDGOALS)),bench-pull)

##@ Showing and installing

demo: all | setup-demo ## pull, mount and run a real image; IMAGE=name takes any
	$(Q)B=$(B) tools/demo.sh $(IMAGE)

install: all ## into $(DESTDIR)$(PREFIX)
	$(Q)install -D -m 755 $(B)/quicklayer $(DESTDIR)$(PREFIX)/bin/quicklayer
	$(Q)install -D -m 755 $(B)/quicklayerd $(DESTDIR)$(PREFIX)/sbin/quicklayerd
	$(Q)install -D -m 755 $(B)/quicklayer-scheduler \
		$(DESTDIR)$(PREFIX)/sbin/quicklayer-scheduler
	$(Q)install -D -m 644 tools/quicklayerd.yaml \
		$(DESTDIR)$(PREFIX)/share/doc/quicklayer/quicklayerd.yaml
	$(Q)mkdir -p $(DESTDIR)$(PREFIX)/lib/systemd/system
	$(Q)sed 's,@SBINDIR@,$(PREFIX)/sbin,' tools/quicklayerd.service \
		>$(DESTDIR)$(PREFIX)/lib/systemd/system/quicklayerd.service
	$(Q)for m in $(MAN); do install -D -m 644 $$m \
		$(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/$${m##*/} || exit; \
	done
	$(Q)for c in $(wildcard tools/completion/quicklayer); do \
		install -D -m 644 $$c \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/$${c##*/} \
		|| exit; done

deb: all ## a Debian package in build/
	$(Q)B=$(B) VERSION=$(VERSION) MAKE="$(MAKE)" tools/deb.sh

clean: ## remove what was built, but not the libraries
	$(Q)find $(B) -mindepth 1 -maxdepth 1 ! -name deps -exec rm -rf {} +

distclean: ## remove build/
	$(Q)rm -rf $(B)

help: ## this list
	@awk -F ':.*## ' '/^##@/ { print "\n" substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' \
		$(firstword $(MAKEFILE_LIST))

.PHONY: all test unit fuzz-replay e2e asan tsan fuzz fuzz-run cover lint house \
	format-check format tidy cppcheck shellcheck manlint bench bench-pull \
	bench-fs bench-fs-after-pull bench-lazy bench-refactor bench-agent-rss bench-cache \
	bench-node-cache bench-cooperate demo install deb clean distclean help
.DELETE_ON_ERROR:
.SECONDARY:
