#!/usr/bin/env bats
# What the kernel shares in a cgroup: which programs, which binds, in which cgroup.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2154
load common
load cgroups

setup() {
    common_setup
    needs_cgroups
    nobody=(setpriv '--reuid=65534' '--regid=65534' --clear-groups)
    static=$programs/static
    # Of its own, so that no TIME_WAIT of an earlier test is on it.
    port=$((8100 + 10 * BATS_TEST_NUMBER))
    "$reuse_cgroup" "$cgroup"
}

teardown() {
    remove_cgroups
    common_teardown
}

# --- which binds ---

# without_option FILE: what is there, but for SO_REUSEPORT of TCP and UDP sockets.
without_option() {
    sed -E '/^([0-9]+ )?(m?p?tcp|udp|odd)/ s/SO_REUSEPORT -?[01]( and not [01])?/SO_REUSEPORT/' "$1"
}

# ends_alike PROGRAM [ARG]...: whether what PROGRAM prints, of thousands of binds, is the same in the
# cgroup as outside, but for that option.
ends_alike() {
    echo "0 0" >/proc/sys/net/ipv4/ping_group_range
    "$@" >outside
    (inside "$cgroup" "$@") >within
    diff <(without_option outside) <(without_option within)
    [[ $(wc -l <within) -gt 4000 ]]
    run ! cmp --silent outside within
}

@test "every odd bind ends as it does outside, and an address of another family is left alone" {
    ends_alike "$programs/odd-binds"
    for family in 1 10; do
        grep "^tcp, address family $family: -1 .*, SO_REUSEPORT 0" within
    done
    grep '^tcp6, address family 2: -1 .*, SO_REUSEPORT 0' within
}

@test "every odd bind ends as it does outside in a 32-bit program" {
    needs_m32
    ends_alike "$build/tests32/odd-binds"
}

@test "every odd bind ends as it does outside for an ordinary user" {
    public "$programs/odd-binds"
    ends_alike "${nobody[@]}" "$public/odd-binds"
    grep 'tcp, port 80: -1 EACCES' within
}

@test "random binds end as they do outside" {
    ends_alike "$programs/random-binds" "${SEED:-1}" "$(times 20000 200000)"
}

@test "sockets that are neither TCP nor UDP keep their flag" {
    echo "0 0" >/proc/sys/net/ipv4/ping_group_range
    for kind in raw-tcp raw-tcp6 raw-udp raw-udp6 raw-icmp ping unix unix-dgram netlink netlink-6 packet; do
        leaves_out "$cgroup" "$kind" "$([[ $kind == raw-* || $kind == ping ]] && echo 0 || echo -)"
    done
}

@test "a port that the kernel picks is left alone, and stays unique" {
    for kind in udp udp6 tcp tcp6; do
        run -0 inside "$cgroup" "$programs/port-zero" "$kind" 4000
        [[ $output == "4000 sockets, 4000 ports, 0 joined" ]]
    done
}

@test "a bind that fails leaves the option on" {
    "$reuse_cgroup" --ports=8000 "$cgroup"
    run inside "$cgroup" "$programs/bind-to" -1 udp 192.0.2.1:8000 9000
    [[ $output == $'192.0.2.1:8000 EADDRNOTAVAIL, SO_REUSEPORT 1\n9000 bound, SO_REUSEPORT 1' ]]
}

