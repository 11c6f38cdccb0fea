#!/usr/bin/env bats
# The shim: what a bind() under libreuse.so does, and what it leaves alone.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2030,SC2031,SC2154
load common

setup() {
    common_setup
    export LD_PRELOAD=$shim
}

teardown() {
    unset LD_PRELOAD
    common_teardown
}

# reports LINE...: whether the last run printed just these lines and succeeded.
reports() {
    local expected
    expected=$(printf '%s\n' "$@")
    [[ $status -eq 0 && $output == "$expected" ]] && return
    printf 'status %s, expected:\n%s\ngot:\n%s\n' "$status" "$expected" "$output" >&2
    return 1
}

# as_user UID COMMAND...: runs COMMAND as that user and group.
as_user() {
    setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"
}

# --- which sockets are shared ---

@test "TCP, MPTCP, UDP and UDP-Lite sockets are shared, over IPv4 and IPv6" {
    for kind in tcp tcp6 mptcp mptcp6 udp udp6 udplite udplite6; do
        run "$programs/bind-to" "$kind" 8000
        reports "8000 bound, SO_REUSEPORT 1"
    done
}

@test "an IPv6 address without a scope id, the shortest there is, is shared" {
    run "$programs/bind-to" -s tcp6 '[::1]:8000'
    reports "[::1]:8000 bound, SO_REUSEPORT 1"
}

@test "an IPv4 address of AF_UNSPEC, which the kernel takes too, is shared" {
    run "$programs/bind-to" -u tcp 8000 127.0.0.1:8001
    reports "8000 bound, SO_REUSEPORT 1" "127.0.0.1:8001 EAFNOSUPPORT, SO_REUSEPORT 0"
}

@test "raw, ICMP, Unix, netlink and packet sockets keep their flags" {
    echo "0 0" >/proc/sys/net/ipv4/ping_group_range
    for kind in raw-tcp raw-tcp6 raw-udp raw-udp6 raw-icmp ping unix unix-dgram netlink \
        netlink-6 packet; do
        run "$programs/bind-to" "$kind" 8000
        reports "8000 bound, SO_REUSEPORT 0"
    done
}

@test "ports that the kernel picks are shared, and stay unique" {
    for kind in udp udp6 udplite tcp tcp6; do
        run "$programs/port-zero" "$kind" 4000
        reports "4000 sockets, 4000 ports, 4000 joined"
    done
}

@test "UDP ports that the kernel picks only when the socket connects stay unique too" {
    for kind in udp udplite; do
        run "$programs/port-zero" -c "$kind" 4000
        reports "4000 sockets, 4000 ports, 0 joined"
    done
}

@test "a port that the kernel picked cannot be joined without the shim" {
    unset LD_PRELOAD
    run "$programs/port-zero" udp 100
    reports "100 sockets, 100 ports, 0 joined"
}

# --- calls that fail ---

# odd_binds PROGRAM SHIM: the outcomes of thousands of odd calls must not depend on the shim.
odd_binds() {
    echo "0 0" >/proc/sys/net/ipv4/ping_group_range
    LD_PRELOAD='' "$1" >without
    LD_PRELOAD=$2 "$1" >with
    diff without with
    [[ $(wc -l <with) -gt 4000 ]]
}

@test "every odd call ends as it does without the shim" {
    odd_binds "$programs/odd-binds" "$shim"
}

@test "every odd call ends as it does without the shim in a 32-bit program" {
    needs_m32
    odd_binds "$build/tests32/odd-binds" "$build/lib32/libreuse.so"
}

@test "every odd call ends as it does without the shim for an ordinary user" {
    needs_root
    public "$programs/odd-binds" "$shim"
    as_user 1234 env LD_PRELOAD= "$public/odd-binds" >without
    as_user 1234 env LD_PRELOAD="$public/libreuse.so" "$public/odd-binds" >with
    diff without with
    grep 'tcp, port 80: -1 EACCES' with
}

