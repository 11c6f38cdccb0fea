#!/usr/bin/env bats
# reuse-group: who shares a port, what is wrong there, and steering.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2030,SC2031,SC2154
load common

setup() {
    common_setup
    port=$((8100 + BATS_TEST_NUMBER))
    open=()
}

teardown() {
    local one
    for one in ${open[@]+"${open[@]}"}; do
        exec {one}>&-
    done
    for one in ${started[@]+"${started[@]}"}; do
        kill -CONT "$one" 2>/dev/null || true # or it would not end
    done
    common_teardown
}

# group ARG...: runs reuse-group.
group() {
    run "$build/reuse-group" "$@"
}

# servers N PROGRAM WHERE: starts N shared copies of a server of the tests, one after the other;
# their pids go into the array pids.
servers() {
    local number=0
    pids=()
    while ((number < $1)); do
        number=$((number + 1))
        start "$2-$number-${3//[^0-9]/_}" with_shim "$programs/$2" "$3"
        pids+=("$pid")
        if [[ $2 == udp-server ]]; then
            eventually holds "$pid" --udp
        else
            eventually holds "$pid" --listening --tcp
        fi
    done
}

# holds PID SS-OPTION...: whether the process has a socket.
holds() {
    ss --no-header --numeric --all --processes "${@:2}" | grep --quiet "pid=$1,"
}

# cells COLUMN PORT: the column of --tsv, in one line.
cells() {
    "$build/reuse-group" --tsv "$2" | awk -F '\t' -v column="$1" '
        NR == 1 { for (i = 1; i <= NF; i++) if ($i == column) wanted = i; next }
        { printf "%s%s", (NR > 2 ? " " : ""), $wanted } END { print "" }'
}

# cells_are TEXT COLUMN: whether the column of the port is that, a shell pattern.
cells_are() {
    # shellcheck disable=SC2053
    [[ $(cells "$2" "$port") == $1 ]]
}

# cell_of PID COLUMN PORT: the column of --tsv of the member that PID holds first.
cell_of() {
    "$build/reuse-group" --tsv "$3" | awk -F '\t' -v column="$2" -v pid="$1" '
        NR == 1 { for (i = 1; i <= NF; i++) if ($i == column) wanted = i; next }
        $5 ~ "^" pid "(,|$)" { print $wanted }'
}

# connect N: opens N connections to the port and leaves them open.
connect() {
    local number connection
    for ((number = 0; number < $1; number++)); do
        exec {connection}<>"/dev/tcp/127.0.0.1/$port"
        open+=("$connection")
    done
}

# answers N HOST: how many of N connections each pid answered, "PID COUNT" a line, by pid.
answers() {
    local number
    for ((number = 0; number < $1; number++)); do
        curl --silent --noproxy '*' --max-time 60 "http://$2:$port/"
    done | awk '{ count[$NF]++ } END { for (pid in count) print pid, count[pid] }' | sort -n
}

# datagrams N: sends a datagram from each of N sockets twice, and prints which copy answered the
# first, and which the second.
datagrams() {
    local number socket both
    for ((number = 0; number < $1; number++)); do
        exec {socket}<>"/dev/udp/127.0.0.1/$port"
        both=()
        for _ in 1 2; do
            echo who >&"$socket"
            both+=("$(timeout 60 head -n 1 <&"$socket")")
        done
        exec {socket}>&-
        echo "${both[@]#pid }"
    done
}

# says TEXT...: whether the last run printed each of the texts.
says() {
    local one
    for one; do
        [[ $output == *"$one"* ]] && continue
        printf 'status %s, nowhere "%s" in:\n%s\n' "$status" "$one" "$output" >&2
        return 1
    done
}

# keeps_quiet_of TEXT...: whether it printed none of them.
keeps_quiet_of() {
    local one
    for one; do
        [[ $output != *"$one"* ]] && continue
        printf '"%s" in:\n%s\n' "$one" "$output" >&2
        return 1
    done
}

# is EXPECTED ACTUAL
is() {
    [[ $1 == "$2" ]] && return
    printf 'expected "%s", got "%s"\n' "$1" "$2" >&2
    return 1
}

# as_nobody COMMAND...: runs COMMAND as an ordinary user.  For start, in this process's place.
as_nobody() {
    exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
}

needs_root() {
    setpriv --reuid 65534 --regid 65534 --clear-groups true ||
        skip "needs root, to run programs as other users"
}

# group_as_nobody ARG...: runs reuse-group as an ordinary user, after publish.
group_as_nobody() {
    run setpriv --reuid 65534 --regid 65534 --clear-groups "$public/reuse-group" "$@"
}

# The programs, for an ordinary user who may not see the checkout.
publish() {
    needs_root
    public "$build/reuse-group" "$shim" "$programs/"{bind-to,http-server,odd-server}
}

# in_name_of NAME COMMAND...: runs COMMAND in this process's place.  For start.
in_name_of() {
    exec -a "$1" "${@:2}"
}

# named NAME PORT: starts hold with NAME for its command line's first word.
named() {
    start named in_name_of "$1" "$programs/hold" "$2"
    eventually listening 1 "$2"
}

# --- the table ---

@test "every member of a port is shown with its process, user, sharing, queue and command" {
    servers 2 http-server "$port"
    group "$port"
    [[ $status -eq 0 ]]
    says "tcp    127.0.0.1  $port   0  " \
        "  root  yes           0    128  $programs/http-server $port"
    [[ $(grep -c "$programs/http-server $port" <<<"$output") -eq 2 ]]
    says "${pids[0]}  root" "${pids[1]}  root"
}

@test "a line below each group says how many members it has and who can join" {
    servers 3 http-server "$port"
    group "$port"
    is "  3 members; copies of user 'root' can join" "${lines[-1]}"
}

