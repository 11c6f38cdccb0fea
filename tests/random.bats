#!/usr/bin/env bats
# Calls and input by chance, far more than anybody thinks of.  SEED repeats a run; STRESS, which
# 'make stress' sets, makes it a long one.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2030,SC2031,SC2154
load common

setup() {
    common_setup
    seed=${SEED:-1}
    echo "# $BATS_TEST_DESCRIPTION: SEED=$seed" >&3
}

teardown() {
    common_teardown
}

# held KIND ADDRESS...: each address is held by a socket of KIND that is not shared.
held() {
    start "$1" "$programs/bind-to" -w "$@"
    eventually grep --quiet "bound" "$1.log"
}

# hold_some: some of the ports that random-binds asks for are held without being shared.  No TCP port
# is held over IPv4 alone: there the kernel forgets the holder once an IPv6-only socket has shared
# the port (tb->fastreuseport in inet_csk_get_port()), and lets the next dual-stack one in.
hold_some() {
    held udp 127.0.0.1:7001 0.0.0.0:7003
    held tcp6 '[::]:7002'
    held udp6 '[::1]:7004'
}

# had_every_outcome FILE: random-binds came upon each of these there, and not just once.
had_every_outcome() {
    local outcome
    for outcome in '0 errno kept' '-1 EINVAL' '-1 EFAULT' '-1 EADDRINUSE' '-1 EADDRNOTAVAIL' \
        '-1 EAFNOSUPPORT' 'SO_REUSEPORT 1'; do
        [[ $(grep --count --fixed-strings -- ": $outcome" "$1") -gt 10 ||
            $(grep --count --fixed-strings -- ", $outcome" "$1") -gt 10 ]]
    done
}

# same FILE FILE: whether they are the same; the first differences if not.
same() {
    cmp "$@" && return
    diff "$@" | head -20
    return 1
}

@test "random binds end as without the shim, and share what is to be shared" {
    count=$(times 4000 100000)
    hold_some
    "$programs/random-binds" "$seed" "$count" >plain
    had_every_outcome plain
    LD_PRELOAD=$shim "$programs/random-binds" -s "$seed" "$count" >shared
    same plain shared
}

@test "random binds end as without reuse-run, and share what is to be shared" {
    count=$(times 4000 100000)
    hold_some
    "$programs/random-binds" "$seed" "$count" >plain
    "$build/reuse-run" --watch "$programs/random-binds" -s "$seed" "$count" >shared
    same plain shared
}

@test "random binds end as without the shim or reuse-run for an ordinary user" {
    needs_root
    count=$(times 2000 50000)
    public "$programs/random-binds" "$shim" "$build/reuse-run"
    user=(setpriv --reuid 1234 --regid 1234 --clear-groups)
    hold_some
    "${user[@]}" "$public/random-binds" "$seed" "$count" >plain
    grep --quiet -- '-1 EACCES' plain
    "${user[@]}" env LD_PRELOAD="$public/libreuse.so" "$public/random-binds" -s "$seed" "$count" >shared
    same plain shared
    "${user[@]}" "$public/reuse-run" --watch "$public/random-binds" -s "$seed" "$count" >shared
    same plain shared
}

@test "a list that names none of the ports leaves every random bind as it is" {
    count=$(times 2000 50000)
    export LIBREUSE_PORTS=40000
    hold_some
    "$programs/random-binds" "$seed" "$count" >plain
    LD_PRELOAD=$shim LIBREUSE_LOG=1 "$programs/random-binds" "$seed" "$count" >left-out 2>lines
    same plain left-out
    [[ $(grep --count ': left out by LIBREUSE_PORTS' lines) -gt $((count / 4)) ]]
    "$build/reuse-run" --watch "$programs/random-binds" "$seed" "$count" >left-out
    same plain left-out
}

@test "random lists are read as a second reader of the grammar reads them" {
    echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' >probe.c
    clang -fsanitize=fuzzer,address,undefined probe.c -o probe || skip "clang makes no fuzzers"
    clang -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
        "$root"/tests/fuzz/ports.c "$root"/shim/ports.c -o fuzz
    mkdir lists
    number=0
    while IFS= read -r list; do
        number=$((number + 1))
        printf '%s' "$list" >"lists/$number"
    done <"$root/tests/fuzz/ports.txt"
    run -0 ./fuzz -seed="$seed" -runs="$(times 10000 2000000)" -max_len=1024 -print_final_stats=1 lists
    [[ $output =~ stat::new_units_added:\ +([0-9]+) && ${BASH_REMATCH[1]} -gt 100 ]]
}

# random_port: sets $port to a random PORT for reuse-group, well-formed or not, and $good to which.
random_port() {
    local pieces=(0 1 8 80 07001 65535 65536 99999999999 / /tcp /udp /sctp - + x ' ' '') first last piece
    port=
    for ((piece = RANDOM % 3; piece >= 0; piece--)); do
        port+=${pieces[RANDOM % ${#pieces[@]}]}
    done
    good=
    [[ $port =~ ^([0-9]{1,5})(-([0-9]{1,5}))?(/tcp|/udp)?$ ]] || return 0
    first=$((10#${BASH_REMATCH[1]}))
    last=$((10#${BASH_REMATCH[3]:-$first}))
    ((first < 1 || last > 65535 || first > last)) || good=1
}

@test "reuse-group refuses every random port that is malformed, and no other" {
    local taken=() refused=0 count
    count=$(times 150 5000)
    RANDOM=$seed
    for ((i = 0; i < count; i++)); do
        random_port
        if [[ -n $good ]]; then
            taken+=("$port")
            continue
        fi
        status=0
        message=$("$build/reuse-group" -- 80 "$port" 2>&1) || status=$?
        [[ $status -eq 2 && $message == "reuse-group: '$port': "* && $message != *$'\n'* ]]
        refused=$((refused + 1))
    done
    run -1 "$build/reuse-group" "${taken[@]}"
    [[ $output == "$(printf 'reuse-group: nothing is on port %s\n' "${taken[@]}")" ]]
    ((refused > count / 5 && ${#taken[@]} > count / 20))
}