@test "a bind that fails leaves the socket's next bind to be decided afresh" {
    run "$programs/bind-to" -1 udp 192.0.2.1:8000 0
    reports "192.0.2.1:8000 EADDRNOTAVAIL, SO_REUSEPORT 0" "0 bound, SO_REUSEPORT 1"
    LIBREUSE_PORTS=8000 run "$programs/bind-to" -1 udp 192.0.2.1:8000 9000
    reports "192.0.2.1:8000 EADDRNOTAVAIL, SO_REUSEPORT 0" "9000 bound, SO_REUSEPORT 0"
}

@test "a program that sets the option itself keeps it, until a bind fails" {
    LIBREUSE_PORTS=8000 run "$programs/bind-to" -1r udp 192.0.2.1:9000
    reports "192.0.2.1:9000 EADDRNOTAVAIL, SO_REUSEPORT 1"
    LIBREUSE_PORTS=8000 run "$programs/bind-to" -1r udp 9000
    reports "9000 bound, SO_REUSEPORT 1"
    run "$programs/bind-to" -1r udp 192.0.2.1:8000 8000
    reports "192.0.2.1:8000 EADDRNOTAVAIL, SO_REUSEPORT 0" "8000 bound, SO_REUSEPORT 1"
}

@test "a second bind of a socket fails, and changes nothing" {
    run "$programs/bind-to" -1 tcp 8000 8001
    reports "8000 bound, SO_REUSEPORT 1" "8001 EINVAL, SO_REUSEPORT 1"
    LIBREUSE_PORTS=8001 run "$programs/bind-to" -1 tcp 8000 8001
    reports "8000 bound, SO_REUSEPORT 0" "8001 EINVAL, SO_REUSEPORT 0"
}

@test "a holder that does not share keeps its port" {
    LD_PRELOAD='' start holder "$programs/bind-to" -w udp 8000
    eventually bound 1 8000
    run "$programs/bind-to" udp 8000
    reports "8000 EADDRINUSE, SO_REUSEPORT 0"
}

@test "a holder of another user keeps its port, and the log says why that can be" {
    needs_root
    start holder "$programs/bind-to" -w udp 8000
    eventually bound 1 8000
    public "$programs/bind-to" "$shim"
    LD_PRELOAD=$public/libreuse.so LIBREUSE_LOG=1 run as_user 1234 "$public/bind-to" udp 8000
    [[ $output == *"udp 0.0.0.0:8000: refused: EADDRINUSE, a holder of the port does not share it, or runs as another user"* ]]
    [[ $output == *"8000 EADDRINUSE, SO_REUSEPORT 0" ]]
}

# --- where bind() may be called ---

@test "32 threads bind at once" {
    run "$programs/bind-in" threads
    reports "3200 bound, 3200 shared"
}

@test "a signal handler binds, interrupting a bind" {
    run "$programs/bind-in" signal
    [[ $output =~ ^([0-9]+)\ bound,\ ([0-9]+)\ shared$ ]]
    [[ ${BASH_REMATCH[1]} -gt 100 && ${BASH_REMATCH[1]} -eq ${BASH_REMATCH[2]} ]]
}

@test "children of fork and vfork bind" {
    for place in fork vfork; do
        run "$programs/bind-in" "$place"
        reports "100 bound, 100 shared"
    done
}

@test "a library's constructor binds before main" {
    LD_PRELOAD=$shim:$programs/libearly-bind.so run "$programs/bind-to" tcp 8000
    reports "early bind, errno kept, SO_REUSEPORT 1" "8000 bound, SO_REUSEPORT 1"
}

@test "a bind before main is logged too" {
    unset LD_PRELOAD
    run --separate-stderr env LIBREUSE_LOG=1 LD_PRELOAD="$shim:$programs/libearly-bind.so" true
    [[ $stderr == "libreuse: pid "*": tcp 127.0.0.1:7000: shared" ]]
}

@test "a library's constructor before main keeps to LIBREUSE_PORTS" {
    LIBREUSE_PORTS=8000 LD_PRELOAD=$shim:$programs/libearly-bind.so run "$programs/bind-to" tcp 8000
    reports "early bind, errno kept, SO_REUSEPORT 0" "8000 bound, SO_REUSEPORT 1"
}

