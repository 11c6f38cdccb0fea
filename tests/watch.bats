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

@test "binds are shared by a kernel with the first number of a request, answered by one with none" {
    local ioctl=16 einval=22 valid=0x40082102 valid_at_first=0x80082102
    run -0 timeout 60 "$programs/deny" "$ioctl:$valid" "$einval" \
        "$reuse_run" --watch "$programs/bind-to" tcp 8000 0
    [[ ${lines[0]} == *'SO_REUSEPORT 1' && ${lines[1]} == *'SO_REUSEPORT 1' ]]
    run -0 timeout 60 "$programs/deny" "$ioctl:$valid" "$einval" \
        "$programs/deny" "$ioctl:$valid_at_first" "$einval" \
        "$reuse_run" --watch "$programs/bind-to" tcp 8000 0
    [[ ${lines[0]} == *'bound, SO_REUSEPORT 0' && ${lines[1]} == *'bound, SO_REUSEPORT 0' ]]
}
