# make             build everything into build/
# make demo        the whole story in one command; SERVER='...' runs it with a server of yours
# make test        the tests; TESTS='tests/shim.bats ...' runs some of them,
#                  TESTS='--busy ...' while every processor is kept busy
# make bench       the measurements behind the figures; BENCH='--quick bind ...' does some of them
# make stress      many more random tests, and the tests of sanitized programs: a quarter of an hour;
#                  SEED=N repeats the random ones of a run
# make lint        shellcheck, clang-format, and both compilers with every warning an error
# make install     DESTDIR, PREFIX, libdir and the like as usual
# make uninstall
# make dist        build/libreuse-VERSION.tar.gz, from which all of this can be done
# make clean
# make help        this
#
# CC, CFLAGS, CPPFLAGS and LDFLAGS are the user's.  V=1 shows whole commands.

VERSION = 0.1.0

# Before a command in a recipe: shows its name and target in its place.
say = $(if $(filter 1,$(V)),,@$(if $(findstring s,$(firstword -$(MAKEFLAGS))),,echo '$(1) $@';))

CFLAGS ?= -O2 -g
INSTALL ?= install
PREFIX ?= /usr/local
bindir ?= $(PREFIX)/bin
mandir ?= $(PREFIX)/share/man
completionsdir ?= $(PREFIX)/share/bash-completion/completions
sysconfdir ?= /etc
libdir ?= $(PREFIX)/$(LIB)
lib32dir ?= $(PREFIX)/$(LIB32)

WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes
ALL_CFLAGS = -std=gnu11 -Ishim $(WARNINGS) $(KERNEL_HEADERS:%=-idirafter %) $(CPPFLAGS) $(CFLAGS)

# The shim is linked with no library, so that one file loads into programs on any libc: what the
# compiler would call in libc on its own account (stack protector, _chk functions) is off.
SHIM_FLAGS = -fPIC -fvisibility=hidden -fno-stack-protector -U_FORTIFY_SOURCE \
    -shared -nostdlib -Wl,-soname,libreuse.so -Wl,-z,relro,-z,now,-z,noexecstack $(LDFLAGS)
SHIM_SOURCES = shim/libreuse.c shim/log.c shim/ports.c shim/share.c
HEADERS = $(wildcard shim/*.h shim/*/*.h)

# What $(CC) builds for, where reuse-run knows the system calls: trap.c.
MACHINE := $(filter __x86_64__ __i386__ __AARCH64EL__,\
    $(shell $(CC) $(CPPFLAGS) $(CFLAGS) -E -dM -x c /dev/null 2>/dev/null))
CAN_RUN := $(MACHINE)

# The kernel's headers belong to no libc, but musl-gcc looks for them in a folder that has musl's alone.
KERNEL_HEADERS := $(shell $(CC) $(CPPFLAGS) $(CFLAGS) -include linux/seccomp.h -E -x c /dev/null \
    >/dev/null 2>&1 || echo build/kernel-headers)

# The 32-bit shim is for the 32-bit programs of a 64-bit machine, where the compiler can build it.
# musl-gcc compiles for them too, with headers that are not for them.
CAN_M32 := $(if $(filter __x86_64__,$(MACHINE)),$(shell \
    echo '_Static_assert(sizeof(int64_t) == 8, "");' | \
    $(CC) -m32 -shared -nostdlib -include stdint.h -x c - -o /dev/null 2>/dev/null && echo yes))
SHIMS = build/libreuse.so $(if $(CAN_M32),build/lib32/libreuse.so)

# reuse-cgroup takes the kernel headers of Linux 5.10 or newer.
CAN_CGROUP := $(shell echo 'int known = BPF_PROG_BIND_MAP;' | \
    $(if $(KERNEL_HEADERS),gcc,$(CC)) $(CPPFLAGS) -fsyntax-only -include linux/bpf.h -x c - \
    2>/dev/null && echo yes)

PROGRAMS = $(if $(CAN_RUN),build/reuse-run) build/reuse-launch build/reuse-group $(if $(CAN_CGROUP),build/reuse-cgroup)

SCRIPTS = scripts/reuse-spread
TOOLS = $(notdir $(PROGRAMS) $(SCRIPTS))
MANUALS = shim/libreuse.so.8 $(foreach tool,$(PROGRAMS:build/reuse-%=%),$(wildcard shim/$(tool)/reuse-$(tool).[18])) $(SCRIPTS:%=%.1)

all: $(SHIMS) $(PROGRAMS)

build/libreuse.so: $(SHIM_SOURCES) $(HEADERS) Makefile | build
	$(call say,CC)$(CC) $(ALL_CFLAGS) $(SHIM_SOURCES) $(SHIM_FLAGS) -o $@