@test "a program that overwrites its environment keeps its LIBREUSE_PORTS" {
    export LIBREUSE_PORTS=8000
    run python3 -c '
import ctypes, socket
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_void_p
ctypes.memset(libc.getenv(b"LIBREUSE_PORTS"), ord("x"), 4)
for port in (8000, 9000):
    s = socket.socket()
    s.bind(("127.0.0.1", port))
    print(port, s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))'
    reports "8000 1" "9000 0"
}

# --- other libraries ---

@test "a library that interposes bind after the shim does its work, and the shim too" {
    LD_PRELOAD=$shim:$programs/libother-bind.so run "$programs/bind-to" tcp 8000
    reports "other bind, family 2, SO_KEEPALIVE set, SO_REUSEPORT 1" "8000 bound, SO_REUSEPORT 1"
}

@test "a library that interposes bind before the shim does its work, and the shim too" {
    LD_PRELOAD=$programs/libother-bind.so:$shim run "$programs/bind-to" tcp 8000
    reports "other bind, family 2, SO_KEEPALIVE set, SO_REUSEPORT 0" "8000 bound, SO_REUSEPORT 1"
}

@test "the shim loaded twice is as good as once" {
    cp "$shim" twin.so
    LD_PRELOAD=$shim:$PWD/twin.so run "$programs/bind-to" tcp 8000
    reports "8000 bound, SO_REUSEPORT 1"
}

# --- what it costs ---

# calls KIND: the system calls that bind-to makes from its first socket() on, one a line.
calls() {
    strace --output=trace "$programs/bind-to" "$1" 8000 >/dev/null
    sed -n '/^socket(/,$p' trace
}

# extra_calls KIND: prints what the shim adds to them.
extra_calls() {
    LD_PRELOAD='' calls "$1" | sed 's/(.*//' >without
    calls "$1" | sed 's/(.*//' >with
    [[ -s without ]]
    diff without with | sed -n 's/^[<>]/&/p'
}

@test "a shared bind makes four system calls more, and no other call makes any" {
    for kind in tcp tcp6 udp udp6 mptcp; do
        run extra_calls "$kind"
        reports "> getsockopt" "> getsockopt" "> bind" "> setsockopt"
    done
}

@test "a bind of another socket makes two system calls more" {
    for kind in raw-tcp raw-udp6 unix netlink packet; do
        run extra_calls "$kind"
        reports "> getsockopt" "> getsockopt"
    done
}

@test "a port that the kernel picks takes as many, one more for UDP, and the option is set last" {
    strace --output=trace "$programs/bind-to" tcp 0
    run sed -n '/^socket(/,/SO_REUSEPORT, \[1\]/s/(.*//p' trace
    reports socket getsockopt getsockopt bind bind setsockopt
    strace --output=trace "$programs/bind-to" udp 0
    run sed -n '/^socket(/,/SO_REUSEPORT, \[1\]/s/(.*//p' trace
    reports socket getsockopt getsockopt bind bind getsockname setsockopt
}

# --- where it can be loaded ---

@test "the same file works in a program on musl" {
    LD_PRELOAD='' musl-gcc -O2 -o musl-server "$root/tests/programs/http-server.c"
    [[ $(readelf --program-headers musl-server) == *ld-musl* ]]
    start one ./musl-server 8000
    start two ./musl-server 8000
    eventually listening 2 8000
}

@test "a 32-bit program shares its port" {
    needs_m32
    export LD_PRELOAD=$build/lib32/libreuse.so
    start one "$build/tests32/http-server" 8000
    start two "$build/tests32/http-server" 8000
    eventually listening 2 8000
}

@test "a program that has no dlsym, as before glibc 2.34, still shares its port" {
    LD_PRELOAD='' cc -shared -nostdlib -fPIC -fvisibility=hidden -fno-stack-protector -O2 \
        -Ddlsym=not_there -o without-dlsym.so "$root"/shim/{libreuse,log,ports,share}.c
    [[ $(nm --dynamic without-dlsym.so) == *" w not_there"* ]]
    LD_PRELOAD=$PWD/without-dlsym.so run "$programs/bind-to" tcp 8000
    reports "8000 bound, SO_REUSEPORT 1"
}
