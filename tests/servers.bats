#!/usr/bin/env bats
# Servers as they come.  Without the shim the second copy is refused its port; under the shim
# copies share the port, and every one of them answers.  Then what the kernel does not let them
# share, and restarts while old connections are in TIME_WAIT.
# shellcheck disable=SC2154 # common.bash sets them

load common

setup() {
    common_setup
    export LC_ALL=C
    # A port of its own, so that no TIME_WAIT of an earlier test is on it.
    port=$((8100 + BATS_TEST_NUMBER))
}

teardown() {
    common_teardown
}

# A server is two functions.  start_SERVER NAME [with_shim] starts a copy of it on $port, and may
# keep files in a folder NAME.  ask_SERVER makes one connection (or sends one datagram) to $port
# and prints the pid of the copy that answers.

# get PATH [OPTION...]: prints what an HTTP server on the port has there.
get() {
    curl --silent --show-error --fail --noproxy '*' --max-time 60 "${@:2}" \
        "http://127.0.0.1:$port/$1"
}

# ask_udp ADDRESS: sends a datagram, from a socket and so a source port of its own, and prints the
# answer.
ask_udp() {
    local socket
    exec {socket}<>"/dev/udp/$1/$port"
    echo who >&"$socket"
    timeout 60 head -n 1 <&"$socket"
    exec {socket}>&-
}

start_http_server() {
    start "$@" "$programs/http-server" "$port"
}

# Reads to the end of the connection, so that it is the server that closes first.
ask_http_server() {
    get '' --ignore-content-length | sed 's/.*pid //'
}

start_python() {
    mkdir -p "$1"
    start "$@" python3 -m http.server --bind 127.0.0.1 --directory "$1" "$port"
    echo "$pid" >"$1/pid"
}

ask_python() {
    get pid
}

start_busybox() {
    mkdir -p "$1"
    start "$@" busybox httpd -f -p "127.0.0.1:$port" -h "$1"
    echo "$pid" >"$1/pid"
}

ask_busybox() {
    get pid
}

start_nginx() {
    mkdir -p "$1"
    cat >"$1/nginx.conf" <<CONF
        daemon off;
        user root root;
        worker_processes ${workers:-1};
        pid nginx.pid;
        error_log stderr;
        events {
        }
        http {
            access_log off;
            client_body_temp_path body;
            proxy_temp_path proxy;
            fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi;
            scgi_temp_path scgi;
            server {
                listen 127.0.0.1:$port;
                return 200 "\$pid\n";
            }
        }
CONF
    start "$@" nginx -p "$PWD/$1" -c nginx.conf -e stderr
}

# It is a worker that answers; the copy is the worker's parent.
ask_nginx() {
    ps -o ppid= -p "$(get '')" | tr -d ' '
}

start_redis() {
    start "$@" redis-server --bind 127.0.0.1 --port "$port" --save ''
}

ask_redis() {
    redis-cli -p "$port" INFO server | tr -d '\r' | sed -n 's/^process_id://p'
}

start_memcached() {
    start "$@" memcached --user=root --listen=127.0.0.1 --port="$port"
}

ask_memcached() {
    local socket
    exec {socket}<>"/dev/tcp/127.0.0.1/$port"
    printf 'stats\r\nquit\r\n' >&"$socket"
    tr -d '\r' <&"$socket" | sed -n 's/^STAT pid //p'
    exec {socket}>&-
}

start_node() {
    start "$@" node --eval "
        require('http').createServer((request, response) => response.end(process.pid + '\n'))
            .listen($port, '127.0.0.1')"
}

ask_node() {
    get ''
}

# It reads the question first: socat drops the answer of a program that ends without.
start_udp_socat() {
    start "$@" socat "UDP-RECVFROM:$port,bind=127.0.0.1,fork" \
        SYSTEM:"read -r question; echo \$SOCAT_PPID"
}

ask_udp_socat() {
    ask_udp 127.0.0.1
}

start_udp6_server() {
    start "$@" "$programs/udp-server" "[::1]:$port"
}

ask_udp6_server() {
    ask_udp ::1 | sed 's/pid //'
}

