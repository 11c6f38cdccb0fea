#!/usr/bin/env bats
# Which way reuse-run takes, for which program, and what it says of it.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2154
load common

setup() {
    common_setup
    reuse_run=$build/reuse-run
}

teardown() {
    common_teardown
}

# --- beside other libraries

@test "another preloaded library whose bind reads its address meets the program's binds only" {
    export LD_PRELOAD=$programs/libother-bind.so
    run -0 "$reuse_run" "$programs/bind-to" tcp 8000
    [[ ${#lines[@]} -eq 2 && ${lines[0]} == 'other bind, family 2, '*'SO_REUSEPORT 1' ]]
    run -0 "$reuse_run" --watch "$programs/bind-to" tcp 8000
    [[ ${#lines[@]} -eq 2 && ${lines[1]} == *'8000 bound, SO_REUSEPORT 1' ]]
}

# --- Go

# way_of PROGRAM [ARG]...: what -v says of it, which is run with arguments that end it.
way_of() {
    "$reuse_run" -v "$@" 2>&1 >/dev/null | sed -n 's/^reuse-run: [^:]*: //p'
}

@test "a Go program that gcc linked is known by its note, and by its build information wherever that lies" {
    local object offset odd=0 even=0
    echo '__attribute__((constructor)) static void nothing(void) {}' >start.c
    gcc -c start.c
    # Each constructor is a pointer, 8 bytes, before the data: which begins at a multiple of 16 or not.
    for object in '' "$PWD/start.o"; do
        GOFLAGS=-mod=mod GOCACHE=$build/go CGO_ENABLED=1 go build -o go-now \
            -ldflags="-linkmode=external -extldflags '-Wl,-z,now $object'" \
            "$root/tests/programs/go-server.go"
        objcopy --remove-section=.note.go.buildid go-now no-note
        objcopy --remove-section=.go.buildinfo go-now no-build
        offset=$(readelf --program-headers --wide go-now | awk '/LOAD .* RW / { print $2 }')
        ((offset % 16)) && odd=1 || even=1
        for program in go-now no-note no-build; do
            [[ $(way_of "./$program" nonsense) == 'watched, written in Go'* ]]
        done
    done
    [[ $odd -eq 1 && $even -eq 1 ]]
}
