#!/usr/bin/env bats
# reuse-run --watch: what the program gets from the kernel, and its parent sees of it, is what they
# would without; also where the supervisor has less time, rights or memory than it likes.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2016,SC2154
load common

setup() {
    common_setup
    reuse_run=$build/reuse-run
}

teardown() {
    common_teardown
}

@test "a socket that is closed is closed: nobody takes a connection to its port" {
    run -0 "$reuse_run" --watch "$programs/bind-close" 8000 5000
    [[ $output == '0 of 5000 connected' ]]
}
