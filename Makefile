# make             build everything into build/
# make demo        the whole story in one command; SERVER='...' runs it with a server of yours
# make test        the tests; TESTS='tests/shim.bats ...' runs some of them
# make lint        shellcheck, clang-format, and both compilers with every warning an error
# make install     DESTDIR, PREFIX, libdir and the like as usual
# make uninstall
# make clean
#
# CC, CFLAGS, CPPFLAGS and LDFLAGS are the user's.

VERSION = 0.1.0

CFLAGS ?= -O2 -g
INSTALL ?= install
PREFIX ?= /usr/local
bindir ?= $(PREFIX)/bin
mandir ?= $(PREFIX)/share/man
sysconfdir ?= /etc
libdir ?= $(PREFIX)/$(call loader_lib)
lib32dir ?= $(PREFIX)/$(call loader_lib,-m32)

WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes
ALL_CFLAGS = -std=gnu11 $(WARNINGS) $(CPPFLAGS) $(CFLAGS)

# The shim is linked with no library, so that one file loads into programs on any libc: what the
# compiler would call in libc on its own account (stack protector, _chk functions) is off.
SHIM_FLAGS = -fPIC -fvisibility=hidden -fno-stack-protector -U_FORTIFY_SOURCE \
    -shared -nostdlib -Wl,-soname,libreuse.so -Wl,-z,relro,-z,now,-z,noexecstack $(LDFLAGS)
SHIM_SOURCES = shim/libreuse.c shim/log.c shim/ports.c shim/share.c
HEADERS = $(wildcard shim/*.h)

# The 32-bit shim is for the 32-bit programs of a 64-bit machine, where the compiler can build it.
CAN_M32 := $(shell $(CC) -m32 -shared -nostdlib -include stdlib.h -x c /dev/null -o /dev/null \
    2>/dev/null && echo yes)
SHIMS = build/libreuse.so $(if $(CAN_M32),build/lib32/libreuse.so)

SCRIPTS = scripts/reuse-spread
MANUALS = shim/libreuse.so.8 scripts/reuse-spread.1

all: $(SHIMS)

build/libreuse.so: $(SHIM_SOURCES) $(HEADERS) Makefile | build
	$(CC) $(ALL_CFLAGS) $(SHIM_SOURCES) $(SHIM_FLAGS) -o $@

build/lib32/libreuse.so: $(SHIM_SOURCES) $(HEADERS) Makefile | build/lib32
	$(CC) -m32 $(ALL_CFLAGS) $(SHIM_SOURCES) $(SHIM_FLAGS) -o $@

build build/lib32 build/tests build/tests32:
	mkdir -p $@

# Each program of the tests is one file; those named lib... are libraries to preload.
TEST_SOURCES = $(wildcard tests/programs/*.c)
TEST_HEADERS = $(wildcard tests/programs/*.h)
TEST_PROGRAMS = $(patsubst tests/programs/%.c,build/tests/%,$(filter-out tests/programs/lib%,$(TEST_SOURCES)))
TEST_LIBRARIES = $(patsubst tests/programs/%.c,build/tests/%.so,$(filter tests/programs/lib%,$(TEST_SOURCES)))

build/tests/%: tests/programs/%.c $(TEST_HEADERS) Makefile | build/tests
	$(CC) $(ALL_CFLAGS) $< $(LDFLAGS) -pthread -o $@

build/tests/%.so: tests/programs/%.c $(TEST_HEADERS) Makefile | build/tests
	$(CC) $(ALL_CFLAGS) -fPIC -shared $< $(LDFLAGS) -ldl -o $@

build/tests32/%: tests/programs/%.c $(TEST_HEADERS) Makefile | build/tests32
	$(CC) -m32 $(ALL_CFLAGS) $< $(LDFLAGS) -pthread -o $@

demo: all build/tests/http-server
	@scripts/demo $(SERVER)

TESTS ?= tests
test: all $(TEST_PROGRAMS) $(TEST_LIBRARIES) $(if $(CAN_M32),build/tests32/odd-binds build/tests32/bind-to build/tests32/http-server)
	@tests/run $(TESTS)

lint:
	shellcheck scripts/setup scripts/demo $(SCRIPTS) .ci/run tests/run tests/*.bash tests/*.bats
	clang-format --dry-run -Werror shim/*.[ch] tests/programs/*.[ch]
	for source in shim/*.c tests/programs/*.c; do \
	    gcc -std=gnu11 -O2 $(WARNINGS) -Werror -c -o /dev/null $$source && \
	    clang -std=gnu11 -O2 $(WARNINGS) -Werror -c -o /dev/null $$source || exit 1; \
	done

# What ld.so(8) puts for $LIB in the programs that $(CC) $(1) links: lib64, lib/x86_64-linux-gnu...
loader_lib = $(or $(shell mkdir -p build; echo 'int main(void) { return 0; }' | \
    $(CC) $(1) -x c -o build/loader-probe - && \
    "$$(readelf -l build/loader-probe | sed -n 's/.*interpreter: \(.*\)]/\1/p')" --list-diagnostics | \
    sed -n 's/^dl_dst_lib="\(.*\)"/\1/p'),lib)

# The shim goes where the loader's $LIB finds it, so that LD_PRELOAD=libreuse.so is enough.  A
# folder that the loader does not search yet is made known to it, when installing for real.
install: all
	$(INSTALL) -d $(DESTDIR)$(bindir) $(DESTDIR)$(libdir) $(DESTDIR)$(mandir)/man1 $(DESTDIR)$(mandir)/man8
	$(INSTALL) -m 644 build/libreuse.so $(DESTDIR)$(libdir)/libreuse.so
ifdef CAN_M32
	$(INSTALL) -d $(DESTDIR)$(lib32dir)
	$(INSTALL) -m 644 build/lib32/libreuse.so $(DESTDIR)$(lib32dir)/libreuse.so
endif
	$(INSTALL) -m 755 $(SCRIPTS) $(DESTDIR)$(bindir)
	$(INSTALL) -m 644 $(filter %.1,$(MANUALS)) $(DESTDIR)$(mandir)/man1
	$(INSTALL) -m 644 $(filter %.8,$(MANUALS)) $(DESTDIR)$(mandir)/man8
ifndef DESTDIR
	for folder in $(INSTALLED_LIBDIRS); do \
	    ldconfig -v -N 2>/dev/null | grep -q "^$$folder:" || echo "$$folder"; \
	done >build/ld.so.conf
	if [ -s build/ld.so.conf ]; then $(INSTALL) -m 644 build/ld.so.conf $(LOADER_CONF); fi
	ldconfig
endif

INSTALLED_LIBDIRS = $(libdir) $(if $(CAN_M32),$(lib32dir))
LOADER_CONF = $(sysconfdir)/ld.so.conf.d/libreuse.conf

uninstall:
	rm -f $(INSTALLED_LIBDIRS:%=$(DESTDIR)%/libreuse.so)
	rm -f $(patsubst scripts/%,$(DESTDIR)$(bindir)/%,$(SCRIPTS))
	rm -f $(foreach page,$(notdir $(MANUALS)),$(DESTDIR)$(mandir)/man$(lastword $(subst ., ,$(page)))/$(page))
ifndef DESTDIR
	rm -f $(LOADER_CONF)
	ldconfig
endif

clean:
	rm -rf build

.PHONY: all demo test lint install uninstall clean