@test "members are numbered in order of joining" {
    servers 4 http-server "$port"
    is "${pids[*]}" "$(cells PID "$port")"
    is "0 1 2 3" "$(cells NO "$port")"
    servers 4 http-server "[::1]:$port"
    is "${pids[*]}" "$(cells PID "$port" | cut -d ' ' -f 5-)"
    servers 4 udp-server "$port"
    is "${pids[*]}" "$(cells PID "$port/udp")"
    servers 4 udp-server "[::1]:$port"
    is "${pids[*]}" "$(cells PID "$port/udp" | cut -d ' ' -f 5-)"
}

@test "without a port, the shared ports are shown and no others" {
    servers 1 http-server "$port"
    start alone "$programs/http-server" $((port + 1000))
    eventually listening 1 $((port + 1000))
    group
    [[ $status -eq 0 ]]
    says "$port"
    keeps_quiet_of "$((port + 1000))"
}

@test "without a shared port there is nothing to show, exit 1" {
    start alone "$programs/http-server" "$port"
    eventually listening 1 "$port"
    group
    [[ $status -eq 1 ]]
    is "reuse-group: no port is shared" "$output"
}

@test "nothing on one of the ports is exit 1, the others are shown" {
    servers 1 http-server "$port"
    group 9 "$port" 11/udp
    [[ $status -eq 1 ]]
    says "nothing is on port 9" "nothing is on port 11/udp" "http-server $port"
    group 9
    [[ $status -eq 1 ]]
    is "reuse-group: nothing is on port 9" "$output"
}

@test "the protocol after a port selects" {
    servers 1 http-server "$port"
    servers 1 udp-server "$port"
    is "tcp udp" "$(cells PROTO "$port")"
    is tcp "$(cells PROTO "$port/tcp")"
    is udp "$(cells PROTO "$port/udp")"
}

@test "a malformed port or option is exit 2 and named" {
    for bad in 0 65536 99999999999 http 80x -1 80/ 80/sctp 80/TCP /tcp '' ' 80' 90-80 ::1:80; do
        group -- "$bad"
        [[ $status -eq 2 ]]
        says "reuse-group: '$bad': "
    done
    group 80,x,81
    [[ $status -eq 2 ]]
    says "reuse-group: 'x': a port is a number"
    group --colour
    [[ $status -eq 2 ]]
    says "Try 'reuse-group --help'"
}

@test "IPv4, IPv6 and their addresses are groups of their own" {
    servers 2 http-server "0.0.0.0:$port"
    servers 2 http-server "127.0.0.1:$port"
    servers 2 http-server "[::]:$port"
    group "$port"
    [[ $(grep -c '^  2 members' <<<"$output") -eq 3 ]]
    is "0 1 0 1 0 1" "$(cells NO "$port")"
    is "0.0.0.0 0.0.0.0 127.0.0.1 127.0.0.1 :: ::" "$(cells ADDRESS "$port")"
}

@test "addresses, ranges and lists select, as in LIBREUSE_PORTS" {
    servers 1 http-server "0.0.0.0:$port"
    servers 1 http-server "127.0.0.1:$port"
    servers 1 http-server "[::]:$port"
    servers 1 udp-server "127.0.0.1:$port"
    is "127.0.0.1 127.0.0.1" "$(cells ADDRESS "127.0.0.1:$port")"
    is "127.0.0.1" "$(cells ADDRESS "127.0.0.1:$port/tcp")"
    is "::" "$(cells ADDRESS "[::]:$port")"
    is "0.0.0.0 ::" "$(cells ADDRESS "[::]:$port,0.0.0.0:$port")"
    is "tcp tcp tcp udp" "$(cells PROTO "1-$port")"
    group "10.0.0.1:$port"
    [[ $status -eq 1 ]]
    is "reuse-group: nothing is on port 10.0.0.1:$port" "$output"
}

@test "only the group of the address that is given is steered" {
    servers 3 http-server "127.0.0.1:$port"
    servers 1 http-server "127.0.0.2:$port"
    group --steer=1-2 "127.0.0.1:$port"
    [[ $status -eq 0 ]]
    group --steer=1-2 "$port"
    [[ $status -eq 2 ]]
    says "cannot steer tcp 127.0.0.2 port $port to member 2"
}

@test "an IPv6 group that gets IPv4 too says so, one for IPv6 only does not" {
    servers 1 http-server "[::]:$port"
    group "$port"
    says "of IPv4 as well"
    kill "${pids[0]}"
    eventually listening 0 "$port"
    start only with_shim "$programs/hold" -o "[::]:$port"
    eventually listening 1 "$port"
    group "$port"
    keeps_quiet_of "IPv4"
    servers 1 http-server "[::1]:$port"
    group "[::1]:$port"
    keeps_quiet_of "IPv4"
}

