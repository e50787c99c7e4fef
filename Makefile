# SPDX-License-Identifier: Apache-2.0
# One Makefile for the whole tree; `make help` lists what it does.

B := build
DEPS := $(B)/deps
V ?= 0
Q := $(if $(filter 1,$(V)),,@)

CC := gcc
PKGS := fuse3 composefs
SYS_PKGS := libcurl openssl lmdb libzstd libisal jansson
export PKG_CONFIG_PATH := $(CURDIR)/$(DEPS)/lib/pkgconfig

WARN := -Wall -Wextra -Wshadow -Wconversion -Wvla -Wstrict-prototypes \
	-Wmissing-prototypes -Wpointer-arith -Wundef -Werror
HARDEN := -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE \
	-fstack-clash-protection -fcf-protection
OPT ?= -O2 -g
DEP_CFLAGS = $(shell pkg-config --cflags $(PKGS) $(SYS_PKGS))
DEP_LIBS = $(shell pkg-config --static --libs fuse3) \
	$(DEPS)/lib/libcomposefs.a $(shell pkg-config --libs $(SYS_PKGS))
CPPFLAGS += -I. -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64
CFLAGS += -std=gnu11 $(OPT) $(WARN) $(HARDEN)
LDFLAGS += -pie -Wl,-z,relro,-z,now

LIB_SRC := $(wildcard store/base/*.c store/*.c fetch/*.c refactor/*.c fs/*.c)
CLI_SRC := $(wildcard tools/*.c)
UNIT_SRC := $(wildcard tests/unit/test-*.c)

LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o)
CLI_OBJ := $(CLI_SRC:%.c=$(B)/%.o)
UNIT_BIN := $(UNIT_SRC:%.c=$(B)/%)

all: $(B)/quicklayer ## build the programs into build/

$(B)/libquicklayer.a: $(LIB_OBJ)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/quicklayer: $(CLI_OBJ) $(B)/libquicklayer.a
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(DEP_LIBS)

$(B)/%.o: %.c | $(DEPS)/.stamp
	@echo "  CC    $<"
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(DEP_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/tests/unit/%: tests/unit/%.c $(B)/libquicklayer.a
	@echo "  TEST  $@"
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(DEP_CFLAGS) -MMD -MP $(LDFLAGS) -o $@ $< \
		$(B)/libquicklayer.a -lcmocka $(DEP_LIBS)

unit: $(UNIT_BIN)

$(DEPS)/.stamp:
	$(Q)tools/setup.sh

-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(UNIT_BIN:=.d)

.PHONY: all unit
