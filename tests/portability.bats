#!/usr/bin/env bats
# Other machines, kernels and confinements: what builds for 32-bit x86 and 64-bit ARM and runs
# there, and what happens where the kernel or a filter lacks what libreuse asks for.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2030,SC2031,SC2154
load common

setup() {
    common_setup
    arm=$BATS_FILE_TMPDIR/arm/build
    arm_libc=/usr/aarch64-linux-gnu
}

teardown() {
    common_teardown
}

# needs_arm: skips a test that takes a libc for 64-bit ARM, and what runs programs for it.
needs_arm() {
    { [[ -e $arm_libc/lib/crti.o ]] && command -v clang qemu-aarch64; } >&2 ||
        skip "needs clang, qemu-user and a libc for 64-bit ARM"
}

# builds FOLDER COMPILER [VARIABLE=VALUE|TARGET]...: builds in a copy of the source, where no
# warning is let through; what was built there before stays.
builds() {
    local folder=$1 compiler=$2
    mkdir -p "$folder/tests"
    cp --recursive --update "$root/Makefile" "$root/shim" "$folder"
    cp --recursive --update "$root/tests/programs" "$folder/tests"
    make --silent --directory="$folder" CC="$compiler" CFLAGS='-O2 -Werror' "${@:3}"
}

# builds_for_arm TARGET...: the same with clang for 64-bit ARM.  What is linked without libgcc needs
# no compiler's package for that machine: Debian's cannot be had beside the one for gcc -m32.
builds_for_arm() {
    local lib=$arm_libc/lib compiler
    compiler="clang --target=aarch64-linux-gnu -mno-outline-atomics -isystem $arm_libc/include"
    builds "$BATS_FILE_TMPDIR/arm" "$compiler" build/libreuse.so
    builds "$BATS_FILE_TMPDIR/arm" "$compiler" \
        LDFLAGS="-nostdlib $lib/Scrt1.o $lib/crti.o $lib/crtn.o -L$lib -lc" "$@"
}

# is_for MACHINE FILE...: whether each file is for it, as readelf calls it.
is_for() {
    local file
    for file in "${@:2}"; do
        [[ $(readelf --file-header "$file") =~ Machine:\ *"$1"$'\n' ]] || return
    done
}

# on_arm PROGRAM [ARG]...: runs it on an emulated processor, with $preload preloaded.
on_arm() {
    exec qemu-aarch64 -L "$arm_libc" ${preload:+-E LD_PRELOAD="$preload"} "$@"
}

# needs_nothing LIBRARY: whether it names no library, no symbol version, imports only what glibc
# 2.17 and musl have, and exports bind alone.
needs_nothing() {
    local known='__errno_location bcmp dlsym fcntl getenv getpid getsockname getsockopt inet_ntop
        inet_pton memcmp memcpy memset ntohs setsockopt strcmp strcspn strlen syscall'
    run readelf --wide --dynamic --version-info "$1"
    [[ $status -eq 0 && $output == *SONAME* && $output != *NEEDED* && $output != *VERNEED* ]]
    nm --dynamic --undefined-only "$1" | awk '{ print $NF }' >imports
    [[ -s imports ]]
    run grep --invert-match --line-regexp --fixed-strings "${known// /$'\n'}" imports
    [[ $output == "" ]]
    run nm --dynamic --defined-only --format=just-symbols "$1"
    [[ $output == bind ]]
}

# answered N: which copies answer N requests to port 8000, a pid a line.
answered() {
    local number
    for ((number = 0; number < $1; number++)); do
        curl --silent --show-error --max-time 10 http://127.0.0.1:8000/
    done | awk '{ print $NF }' | sort --unique
}

# said NAME TEXT: whether the background command NAME has printed that in a line.
said() {
    grep --quiet "$2" "$BATS_TEST_TMPDIR/$1.log"
}

# ends_with STATUS PID: waits for the background command; whether that is its status.
ends_with() {
    local status=0
    wait "$2" || status=$?
    [[ $status -eq $1 ]]
}