@test "UDP sockets show the memory that waiting datagrams take, and its limit" {
    start silent "$programs/bind-to" -rw udp "127.0.0.1:$port"
    eventually bound 1 "$port"
    is 0 "$(cells WAITING "$port")"
    echo x >"/dev/udp/127.0.0.1/$port"
    (($(cells WAITING "$port") >= 700))
    # What net.core.rmem_default says, which older kernels do not show in a network namespace.
    local limit
    limit=$(python3 -c 'from socket import *
print(socket(type=SOCK_DGRAM).getsockopt(SOL_SOCKET, SO_RCVBUF))')
    is "$limit" "$(cells LIMIT "$port")"
    group "$port"
    says "B  ${limit}B"
}

@test "tab-separated values have a title, a line a member and nothing else" {
    servers 2 http-server "$port"
    group --tsv "$port"
    [[ ${#lines[@]} -eq 3 ]]
    is "PROTO ADDRESS PORT NO PID USER SHARED WAITING LIMIT COMMAND PROBLEMS INODE PLACE" \
        "${lines[0]//$'\t'/ }"
    local inode
    inode=$(find "/proc/${pids[0]}/fd" -lname 'socket:*' -printf '%l')
    is "tcp|127.0.0.1|$port|0|${pids[0]}|root|yes|0|128|$programs/http-server $port|-|${inode//[^0-9]/}|-" \
        "${lines[1]//$'\t'/|}"
}

@test "UDP-Lite sockets are groups of their own" {
    [[ -e /proc/net/udplite ]] || skip "no UDP-Lite"
    start lite with_shim "$programs/bind-to" -w udplite "127.0.0.1:$port"
    eventually shown "$pid"
    start lite with_shim "$programs/bind-to" -w udplite "127.0.0.1:$port"
    eventually shown "$pid"
    servers 1 udp-server "$port"
    is "udp udplite udplite" "$(cells PROTO "$port")"
    is "0 0 1" "$(cells NO "$port")"
    is "udp udplite udplite" "$(cells PROTO "$port/udp")"
    group "$port"
    says "udplite" "  2 members; copies of user 'root' can join"
    group --steer=1 "$port"
    [[ $status -eq 2 ]]
    says "cannot steer udp 127.0.0.1 port $port to member 1"
}

# shown PID: whether the process has a line in the table.
shown() {
    [[ " $(cells PID "$port") " == *" $1 "* ]]
}

@test "a tab or newline in a command line breaks no line" {
    local script=$'import socket,time\ns=socket.create_server(("127.0.0.1",PORT))\ntime.sleep(600)\t'
    script=${script/PORT/$port}
    start odd python3 -c "$script"
    eventually listening 1 "$port"
    group --tsv "$port"
    [[ ${#lines[@]} -eq 2 ]]
    says "import socket,time?s="
    is 13 "$(awk -F '\t' 'END { print NF }' <<<"$output")"
}

@test "control characters in a command line are not printed" {
    named $'a\177b\302\233c\302\240d\e' "$port"
    is $'a?b??c\302\240d? '"$port" "$(cells COMMAND "$port")"
}

@test "octets that are control characters without UTF-8 are not printed, nor what is no UTF-8 of it" {
    # CSI, OSC and ST alone, in a character cut short, and in one that is written too long.
    named $'a\233b\235c\234d\342\200e\340\200\233f\301\233g\355\240\200h' "$port"
    is $'a?b?c?d\342?e\340??f\301?g\355\240?h '"$port" "$(cells COMMAND "$port")"
}

@test "characters that change the direction of text are not printed, others of their kind are" {
    named $'a\xe2\x80\xaeb\xe2\x81\xa6c\xe2\x81\xa9d\xe2\x80\x8ee\xd8\x9cf\xe2\x80\xa8g' "$port"
    is "a???b???c???d???e??f???g $port" "$(cells COMMAND "$port")"
    named $'\xd7\x90\xe2\x80\x90\xe2\x82\xac\xe6\x97\xa5\xf0\x9f\x98\x80\xc3\xa9' $((port + 1000))
    is $'\xd7\x90\xe2\x80\x90\xe2\x82\xac\xe6\x97\xa5\xf0\x9f\x98\x80\xc3\xa9 '"$((port + 1000))" "$(cells COMMAND $((port + 1000)))"
}

@test "a long command line is cut, and no character in two" {
    local many
    printf -v many '%59s' ''
    named "${many// /a}$(printf '\303\251')bc" "$port"
    group "$port"
    [[ ${lines[1]} == *"  ${many// /a}" ]]
    is "${many// /a}"$'\303\251'"bc $port" "$(cells COMMAND "$port")"
    printf -v many '%100s' ''
    named "${many// /$'\277'}" $((port + 1000))
    group $((port + 1000))
    is 57 "$(tail -n +2 <<<"$output" | tr -dc '\277' | wc -c)"
}

@test "a socket for one device is in no group with those for all" {
    start any with_shim "$programs/hold" "$port"
    start device with_shim "$programs/hold" -i lo "$port"
    eventually listening 2 "$port"
    is "0 0" "$(cells NO "$port")"
    is "127.0.0.1 127.0.0.1%lo" "$(cells ADDRESS "$port")"
}

@test "IPv6 sockets for IPv6 only are in no group with the others" {
    start one with_shim "$programs/bind-to" -w udp6 "[::]:$port"
    eventually bound 1 "$port"
    start only with_shim python3 -c "
import socket, time
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
s.bind(('::', $port))
time.sleep(600)"
    eventually bound 2 "$port"
    is "0 0" "$(cells NO "$port")"
}

@test "an MPTCP listener is shown as shared" {
    [[ -e /proc/sys/net/mptcp ]] || skip "no MPTCP"
    start mptcp "$programs/hold" -m "$port"
    eventually listening 1 "$port"
    is yes "$(cells SHARED "$port")"
}

@test "sockets that come and go leave the others in the table, each once" {
    start churn python3 -c "
import socket, time
def sockets(count):
    made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    for one in made:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(('127.0.0.1', $port))
    return made
steady = sockets(900)
print(*[__import__('os').fstat(s.fileno()).st_ino for s in steady], sep='\n', flush=True)
while True:
    some = sockets(5)
    time.sleep(0.005)
    del some
    time.sleep(0.005)"
    eventually steady_bound
    # The tables of one read each were wrong in one of 15 tries.
    for _ in {1..40}; do
        "$build/reuse-group" --tsv --no-wait "$port" | awk -F '\t' 'NR > 1 { print $12 }' >inodes
        is 0 "$(sort inodes | uniq -d | wc -l)"
        is 900 "$(grep --count --line-regexp --file=churn.log inodes)"
    done
}

steady_bound() {
    [[ $(wc -l <churn.log) -eq 900 ]]
}

# --- what is wrong ---

@test "a member that is not shared is told: nobody can join" {
    start alone "$programs/http-server" "$port"
    eventually listening 1 "$port"
    group "$port"
    [[ $status -eq 0 ]]
    says "  no  " "1 member; not shared: pid $pid (nobody can join: "
    keeps_quiet_of "can join: copies" "user 'root' can join"
    is "not-shared" "$(cells PROBLEMS "$port")"
    is "-" "$(cells NO "$port")"
}

@test "a UDP port that is not shared is not said to be closed to others" {
    start alone "$programs/bind-to" -aw udp "127.0.0.1:$port"
    eventually bound 1 "$port"
    start other "$programs/bind-to" -aw udp "127.0.0.1:$port"
    eventually bound 2 "$port"
    group "$port"
    says "2 members; not shared: pid " "(not spread over: "
    keeps_quiet_of "join"
}

@test "the user whose copies can join is named" {
    publish
    LD_PRELOAD=$public/libreuse.so start other as_nobody "$public/http-server" "$port"
    eventually listening 1 "$port"
    group "$port"
    says "nobody  yes" "copies of user 'nobody' can join"
}

@test "another user's member is in no group with the others" {
    needs_root
    servers 1 http-server "$port"
    start other with_shim "$programs/hold" -u 65534 "$port"
    eventually listening 2 "$port"
    group "$port"
    says "2 members; of another user: pid $pid (in no group with those of 'root')"
    is "other-user" "$(cell_of "$pid" PROBLEMS "$port")"
    is "0 0" "$(cells NO "$port")"
}

@test "what the caller may not see is shown as -, with a note" {
    publish
    servers 2 http-server "$port"
    group_as_nobody "$port"
    [[ $status -eq 0 ]]
    [[ $(grep -c ' 0  *-  root  - .* 128  -$\| 1  *-  root  - .* 128  -$' <<<"$output") -eq 2 ]]
    says "2 members; may be shared, by copies of user 'root'" "-: not for this caller to see; root, "
}

@test "one socket that the caller may not see is not said to be shared, nor not to be" {
    publish
    start alone "$programs/http-server" "$port"
    eventually listening 1 "$port"
    group_as_nobody
    [[ $status -eq 1 ]]
    group_as_nobody "$port"
    [[ $status -eq 0 ]]
    keeps_quiet_of "join" "shared"
    group_as_nobody --steer=0 "$port"
    [[ $status -eq 2 ]]
    says "cannot steer tcp 127.0.0.1 port $port: cannot see whether it is shared; be its user, or root"
}

@test "an ordinary user sees its own, without a note" {
    publish
    LD_PRELOAD=$public/libreuse.so start own as_nobody "$public/http-server" "$port"
    eventually listening 1 "$port"
    group_as_nobody "$port"
    [[ $status -eq 0 ]]
    says "$pid  nobody  yes" "$public/http-server"
    keeps_quiet_of "not for this caller"
}

@test "a socket that several processes hold is one member, and told" {
    start several with_shim "$programs/hold" -n 3 "$port"
    eventually listening 1 "$port"
    eventually several_hold
    group "$port"
    says "1 member; copies" "one socket in several processes: pid $pid (" "$pid+2"
    is "several-holders" "$(cells PROBLEMS "$port")"
    [[ $(cells PID "$port") == "$pid",*,* ]]
    pkill --parent "$pid"
}

@test "a process that has a socket twice is one process" {
    start twice with_shim "$programs/hold" -d "$port"
    eventually listening 1 "$port"
    is "$pid" "$(cells PID "$port")"
    is "-" "$(cells PROBLEMS "$port")"
}

@test "a process whose first thread has ended is shown, and steered" {
    for _ in 1 2; do
        start ended with_shim "$programs/hold" -t "$port"
        eventually in_state Z "$pid"
    done
    group "$port"
    says "$pid  root  yes " "$programs/hold -t $port" "2 members; copies of user 'root' can join"
    group --steer=1 "$port"
    [[ $status -eq 0 && -z $output ]]
    connect 10
    is "0 10" "$(cells WAITING "$port")"
}

@test "a socket is stopped when all that hold it are, not before" {
    start several with_shim "$programs/hold" -n 2 "$port"
    eventually listening 1 "$port"
    local child
    child=$(pgrep --parent "$pid")
    kill -STOP "$pid"
    eventually in_state T "$pid"
    is "several-holders" "$(cells PROBLEMS "$port")"
    kill -STOP "$child"
    eventually in_state T "$child"
    is "several-holders,stopped" "$(cells PROBLEMS "$port")"
    kill -KILL "$child" "$pid"
}

several_hold() {
    [[ $(cells PID "$port") == *,*,* ]]
}

@test "a full accept queue is told" {
    start full with_shim "$programs/hold" -b 2 "$port"
    eventually listening 1 "$port"
    connect 2
    is "-" "$(cells PROBLEMS "$port")"
    connect 1
    eventually cells_are 3 WAITING # the kernel queues it when the client is done already
    group "$port"
    says "queue full: pid $pid ("
    is "full" "$(cells PROBLEMS "$port")"
}

@test "a full UDP socket is told" {
    start silent "$programs/bind-to" -rw udp "127.0.0.1:$port"
    eventually bound 1 "$port"
    is "-" "$(cells PROBLEMS "$port")"
    local socket number
    exec {socket}<>"/dev/udp/127.0.0.1/$port"
    for ((number = 0; number < 400; number++)); do
        echo x >&"$socket"
    done
    exec {socket}>&-
    eventually loses "$pid"
    group "$port"
    says "queue full: pid $pid (datagrams are lost)"
}

@test "a UDP socket that loses what is too large for the room left is full" {
    start silent "$programs/bind-to" -rw udp "127.0.0.1:$port"
    eventually bound 1 "$port"
    local silent=$pid
    start sender python3 -c "
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    s.sendto(bytes(60000), ('127.0.0.1', $port))
    time.sleep(0.02)"
    eventually loses "$silent"
    (($(cells WAITING "$port") + 20000 < $(cells LIMIT "$port")))
}

# loses PID: whether its queue is said to be full.
loses() {
    is full "$(cell_of "$1" PROBLEMS "$port")"
}

@test "a UDP socket that lost datagrams once is not full for ever" {
    servers 1 udp-server "$port"
    kill -STOP "${pids[0]}"
    eventually in_state T "${pids[0]}"
    local socket number
    exec {socket}<>"/dev/udp/127.0.0.1/$port"
    for ((number = 0; number < 400; number++)); do
        echo x >&"$socket"
    done
    eventually cells_are full,stopped PROBLEMS
    kill -CONT "${pids[0]}"
    eventually cells_are 0 WAITING
    kill -STOP "${pids[0]}"
    eventually in_state T "${pids[0]}"
    echo x >&"$socket"
    exec {socket}>&-
    eventually cells_are '[1-9]*' WAITING
    is "stopped" "$(cells PROBLEMS "$port")"
    kill -CONT "${pids[0]}"
}

@test "a listener that gets what is no connection is not full" {
    start hung with_shim "$programs/hold" -b 100 "$port"
    eventually listening 1 "$port"
    connect 1
    start stray python3 -c "
import socket, struct, time
# Bare FINs, of no connection.
head = struct.pack('!HHIIBBHHH', 9, $port, 1, 0, 5 << 4, 1, 1024, 0, 0)
pseudo = socket.inet_aton('127.0.0.1') * 2 + struct.pack('!BBH', 0, 6, len(head))
total = sum(struct.unpack('!16H', pseudo + head))
total = (total & 0xffff) + (total >> 16)
head = head[:16] + struct.pack('!H', ~(total + (total >> 16)) & 0xffff) + head[18:]
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
while True:
    s.sendto(head, ('127.0.0.1', 0))
    time.sleep(0.01)"
    eventually drops
    is "-" "$(cells PROBLEMS "$port")"
}

# drops: whether the listener has dropped something.
drops() {
    ss --no-header --listening --tcp --memory "sport = :$port" | grep --quiet ',d[1-9]'
}

@test "a stopped copy among live ones under load is told, and no other" {
    servers 3 http-server "$port"
    kill -STOP "${pids[1]}"
    start load bash -c "for ((i = 0; i < 8; i++)); do
        while kill -0 \$\$; do curl -s --noproxy '*' -m 1 127.0.0.1:$port; done &
    done; wait"
    local load=$pid
    eventually stands "${pids[1]}"
    group "$port"
    says "stopped: pid ${pids[1]} (" "not moving: pid ${pids[1]} ("
    is "- not-moving,stopped -" "$(cells PROBLEMS "$port")"
    kill "$load"
    kill -CONT "${pids[1]}"
    eventually moves "${pids[1]}"
}

# in_state STATE PID: whether the process is, as ps shows it.
in_state() {
    [[ $(ps --no-headers --format state --pid "$2") == "$1" ]]
}

# stands PID, moves PID: whether connections wait for it.
stands() {
    [[ $(cell_of "$1" WAITING "$port") -gt 0 ]]
}

moves() {
    [[ $(cell_of "$1" PROBLEMS "$port") == - ]]
}

@test "a copy that hangs without being stopped is told" {
    servers 1 http-server "$port"
    start hung with_shim "$programs/hold" "$port"
    eventually listening 2 "$port"
    local hung=$pid number
    for ((number = 0; number < 20; number++)); do
        start client curl --silent --noproxy '*' "http://127.0.0.1:$port/"
    done
    eventually stands "$hung"
    group "$port"
    says "not moving: pid $hung (no shorter queue in 0.5 s"
    keeps_quiet_of "stopped"
    group --no-wait "$port"
    keeps_quiet_of "not moving"
}

@test "a group of which no member moves blames none of them" {
    start hung1 with_shim "$programs/hold" "$port"
    start hung2 with_shim "$programs/hold" "$port"
    eventually listening 2 "$port"
    connect 20
    is "- -" "$(cells PROBLEMS "$port")"
}

@test "a member that ends while queues are watched is gone, and blames no other" {
    start hung with_shim "$programs/hold" "$port"
    start ends with_shim "$programs/hold" "$port"
    local ends=$pid
    eventually listening 2 "$port"
    connect 20
    # It is stopped where it begins to sleep between two looks.
    start watch strace --output=trace --trace=clock_nanosleep,nanosleep \
        --inject=clock_nanosleep,nanosleep:signal=STOP:when=1 "$build/reuse-group" "$port"
    eventually grep --quiet 'stopped by SIGSTOP' trace
    kill "$ends"
    eventually listening 1 "$port"
    kill -CONT "$(pgrep --parent "$pid" reuse-group)"
    wait "$pid"
    run cat watch.log
    says "1 member; "
    keeps_quiet_of "not moving"
}

# --- options and output ---

@test "help and version go to standard output" {
    group --help
    [[ $status -eq 0 && $output == "Usage: reuse-group "* ]]
    group --version
    [[ $status -eq 0 && $output == "reuse-group (libreuse) "* ]]
}

@test "the manual page is clean and names every option" {
    command -v man || skip 'man is not installed'
    run man --warnings -l "$root/shim/group/reuse-group.1"
    [[ $status -eq 0 ]]
    keeps_quiet_of "warning"
    for option in --tsv --no-wait --places --steer --unsteer --help --version; do
        says "$option"
    done
}

@test "a result that cannot be written is exit 2" {
    servers 1 http-server "$port"
    run bash -c "'$build/reuse-group' $port >&-"
    [[ $status -eq 2 ]]
    says "reuse-group: cannot write: "
    run bash -c "'$build/reuse-group' --help >/dev/full"
    [[ $status -eq 2 ]]
}

@test "a kernel that does not tell of its sockets is exit 2" {
    [[ $(uname -m) == x86_64 ]] || skip "knows the number of socket(2) on x86-64 alone"
    run "$programs/deny" 41 93 "$build/reuse-group" "$port"
    [[ $status -eq 2 ]]
    says "reuse-group: cannot ask the kernel for its sockets: Protocol not supported"
}

# --- steering ---

@test "steered, all new connections go to the range, and unsteered to all again" {
    servers 4 http-server "$port"
    group --steer 2-3 "$port"
    [[ $status -eq 0 && -z $output ]]
    is "${pids[2]} ${pids[3]}" "$(answers 60 127.0.0.1 | cut -d ' ' -f 1 | paste -sd ' ')"
    group --steer=1 "$port/tcp"
    is "${pids[1]} 40" "$(answers 40 127.0.0.1)"
    group --unsteer "$port"
    [[ $status -eq 0 ]]
    is 4 "$(answers 100 127.0.0.1 | wc -l)"
}

@test "steered to a range, its members get about the same" {
    servers 3 http-server "$port"
    group --steer 0-1 "$port"
    # Chance leaves this range in one of 10,000 runs or fewer.
    answers 200 127.0.0.1 | awk '$2 < 70 || $2 > 130 { print; bad = 1 } END { exit bad || NR != 2 }'
}

@test "an IPv6 group is steered, and the IPv4 connections that it gets" {
    servers 3 http-server "[::]:$port"
    group --steer 1-2 "$port"
    is "${pids[1]} ${pids[2]}" "$(answers 40 '[::1]' | cut -d ' ' -f 1 | paste -sd ' ')"
    is "${pids[1]} ${pids[2]}" "$(answers 40 127.0.0.1 | cut -d ' ' -f 1 | paste -sd ' ')"
}

@test "every group on the port is steered" {
    servers 2 http-server "127.0.0.1:$port"
    local first=${pids[1]}
    servers 2 http-server "[::1]:$port"
    group --steer 1 "$port"
    is "$first 20" "$(answers 20 127.0.0.1)"
    is "${pids[1]} 20" "$(answers 20 '[::1]')"
}

@test "steered, a UDP flow keeps its copy, and flows go to the range alone" {
    servers 4 udp-server "$port"
    group --steer 1-2 "$port/udp"
    [[ $status -eq 0 ]]
    datagrams 60 >flows
    is 60 "$(awk '$1 == $2' flows | wc -l)"
    is "${pids[1]} ${pids[2]}" "$(cut -d ' ' -f 1 flows | sort -nu | paste -sd ' ')"
    group --unsteer "$port/udp"
    is 4 "$(datagrams 100 | cut -d ' ' -f 1 | sort -u | wc -l)"
}

@test "when a member leaves, the last has its number; who joins then comes last" {
    servers 3 http-server "$port"
    local old=("${pids[@]}")
    kill "${old[0]}"
    eventually listening 2 "$port"
    group --steer 0 "$port"
    is "${old[2]} 20" "$(answers 20 127.0.0.1)"
    servers 1 http-server "$port"
    group --steer 2 "$port"
    is "${pids[0]} 20" "$(answers 20 127.0.0.1)"
}

# places PORT: "PID PLACE" of each member, as --places finds them.
places() {
    "$build/reuse-group" --tsv --places "$1" | awk -F '\t' 'NR > 1 { print $5, $13 }'
}

# lead_there HOST: whether each member of the port gets what is steered to its place.
lead_there() {
    local pid place
    places "$port" >found
    [[ $(wc -l <found) -gt 2 ]]
    while read -r pid place; do
        group --steer="$place" "$port"
        is "$pid 5" "$(answers 5 "$1")"
    done <found
}

@test "the places that members have after others have left are found" {
    local at host first
    for at in 127.0.0.1 0.0.0.0 '[::1]' '[::]'; do
        port=$((port + 1000))
        host=${at/#0.0.0.0/127.0.0.1}
        servers 6 http-server "$at:$port"
        is "$(paste -d ' ' <(printf '%s\n' "${pids[@]}") <(seq 0 5))" "$(places "$port")"
        for first in 1 3; do
            kill "${pids[first]}"
            wait "${pids[first]}" || true
        done
        is "${pids[*]:0:1} ${pids[2]} ${pids[*]:4}" "$(cells PID "$port")"
        # The last got the place of the second, and who was last then that of the fourth.
        is "0 2 3 1" "$(places "$port" | cut -d ' ' -f 2 | paste -sd ' ')"
        lead_there "${host/'[::]'/127.0.0.1}"
    done
}

@test "places are found for UDP and MPTCP, and for one device" {
    servers 5 udp-server "$port"
    kill "${pids[0]}"
    wait "${pids[0]}" || true
    is "1 2 3 0" "$(places "$port" | cut -d ' ' -f 2 | paste -sd ' ')"
    for _ in 1 2 3; do
        start device with_shim "$programs/hold" -i lo $((port + 1000))
        eventually holds "$pid" --listening --tcp
    done
    is "0 1 2" "$(places $((port + 1000)) | cut -d ' ' -f 2 | paste -sd ' ')"
    port=$((port + 2000))
    mptcp_servers 4 "$port"
    kill "${pids[0]}"
    wait "${pids[0]}" || true
    is "1 2 0" "$(places "$port" | cut -d ' ' -f 2 | paste -sd ' ')"
    lead_there 127.0.0.1
}

@test "places of hundreds that come and go are found" {
    start many python3 -c "
import os, random, socket, time
def member():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(('127.0.0.1', $port))
    s.listen()
    return s
members = [member() for _ in range(300)]
for _ in range(500):
    if len(members) > 200 and random.random() < 0.6:
        place = random.randrange(len(members))
        members[place].close()
        members[place] = members[-1]
        members.pop()
    else:
        members.append(member())
for place, one in enumerate(members):
    print(os.fstat(one.fileno()).st_ino, place)
print('all', flush=True)
time.sleep(100)"
    eventually grep --quiet all many.log
    "$build/reuse-group" --tsv --places "$port" | awk -F '\t' 'NR > 1 { print $12, $13 }' | sort >found
    sed '/all/d' many.log | sort | diff - found
}

@test "a place is not told where it was not looked for, or cannot be found" {
    servers 2 http-server "$port"
    is "- -" "$(cells PLACE "$port")"
    group "$port"
    keeps_quiet_of PLACE
    group --places "$port"
    [[ $status -eq 0 ]]
    says "NO  PLACE "
    # One that was given to another user is still in the group of the user who had it.
    start given with_shim "$programs/hold" -u 65534 "$port"
    eventually listening 3 "$port"
    eventually shown_given
    run --separate-stderr "$build/reuse-group" --tsv --places "$port"
    [[ $status -eq 2 && ${#stderr_lines[@]} -eq 1 ]]
    [[ $stderr == "reuse-group: cannot find the places in tcp 127.0.0.1 port $port: it changes"* ]]
    is "- - -" "$(tail -n +2 <<<"$output" | cut -f 13 | paste -sd ' ')"
}

# shown_given: whether a member of the port is another user's.
shown_given() {
    [[ $(cells PROBLEMS "$port") == *other-user* ]]
}

@test "places are found by the members' user, and by nobody else but root" {
    publish
    for _ in 1 2 3; do
        LD_PRELOAD=$public/libreuse.so start own as_nobody "$public/http-server" "$port"
        eventually holds "$pid" --listening --tcp
    done
    group_as_nobody --tsv --places "$port"
    [[ $status -eq 0 ]]
    is "0 1 2" "$(tail -n +2 <<<"$output" | cut -f 13 | paste -sd ' ')"
    is "0 1 2" "$(places "$port" | cut -d ' ' -f 2 | paste -sd ' ')"
    run --separate-stderr setpriv --reuid 65533 --regid 65533 --clear-groups \
        "$public/reuse-group" --tsv --places "$port"
    [[ $status -eq 2 && $stderr == *"port $port: Operation not permitted" ]]
    is "- - -" "$(tail -n +2 <<<"$output" | cut -f 13 | paste -sd ' ')"
}

@test "a range that the group does not have is refused, and nothing is steered" {
    servers 3 http-server "127.0.0.1:$port"
    servers 2 http-server "[::1]:$port"
    group --steer 2 "$port"
    [[ $status -eq 2 ]]
    says "cannot steer tcp ::1 port $port to member 2: its members are 0 to 1"
    is 3 "$(answers 60 127.0.0.1 | wc -l)"
}

@test "where one group is another user's, nothing is steered" {
    publish
    for _ in 1 2; do
        LD_PRELOAD=$public/libreuse.so start own as_nobody "$public/http-server" "$port"
    done
    eventually listening 2 "$port"
    servers 2 http-server "[::1]:$port"
    group_as_nobody --steer=1 "$port"
    [[ $status -eq 2 ]]
    says "cannot steer tcp ::1 port $port: "
    is 2 "$(answers 60 127.0.0.1 | wc -l)"
}

@test "where the kernel refuses one group, nothing is steered" {
    servers 2 udp-server "127.0.0.1:$port"
    start later "$programs/bind-to" -lw udp6 "[::1]:$port"
    eventually bound 3 "$port"
    group --steer=0 "$port/udp"
    [[ $status -eq 2 ]]
    says "cannot steer udp ::1 port $port: " "its one member was shared after it was bound"
    is 2 "$(datagrams 60 | cut -d ' ' -f 1 | sort -u | wc -l)"
}

@test "more groups are steered than there may be descriptors at first, and if too many it says so" {
    start many with_shim "$programs/hold" -p 40 "$port"
    eventually listening 1 $((port + 39))
    run bash -c "ulimit -Sn 20; '$build/reuse-group' --steer=0 1-65535"
    [[ $status -eq 0 && -z $output ]]
    run bash -c "ulimit -n 20; '$build/reuse-group' --steer=0 1-65535"
    [[ $status -eq 2 && ${#lines[@]} -eq 1 ]]
    says "cannot steer tcp 127.0.0.1 port " "Too many open files; raise the limit of open files"
}

@test "nothing on one of the ports is exit 1, and nothing is steered" {
    servers 2 http-server "$port"
    group --steer=0 "$port" 9
    [[ $status -eq 1 ]]
    is 2 "$(answers 60 127.0.0.1 | wc -l)"
}

@test "a group that was never steered can be unsteered" {
    servers 1 http-server "$port"
    group --unsteer "$port"
    [[ $status -eq 0 && -z $output ]]
}

@test "steered, datagrams with IP options are spread over the range as well" {
    servers 3 udp-server "$port"
    group --steer=1-2 "$port"
    python3 >flows -c "
import socket
for _ in range(40):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([1] * 8))
    s.settimeout(60)
    s.sendto(b'who', ('127.0.0.1', $port))
    print(s.recv(99).decode().split()[1])"
    is "${pids[1]} ${pids[2]}" "$(sort -nu flows | paste -sd ' ')"
}

@test "users who share a UDP port have numbers of their own, and each steers its own" {
    publish
    local other
    local members=()
    for other in as_nobody as_nobody "" ""; do
        start member $other "$public/bind-to" -arw udp "127.0.0.1:$port"
        members+=("$pid")
        eventually holds "$pid" --udp
    done
    is "0 1 0 1" "$(cells NO "$port")"
    group --steer=1 "$port"
    [[ $status -eq 0 ]]
    group_as_nobody --steer=0 "$port"
    [[ $status -eq 0 ]]
    # The kernel gives all to the group that came last.
    datagrams_unanswered 20
    eventually cells_are '0 0 0 [1-9]*' WAITING
    kill "${members[@]:2}"
    eventually bound 2 "$port"
    datagrams_unanswered 20
    eventually cells_are '[1-9]* 0' WAITING
}

# datagrams_unanswered N: sends a datagram from each of N sockets.
datagrams_unanswered() {
    local number
    for ((number = 0; number < $1; number++)); do
        echo x >"/dev/udp/127.0.0.1/$port"
    done
}

# mptcp_servers N WHERE: starts N copies that listen by MPTCP; their pids go into the array pids.
mptcp_servers() {
    local number
    [[ $(</proc/sys/net/mptcp/enabled) == 1 ]] || skip "no MPTCP"
    pids=()
    for ((number = 0; number < $1; number++)); do
        start "mptcp-$number-${2//[^0-9]/_}" with_shim "$programs/odd-server" "mptcp:$2"
        pids+=("$pid")
        eventually holds "$pid" --listening --tcp
    done
}

@test "an MPTCP group is steered, and nobody is left in it" {
    mptcp_servers 3 "$port"
    group --steer=1-2 "$port"
    [[ $status -eq 0 && -z $output ]]
    is "${pids[1]} ${pids[2]}" "$(answers 60 127.0.0.1 | cut -d ' ' -f 1 | paste -sd ' ')"
    is "0 1 2" "$(cells NO "$port")"
    group --steer=0 "$port"
    is "${pids[0]} 40" "$(answers 40 127.0.0.1)"
    group --unsteer "$port"
    [[ $status -eq 0 && -z $output ]]
    is 3 "$(answers 100 127.0.0.1 | wc -l)"
}

@test "an MPTCP group is steered over IPv6, for one device, and next to others on the port" {
    mptcp_servers 2 "[::]:$port"
    local all=("${pids[@]}")
    mptcp_servers 2 "[::1]:$port"
    group --steer=1 "$port"
    [[ $status -eq 0 ]]
    is "${pids[1]} 20" "$(answers 20 '[::1]')"
    is "${all[1]} 20" "$(answers 20 127.0.0.1)"
    for _ in 1 2; do
        start device "$programs/hold" -m -i lo $((port + 1000))
        start only "$programs/hold" -m -o "[::]:$((port + 1000))"
    done
    eventually listening 4 $((port + 1000))
    group --steer=1 $((port + 1000))
    [[ $status -eq 0 ]]
    port=$((port + 1000))
    connect 20
    (
        exec 3<>"/dev/tcp/::1/$port" 4<>"/dev/tcp/::1/$port" 5<>"/dev/tcp/::1/$port"
        is "0 20 0 3" "$(cells WAITING "$port")"
    )
}

@test "another user's MPTCP group is steered by it and by root, and by nobody else" {
    publish
    [[ $(</proc/sys/net/mptcp/enabled) == 1 ]] || skip "no MPTCP"
    pids=()
    for _ in 1 2; do
        LD_PRELOAD=$public/libreuse.so start own as_nobody "$public/odd-server" "mptcp:$port"
        pids+=("$pid")
        eventually holds "$pid" --listening --tcp
    done
    run setpriv --reuid 65533 --regid 65533 --clear-groups "$public/reuse-group" --steer 1 "$port"
    [[ $status -eq 2 ]]
    group_as_nobody --steer=1 "$port"
    [[ $status -eq 0 ]]
    is "${pids[1]} 20" "$(answers 20 127.0.0.1)"
    group --steer=0 "$port"
    [[ $status -eq 0 ]]
    is "${pids[0]} 20" "$(answers 20 127.0.0.1)"
}

@test "a malformed range, a missing port, an empty port and an unshared one are refused" {
    for bad in x 3-2 1- -1 65536 1-2-3 ''; do
        group --steer="$bad" "$port"
        [[ $status -eq 2 ]]
        says "--steer: '$bad': "
    done
    group --steer 0
    [[ $status -eq 2 ]]
    group --unsteer
    [[ $status -eq 2 ]]
    group --steer 0 "$port"
    [[ $status -eq 1 ]]
    says "nothing is on port $port"
    start alone "$programs/http-server" "$port"
    eventually listening 1 "$port"
    group --steer 0 "$port"
    [[ $status -eq 2 ]]
    says "it is not shared"
}

@test "an ordinary user steers its own group, and nobody else's" {
    publish
    LD_PRELOAD=$public/libreuse.so start own1 as_nobody "$public/http-server" "$port"
    local first=$pid
    eventually holds "$first" --listening --tcp
    LD_PRELOAD=$public/libreuse.so start own2 as_nobody "$public/http-server" "$port"
    eventually listening 2 "$port"
    group_as_nobody --steer 0 "$port"
    [[ $status -eq 0 ]]
    is "$first 20" "$(answers 20 127.0.0.1)"
    run setpriv --reuid 65533 --regid 65533 --clear-groups "$public/reuse-group" --steer 1 "$port"
    [[ $status -eq 2 ]]
    says "be its user, or root"
    is "$first 20" "$(answers 20 127.0.0.1)"
}
