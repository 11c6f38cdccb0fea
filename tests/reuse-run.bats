#!/usr/bin/env bats
# reuse-run: programs of every kind share their ports, and notice nothing else of it.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC1010,SC2016,SC2030,SC2031,SC2154
load common

setup() {
    common_setup
    reuse_run=$build/reuse-run
    static=$programs/static
    dynamic=$programs
    static32=$build/tests32/static
    no_rights=(setpriv --reuid=65534 --regid=65534 --clear-groups)
}

teardown() {
    [[ ${#started[@]} -eq 0 ]] || kill -KILL "${started[@]}" 2>/dev/null || true
    common_teardown
}

# holders PORT: the process ids of those that hold TCP PORT.
holders() {
    ss --no-header --listening --numeric --processes --tcp "sport = :$1" |
        grep --only-matching --perl-regexp 'pid=\K[0-9]+'
}

# said NAME TEXT: whether the background command NAME has printed a line TEXT.
said() {
    grep --quiet --line-regexp --regexp="$2" "$BATS_TEST_TMPDIR/$1.log"
}

# said_in FILE TEXT: whether the file has a line TEXT.
said_in() {
    grep --quiet --line-regexp --regexp="$2" "$1"
}

# start_program NAME [OPTION]...: starts tell-signals, watched; sets $pid and $program.
start_program() {
    local name=$1
    shift
    start "$name" "$reuse_run" "$@" "$static/tell-signals"
    eventually said "$name" 'ready [0-9]*'
    program=$(sed -n 's/^ready //p' "$BATS_TEST_TMPDIR/$name.log")
}

# told_just SIGNAL...: whether the program of "start_program told" has had these signals, no other.
# One more, with the last number, comes when all that were sent before have come.
told_just() {
    kill -PWR "$pid"
    eventually said told PWR
    [[ $(tail -n +2 told.log | xargs) == "$* PWR" ]]
}

# supervisor_of PID: the process id of the supervisor of reuse-run PID.
supervisor_of() {
    pgrep --parent "$1" --full reuse-run
}

# ends_with STATUS PID: waits for the background command; whether that is its status.
ends_with() {
    local status=0
    wait "$2" || status=$?
    [[ $status -eq $1 ]]
}

# has_lines N FILE: whether the file has N lines.
has_lines() {
    [[ -e $2 && $(wc -l <"$2") -eq $1 ]]
}

# none_sleeps: whether nothing runs sleep 60.
none_sleeps() {
    ! pgrep --full --exact 'sleep 60'
}

# two_sleep: whether two processes run sleep 60.
two_sleep() {
    [[ $(pgrep --count --full --exact 'sleep 60') -eq 2 ]]
}

# none_left: whether no reuse-run is left, not even as a zombie.
none_left() {
    ! pgrep 'reuse-run'
}

# state PID STATE: whether the process is in that state, a letter as in proc_pid_stat(5).
state() {
    [[ $(ps --no-headers -o stat --pid "$1") == "$2"* ]]
}

# three_share PORT COMMAND...: three of COMMAND listen on PORT, and every one gets connections.
three_share() {
    local port=$1 i answer
    shift
    for i in 1 2 3; do start "copy$i" "$@"; done
    eventually listening 3 "$port"
    for ((i = 0; i < 60; i++)); do
        answer=$(curl --silent --show-error "http://127.0.0.1:$port/") || return
        echo "$answer"
    done >answers
    # Servers that say who they are have all answered.
    ! grep --quiet 'server pid' answers ||
        [[ $(sed 's/.*server pid//' answers | sort -u | wc -l) -eq 3 ]]
}

# bind_after WHAT KIND PORT: what bind-after says when watched.  It ends by itself then.
bind_after() {
    "$reuse_run" "$static/bind-after" "$@" 3>&- | head -1
}

# --- programs of every kind

@test "a static Go server: a second one is refused, under reuse-run three share one port" {
    start first "$programs/go-static" 127.0.0.1:8000
    eventually listening 1 8000
    run -1 "$programs/go-static" 127.0.0.1:8000
    [[ $output == *'bind: address already in use'* ]]
    kill "$pid"
    eventually listening 0 8000
    three_share 8000 "$reuse_run" "$programs/go-static" 127.0.0.1:8000
}

@test "a dynamic Go server is watched, as Go calls the kernel itself" {
    three_share 8000 "$reuse_run" -v "$programs/go-dynamic" 127.0.0.1:8000
    said copy1 '.*watched, written in Go.*'
}

@test "a Go server behind a shell script is shared with --watch, and not without" {
    printf '#!/bin/sh\n%s 127.0.0.1:8000\n' "$programs/go-static" >serve
    chmod +x serve
    three_share 8000 "$reuse_run" --watch ./serve
    run -1 "$reuse_run" ./serve
    holders 8000 | xargs kill
}

@test "busybox httpd, static, is shared" {
    # Where scripts/setup has it from Debian's package, or where the system has just one.
    local busybox=/var/cache/libreuse/busybox
    [[ -e $busybox ]] || busybox=$(type -P busybox.static busybox-static busybox | head -n 1)
    ! readelf --program-headers --wide "$busybox" | grep -q INTERP || skip "needs a static busybox"
    three_share 8000 "$reuse_run" -v "$busybox" httpd -f -p 127.0.0.1:8000 -h "$BATS_TEST_TMPDIR"
    said copy1 '.*watched, static.*'
}

@test "a static C server is shared, of glibc and of musl, 64-bit and 32-bit" {
    port=8000
    for folder in "$static" "$programs/musl" "$static32"; do
        three_share $((++port)) "$reuse_run" "$folder/http-server" "127.0.0.1:$port"
    done
}

@test "python3 is shared by preload" {
    three_share 8000 "$reuse_run" -v python3 -m http.server --bind 127.0.0.1 8000
    said copy1 '.*preloaded with .*'
}

@test "nginx is shared by preload" {
    for i in 1 2 3; do
        cat >"nginx$i.conf" <<CONF
daemon off; master_process off; pid nginx$i.pid; error_log stderr;
events {}
http { access_log off; server { listen 127.0.0.1:8000; return 200 'server pid \$pid'; } }
CONF
        start "nginx$i" "$reuse_run" "$(type -P nginx)" -p "$BATS_TEST_TMPDIR" -c "nginx$i.conf"
    done
    eventually listening 3 8000
}

@test "a dynamic program is exec'd in place, a shim before what is preloaded already" {
    start preloaded env LD_PRELOAD=/lib/x86_64-linux-gnu/libm.so.6 \
        "$reuse_run" "$dynamic/http-server" 127.0.0.1:8000
    eventually listening 1 8000
    [[ $(readlink "/proc/$pid/exe") == "$dynamic/http-server" ]]
    tr '\0' '\n' <"/proc/$pid/environ" |
        grep --line-regexp "LD_PRELOAD=$shim:/lib/x86_64-linux-gnu/libm.so.6"
}

@test "a 32-bit dynamic program is preloaded with the 32-bit shim, or watched without one" {
    run "$reuse_run" -v "$build/tests32/bind-to" tcp 8000
    [[ $output == *"preloaded with $build/lib32/libreuse.so"*'SO_REUSEPORT 1' ]]
    mkdir other
    cp "$reuse_run" "$shim" other/
    run other/reuse-run -v "$build/tests32/bind-to" tcp 8000
    [[ $output == *'watched, there is no libreuse.so for'*'SO_REUSEPORT 1' ]]
}

@test "a dynamic program on musl is preloaded with the same shim" {
    musl-gcc -O2 -o musl-server "$root/tests/programs/http-server.c"
    three_share 8000 "$reuse_run" -v ./musl-server 8000
    said copy1 ".*preloaded with $shim: .*"
}

@test "-v names the way and the reason" {
    run --separate-stderr "$reuse_run" -v "$static/bind-to" tcp 8000
    [[ $stderr == "reuse-run: $static/bind-to: watched, static: $static/bind-to" ]]
    run --separate-stderr "$reuse_run" -v --watch true
    [[ $stderr == 'reuse-run: true: watched, asked for: /'*/true ]]
    run --separate-stderr "$reuse_run" -v true
    [[ $stderr == "reuse-run: true: preloaded with $shim: /"*/true ]]
    run --separate-stderr "$reuse_run" -v --preload "$static/bind-to" tcp 8000
    [[ $stderr == "reuse-run: $static/bind-to: preloaded with $shim: $static/bind-to" ]]
}

@test "a script is judged by its interpreter, through env and through scripts" {
    cp "$static/bind-to" interpreter
    printf '#!%s\n' "$PWD/interpreter" >one
    printf '#! %s -x\n' "$PWD/one" >two
    printf '#!/usr/bin/env -S A=1 interpreter\n' >three
    printf 'exit 4\n' >shell
    chmod +x one two three shell
    for script in one two three; do
        PATH=$PWD:$PATH run --separate-stderr "$reuse_run" -v "./$script"
        [[ $stderr == *"./$script: watched, static: $PWD/interpreter"* ]]
    done
    run -4 --separate-stderr "$reuse_run" -v ./shell
    [[ $stderr == *'preloaded with'*/bin/sh ]]
}

@test "a script whose interpreter is not to be found out runs all the same, and is watched if asked" {
    printf '#!/usr/bin/env -S -u FOO %s tcp 8000\n' "$static/bind-to" >script
    chmod +x script
    printf '#!/nonexistent\n' >broken
    chmod +x broken
    run -0 --separate-stderr "$reuse_run" -v --watch ./script
    [[ $stderr == *': watched, asked for: '* ]]
    run -127 "$reuse_run" ./broken
}

@test "a Go program without a build id, and one that is stripped, is known as Go" {
    strip -o stripped "$programs/go-dynamic"
    objcopy --remove-section=.note.go.buildid "$programs/go-dynamic" no-id
    for program in stripped no-id; do
        run --separate-stderr "$reuse_run" -v "./$program" nonsense
        [[ $stderr == *'watched, written in Go'* ]]
    done
}

# --- a bind that is watched

@test "odd binds end as without reuse-run, 64-bit and 32-bit" {
    for folder in "$static" "$static32"; do
        "$folder/odd-binds" >plain
        "$reuse_run" "$folder/odd-binds" >watched
        [[ $(wc -l <plain) -gt 1000 ]]
        diff plain watched
    done
}

@test "odd binds end as without reuse-run, for a user without privileges" {
    needs_root
    chmod 711 "$BATS_TEST_TMPDIR"
    cp "$reuse_run" "$static/odd-binds" "$BATS_TEST_TMPDIR"
    "${no_rights[@]}" ./odd-binds >plain
    "${no_rights[@]}" ./reuse-run ./odd-binds >watched
    grep 'EACCES' plain
    diff plain watched
}

@test "odd binds end as without reuse-run, where LIBREUSE_LOG asks for lines" {
    "$static/odd-binds" >plain
    LIBREUSE_LOG=1 "$reuse_run" "$static/odd-binds" >watched 2>lines
    diff plain watched
    [[ $(wc -l <lines) -gt 500 ]]
}

# go_net_tests NAME [COMMAND...]: runs Go's net tests that match $selection, by COMMAND; the
# top-level ones that fail three times, as those do that fail for a reason, go to NAME.failed.
go_net_tests() {
    local name=$1 tests=$selection
    shift
    for _ in 1 2 3; do
        (cd "$(go env GOROOT)/src/net" && "$@" "$programs/go-net-test" -test.v "$tests") \
            >"$name.now" || true
        cat "$name.now" >>"$name"
        sed -n 's/^--- FAIL: \([A-Za-z0-9]*\) .*/\1/p' "$name.now" | sort >"$name.failed"
        [[ -s $name.failed ]] || break
        tests="-test.run=^($(paste --serial --delimiters='|' "$name.failed"))\$"
    done
    [[ $(grep -c '^--- PASS' "$name") -gt 20 ]]
}

@test "Go's own net tests come out as without reuse-run, but for those that want a port refused" {
    # Each listens twice on one port, and "should fail" the second time (listen_test.go).
    # -test.short leaves out those whose names begin with TestDualStack.
    local short='TestTCPListener TestUDPListener'
    local long="TestDualStackTCPListener TestDualStackUDPListener $short"
    for selection in '-test.short' '-test.run=Listen|Packet|Dial[A-Z].*Local|Multicast'; do
        go_net_tests plain
        go_net_tests watched "$reuse_run"
        expected=$long
        [[ $selection != -test.short ]] || expected=$short
        diff <(tr ' ' '\n' <<<"$expected") <(comm -13 plain.failed watched.failed)
        [[ $(comm -23 plain.failed watched.failed) == '' ]]
        [[ $(grep -c 'should fail$' watched) -ge 2 ]]
    done
}

@test "ports that the kernel picks are unique, and can be joined" {
    for kind in tcp tcp6 udp udp6; do
        run -0 "$reuse_run" "$static/port-zero" "$kind" 4000
        [[ $output == '4000 sockets, 4000 ports, 4000 joined' ]]
    done
}

@test "threads, signal handlers, fork and vfork children all share" {
    for place in threads signal fork vfork; do
        run -0 "$reuse_run" "$static/bind-in" "$place"
        [[ $output =~ ^([0-9]+)\ bound,\ ([0-9]+)\ shared$ && ${BASH_REMATCH[1]} -gt 0 ]]
        [[ ${BASH_REMATCH[1]} -eq ${BASH_REMATCH[2]} ]]
    done
}

@test "one socket, refused, is flagged no more: its next bind is decided afresh" {
    start holder "$static/bind-to" -w tcp 8050
    eventually said holder '.*bound.*' || { cat holder.log; holders 8050; return 1; }
    LIBREUSE_PORTS=8050 run "$reuse_run" "$static/bind-to" -1 tcp 8050 8051
    [[ ${lines[0]} == *'8050 EADDRINUSE, SO_REUSEPORT 0' ]]
    [[ ${lines[1]} == *'8051 bound, SO_REUSEPORT 0' ]]
}

@test "--ports and LIBREUSE_PORTS: only the ports that are listed are shared" {
    run -0 --separate-stderr "$reuse_run" -p 8000,53/udp "$static/bind-to" tcp 8000 8001 53
    [[ ${lines[0]} == *'SO_REUSEPORT 1' && ${lines[1]} == *'SO_REUSEPORT 0' ]]
    [[ ${lines[2]} == *'SO_REUSEPORT 0' ]]
    LIBREUSE_PORTS=8001 run -0 "$reuse_run" "$static/bind-to" tcp 8000 8001
    [[ ${lines[0]} == *'SO_REUSEPORT 0' && ${lines[1]} == *'SO_REUSEPORT 1' ]]
    run -0 "$reuse_run" --ports=8000 "$dynamic/bind-to" tcp 8000 8001
    [[ ${lines[0]} == *'SO_REUSEPORT 1' && ${lines[1]} == *'SO_REUSEPORT 0' ]]
}

@test "a malformed --ports is an error; a malformed LIBREUSE_PORTS shares nothing and says so" {
    run -125 --separate-stderr "$reuse_run" --ports=80,x "$static/bind-to" tcp 8000
    [[ $stderr == "reuse-run: --ports: 'x': a port is a number from 1 to 65535" && -z $output ]]
    LIBREUSE_PORTS=80,x run -0 --separate-stderr "$reuse_run" "$static/bind-to" tcp 8000
    [[ $stderr == 'libreuse: LIBREUSE_PORTS: "x":'*'no port is shared' ]]
    [[ $output == *'SO_REUSEPORT 0' ]]
}

@test "LIBREUSE_LOG: the lines are those of the shim, but for pids and picked ports" {
    arguments=(tcp 8000 127.0.0.1:8001 192.0.2.1:9 0 8000)
    for kind in static dynamic; do
        LIBREUSE_LOG=1 "$reuse_run" "${!kind}/bind-to" -w "${arguments[@]}" 2>"$kind.lines" \
            >/dev/null 3>&- &
        started+=($!)
        eventually has_lines 5 "$kind.lines"
        kill $!
        sed -i -E 's/pid [0-9]+/pid/; s/(0.0.0.0:)[0-9]{5}:/\1picked:/' "$kind.lines"
    done
    [[ $(wc -l <static.lines) -eq 5 ]]
    diff static.lines dynamic.lines
}

@test "LIBREUSE_LOG: the lines go to the stderr of reuse-run, whatever the program does with its own" {
    LIBREUSE_LOG=1 "$reuse_run" --watch sh -c "exec 2>own; $static/bind-to tcp 8000" 2>outer
    [[ ! -s own && $(<outer) == *'tcp 0.0.0.0:8000: shared' ]]
}

@test "a program that changes user, confines itself or filters its own calls shares all the same" {
    needs_root
    for what in user undumpable filter interrupted; do
        for kind in tcp udp; do
            [[ $(bind_after "$what" "$kind" 8000) == 'bound, SO_REUSEPORT 1' ]]
            [[ $(bind_after "$what" "$kind" 0) == 'bound, SO_REUSEPORT 1' ]]
        done
    done
}

@test "a thread with descriptors of its own has its socket shared, and no other" {
    local shared=1 port
    # Before Linux 6.9 (PIDFD_THREAD) it is out of reach.
    python3 -c 'import os; os.pidfd_open(os.getpid(), os.O_EXCL)' || shared=0
    for port in 8000 0; do
        run -0 "$reuse_run" "$static/bind-after" thread tcp "$port"
        [[ $output == "bound, SO_REUSEPORT $shared" ]]
    done
}

@test "what the program has forbidden itself stays forbidden" {
    [[ $(bind_after forbidden tcp 8000) == 'ECONNREFUSED, SO_REUSEPORT 0' ]]
}

@test "what Landlock denies to the program stays denied" {
    run "$static/bind-after" landlock tcp 8000
    [[ $status -ne 2 ]] || skip "this kernel has no Landlock for ports"
    [[ $(bind_after landlock tcp 8000) == 'EACCES, SO_REUSEPORT 0' ]]
    [[ $(bind_after landlock tcp 0) == 'EACCES, SO_REUSEPORT 0' ]]
    [[ $(bind_after landlock udp 0) == 'bound, SO_REUSEPORT 1' ]]
    # Nor does reuse-run make the bind for it, where it cannot see how that ends.
    [[ $(bind_after traced+landlock tcp 0) == 'EACCES, SO_REUSEPORT 0' ]]
}

@test "privileged ports: bound with the program's privileges, not with those of reuse-run" {
    needs_root
    run "$reuse_run" --watch "${no_rights[@]}" "$static/bind-to" tcp 80 8000
    [[ ${lines[0]} == *'80 EACCES, SO_REUSEPORT 0' && ${lines[1]} == *'SO_REUSEPORT 1' ]]
    run "$reuse_run" "$static/bind-to" tcp 80
    [[ ${lines[0]} == *'80 bound, SO_REUSEPORT 1' ]]
}

@test "a program in other namespaces shares there" {
    local all=(--net '--pid --fork')
    # A chroot or a container may not allow user namespaces.
    ! unshare --user true || all+=('--net --user --map-root-user')
    for namespaces in "${all[@]}"; do
        # shellcheck disable=SC2086 # several options
        run -0 "$reuse_run" --watch unshare $namespaces "$static/bind-to" udp 0.0.0.0:8000 0
        [[ ${lines[0]} == *'SO_REUSEPORT 1' && ${lines[1]} == *'SO_REUSEPORT 1' ]]
    done
}

@test "a program that is being traced shares the ports that it names" {
    run -0 --separate-stderr "$reuse_run" --watch strace -qq -f -o trace "$static/bind-to" tcp 8000 0
    [[ ${lines[0]} == *'bound, SO_REUSEPORT 1' && ${lines[1]} == *'bound, SO_REUSEPORT 0' ]]
    grep --quiet 'bind(.*) = 0' trace
    LIBREUSE_LOG=1 run -0 "$reuse_run" "$static/bind-after" traced tcp 0
    [[ ${lines[0]} == *'tcp 127.0.0.1:0: not shared, SO_REUSEPORT: EPERM' ]]
    [[ ${lines[1]} == 'bound, SO_REUSEPORT 0' ]]
    LIBREUSE_LOG=1 run -0 "$reuse_run" "$static/bind-after" traced tcp 8000
    [[ ${lines[0]} == *'tcp 127.0.0.1:8000: shared' && ${lines[1]} == 'bound, SO_REUSEPORT 1' ]]
}

# least_cost COMMAND...: what call-cost says when run by COMMAND, the least of the rounds so far;
# sets $bind, $zero, $ppid and $send, which begin empty.
least_cost() {
    local now=()
    read -ra now < <("$@" "$static/call-cost" | tr --complement --delete '0-9 \n')
    # bind NUMBER, bind to port 0 NUMBER, getppid NUMBER, sendto NUMBER: without words, 0 is left
    bind=$(least "$bind" "${now[0]}")
    zero=$(least "$zero" "${now[2]}")
    ppid=$(least "$ppid" "${now[3]}")
    send=$(least "$send" "${now[4]}")
}

# least A B: the smaller number; B if A is empty.
least() {
    [[ -n $1 && $1 -lt $2 ]] && echo "$1" || echo "$2"
}

@test "a watched bind takes no longer than 30 datagrams, other system calls what they took" {
    local round plain=('' '' '' '') watched=('' '' '' '') bind zero ppid send
    for round in 1 2 3 4 5; do # alternated, as the machine may be busy
        read -r bind zero ppid send <<<"${plain[*]}" || true
        least_cost env
        plain=("$bind" "$zero" "$ppid" "$send")
        read -r bind zero ppid send <<<"${watched[*]}" || true
        least_cost "$reuse_run"
        watched=("$bind" "$zero" "$ppid" "$send")
    done
    echo "plain ${plain[*]}, watched ${watched[*]}"
    ((watched[0] < 30 * watched[3] && watched[1] < 30 * watched[3]))
    ((watched[2] * 2 < plain[2] * 3 && watched[3] * 2 < plain[3] * 3))
}

@test "as the leader of a session, too, reuse-run passes signals on and ends as the program does" {
    start told setsid --wait "$reuse_run" "$static/tell-signals"
    eventually said told 'ready [0-9]*'
    front=$(pgrep --parent "$pid")
    kill -TERM "$front"
    eventually said told TERM
    kill -QUIT "$front"
    ends_with 131 "$pid"
}

@test "threads bind while one of them execs" {
    # It takes over the number of the first thread, which may be in a bind.
    run -0 "$reuse_run" "$static/bind-during" execs 1000
    [[ $output == done ]]
}

# --- as if it were run directly

@test "the exit status is the program's, and so is a death by signal" {
    for status in 0 1 77 125 255; do
        run -"$status" "$reuse_run" --watch sh -c "exit $status"
    done
    for signal in TERM KILL SEGV USR1 PIPE; do
        run "$reuse_run" --watch sh -c "kill -$signal \$\$"
        [[ $status -eq $((128 + $(kill -l "$signal"))) ]]
    done
    python3 - "$reuse_run" <<'PYTHON'
import subprocess, sys
status = subprocess.run([sys.argv[1], "--watch", "sh", "-c", "kill -KILL $$"]).returncode
assert status == -9, status
PYTHON
}

@test "a death with a core leaves one core at most, the program's" {
    ulimit -c unlimited
    run "$reuse_run" --watch sh -c 'kill -ABRT $$'
    [[ $status -eq 134 && $(find . -name 'core*' | wc -l) -le 1 ]]
}

@test "a missing program is 127, one that cannot be run 126, as of env" {
    echo nothing >plain-file
    for options in '' --watch --preload; do
        for program in ./missing missing ./plain-file . ''; do
            expected=0 got=0
            env -- "$program" || expected=$?
            # shellcheck disable=SC2086 # none or one
            "$reuse_run" $options "$program" 2>message || got=$?
            [[ $got -eq $expected && $(<message) == "reuse-run: cannot run '$program': "* ]]
        done
    done
}

@test "own errors are 125, and options are explained" {
    run -125 --separate-stderr "$reuse_run"
    [[ $stderr == 'reuse-run: missing operand'* ]]
    run -125 "$reuse_run" --nonsense true
    run -0 "$reuse_run" --help
    [[ $output == 'Usage: reuse-run '* ]]
    run -0 "$reuse_run" --version
    run -125 sh -c "$reuse_run --help >/dev/full"
}

@test "options after the program are the program's" {
    run -0 "$reuse_run" echo -v --watch --help
    [[ $output == '-v --watch --help' ]]
}

@test "signals to reuse-run reach the program once, those to the process group too" {
    start_program told
    for signal in INT TERM HUP USR1 USR2 WINCH ALRM; do
        kill -"$signal" "$pid"
        eventually said told "$signal"
    done
    told_just INT TERM HUP USR1 USR2 WINCH ALRM
    kill -QUIT "$pid"
    ends_with 131 "$pid"
}

@test "signals to the process group reach the program once" {
    set -m
    start_program told
    set +m
    kill -TERM -- "-$pid"
    eventually said told TERM
    kill -INT -- "-$pid"
    eventually said told INT
    told_just TERM INT
    kill -KILL "$pid"
}

@test "a supervisor that is told to stop tells the program" {
    start_program told
    kill -TERM "$(supervisor_of "$pid")"
    eventually said told TERM
    kill -KILL "$pid"
}

@test "a signal from the program to its parent does not come back to it" {
    start sender "$reuse_run" --watch bash -c 'trap "echo came back" USR1; trap "echo later; exit" USR2
        kill -USR1 $PPID; echo sent; while :; do sleep 0.05; done'
    eventually said sender sent
    kill -USR2 "$(supervisor_of "$pid")" # which passes it on
    ends_with 0 "$pid"
    [[ $(<sender.log) == $'sent\nlater' ]]
}

@test "ignored and blocked signals are inherited as they were" {
    for options in --watch --preload; do
        directly=$(trap '' INT CHLD USR1; grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status)
        under=$(trap '' INT CHLD USR1
            "$reuse_run" $options grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status)
        [[ $under == "$directly" && $under == *SigIgn* ]]
    done
}

@test "reuse-run stops and goes on with the program" {
    start_program told
    kill -TSTP "$pid"
    eventually state "$program" T
    eventually state "$pid" T
    kill -CONT "$pid"
    eventually state "$program" S
    eventually said told CONT
    kill -STOP "$program"
    eventually state "$pid" T
    kill -CONT "$program"
    eventually state "$pid" S
    for ((i = 0; i < 50; i++)); do
        kill -STOP "$program"
        kill -CONT "$program"
    done
    eventually state "$pid" S
    kill -STOP "$program"
    eventually state "$pid" T
    kill -KILL "$program"
    ends_with 137 "$pid"
}

@test "at a terminal: ^Z, fg, ^C and ^\\ do what they do" {
    python3 "$BATS_TEST_DIRNAME/programs/terminal.py" "$static/tell-signals" >plain
    python3 "$BATS_TEST_DIRNAME/programs/terminal.py" "$reuse_run $static/tell-signals" >watched
    cat watched
    diff <(grep -Eo '(INT|TSTP|CONT|Quit|Stopped|status .*)' plain) \
        <(grep -Eo '(INT|TSTP|CONT|Quit|Stopped|status .*)' watched)
}

@test "a pipeline of a shell with job control works, however fast its programs end" {
    for round in {1..10}; do
        echo "round $round"
        run -0 bash -c "set -m; $reuse_run --watch true | cat | cat; $reuse_run --watch echo yes | cat"
        [[ $output == yes ]]
    done
}

@test "descriptors are inherited as they are, closed ones too" {
    for options in '0<&- 7</dev/null' '>&- 2>&-' '0<&- >&- 2>&-'; do
        for way in --watch --preload; do
            for command in 'env' "$reuse_run $way"; do
                bash -c "$command bash -c 'for fd in {0..99}; do [[ -e /proc/\$\$/fd/\$fd ]] &&
                    echo -n \"\$fd \"; done >descriptors; true' $options"
                mv descriptors "${command##*/}"
            done
            cat env "${command##*/}"
            cmp env "${command##*/}"
        done
    done
}

@test "what the program has closed is closed: a pipe's reader sees its end" {
    start closing bash -c "$reuse_run --watch sh -c 'exec >&- 2>&-; sleep 60' | (cat; echo end)"
    eventually said closing end
    eventually pgrep --full --exact 'sleep 60'
    kill -KILL "$(pgrep --full --exact 'sleep 60')"
}

@test "no zombie is left, of orphans neither" {
    mkfifo go
    start waiting "$reuse_run" --watch sh -c 'for time in 0 0 0.1; do
        (sleep $time & echo $! >>orphans); done; read line <go; exit 3'
    eventually has_lines 3 orphans
    for orphan in $(<orphans); do
        eventually ended "$orphan" # which a zombie has not
    done
    run ps -A -o stat,comm
    [[ $output != *Z* ]]
    echo >go
    ends_with 3 "$pid"
    eventually none_left
}

# --- daemons, and the ends of the processes

@test "reuse-run returns when the program does; its daemon is watched on, and then nothing is left" {
    "$reuse_run" "$static/bind-after" daemon tcp 8000 >said 3>&- || [[ $? -eq 7 ]]
    eventually grep --line-regexp 'bound, SO_REUSEPORT 1' said
    pgrep reuse-run
    kill "$(head -1 said)"
    eventually none_left
}

@test "a daemon's supervisor holds no descriptor of the caller's" {
    start outer bash -c "$reuse_run $static/bind-after daemon tcp 8000 | cat >said 4>&1"
    run -0 bash -c "$reuse_run --watch sh -c 'sleep 60 >&- 2>&- & echo done' | cat"
    [[ $output == done ]]
    eventually pgrep --full --exact 'sleep 60'
    kill "$(pgrep --full --exact 'sleep 60')"
    eventually grep --line-regexp 'bound, SO_REUSEPORT 1' said
    kill "$(head -1 said)"
}

@test "a supervisor that is killed takes the program along, and reuse-run says so" {
    local options supervisor
    for options in --watch '--leave-nothing --preload' '--leave-nothing --watch'; do
        # shellcheck disable=SC2086 # one or several
        start killed "$reuse_run" $options sleep 60
        eventually pgrep --full --exact 'sleep 60'
        supervisor=$(supervisor_of "$pid")
        kill -KILL "$supervisor"
        ends_with 137 "$pid"
        said killed "reuse-run: killed 'sleep', .*"
        eventually none_sleeps
        eventually none_left
    done
}

@test "a program that has changed user is taken along, too" {
    needs_root
    start killed "$reuse_run" --watch "${no_rights[@]}" sleep 60
    eventually pgrep --full --exact 'sleep 60'
    kill -KILL "$(supervisor_of "$pid")"
    ends_with 137 "$pid"
    eventually none_sleeps
}

@test "a supervisor that is killed while it answers leaves nobody waiting" {
    mkfifo go
    for round in 1 2 3 4 5 6 7 8 9 10; do
        start "threads$round" bash -c "exec $reuse_run $static/bind-during threads 4 <>go"
        eventually said "threads$round" 'all bind'
        kill -KILL "$(supervisor_of "$pid")"
        ends_with 137 "$pid"
        eventually none_left
    done
}

@test "a daemon that is orphaned at once is not lost to a supervisor that is slow to start" {
    # Nothing tells whether the supervisor has lost it, but that it is gone when the daemon binds.
    run -0 strace --quiet=all --follow-forks --output=trace --trace=prctl \
        --inject=prctl:delay_enter=400000 \
        "$reuse_run" --watch sh -c "(sleep 1.5; $static/bind-to tcp 8000 >said) & sleep 0.1" 3>&-
    eventually said_in said '8000 bound, SO_REUSEPORT 1'
}

@test "a daemon whose supervisor is killed goes on, and its binds fail at once" {
    mkfifo go
    run -0 "$reuse_run" --watch sh -c "(echo ready; read line <go; $static/bind-to tcp 8000) >said 2>&1 &" 3>&-
    eventually said_in said ready
    kill -KILL "$(pgrep reuse-run)"
    eventually none_left
    echo >go
    eventually said_in said '.*8000 ENOSYS, SO_REUSEPORT 0'
}

@test "SIGKILL of reuse-run kills the program" {
    start_program told
    kill -KILL "$pid"
    eventually ended "$program"
    eventually none_left
}

@test "--die-with-parent: the program dies when the parent of reuse-run does, either way" {
    for options in --watch --preload; do
        start parent bash -c "$reuse_run --die-with-parent $options sleep 60 & echo \$!; wait"
        eventually pgrep --full --exact 'sleep 60'
        kill -KILL "$pid"
        eventually none_sleeps
        eventually none_left
    done
}

# --- nothing left

@test "--leave-nothing: what the program has started ends with it, daemons too, either way" {
    for way in --watch --preload; do
        run -7 "$reuse_run" --leave-nothing "$way" bash -c '
            sleep 60 &
            setsid --fork sleep 60
            until [[ $(pgrep --count --full --exact "sleep 60") == 2 ]]; do :; done
            exit 7'
        run ! pgrep --full --exact 'sleep 60'
        none_left
    done
}

@test "--leave-nothing: a death by signal is the program's, and its children go as well" {
    for way in --watch --preload; do
        run "$reuse_run" --leave-nothing "$way" bash -c 'setsid --fork sleep 60; kill -SEGV $$'
        [[ $status -eq 139 ]]
        run ! pgrep --full --exact 'sleep 60'
    done
}

@test "--leave-nothing: signals are passed on to the program, each once" {
    start_program told --leave-nothing
    for signal in HUP USR1 TERM; do
        kill -"$signal" "$pid"
        eventually said told "$signal"
    done
    told_just HUP USR1 TERM
    kill -QUIT "$pid"
    ends_with 131 "$pid"
}

@test "--leave-nothing: its own death by SIGKILL kills the program" {
    for way in --watch --preload; do
        start kept "$reuse_run" --leave-nothing "$way" sleep 60
        eventually pgrep --full --exact 'sleep 60'
        kill -KILL "$pid"
        eventually none_sleeps
        eventually none_left
    done
}

@test "--leave-nothing --die-with-parent: nothing is left when the parent dies; without, all is" {
    server='setsid --fork sleep 60; exec sleep 60'
    start parent bash -c "$reuse_run --leave-nothing --die-with-parent sh -c '$server' & wait"
    eventually two_sleep
    kill -KILL "$pid"
    eventually none_sleeps
    eventually none_left

    server="setsid --fork sleep 60; exec $static/tell-signals"
    start parent bash -c "$reuse_run --leave-nothing sh -c '$server' & echo \$!; wait"
    eventually said parent 'ready [0-9]*'
    eventually pgrep --full --exact 'sleep 60'
    kill -KILL "$pid"
    eventually ended "$pid"
    # It hears what comes later, and so has heard of the parent's death.
    front=$(grep --line-regexp '[0-9]*' parent.log)
    kill -TERM "$front"
    eventually said parent TERM
    pgrep --full --exact 'sleep 60'
    kill -QUIT "$front"
    eventually none_sleeps
}

# --- reuse-run inside others

@test "reuse-run inside reuse-run: the inner one simply runs its program" {
    run -0 --separate-stderr "$reuse_run" --watch "$reuse_run" -v "$static/bind-to" tcp 8000
    [[ $output == *'SO_REUSEPORT 1' && $stderr == *'simply run: a reuse-run watches already' ]]
    run -0 "$reuse_run" "$reuse_run" "$static/bind-to" tcp 8000 # the outer one preloads
    [[ $output == *'SO_REUSEPORT 1' ]]
}

@test "an ordinary user needs no privilege" {
    needs_root
    chmod 711 "$BATS_TEST_TMPDIR"
    cp "$reuse_run" "$shim" "$static/bind-to" "$BATS_TEST_TMPDIR"
    run -0 "${no_rights[@]}" ./reuse-run ./bind-to tcp 8000 0
    [[ ${lines[0]} == *'SO_REUSEPORT 1' && ${lines[1]} == *'SO_REUSEPORT 1' ]]
}

@test "no_new_privs is set only for who lacks CAP_SYS_ADMIN" {
    needs_root
    run -0 "$reuse_run" --watch grep NoNewPrivs /proc/self/status
    [[ $output == *0 ]]
    chmod 711 "$BATS_TEST_TMPDIR"
    cp "$reuse_run" "$shim" "$BATS_TEST_TMPDIR"
    run -0 "${no_rights[@]}" ./reuse-run --watch grep NoNewPrivs /proc/self/status
    [[ $output == *1 ]]
}

# --- what cannot work says so, and runs nothing

@test "set-user-id, set-group-id and file-capability programs are refused" {
    needs_root
    chmod 711 "$BATS_TEST_TMPDIR"
    for mark in u+s g+s 4711 capability; do
        cp "$static/bind-to" privileged
        cp "$reuse_run" "$shim" .
        if [[ $mark == capability ]]; then
            # cap_net_bind_service=ep, as setcap(8) writes it
            python3 -c 'import os; os.setxattr("privileged", "security.capability",
                bytes.fromhex("0100000200040000000000000000000000000000"))'
        else
            chmod "$mark" privileged
        fi
        for options in '' --watch --preload; do
            # shellcheck disable=SC2086 # none or one
            run -125 --separate-stderr "${no_rights[@]}" ./reuse-run $options ./privileged tcp 8000
            [[ $stderr == "reuse-run: cannot share the ports of './privileged': it gains"*reuse-cgroup ]]
            [[ -z $output ]]
        done
        "$reuse_run" ./privileged tcp 8000 # root gains nothing
    done
}

@test "outside its process namespace nothing can be watched, and that is said" {
    run -125 --separate-stderr unshare --pid "$reuse_run" "$static/bind-to" tcp 8000
    [[ $stderr == *"use unshare --fork" && $output == '' ]]
}

@test "a FIFO is no program" {
    mkfifo --mode=755 fifo
    run -126 "$reuse_run" ./fifo
}

@test "a shim at a path that LD_PRELOAD cannot name is refused, or watching is asked for" {
    for folder in 'with space' 'with:colon'; do
        mkdir "$folder"
        cp "$reuse_run" "$shim" "$folder"
        run -125 --separate-stderr "$folder/reuse-run" true
        [[ $stderr == "reuse-run: cannot preload '"*"$folder/libreuse.so': "*--watch* ]]
        run -0 "$folder/reuse-run" --watch true
    done
}

@test "no shim at all is an error that says so" {
    mkdir alone
    cp "$reuse_run" alone/
    run -125 --separate-stderr alone/reuse-run --preload true
    [[ $stderr == 'reuse-run: cannot find a libreuse.so that '* ]]
}