# --- other machines ---

@test "gcc and clang build everything for 64-bit and 32-bit x86, each file for that machine" {
    [[ $(uname -m) == x86_64 ]] || skip "for x86"
    for compiler in gcc clang; do
        command -v "$compiler" || continue
        builds "$compiler" "$compiler" all
        is_for 'Advanced Micro Devices X86-64' "$compiler"/build/{libreuse.so,reuse-run,reuse-cgroup,reuse-group}
        needs_nothing "$compiler/build/libreuse.so"
        [[ ! -e $build/lib32/libreuse.so ]] && continue
        is_for 'Intel 80386' "$compiler/build/lib32/libreuse.so"
        needs_nothing "$compiler/build/lib32/libreuse.so"
        builds "$compiler-32" "$compiler -m32" all
        is_for 'Intel 80386' "$compiler-32"/build/{libreuse.so,reuse-run,reuse-cgroup,reuse-group}
        needs_nothing "$compiler-32/build/libreuse.so"
        [[ ! -e $compiler-32/build/lib32/libreuse.so ]]
    done
}

@test "everything builds for 64-bit ARM, each file for that machine" {
    needs_arm
    builds_for_arm all
    is_for AArch64 "$arm"/{libreuse.so,reuse-run,reuse-cgroup,reuse-group}
    needs_nothing "$arm/libreuse.so"
    [[ ! -e $arm/lib32/libreuse.so ]]
    run -0 on_arm "$arm/reuse-run" --version
    run -0 on_arm "$arm/reuse-cgroup" --version
    run -0 on_arm "$arm/reuse-group" --version
}