# An HTTP server on a socket with the options of socat that $options holds.  It is the server that
# closes first.
start_socat() {
    cat >answer <<'SCRIPT'
#!/bin/sh
while read -r line && [ ${#line} -gt 1 ]; do :; done
printf 'HTTP/1.0 200 OK\r\n\r\n%s\n' "$SOCAT_PPID"
SCRIPT
    chmod +x answer
    start "$@" socat "TCP-LISTEN:$port,bind=127.0.0.1,fork,$options" EXEC:./answer
}

ask_socat() {
    get ''
}

# serving N: whether N sockets wait on the port.
serving() {
    sockets "$1" --listening --tcp --udp "sport = :$port"
}

# refused NAME: whether the copy NAME, the last one started, gives up because the port is in use.
refused() {
    eventually ended "$pid"
    ! wait "$pid" && grep -E 'Address (already )?in use|EADDRINUSE' "$1.log"
}

# shim_says NAME WORD: whether the shim has logged a bind of the copy NAME with this outcome.
shim_says() {
    grep "^libreuse: .*: $2" "$1.log"
}

# answered_by ASK PID...: whether 40 connections get an answer each, some from each of the PIDs and
# none from others.  That one of two copies gets none of 40 has a chance of 2e-12, one of three of
# 3e-7.
answered_by() {
    local ask=$1 connection
    shift
    for connection in {1..40}; do
        "$ask" >>answers
        [[ $(wc -l <answers) -eq $connection ]]
    done
    sort answers | uniq --count
    [[ $(sort -u answers) == "$(printf '%s\n' "$@" | sort -u)" ]]
}

# refused_without_shim SERVER: whether of two copies only the first gets the port.
refused_without_shim() {
    local first
    "start_$1" first
    first=$pid
    eventually serving 1
    "start_$1" second
    refused second
    [[ $("ask_$1") == "$first" ]]
}

# shared_under_shim SERVER [N]: whether two copies, or N, have a socket each on the port and answer.
# Leaves their pids in $copies.
shared_under_shim() {
    local number
    copies=()
    for ((number = 1; number <= ${2:-2}; number++)); do
        "start_$1" "copy$number" with_shim
        copies+=("$pid")
    done
    eventually serving "${#copies[@]}"
    answered_by "ask_$1" "${copies[@]}"
}

@test "without the shim a second http-server is refused" {
    refused_without_shim http_server
}

@test "two http-servers share a port, and both answer" {
    shared_under_shim http_server
}

@test "three http-servers share a port, and all three answer" {
    shared_under_shim http_server 3
}

@test "without the shim a second python3 -m http.server is refused" {
    refused_without_shim python
}

@test "two python3 -m http.server share a port, and both answer" {
    shared_under_shim python
}

needs_busybox_httpd() {
    busybox --list | grep -qx httpd || skip "this busybox has no httpd"
}

@test "without the shim a second busybox httpd is refused" {
    needs_busybox_httpd
    refused_without_shim busybox
}

@test "two busybox httpd share a port, and both answer" {
    needs_busybox_httpd
    readelf --program-headers --wide "$(command -v busybox)" | grep -q INTERP ||
        skip "this busybox is static, and no preload reaches it; on Debian: apt-get install busybox"
    shared_under_shim busybox
}

@test "without the shim a second nginx is refused" {
    refused_without_shim nginx
}

@test "two nginx share a port, and both answer" {
    shared_under_shim nginx
}

# has_two_workers PID: whether the process has two children.
has_two_workers() {
    [[ $(ps --no-headers --ppid "$1" | wc -l) -eq 2 ]]
}

@test "two nginx with two workers each share a port, and both answer" {
    workers=2
    shared_under_shim nginx
    for master in "${copies[@]}"; do
        eventually has_two_workers "$master"
    done
}

@test "without the shim a second redis-server is refused" {
    refused_without_shim redis
}

@test "two redis-servers share a port, and both answer" {
    shared_under_shim redis
}

@test "without the shim a second memcached is refused" {
    refused_without_shim memcached
}

@test "two memcached share a port, and both answer" {
    shared_under_shim memcached
}

@test "without the shim a second node is refused" {
    refused_without_shim node
}

@test "two node share a port, and both answer" {
    shared_under_shim node
}

@test "without the shim a second socat over UDP is refused" {
    refused_without_shim udp_socat
}

@test "two socat share a UDP port, and both answer" {
    shared_under_shim udp_socat
}

@test "without the shim a second UDP server over IPv6 is refused" {
    refused_without_shim udp6_server
}

@test "two UDP servers share an IPv6 port, and both answer" {
    shared_under_shim udp6_server
}

@test "a program that asks for SO_REUSEPORT itself shares with one under the shim" {
    options=reuseport
    start_socat socat
    copies=("$pid")
    start_http_server http-server with_shim
    copies+=("$pid")
    eventually serving 2
    ask_either() { get '' | sed 's/.*pid //'; }
    answered_by ask_either "${copies[@]}"
}

@test "a port whose holder does not share it is refused" {
    start_http_server holder
    holder=$pid
    eventually serving 1
    LIBREUSE_LOG=1 start_http_server newcomer with_shim
    refused newcomer
    shim_says newcomer refused
    [[ $(ask_http_server) == "$holder" ]]
}

one_user=(setpriv --reuid 65533 --regid 65533 --clear-groups)
other_user=(setpriv --reuid 65534 --regid 65534 --clear-groups)

# Puts the shim and http-server where every user can read them, as they may not the checkout.
needs_users() {
    "${one_user[@]}" true || skip "needs root, to run programs as other users"
    public "$shim" "$programs/http-server"
    shim=$public/libreuse.so
    programs=$public
}

# The kernel lets sockets share only if their effective user is the same: else anyone could take a
# part of the connections to a server of someone else's.
@test "a port that another user holds is refused" {
    needs_users
    LIBREUSE_LOG=1 start_http_server holder with_shim "${one_user[@]}"
    holder=$pid
    eventually serving 1
    shim_says holder shared
    LIBREUSE_LOG=1 start_http_server newcomer with_shim "${other_user[@]}"
    refused newcomer
    shim_says newcomer refused
    [[ $(ask_http_server) == "$holder" ]]
}

@test "two copies of a user who is not root share a port, and both answer" {
    needs_users
    start_http_server copy1 with_shim "${one_user[@]}"
    copies=("$pid")
    start_http_server copy2 with_shim "${one_user[@]}"
    copies+=("$pid")
    eventually serving 2
    answered_by ask_http_server "${copies[@]}"
}

# time_wait N: whether the server's end of N connections is in TIME_WAIT.
time_wait() {
    sockets "$1" --tcp state time-wait "sport = :$port"
}

# old_run SERVER [with_shim]: runs the server until it has closed five connections, then stops it.
old_run() {
    local connection
    "start_$1" old "${@:2}"
    eventually serving 1
    for connection in {1..5}; do
        [[ $("ask_$1") == "$pid" ]]
    done
    kill "$pid"
    eventually ended "$pid"
    eventually serving 0
    eventually time_wait 5
}

# back SERVER: whether the copy just started answers, the old connections being in TIME_WAIT still.
back() {
    eventually serving 1
    time_wait 5
    [[ $("ask_$1") == "$pid" ]]
}

@test "a server is back at once while its old connections are in TIME_WAIT" {
    old_run http_server with_shim
    start_http_server new with_shim
    back http_server
}

@test "a server comes under the shim while its old connections are in TIME_WAIT" {
    old_run http_server
    start_http_server new with_shim
    back http_server
}

@test "a server leaves the shim while its old connections are in TIME_WAIT" {
    old_run http_server with_shim
    start_http_server new
    back http_server
}

@test "without the shim, TIME_WAIT refuses the port to a server without SO_REUSEADDR" {
    options=reuseaddr=0
    old_run socat
    start_socat new
    refused new
    time_wait 5
}

@test "under the shim, a server without SO_REUSEADDR is back at once all the same" {
    options=reuseaddr=0
    old_run socat with_shim
    start_socat new with_shim
    back socat
}

@test "a server without SO_REUSEADDR comes under the shim only after TIME_WAIT" {
    options=reuseaddr=0
    old_run socat
    LIBREUSE_LOG=1 start_socat new with_shim
    refused new
    shim_says new refused
    time_wait 5
}
