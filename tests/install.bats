#!/usr/bin/env bats
# make install and make uninstall.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2030,SC2031,SC2154
load common

setup() {
    common_setup
    unset MAKEFLAGS MAKELEVEL
}

teardown() {
    common_teardown
}

make_quietly() {
    make --silent --directory="$root" "$@"
}

@test "make install puts each file in its place, and make uninstall takes all away" {
    make_quietly install DESTDIR="$PWD/tree" PREFIX=/usr
    (cd tree && find . -type f -printf '%m %p\n' | sort --key=2) >installed
    diff - installed <<'END'
755 ./usr/bin/reuse-cgroup
755 ./usr/bin/reuse-group
755 ./usr/bin/reuse-launch
755 ./usr/bin/reuse-run
755 ./usr/bin/reuse-spread
644 ./usr/lib/x86_64-linux-gnu/libreuse.so
644 ./usr/lib32/libreuse.so
644 ./usr/share/bash-completion/completions/reuse-cgroup
644 ./usr/share/bash-completion/completions/reuse-group
644 ./usr/share/bash-completion/completions/reuse-launch
644 ./usr/share/bash-completion/completions/reuse-run
644 ./usr/share/bash-completion/completions/reuse-spread
644 ./usr/share/man/man1/reuse-group.1
644 ./usr/share/man/man1/reuse-launch.1
644 ./usr/share/man/man1/reuse-run.1
644 ./usr/share/man/man1/reuse-spread.1
644 ./usr/share/man/man8/libreuse.so.8
644 ./usr/share/man/man8/reuse-cgroup.8
END
    cmp "$shim" tree/usr/lib/x86_64-linux-gnu/libreuse.so
    make_quietly uninstall DESTDIR="$PWD/tree" PREFIX=/usr
    [[ $(find tree -type f) == "" ]]
}

@test "where the loader does not tell its folder, the compiler's are used, and are two" {
    make_quietly install DESTDIR="$PWD/tree" PREFIX=/usr LIB=lib LIB32=lib32
    [[ $(readelf --file-header tree/usr/lib/libreuse.so) == *ELF64* ]]
    [[ $(readelf --file-header tree/usr/lib32/libreuse.so) == *ELF32* ]]
    run make_quietly install DESTDIR="$PWD/tree" PREFIX=/usr LIB=lib LIB32=lib
    [[ $status -ne 0 && $output == *"libdir and lib32dir are the same, /usr/lib; set them"* ]]
}

@test "who may not tell the loader installs all the same, and is told to name the path" {
    run make_quietly install PREFIX="$PWD/home" sysconfdir=/nonexistent
    [[ $status -eq 0 && $output == *"name libreuse.so by its whole path" ]]
    LD_PRELOAD=$(echo home/lib/*/libreuse.so) run "$programs/bind-to" tcp 8000
    [[ $output == "8000 bound, SO_REUSEPORT 1" ]]
    make_quietly uninstall PREFIX="$PWD/home" sysconfdir=/nonexistent
    [[ $(find home -type f) == "" ]]
}

@test "make install honours bindir, libdir and mandir" {
    make_quietly install DESTDIR="$PWD/tree" bindir=/b libdir=/l lib32dir=/l32 mandir=/m \
        completionsdir=/c
    [[ -x tree/b/reuse-spread && -e tree/l/libreuse.so && -e tree/l32/libreuse.so ]]
    [[ -e tree/m/man1/reuse-spread.1 && ! -e tree/usr ]]
}

@test "after an install, LD_PRELOAD=libreuse.so is enough, for 32-bit programs too" {
    needs_root
    # In a mount namespace, over copies of the folders that change.
    # shellcheck disable=SC2016
    unshare --mount bash -euxc '
        mkdir etc local
        cp --archive /etc/. etc
        mount --bind etc /etc
        mount --bind local /usr/local
        shared="8000 bound, SO_REUSEPORT 1"
        make --silent --directory="$1" install
        [[ $(LD_PRELOAD=libreuse.so "$1/build/tests/bind-to" tcp 8000 2>&1) == "$shared" ]]
        [[ $(LD_PRELOAD=libreuse.so "$1/build/tests32/bind-to" tcp 8000 2>&1) == "$shared" ]]
        LIB="\$LIB"
        [[ $(LD_PRELOAD="/usr/local/$LIB/libreuse.so" "$1/build/tests32/bind-to" tcp 8000 2>&1) == "$shared" ]]
        found="preloaded with /usr/local/lib/x86_64-linux-gnu/libreuse.so: "
        [[ $(/usr/local/bin/reuse-run -v "$1/build/tests/bind-to" tcp 8000 2>&1) == *"$found"*"$shared" ]]
        found="preloaded with /usr/local/lib32/libreuse.so: "
        [[ $(/usr/local/bin/reuse-run -v "$1/build/tests32/bind-to" tcp 8000 2>&1) == *"$found"*"$shared" ]]
        make --silent --directory="$1" install
        [[ $(LD_PRELOAD=libreuse.so "$1/build/tests32/bind-to" tcp 8000 2>&1) == "$shared" ]]
        make --silent --directory="$1" uninstall
        [[ $(LD_PRELOAD=libreuse.so "$1/build/tests/bind-to" tcp 8000 2>&1) == *"cannot be preloaded"* ]]
        [[ -z $(find /usr/local -type f) && ! -e /etc/ld.so.conf.d/libreuse.conf ]]
    ' _ "$root"
}

@test "the archive of make dist holds every file, builds, and makes the same archive" {
    make_quietly dist
    local archive
    archive=$(echo "$build"/libreuse-*.tar.gz)
    tar -xzf "$archive"
    cd libreuse-*
    find . -type f | sort >../unpacked
    # A checkout may have files that are not for others.
    if [[ -d $root/.git ]] && command -v git; then
        git -C "$root" ls-files | sed 's,^,./,' | sort | diff - ../unpacked
    fi
    run ! grep --extended-regexp '^\./(build|\.git)/' ../unpacked
    make --silent install DESTDIR="$PWD/build/tree" PREFIX=/usr
    [[ -x build/tree/usr/bin/reuse-launch ]]
    make --silent dist
    diff <(tar -tzf build/libreuse-*.tar.gz) <(tar -tzf "$archive")
}

@test "CC, CFLAGS and LDFLAGS are the user's" {
    local -A names=([gcc]='GCC: (' [clang]='clang version')
    for cc in gcc clang; do
        command -v "$cc" || continue
        cp -r "$root/Makefile" "$root/shim" .
        make --silent --always-make CC="$cc" CFLAGS='-O0 -Werror' LDFLAGS=-Wl,--build-id=0xdeadbeef build/libreuse.so
        [[ $(readelf --notes build/libreuse.so) == *"Build ID: deadbeef"* ]]
        [[ $(readelf --string-dump=.comment build/libreuse.so) == *"${names[$cc]}"* ]]
        LD_PRELOAD=$PWD/build/libreuse.so run "$programs/bind-to" tcp 8000
        [[ $output == "8000 bound, SO_REUSEPORT 1" ]]
    done
}

@test "the manual pages are clean" {
    for page in "$root"/*/*.[1-9]; do
        run man --warnings --encoding=UTF-8 --local-file --troff-device=utf8 --ditroff "$page"
        [[ $status -eq 0 && $output != *warning* ]]
    done
}