# test_programs: prints the targets that build every program of the tests.
test_programs() {
    local source name
    for source in "$root"/tests/programs/*.c; do
        name=$(basename "$source" .c)
        [[ $name == lib* ]] && name+=.so
        echo "build/tests/$name"
    done
}

@test "everything builds where libc knows no system call that is newer than Linux 5.4" {
    # As glibc 2.31 does not, of Debian 11.
    mkdir -p old/sys
    {
        echo '#include_next <sys/syscall.h>'
        cpp -dM -include sys/syscall.h /dev/null |
            awk '$2 ~ /^__NR_/ && $3 > 435 && $3 < 1000 { sub(/__NR_/, "SYS_", $2); print "#undef", $2 }'
    } >old/sys/syscall.h
    grep --quiet SYS_close_range old/sys/syscall.h
    builds old-libc "gcc -isystem $PWD/old" all
    run -0 old-libc/build/reuse-run --version
    run -0 old-libc/build/reuse-group --version
}

@test "musl-gcc builds everything, and what it builds shares a port in each way" {
    command -v musl-gcc || skip "needs musl-gcc"
    # shellcheck disable=SC2046 # several
    builds musl musl-gcc all $(test_programs)
    needs_nothing musl/build/libreuse.so
    [[ ! -e musl/build/lib32/libreuse.so ]]
    start preloaded env LD_PRELOAD="$PWD/musl/build/libreuse.so" musl/build/tests/http-server
    start watched musl/build/reuse-run --watch musl/build/tests/http-server
    eventually listening 2 8000
    run -0 musl/build/reuse-group 8000
    [[ $output == *"  2 members; "* ]]
}

@test "the library that is installed needs no library and imports only what every libc has" {
    for library in "$build"{,/lib32}/libreuse.so; do
        [[ ! -e $library ]] || needs_nothing "$library"
    done
}

@test "on 64-bit ARM a second copy is refused, and with the shim two share and both answer" {
    needs_arm
    builds_for_arm build/tests/http-server
    start alone on_arm "$arm/tests/http-server"
    eventually listening 1 8000
    run -1 on_arm "$arm/tests/http-server"
    [[ $output == "bind: Address already in use" ]]
    kill "$pid"
    eventually listening 0 8000
    preload=$arm/libreuse.so
    start one on_arm "$arm/tests/http-server"
    local first=$pid
    start two on_arm "$arm/tests/http-server"
    eventually listening 2 8000
    [[ $(answered 60) == $(printf '%s\n' "$first" "$pid" | sort) ]]
}

@test "on 64-bit ARM ports that the kernel picks are shared, and stay unique" {
    needs_arm
    builds_for_arm build/tests/port-zero
    preload=$arm/libreuse.so
    for kind in tcp tcp6 udp udp6; do
        run -0 on_arm "$arm/tests/port-zero" "$kind" 1000
        [[ $output == "1000 sockets, 1000 ports, 1000 joined" ]]
    done
    preload=
    run -0 on_arm "$arm/tests/port-zero" udp 100
    [[ $output == "100 sockets, 100 ports, 0 joined" ]]
}

@test "on 64-bit ARM every odd call ends as it does without the shim" {
    needs_arm
    builds_for_arm build/tests/odd-binds
    local kinds=(tcp udp6 mptcp ping unix) # all of them take a minute
    echo "0 0" >/proc/sys/net/ipv4/ping_group_range
    (on_arm "$arm/tests/odd-binds" "${kinds[@]}") >without
    (preload=$arm/libreuse.so on_arm "$arm/tests/odd-binds" "${kinds[@]}") >with
    diff without with
    [[ $(wc -l <with) -gt 1000 ]]
}

@test "on 64-bit ARM threads, signal handlers and children share" {
    # No vfork: to the emulator it is a fork.
    needs_arm
    builds_for_arm build/tests/bind-in
    preload=$arm/libreuse.so
    for place in threads signal fork; do
        run -0 on_arm "$arm/tests/bind-in" "$place"
        [[ $output =~ ^([0-9]+)\ bound,\ ([0-9]+)\ shared$ && ${BASH_REMATCH[1]} -gt 0 ]]
        [[ ${BASH_REMATCH[1]} -eq ${BASH_REMATCH[2]} ]]
    done
}

# --- kernels that lack something ---

# without CALL ERROR COMMAND...: runs COMMAND where that system call fails with that error, as on an
# older kernel.  For start, in this process's place.
without() {
    local number error
    number=$(awk -v name="__NR_$1" '$2 == name { print $3 }' <(cpp -dM -include sys/syscall.h /dev/null))
    error=$(awk -v name="$2" '$2 == name { print $3 }' <(cpp -dM -include errno.h /dev/null))
    exec "$programs/deny" "$number" "$error" "${@:3}"
}

@test "without SO_REUSEPORT a program under the shim sees what it sees without the shim" {
    (without setsockopt ENOPROTOOPT "$programs/odd-binds") >plain
    (without setsockopt ENOPROTOOPT env LD_PRELOAD="$shim" "$programs/odd-binds") >shimmed
    diff plain shimmed
    [[ $(wc -l <shimmed) -gt 4000 ]]
}

@test "without SO_REUSEPORT a second copy is refused as ever, and the log says why" {
    # No SO_REUSEADDR either, so a port that no test has used before.
    export LD_PRELOAD=$shim LIBREUSE_LOG=1
    start one without setsockopt ENOPROTOOPT "$programs/http-server" 8001
    eventually listening 1 8001
    said one 'tcp 127.0.0.1:8001: not shared, SO_REUSEPORT: ENOPROTOOPT$'
    run -1 without setsockopt ENOPROTOOPT "$programs/http-server" 8001
    [[ $output == *'not shared, SO_REUSEPORT: ENOPROTOOPT: refused: EADDRINUSE'* ]]
    [[ ${lines[-1]} == "bind: Address already in use" ]]
}

@test "without pidfd_open nothing is watched, and the kernel that it takes is named" {
    [[ -e $build/reuse-run ]] || skip "no reuse-run for this machine"
    run -125 --separate-stderr without pidfd_open ENOSYS \
        "$build/reuse-run" --watch "$programs/bind-to" tcp 8000
    [[ -z $output && ${#stderr_lines[@]} -eq 1 ]]
    [[ $stderr == "reuse-run: cannot watch '$programs/bind-to': "*"Linux 5.6 or newer" ]]
}

@test "without pidfd_open or pidfd_getfd a group is shown, and to steer it names the kernel it takes" {
    LD_PRELOAD=$shim start one "$programs/http-server"
    LD_PRELOAD=$shim start two "$programs/http-server"
    eventually listening 2 8000
    for call in pidfd_open pidfd_getfd; do
        run -0 without "$call" ENOSYS "$build/reuse-group" 8000
        [[ $output == *"  2 members; "* ]]
        run -2 without "$call" ENOSYS "$build/reuse-group" --steer 0 8000
        [[ ${#lines[@]} -eq 1 && $output == "reuse-group: cannot steer tcp 127.0.0.1 port 8000: "* ]]
        [[ $output == *"Function not implemented; this takes Linux 5.6 or newer" ]]
    done
}

@test "without SO_DETACH_REUSEPORT_BPF a group stays as it is, and the kernel that it takes is named" {
    LD_PRELOAD=$shim start one "$programs/http-server"
    eventually listening 1 8000
    LD_PRELOAD=$shim start two "$programs/http-server"
    eventually listening 2 8000
    "$build/reuse-group" --steer 1 8000
    run -2 without setsockopt ENOPROTOOPT "$build/reuse-group" --unsteer 8000
    [[ ${#lines[@]} -eq 1 && $output == *": Protocol not available: this takes Linux 5.3 or newer"* ]]
    [[ $(answered 40) == "$pid" ]]
}

# --- programs that confine themselves ---

# echoes tcp|udp PORT: whether the server there sends back what it gets.
echoes() {
    local connection answer
    exec {connection}<>"/dev/$1/127.0.0.1/$2"
    echo hello >&"$connection"
    answer=$(timeout 60 head --lines=1 <&"$connection")
    exec {connection}>&-
    [[ $answer == hello ]]
}

# echoes_of_each tcp|udp PORT: whether two servers there, which end after one client, serve one each.
echoes_of_each() {
    local left
    for left in 2 1; do
        eventually sockets "$left" --listening "--$1" "sport = :$2"
        echoes "$1" "$2"
    done
}

@test "a program that is killed for any call that a plain server does not make shares, TCP and UDP" {
    for kind in tcp udp; do
        start alone "$programs/few-calls" "$kind" 8000
        eventually said alone 'port 8000, SO_REUSEPORT 0'
        kill "$pid"
        wait "$pid" || true
        local both=()
        for name in one two; do
            LD_PRELOAD=$shim start "$name" "$programs/few-calls" "$kind" 8000
            both+=("$pid")
            eventually said "$name" 'port 8000, SO_REUSEPORT 1'
        done
        echoes_of_each "$kind" 8000
        for pid in "${both[@]}"; do
            ends_with 0 "$pid"
        done
    done
}

@test "such a program shares a port that the kernel picks, TCP and UDP" {
    for kind in tcp udp; do
        LD_PRELOAD=$shim start picked "$programs/few-calls" "$kind" 0
        local first=$pid port
        eventually said picked 'port .*, SO_REUSEPORT 1'
        port=$(sed 's/port \(.*\),.*/\1/' picked.log)
        LD_PRELOAD=$shim start joined "$programs/few-calls" "$kind" "$port"
        eventually said joined "port $port, SO_REUSEPORT 1"
        echoes_of_each "$kind" "$port"
        ends_with 0 "$first"
        ends_with 0 "$pid"
    done
}

@test "a filter that kills for getsockopt kills under the shim, as the manual says" {
    start plain "$programs/few-calls" -g tcp 8000
    eventually said plain 'port 8000'
    kill "$pid"
    LD_PRELOAD=$shim run "$programs/few-calls" -g tcp 8000
    [[ $status -eq $((128 + $(kill -l SYS))) && -z $output ]]
}
