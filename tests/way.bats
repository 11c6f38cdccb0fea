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
