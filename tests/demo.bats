#!/usr/bin/env bats
# make demo, and scripts/demo with servers good and bad.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2030,SC2031,SC2154
load common

setup() {
    common_setup
    demo=$root/scripts/demo
}

teardown() {
    common_teardown
}

# count PATTERN: how many lines of the last run match.
count() {
    grep --count --extended-regexp "$1" <<<"$output" || true
}

# server SCRIPT: writes ./server, a bash script that the demo is to run, with its name in $server.
server() {
    server=$PWD/server
    printf '#!/usr/bin/env bash\n%s\n' "$1" >"$server"
    chmod +x "$server"
}

# none_runs PATTERN: whether no process has a command line that matches.
none_runs() {
    ! pgrep --full "$1" >/dev/null
}

@test "the demo shows the refusal, then three copies, twenty answers and the tally" {
    run --separate-stderr env MAKEFLAGS= make --silent --directory="$root" demo
    [[ $status -eq 0 && $stderr == "" ]]
    [[ $(count '^bind: Address already in use$') -eq 1 ]]
    [[ $(count '^\$ LD_PRELOAD=build/libreuse.so .* # pid [0-9]+$') -eq 3 ]]
    [[ $(count '^client 127.0.0.1:[0-9]+, server pid [0-9]+$') -eq 20 ]]
    [[ $(count '^pid [0-9]+ answered [0-9]+$') -ge 2 ]]
    [[ $output == *"chi-square"*"over 3 copies"* ]]
    [[ $(count '^reuse-launch: (reload: )?3 copies serve on 127.0.0.1:8000/tcp: pids') -eq 2 ]]
    [[ $(count '^requests answered: [1-9][0-9]+$') -eq 1 && ${lines[-1]} == 'requests failed: 0' ]]
    [[ $output != *$'\e'* ]]
    none_runs http-server
}

@test "the demo takes another port where 8000 is taken, and says so" {
    start holder "$programs/http-server" 8000
    eventually listening 1 8000
    run "$demo"
    [[ $status -eq 0 ]]
    [[ ${lines[0]} =~ ^Port\ 8000\ is\ taken\;\ this\ demo\ takes\ port\ ([0-9]+)\.$ ]]
    [[ $output == *"With libreuse, 3 copies share port ${BASH_REMATCH[1]}:"* ]]
}

@test "the demo runs with a server of the user's, whatever it answers" {
    run env MAKEFLAGS= make --silent --directory="$root" demo SERVER='python3 -m http.server 8000'
    [[ $status -eq 0 ]]
    [[ $output == *"Address already in use"* ]]
    [[ $(count '^pid [0-9]+: HTTP/1.0 200 OK$') -eq 20 ]]
    listening 0 8000
}

@test "the demo says why a server does not start" {
    run "$demo" "$programs/http-server" 192.0.2.1:8000
    [[ $status -eq 1 ]]
    [[ $output == *"http-server 192.0.2.1:8000: does not listen, or left the foreground: bind: Cannot assign requested address" ]]
}

@test "the demo says that a server shares its port already" {
    run "$demo" socat TCP-LISTEN:8000,reuseport,fork PIPE
    [[ $status -eq 1 ]]
    [[ $output == *"a second copy runs without libreuse already" ]]
    eventually listening 0 8000
}

@test "the demo fails when a copy does not answer" {
    server "mkdir '$PWD/second' 2>/dev/null || address=127.0.0.1
        [[ \$LD_PRELOAD ]] || address=127.0.0.1
        [[ \$LD_PRELOAD ]] || rmdir '$PWD/second' 2>/dev/null
        exec '$programs/http-server' \${address:-127.0.0.2}:8000"
    run "$demo" "$server"
    [[ $status -eq 1 ]]
    [[ $(count '^pid [0-9]+ answered [0-9]+$') -eq 2 ]]
    [[ $output == *"demo: not all of the 3 copies answered" ]]
}

@test "the demo ends a server that ignores SIGTERM" {
    run timeout 100 "$demo" bash -c "trap '' TERM; exec $programs/http-server"
    [[ $status -eq 0 ]]
    none_runs http-server
}

@test "the demo runs with a server that answers and closes at once" {
    server "exec python3 -c '
import socket
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((\"127.0.0.1\", 8000))
s.listen()
while True:
    c, _ = s.accept()
    c.recv(4096)
    c.sendall(b\"HTTP/1.0 200 OK\\r\\n\\r\\nyes\")
    c.close()'"
    for _ in 1 2 3; do
        run "$demo" "$server"
        [[ $status -eq 0 && $(count '^pid [0-9]+: HTTP/1.0 200 OK$') -eq 20 ]]
    done
}

@test "the demo does not depend on what is set for libreuse already" {
    LIBREUSE_PORTS=443 LIBREUSE_LOG=1 LD_PRELOAD=$shim run "$demo"
    [[ $status -eq 0 && $output == *"Address already in use"* ]]
}

@test "an interrupted demo leaves no copy behind" {
    for signal in TERM INT; do
        # What runs in the background of a script ignores SIGINT, if nothing resets that.
        start demo env --default-signal=INT "$demo" socat TCP-LISTEN:8000,fork,reuseaddr 'SYSTEM:sleep 60'
        eventually grep --quiet '^20 requests' demo.log
        kill -"$signal" "$pid"
        eventually ended "$pid"
        listening 0 8000
        eventually none_runs '^(socat|sleep 60$)'
    done
}

@test "the demo refuses an option that it does not know" {
    run "$demo" --fast
    [[ $status -eq 1 && $output == "demo: --fast: no such option; try 'scripts/demo --help'" ]]
    run "$demo" --help
    [[ $status -eq 0 && $output == Usage:* ]]
}
