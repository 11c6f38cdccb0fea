#!/usr/bin/env bats
# The C code, built with what finds its faults while it runs: clang's AddressSanitizer,
# UndefinedBehaviorSanitizer and ThreadSanitizer, and valgrind.  'make stress' runs the other tests
# with the first two as well.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2030,SC2031,SC2154
load common

setup() {
    common_setup
    seed=${SEED:-1}
    echo "# $BATS_TEST_DESCRIPTION: SEED=$seed" >&3
    # What is found ends the program with 99.
    export ASAN_OPTIONS=exitcode=99:symbolize=0 TSAN_OPTIONS=exitcode=99:symbolize=0
    # A sanitizer wants its memory where it expects it.
    fixed=(setarch --addr-no-randomize)
    memcheck=(valgrind --quiet --error-exitcode=99)
}

teardown() {
    common_teardown
}

# sanitize NAME PROGRAM...: builds shim.so and test programs with the sanitizers NAME; skips the
# test where clang cannot.
sanitize() {
    local flags=(-std=gnu11 -g -O1 "-fsanitize=$1" -fno-sanitize-recover=all) source
    echo 'int main(void) { return 0; }' >probe.c
    { clang "${flags[@]}" probe.c -o probe && "${fixed[@]}" ./probe; } ||
        skip "clang has no -fsanitize=$1 here"
    clang "${flags[@]}" -fPIC -fvisibility=hidden -shared -nostdlib -o shim.so \
        "$root"/shim/{libreuse,log,ports,share}.c
    for source in "${@:2}"; do
        if [[ $source == lib* ]]; then
            clang "${flags[@]}" -fPIC -shared "$root/tests/programs/$source.c" -o "$source.so"
        else
            clang "${flags[@]}" -pthread "$root/tests/programs/$source.c" -o "$source"
        fi
    done
}

# instrumented FUNCTION: whether the shim calls that function of a sanitizer.
instrumented() {
    nm --dynamic --undefined-only shim.so | grep --quiet "$1"
}

# clean COMMAND...: whether COMMAND succeeds under the sanitized shim, and $others.
clean() {
    run "${fixed[@]}" env LD_PRELOAD="$PWD/shim.so${others-}" "$@"
    [[ $status -eq 0 ]] && return
    printf '%s\n' "$output" | head -40
    return 1
}

@test "the shim runs clean under AddressSanitizer and UndefinedBehaviorSanitizer" {
    sanitize address,undefined bind-to bind-in random-binds libearly-bind
    instrumented __asan_report && instrumented __ubsan_handle
    for place in threads signal fork vfork; do
        clean ./bind-in "$place"
    done
    clean ./random-binds -s "$seed" "$(times 1000 50000)"
    [[ $output != *' and not '* ]]
    export LIBREUSE_LOG=1
    while IFS= read -r list; do
        LIBREUSE_PORTS=$list clean ./bind-to tcp6 8000 8000 0 '[::1]:8000'
    done <"$root/tests/fuzz/ports.txt"
    others=:$PWD/libearly-bind.so clean ./bind-to tcp 8000
    [[ $output == *'early bind, errno kept'* ]]
}

@test "the shim runs clean under ThreadSanitizer" {
    sanitize thread bind-in random-binds
    instrumented __tsan_write
    for place in threads signal; do
        clean ./bind-in "$place"
    done
    LIBREUSE_LOG=1 LIBREUSE_PORTS=7000 clean ./bind-in threads
    clean ./random-binds -s "$seed" "$(times 1000 50000)"
}

@test "the shim runs clean under valgrind" {
    command -v valgrind || skip "needs valgrind"
    export LD_PRELOAD=$shim LIBREUSE_LOG=1
    run -0 "${memcheck[@]}" "$programs/bind-in" threads
    for list in '80,443,8000-8010,53/udp,127.0.0.1:9000,[::1]:9000' '[::1%lo]:8000'; do
        LIBREUSE_PORTS=$list run -0 "${memcheck[@]}" "$programs/bind-to" tcp6 8000 8000 0 9000
    done
}

@test "reuse-group runs clean under valgrind" {
    command -v valgrind || skip "needs valgrind"
    for copy in 1 2; do
        start "tcp$copy" with_shim "$programs/http-server" 8000
        start "udp$copy" with_shim "$programs/bind-to" -w udp6 8000
    done
    eventually listening 2 8000
    eventually bound 2 8000
    for options in '' '--tsv 8000/tcp 9' '--steer=0-1 8000' 8000x; do
        # shellcheck disable=SC2086 # several
        run "${memcheck[@]}" "$build/reuse-group" $options
        [[ $status -ne 99 ]]
    done
}

@test "reuse-run runs clean under valgrind, as far as that knows its system calls" {
    command -v valgrind || skip "needs valgrind"
    printf '#!/usr/bin/env -S A=1 %s\n' "$programs/bind-to" >script
    chmod +x script
    for command in "--ports=8000 ./script tcp 8000" "$programs/static/bind-to" "$programs/go-dynamic" \
        /dev/null "--ports=80,x true"; do
        # shellcheck disable=SC2086 # several
        run "${memcheck[@]}" "$build/reuse-run" -v $command
        [[ $status -ne 99 ]]
    done
}