@test "random lists are to the kernel what they are to the shim" {
    run -0 inside "$cgroup" "$programs/random-lists" "$reuse_cgroup" "${SEED:-1}" "$(times 1000 10000)" 100
    [[ ${#lines[@]} -eq 1 && $output =~ ^(1000 lists, 100000|10000 lists, 1000000)\ binds,\ ([0-9]+)\ shared$ ]]
    [[ ${BASH_REMATCH[2]} -gt 30000 ]]
}

@test "the longest list that can be is taken" {
    local list item
    for item in {1..128}; do
        list+=${list:+,}$(printf '[2001:db8:%x:%x:%x:1234:abcd:%x]:%d-%d/tcp' \
            $((item % 2)) $((item % 3)) $((item % 5)) "$item" "$item" $((item + 60000)))
    done
    "$reuse_cgroup" --ports="$list" "$cgroup"
    leaves_out "$cgroup" tcp6 8000
    "$reuse_cgroup" --ports="${list%,*},8000" "$cgroup"
    shares "$cgroup" tcp6 8000
    shares "$cgroup" udp 8000
}

@test "binds in threads, signal handlers and children are shared" {
    for way in threads signal fork vfork; do
        run -0 inside "$cgroup" "$programs/bind-in" "$way"
        echo "$way: $output"
        [[ $output =~ ^([0-9]+)\ bound,\ ([0-9]+)\ shared$ ]]
        [[ ${BASH_REMATCH[1]} -ge 100 && ${BASH_REMATCH[2]} -eq ${BASH_REMATCH[1]} ]]
    done
}

# --- which programs (they leave TIME_WAIT on ports that the binds above are made to) ---

# answered_by N PORT: whether N servers answer there, of many requests.
answered_by() {
    local request
    for request in {1..40}; do
        curl --silent --show-error --noproxy '*' --max-time 10 "http://127.0.0.1:$2/"
    done | sed 's/.*pid //' | sort --unique >answers
    [[ $(wc -l <answers) -eq $1 ]]
}

# both_answer PORT COMMAND...: starts two copies of a server in the cgroup; whether both of them
# answer.
both_answer() {
    local copy
    for copy in first second; do
        start "$copy" inside "$cgroup" "${@:2}"
    done
    eventually listening 2 "$1" || { cat first.log second.log && return 1; }
    eventually answered_by 2 "$1"
    printf '%s\n' "${started[@]: -2}" | sort | diff - answers
}

@test "two copies of a dynamic program answer, and outside the second is refused" {
    both_answer "$port" "$programs/http-server" "$port"
    port=$((port + 1))
    start outside "$programs/http-server" "$port"
    eventually listening 1 "$port"
    run -1 "$programs/http-server" "$port"
    [[ $output == *"Address already in use" ]]
}

@test "two copies of a static program answer" {
    both_answer "$port" "$static/http-server" "$port"
}

@test "two copies of a static Go program answer" {
    both_answer "$port" "$programs/go-static" "127.0.0.1:$port"
}

@test "two copies of a program on musl answer" {
    both_answer "$port" "$programs/musl/http-server" "$port"
}

@test "two copies of 32-bit programs answer, dynamic and static" {
    needs_m32
    both_answer "$port" "$build/tests32/http-server" "$port"
    port=$((port + 1))
    both_answer "$port" "$build/tests32/static/http-server" "$port"
}

@test "two copies that bind by io_uring answer, which the shim does not reach" {
    run env LD_PRELOAD="$programs/libring-bind.so" "$programs/bind-to" tcp "$port"
    [[ $output != "$port ENOSYS"* ]] || skip "needs io_uring's bind (Linux 6.11)"
    run env LD_PRELOAD="$programs/libring-bind.so $shim" "$programs/bind-to" tcp "$port"
    [[ $output == "$port bound, SO_REUSEPORT 0" ]]
    both_answer "$port" env LD_PRELOAD="$programs/libring-bind.so" "$programs/http-server" "$port"
}

@test "two copies of a program with file capabilities answer, run as nobody" {
    public "$static/http-server"
    run -1 "${nobody[@]}" "$public/http-server" 80
    [[ $output == "bind: Permission denied" ]]
    # cap_net_bind_service=ep, as setcap(8) writes it
    python3 -c 'import os, sys; os.setxattr(sys.argv[1], "security.capability",
        bytes.fromhex("0100000200040000000000000000000000000000"))' "$public/http-server"
    both_answer 80 "${nobody[@]}" "$public/http-server" 80
}

@test "two copies of a set-user-id program answer, run as another user" {
    public "$programs/http-server"
    chown 65534 "$public/http-server"
    chmod u+s "$public/http-server"
    both_answer "$port" setpriv --reuid=1234 --regid=1234 --clear-groups "$public/http-server" "$port"
    run -0 "$build/reuse-group" "$port"
    [[ $output == *"copies of user 'nobody' can join"* ]]
}

@test "two copies behind env -i, nice, setpriv and all of them answer" {
    public "$programs/http-server"
    both_answer "$port" env -i "$public/http-server" "$port"
    both_answer "$((port + 1))" nice "$public/http-server" "$((port + 1))"
    both_answer "$((port + 2))" "${nobody[@]}" "$public/http-server" "$((port + 2))"
    both_answer "$((port + 3))" env -i nice "${nobody[@]}" "$public/http-server" "$((port + 3))"
}

@test "two copies that bind in a library opened with RTLD_DEEPBIND answer, which the shim does not reach" {
    run -0 env LD_PRELOAD="$shim" python3 -c 'import ctypes, os, sys
ctypes.CDLL(sys.argv[1], mode=os.RTLD_DEEPBIND)' "$programs/libearly-bind.so"
    [[ $output == "early bind, errno kept, SO_REUSEPORT 0" ]]
    both_answer 7000 python3 "$root/tests/programs/deep-server.py" "$programs/libearly-bind.so"
}

# echoes PORT: whether what is sent to a server there comes back, for TCP.
echoes() {
    local socket line
    exec {socket}<>"/dev/tcp/127.0.0.1/$1"
    echo "hello $socket" >&"$socket"
    read -r -t 10 line <&"$socket"
    exec {socket}>&-
    [[ $line == "hello $socket" ]]
}

@test "two copies answer whose seccomp filter allows nothing but what a server needs" {
    for copy in first second; do
        start "$copy" inside "$cgroup" "$programs/few-calls" -g tcp "$port"
    done
    eventually listening 2 "$port"
    # Each serves one, and ends.
    echoes "$port"
    echoes "$port"
    for pid in "${started[@]}"; do
        wait "$pid"
    done
}

@test "two copies of a UDP server answer" {
    for copy in first second; do
        start "$copy" inside "$cgroup" "$programs/udp-server" "$port"
    done
    eventually bound 2 "$port"
    ask_both() {
        local query socket
        for query in {1..40}; do
            exec {socket}<>"/dev/udp/127.0.0.1/$port"
            echo who >&"$socket"
            timeout 10 head -n 1 <&"$socket"
            exec {socket}>&-
        done | sort --unique | diff - <(printf 'pid %s\n' "${started[@]}" | sort)
    }
    eventually ask_both
}

@test "MPTCP sockets are shared too, though getsockopt does not tell" {
    leaves_out "$cgroup" mptcp 8001
    both_answer "$port" "$programs/odd-server" "mptcp:$port"
}

@test "reuse-group shows such copies as shared, and steers them" {
    both_answer "$port" "$static/http-server" "$port"
    run -0 "$build/reuse-group" "$port"
    [[ $output == *"2 members; copies of user 'root' can join"* ]]
    run -0 "$build/reuse-group" --steer=1 "$port"
    eventually answered_by 1 "$port"
}

@test "reuse-launch reloads such copies, and no request fails" {
    # Not by the shim: it is to leave them out.
    PATH=$build:$root/scripts:$PATH
    start launch inside "$cgroup" env LIBREUSE_PORTS=1 reuse-launch --copies=2 -- \
        "$programs/http-server" "$port"
    launch=$pid
    eventually grep --quiet '2 copies serve' launch.log
    answered_by 2 "$port"
    cp answers old
    start load "$programs/http-load" -c 2 -n 2000 "$port"
    kill -HUP "$launch"
    eventually grep --quiet 'reload: 2 copies serve' launch.log
    wait "$pid"
    grep '2000 answered, 0 failed' load.log
    eventually answered_by 2 "$port"
    [[ -z $(comm -12 old answers) ]]
    kill "$launch"
    wait "$launch"
}

# --- in which cgroup ---

@test "below, what is on there and what is on above both hold" {
    mkdir "$cgroup/below"
    "$reuse_cgroup" --ports=8000 "$cgroup"
    "$reuse_cgroup" --ports=8001 "$cgroup/below"
    shares "$cgroup" tcp 8000
    leaves_out "$cgroup" tcp 8001
    shares "$cgroup/below" tcp 8000
    shares "$cgroup/below" tcp 8001
    leaves_out "$cgroup/below" tcp 8002
    "$reuse_cgroup" --remove "$cgroup"
    leaves_out "$cgroup/below" tcp 8000
    shares "$cgroup/below" tcp 8001
}

# moves SCRIPT: runs Python, which has move() to go to a cgroup, new() for a socket, and shared() to
# bind one and tell.
moves() {
    python3 -c '
import os, socket, sys
def move(cgroup):
    open(cgroup + "/cgroup.procs", "w").write("0")
def new():
    return socket.socket()
def shared(one):
    one.bind(("127.0.0.1", 8000))
    on = one.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
    one.close()
    return on
outside, cgroup = sys.argv[1:]
'"$1" "$mount" "$cgroup"
}

@test "what counts is the cgroup that a socket was made in" {
    run -0 moves '
before = new()
move(cgroup)
within = new()
print("made outside, bound within:", shared(before))
print("made and bound within:", shared(new()))
move(outside)
print("made within, bound outside:", shared(within))
print("made and bound outside:", shared(new()))'
    diff - <(echo "$output") <<'END'
made outside, bound within: 0
made and bound within: 1
made within, bound outside: 1
made and bound outside: 0
END
}

@test "a socket of a cgroup that is removed is still shared" {
    run -0 moves '
move(cgroup)
within = new()
move(outside)
os.rmdir(cgroup)
print(shared(within))'
    [[ $output == 1 && ! -d $cgroup ]]
}

@test "copies in several cgroups share one port" {
    mkdir "$cgroup/one" "$cgroup/two"
    start first inside "$cgroup/one" "$static/http-server" 8000
    start second inside "$cgroup/two" "$static/http-server" 8000
    start third env LD_PRELOAD="$shim" "$programs/http-server" 8000
    eventually listening 3 8000
    eventually answered_by 3 8000
}