build/lib32/libreuse.so: $(SHIM_SOURCES) $(HEADERS) Makefile | build/lib32
	$(call say,CC)$(CC) -m32 $(ALL_CFLAGS) $(SHIM_SOURCES) $(SHIM_FLAGS) -o $@

# A wing of shim/ is one tool: all that lies there, and the rooms of shim/ itself that it uses.
RUN_SOURCES = $(wildcard shim/run/*.c) shim/tool.c shim/share.c shim/log.c shim/ports.c

build/reuse-run: $(RUN_SOURCES) $(HEADERS) Makefile build/libdirs | $(KERNEL_HEADERS)
	$(call say,CC)$(CC) $(ALL_CFLAGS) -DVERSION='"$(VERSION)"' -DLIBDIR='"$(libdir)"' -DLIB32DIR='"$(lib32dir)"' \
	    $(RUN_SOURCES) $(LDFLAGS) -o $@

LAUNCH_SOURCES = $(wildcard shim/launch/*.c) shim/tool.c \
    $(filter-out %/reuse-group.c %/table.c,$(wildcard shim/group/*.c))

build/reuse-launch: $(LAUNCH_SOURCES) $(HEADERS) Makefile | build $(KERNEL_HEADERS)
	$(call say,CC)$(CC) $(ALL_CFLAGS) -DVERSION='"$(VERSION)"' $(LAUNCH_SOURCES) $(LDFLAGS) -o $@

GROUP_SOURCES = $(wildcard shim/group/*.c) shim/tool.c shim/ports.c

build/reuse-group: $(GROUP_SOURCES) $(HEADERS) Makefile | build $(KERNEL_HEADERS)
	$(call say,CC)$(CC) $(ALL_CFLAGS) -DVERSION='"$(VERSION)"' $(GROUP_SOURCES) $(LDFLAGS) -o $@

CGROUP_SOURCES = $(wildcard shim/cgroup/*.c) shim/tool.c shim/ports.c

build/reuse-cgroup: $(CGROUP_SOURCES) $(HEADERS) Makefile | build $(KERNEL_HEADERS)
	$(call say,CC)$(CC) $(ALL_CFLAGS) -DVERSION='"$(VERSION)"' $(CGROUP_SOURCES) $(LDFLAGS) -o $@

# Changes when the folders do that reuse-run is to look in.
build/libdirs: always | build
	@echo '$(libdir) $(lib32dir)' | cmp -s - $@ || echo '$(libdir) $(lib32dir)' >$@

# Where gcc finds them.
build/kernel-headers:
	@mkdir -p $@
	@for folder in linux asm asm-generic; do \
	    header=$$(gcc -include "$$folder/types.h" -M -x c /dev/null | grep -o "/[^ ]*/$$folder/types.h"); \
	    ln -sfn "$$(dirname "$$header")" "$@/$$folder" || exit; \
	done

build build/lib32 build/tests build/tests/static build/tests/musl build/tests32 build/tests32/static:
	@mkdir -p $@

# Each program of the tests is one file; those named lib... are libraries to preload.
TEST_SOURCES = $(wildcard tests/programs/*.c)
TEST_HEADERS = $(wildcard tests/programs/*.h)
TEST_PROGRAMS = $(patsubst tests/programs/%.c,build/tests/%,$(filter-out tests/programs/lib%,$(TEST_SOURCES)))
TEST_LIBRARIES = $(patsubst tests/programs/%.c,build/tests/%.so,$(filter tests/programs/lib%,$(TEST_SOURCES)))

# These have rooms of a wing in them.
build/tests/ask-diag build/tests/placeholder build/tests/steer-plan: $(GROUP_SOURCES) $(HEADERS)

build/tests/%: tests/programs/%.c $(TEST_HEADERS) Makefile | build/tests $(KERNEL_HEADERS)
	$(call say,CC)$(CC) $(ALL_CFLAGS) $< $(LDFLAGS) -pthread -o $@

build/tests/%.so: tests/programs/%.c $(TEST_HEADERS) Makefile | build/tests
	$(call say,CC)$(CC) $(ALL_CFLAGS) -fPIC -shared $< $(LDFLAGS) -ldl -o $@

# It is to agree with what it is linked with.
build/tests/random-lists: tests/programs/random-lists.c shim/ports.c $(TEST_HEADERS) Makefile | build/tests
	$(call say,CC)$(CC) $(ALL_CFLAGS) $(filter %.c,$^) $(LDFLAGS) -o $@

# The same for other ways to link, which no preloaded library or not just any reaches.
build/tests/static/%: tests/programs/%.c $(TEST_HEADERS) Makefile | build/tests/static
	$(call say,CC)$(CC) $(ALL_CFLAGS) $< $(LDFLAGS) -static -pthread -o $@

build/tests/musl/%: tests/programs/%.c $(TEST_HEADERS) Makefile | build/tests/musl
	$(call say,CC)musl-gcc -std=gnu11 $(WARNINGS) -O2 $< -static -pthread -o $@

build/tests32/%: tests/programs/%.c $(TEST_HEADERS) Makefile | build/tests32
	$(call say,CC)$(CC) -m32 $(ALL_CFLAGS) $< $(LDFLAGS) -pthread -o $@

build/tests32/static/%: tests/programs/%.c $(TEST_HEADERS) Makefile | build/tests32/static
	$(call say,CC)$(CC) -m32 $(ALL_CFLAGS) $< $(LDFLAGS) -static -pthread -o $@

# Go's servers, and the tests of its own package net, which make their system calls themselves.
GO = GOFLAGS=-mod=mod GOCACHE=$(CURDIR)/build/go go
build/tests/go-static: tests/programs/go-server.go Makefile | build/tests
	$(call say,GO)CGO_ENABLED=0 $(GO) build -o $@ $<

build/tests/go-dynamic: tests/programs/go-server.go Makefile | build/tests
	$(call say,GO)CGO_ENABLED=1 $(GO) build -o $@ $<

build/tests/go-net-test: Makefile | build/tests
	$(call say,GO)CGO_ENABLED=0 $(GO) test -c -o $@ net

OTHER_PROGRAMS = $(addprefix build/tests/static/,bind-after bind-during bind-in bind-to call-cost \
        http-server odd-binds odd-server port-zero tell-signals) \
    build/tests/musl/http-server build/tests/go-static build/tests/go-dynamic build/tests/go-net-test \
    $(if $(CAN_M32),$(addprefix build/tests32/,bind-to http-server odd-binds \
        static/bind-to static/http-server static/odd-binds))

demo: all build/tests/http-server
	@scripts/demo $(SERVER)

# What clients get while copies are replaced: make stress, which has the time for it.
TESTS ?= $(filter-out tests/reload.bats,$(wildcard tests/*.bats))
test stress: all $(TEST_PROGRAMS) $(TEST_LIBRARIES) $(if $(CAN_RUN),$(OTHER_PROGRAMS))

test:
	@tests/run $(TESTS)

# AddressSanitizer needs a library that the shim cannot bring into any program; the shim runs under
# it in tests/sanitizers.bats.  One test compares times.
stress:
	@SEED=$${SEED-$$(date +%s)} STRESS=1 BATS_TEST_TIMEOUT=1800 \
	    tests/run tests/random.bats tests/churn.bats tests/faults.bats tests/sanitizers.bats tests/reload.bats
	@$(call sanitize,ubsan,-fsanitize=undefined -fsanitize-trap=undefined,)
	@cd build/ubsan && tests/run $(SANITIZED_TESTS) tests/shim.bats tests/ports.bats tests/random.bats
	@$(call sanitize,asan,-fsanitize=address$(comma)undefined -fno-sanitize-recover=all,$(SHIMS))
	@cd build/asan && sed -i '/^@test "a watched bind takes no longer/a skip "slow"' tests/reuse-run.bats && \
	    ASAN_OPTIONS=detect_leaks=0 tests/run $(SANITIZED_TESTS)

SANITIZED_TESTS = tests/reuse-run.bats tests/reuse-group.bats tests/reuse-cgroup.bats
comma = ,

# Copies this tree to build/$(1), with the programs of the tests and the files $(3) as they are, and
# builds what is missing there with $(2).
define sanitize
    rm -rf build/$(1); \
    mkdir -p build/$(1)/build; \
    cp -a Makefile shim scripts tests build/$(1); \
    cp -a --parents $(wildcard build/tests build/tests32) $(3) build/$(1); \
    $(MAKE) --no-print-directory -C build/$(1) CC=clang CFLAGS='-O1 -g $(2)' all
endef

bench: all $(addprefix build/tests/,bind-cost hold http-load http-server work-server)
	@scripts/bench $(BENCH)

lint:
	mandoc -T lint $(MANUALS)
	shellcheck scripts/setup scripts/demo scripts/bench scripts/completion.bash $(SCRIPTS) .ci/run tests/run tests/*.bash tests/*.bats
	clang-format --dry-run -Werror shim/*.[ch] shim/*/*.[ch] tests/programs/*.[ch] tests/fuzz/*.c
	for source in shim/*.c shim/*/*.c tests/programs/*.c tests/fuzz/*.c; do \
	    for compiler in gcc clang; do \
	        $$compiler -std=gnu11 -Ishim -O2 $(WARNINGS) -Werror -DVERSION='""' -DLIBDIR='""' -DLIB32DIR='""' \
	            -c -o /dev/null $$source || exit 1; \
	    done; \
	done

# What ld.so(8) puts for $LIB in the programs that $(CC) $(1) links: lib64, lib/x86_64-linux-gnu...
# Before glibc 2.33 the loader does not tell; then it is the compiler's folder, lib64 or lib32.
loader_lib = $(or $(shell mkdir -p build; echo 'int main(void) { return 0; }' | \
    $(CC) $(1) -x c -o build/loader-probe - && \
    "$$(readelf -l build/loader-probe | sed -n 's/.*interpreter: \(.*\)]/\1/p')" --list-diagnostics \
    2>/dev/null | sed -n 's/^dl_dst_lib="\(.*\)"/\1/p'), \
    $(notdir $(shell $(CC) $(1) -print-multi-os-directory 2>/dev/null)),lib)
# Asked when needed, once.
LIB = $(eval LIB := $(call loader_lib))$(LIB)
LIB32 = $(eval LIB32 := $(if $(CAN_M32),$(call loader_lib,-m32),lib32))$(LIB32)

# The shim goes where the loader's $LIB finds it, so that LD_PRELOAD=libreuse.so is enough.  A
# folder that the loader does not search yet is made known to it, when installing for real.
install: all
	@[ "$(libdir)" != "$(lib32dir)" ] || [ -z "$(CAN_M32)" ] || \
	    { echo "libdir and lib32dir are the same, $(libdir); set them" >&2; exit 1; }
	$(INSTALL) -d $(DESTDIR)$(bindir) $(DESTDIR)$(libdir) $(DESTDIR)$(mandir)/man1 $(DESTDIR)$(mandir)/man8
	$(INSTALL) -m 644 build/libreuse.so $(DESTDIR)$(libdir)/libreuse.so
ifdef CAN_M32
	$(INSTALL) -d $(DESTDIR)$(lib32dir)
	$(INSTALL) -m 644 build/lib32/libreuse.so $(DESTDIR)$(lib32dir)/libreuse.so
endif
	$(INSTALL) -m 755 $(PROGRAMS) $(SCRIPTS) $(DESTDIR)$(bindir)
	$(INSTALL) -m 644 $(filter %.1,$(MANUALS)) $(DESTDIR)$(mandir)/man1
	$(INSTALL) -m 644 $(filter %.8,$(MANUALS)) $(DESTDIR)$(mandir)/man8
	$(INSTALL) -d $(DESTDIR)$(completionsdir)
	for tool in $(TOOLS); do \
	    $(INSTALL) -m 644 scripts/completion.bash $(DESTDIR)$(completionsdir)/$$tool || exit 1; \
	done
ifndef DESTDIR
	@if [ -w $(LOADER_CONF_DIR) ]; then $(tell_loader); else \
	    echo "The loader is not told of $(INSTALLED_LIBDIRS); name libreuse.so by its whole path"; fi
endif

INSTALLED_LIBDIRS = $(libdir) $(if $(CAN_M32),$(lib32dir))
LOADER_CONF_DIR = $(sysconfdir)/ld.so.conf.d

# Names the folders that the loader does not search yet.
define tell_loader
    for folder in $(INSTALLED_LIBDIRS); do \
        ldconfig -v -N 2>/dev/null | grep -q "^$$folder:" || echo "$$folder"; \
    done >build/ld.so.conf; \
    [ ! -s build/ld.so.conf ] || $(INSTALL) -m 644 build/ld.so.conf $(LOADER_CONF_DIR)/libreuse.conf; \
    ldconfig
endef

uninstall:
	rm -f $(INSTALLED_LIBDIRS:%=$(DESTDIR)%/libreuse.so)
	rm -f $(addprefix $(DESTDIR)$(bindir)/,$(TOOLS)) $(addprefix $(DESTDIR)$(completionsdir)/,$(TOOLS))
	rm -f $(foreach page,$(notdir $(MANUALS)),$(DESTDIR)$(mandir)/man$(lastword $(subst ., ,$(page)))/$(page))
ifndef DESTDIR
	@if [ -w $(LOADER_CONF_DIR) ]; then rm -f $(LOADER_CONF_DIR)/libreuse.conf; ldconfig; fi
endif

# What git knows, or in such an archive all there is, build/ apart.
DIST = libreuse-$(VERSION)
dist: | build
	(git ls-files 2>/dev/null || find . \( -path ./build -o -path ./.git \) -prune -o -type f -printf '%P\n') | LC_ALL=C sort | \
	    tar -czf build/$(DIST).tar.gz --transform 's,^,$(DIST)/,' --owner=0 --group=0 --numeric-owner \
	        --no-recursion -T -

clean:
	rm -rf build

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

.PHONY: all demo test stress bench lint install uninstall dist clean help always
