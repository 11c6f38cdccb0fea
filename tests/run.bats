#!/usr/bin/env bats
# tests/run, and what the Makefile says: its targets, and what it is doing.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2030,SC2031,SC2154
load common

setup() {
    common_setup
    # As a user's shell has it: what bats and make have set for this test is not for another.
    afresh=(env -i "PATH=${PATH//"$BATS_LIBEXEC:"/}" "HOME=$HOME")
}

teardown() {
    common_teardown
}

# file_of_tests NAME: makes one of standard input, where "test" stands for bats' "@test".
file_of_tests() {
    sed 's/^test/@&/' >"$1"
}

@test "tests/run numbers the tests of all files and counts what came of them" {
    file_of_tests one.bats <<'END'
test "passes" { true; }
test "fails" { false; }
END
    file_of_tests two.bats <<'END'
test "is skipped" { skip "so"; }
test "passes too" { true; }
END
    run -1 "${afresh[@]}" "$root/tests/run" one.bats two.bats
    [[ $output == *"not ok 2 fails"*"ok 3 is skipped # skip so"*"ok 4 passes too"* ]]
    [[ ${lines[-2]} == 1..4 && ${lines[-1]} == "2 passed, 1 failed, 1 skipped" ]]
    run -0 "${afresh[@]}" "$root/tests/run" two.bats
    [[ ${lines[-1]} == "1 passed, 0 failed, 1 skipped" ]]
}

@test "tests/run fails when bats ends before it has run all tests, or runs none" {
    file_of_tests dies.bats <<'END'
test "passes" { true; }
test "ends them all" { kill -KILL -1; }
test "is not run" { true; }
END
    run -1 "${afresh[@]}" "$root/tests/run" dies.bats
    [[ $output == *"# 2 tests or files did not run"* ]]
    [[ ${lines[-1]} == "1 passed, 2 failed, 0 skipped" ]]
    run -1 "${afresh[@]}" "$root/tests/run" nowhere.bats
    [[ ${lines[-1]} == "0 passed, 1 failed, 0 skipped" ]]
}

@test "tests/run shows each line as it comes, and first how many tests there are" {
    file_of_tests waits.bats <<END
test "comes first" { true; }
test "waits until that is seen" { until [[ -e $PWD/seen ]]; do sleep 0.1; done; }
END
    start run "${afresh[@]}" "$root/tests/run" waits.bats
    eventually grep --quiet '^ok 1 comes first' run.log
    [[ $(head -n 1 run.log) =~ ^'# 2 tests, some '[0-9]+' seconds' ]]
    [[ $(tail -n 1 run.log) == 'ok 1 '* ]]
    touch seen
    wait "$pid"
    [[ $(tail -n 1 run.log) == "2 passed, 0 failed, 0 skipped" ]]
}

@test "make help names every target" {
    run -0 "${afresh[@]}" make --no-print-directory --directory="$root" help
    local target targets
    read -ra targets < <(sed -n 's/^\.PHONY: //p' "$root/Makefile")
    for target in "${targets[@]}"; do
        [[ $target == always || $target == all || $output == *"make $target"* ]]
    done
    [[ ${lines[0]} == "make "*"build everything"* ]]
}

@test "make says in short what it builds, with V=1 the whole command, and with --silent nothing" {
    cp --recursive "$root/Makefile" "$root/shim" .
    run -0 "${afresh[@]}" make build/reuse-group
    [[ $output == "CC build/reuse-group" ]]
    run -0 "${afresh[@]}" make --always-make V=1 build/reuse-group
    [[ $output == *"cc "*" -Wall "*" -o build/reuse-group"* && $output != *"CC build/reuse-group"* ]]
    run -0 "${afresh[@]}" make --always-make --silent build/reuse-group
    [[ -z $output ]]
}
