#!/usr/bin/env bats
# tests/run: the tests find the same wherever they are run, and what fails is not overlooked.

# The variables come from common.bash and bats.
# shellcheck disable=SC2016,SC2154
load common

setup() {
    common_setup
}

teardown() {
    common_teardown
}

# tests_run ARGUMENT...: runs tests/run on the file inner.bats, as from a user's shell.
tests_run() {
    run env --ignore-environment PATH=/usr/local/bin:/usr/bin:/bin "$root/tests/run" "$@" inner.bats
    echo "$output"
}

# inner NAME COMMAND: adds to inner.bats a test that succeeds if COMMAND does.
inner() {
    printf '@test "%s" {\n%s\n}\n' "$1" "$2" >>inner.bats
}

@test "a signal that is ignored outside, as under nohup, is not in the tests" {
    inner "none is ignored" "grep '^SigIgn:.0*$' /proc/self/status"
    trap '' HUP PIPE USR1
    tests_run
    [[ $status -eq 0 && ${lines[-1]} == "1 passed, 0 failed, 0 skipped" ]]
}

@test "the tests find ip and ss, which an ordinary user's PATH leaves out" {
    inner "they are found" 'type -P ip ss'
    inner "the user's own come first" "[[ \$PATH == */usr/local/bin:/usr/bin:/bin:* ]]"
    tests_run
    [[ $status -eq 0 ]]
}

# none_left: whether no process of tests/run is left.
none_left() {
    ! pgrep --full "tests/run --busy"
}

@test "--busy keeps every processor busy while the tests run, and no longer" {
    # The time that no processor idles in; a tenth is allowed for the loops' start.
    inner "the processors are busy" '
        read -r _ _ _ _ idle _ </proc/stat
        sleep 1
        read -r _ _ _ _ later _ </proc/stat
        (((later - idle) * 10 < $(nproc) * $(getconf CLK_TCK)))'
    tests_run --busy
    [[ $status -eq 0 ]]
    eventually none_left
}

@test "a test that fails, and a file that is not run, fail the run" {
    inner "good" true
    inner "bad" false
    tests_run
    [[ $status -eq 1 && ${lines[-1]} == "1 passed, 1 failed, 0 skipped" ]]
    tests_run missing.bats
    [[ $status -eq 1 && ${lines[-1]} == "1 passed, 2 failed, 0 skipped" ]]
}
