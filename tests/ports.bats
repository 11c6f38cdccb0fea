#!/usr/bin/env bats
# LIBREUSE_PORTS and LIBREUSE_LOG.

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

# shares LIST KIND ADDRESS, leaves_out LIST KIND ADDRESS: what LIBREUSE_PORTS=LIST does to a bind.
shares() {
    LIBREUSE_PORTS=$1 run "$programs/bind-to" "$2" "$3"
    echo "$1 $2 $3: $output"
    [[ $output == "$3 bound, SO_REUSEPORT 1" ]]
}

leaves_out() {
    LIBREUSE_PORTS=$1 run "$programs/bind-to" "$2" "$3"
    echo "$1 $2 $3: $output"
    [[ $output == "$3 bound, SO_REUSEPORT 0" ]]
}

# malformed LIST ITEM REASON: LIST shares nothing, and one line names ITEM and REASON.
malformed() {
    LIBREUSE_PORTS=$1 run --separate-stderr "$programs/bind-to" tcp 8000
    echo "$1: $output$stderr"
    [[ $output == "8000 bound, SO_REUSEPORT 0" ]]
    [[ $stderr == "libreuse: LIBREUSE_PORTS: \"$2\": $3; no port is shared" ]]
}

@test "a list shares its ports and leaves out the others" {
    shares 8000 tcp 8000
    shares 80,8000,443 tcp 8000
    shares 80,8000,443 udp6 8000
    leaves_out 80,8000,443 tcp 8001
    leaves_out 8000 udp 800
}

@test "a range shares its ends and what is between" {
    shares 8000-8010 tcp 8000
    shares 8000-8010 tcp 8005
    shares 8000-8010 tcp 8010
    shares 1-65535 tcp 65535
    shares 8000-8000 tcp 8000
    leaves_out 8000-8010 tcp 7999
    leaves_out 8000-8010 tcp 8011
}

@test "a protocol narrows an item, MPTCP going with TCP and UDP-Lite with UDP" {
    shares 8000/tcp tcp 8000
    shares 8000/tcp mptcp6 8000
    leaves_out 8000/tcp udp 8000
    shares 8000/udp udp 8000
    shares 8000/udp udplite 8000
    leaves_out 8000/udp tcp 8000
    shares 8000-8010/udp,8005/tcp tcp 8005
    leaves_out 8000-8010/udp,8005/tcp tcp 8006
}

@test "an address narrows an item" {
    shares 127.0.0.1:8000 tcp 127.0.0.1:8000
    leaves_out 127.0.0.1:8000 tcp 127.0.0.2:8000
    leaves_out 127.0.0.1:8000 tcp 8000
    shares 127.0.0.1:8000-8010/udp udp 127.0.0.1:8010
    shares 0.0.0.0:8000 tcp 8000
    shares '[::1]:8000' tcp6 '[::1]:8000'
    shares '[::]:8000/tcp' tcp6 '[::]:8000'
    leaves_out '[::1]:8000' tcp6 '[::]:8000'
}

@test "an IPv4 address is the same over an IPv6 socket" {
    shares 127.0.0.1:8000 tcp6 '[::ffff:127.0.0.1]:8000'
    shares '[::ffff:127.0.0.1]:8000' tcp 127.0.0.1:8000
}

@test "with a list, a port that the kernel picks is left alone" {
    leaves_out 1-65535 udp 0
    leaves_out 1-65535 tcp6 0
}

@test "a list of 128 items is taken, one of 129 is refused" {
    local list
    list=$(seq --separator=, 8000 8127)
    shares "$list" tcp 8127
    malformed "$list,9000" 9000 "the list has more than 128 items"
}

@test "a malformed list shares nothing and names the bad item" {
    local port="a port is a number from 1 to 65535"
    malformed "" "" "an item is empty"
    malformed 8000, "" "an item is empty"
    malformed ,8000 "" "an item is empty"
    malformed 80,,8000 "" "an item is empty"
    malformed 8000,http http "$port"
    malformed 8000x 8000x "$port"
    malformed '8000, 8001' ' 8001' "$port"
    malformed +8000 +8000 "$port"
    malformed 0 0 "$port"
    malformed 0-8000 0-8000 "$port"
    malformed 65536 65536 "$port"
    malformed 73536 73536 "$port"
    malformed 8000-65536 8000-65536 "$port"
    malformed 000008000 000008000 "$port"
    malformed 4294975296 4294975296 "$port"
    malformed 18446744073709559616 18446744073709559616 "$port"
    malformed 8000- 8000- "$port"
    malformed -8000 -8000 "$port"
    malformed 8000-8001-8002 8000-8001-8002 "$port"
    malformed 8010-8000 8010-8000 "the range runs backwards"
    malformed 8000/ 8000/ "a protocol is tcp or udp"
    malformed 8000/sctp 8000/sctp "a protocol is tcp or udp"
    malformed 8000/TCP 8000/TCP "a protocol is tcp or udp"
    malformed 8000/tcp/udp 8000/tcp/udp "a protocol is tcp or udp"
    malformed /tcp /tcp "$port"
    malformed 127.0.0.1: 127.0.0.1: "$port"
    malformed 127.0.0:8000 127.0.0:8000 "an address is numeric, such as 127.0.0.1 or [::1]"
    malformed 127.0.0.256:8000 127.0.0.256:8000 "an address is numeric, such as 127.0.0.1 or [::1]"
    malformed localhost:8000 localhost:8000 "an address is numeric, such as 127.0.0.1 or [::1]"
    malformed :8000 :8000 "an address is numeric, such as 127.0.0.1 or [::1]"
    malformed ::1:8000 ::1:8000 "an IPv6 address goes in brackets"
    malformed '[::1:8000' '[::1:8000' "the bracket is not closed"
    malformed '[::1]8000' '[::1]8000' "the port is missing"
    malformed '[::1]' '[::1]' "the port is missing"
    malformed '[]:8000' '[]:8000' "the brackets hold no IPv6 address"
    malformed '[127.0.0.1]:8000' '[127.0.0.1]:8000' "the brackets hold no IPv6 address"
    malformed '[::1%lo]:8000' '[::1%lo]:8000' "the brackets hold no IPv6 address"
    malformed "1.$(printf '0%.0s' {1..60}):80" "1.$(printf '0%.0s' {1..60}):80" "the address is too long"
}

@test "the line about a malformed list stays one short line" {
    LIBREUSE_PORTS=$'80\n\e[31m'$(printf 'x%.0s' {1..9000}) run --separate-stderr \
        "$programs/bind-to" tcp 8000
    [[ ${#stderr_lines[@]} -eq 1 && ${#stderr} -lt 200 ]]
    [[ $stderr == 'libreuse: LIBREUSE_PORTS: "80??[31mxxx'*'...": '* ]]
}

@test "nothing is written unless LIBREUSE_LOG asks for it" {
    for value in unset '' 0; do
        export LIBREUSE_LOG=$value
        [[ $value != unset ]] || unset LIBREUSE_LOG
        run --separate-stderr "$programs/bind-to" tcp 8000 192.0.2.1:8000
        [[ ${#lines[@]} -eq 2 && $stderr == "" ]]
    done
}

@test "LIBREUSE_LOG gives one line for each bind of TCP or UDP" {
    export LIBREUSE_LOG=1 LIBREUSE_PORTS=8000
    for kind in tcp udp mptcp udplite; do
        start "$kind" "$programs/bind-to" "$kind" 127.0.0.1:8000 9000 192.0.2.1:8000
        wait "$pid"
        diff - <(grep libreuse "$kind.log") <<END
libreuse: pid $pid: $kind 127.0.0.1:8000: shared
libreuse: pid $pid: $kind 0.0.0.0:9000: left out by LIBREUSE_PORTS
libreuse: pid $pid: $kind 192.0.2.1:8000: refused: EADDRNOTAVAIL
END
    done
    run --separate-stderr "$programs/bind-to" raw-tcp 8000
    [[ $stderr == "" ]]
}

@test "the log names the port that the kernel picked, and brackets IPv6" {
    LIBREUSE_LOG=1 run --separate-stderr "$programs/bind-to" tcp6 '[::1]:0'
    [[ $stderr =~ ^libreuse:\ pid\ [0-9]+:\ tcp\ \[::1\]:([0-9]+):\ shared$ ]]
    [[ ${BASH_REMATCH[1]} -gt 0 ]]
}

@test "the log is one write a line" {
    LIBREUSE_LOG=1 strace --trace=write --string-limit=200 --output=trace "$programs/bind-to" tcp 8000 8001
    [[ $(grep -c '^write(2, "libreuse: .*\\n", [0-9]*)' trace) -eq 2 ]]
}

@test "with stderr closed, the log is lost and nothing else" {
    LIBREUSE_LOG=1 LIBREUSE_PORTS=x "$programs/bind-to" tcp 8000 >out 2>&-
    [[ $(<out) == "8000 bound, SO_REUSEPORT 0" ]]
}

@test "a socket that took the number of a closed stderr gets no log line" {
    LIBREUSE_LOG=1 run python3 -c '
import os, socket
a = socket.socket()
a.bind(("127.0.0.1", 8000)); a.listen()
b = socket.create_connection(("127.0.0.1", 8000))
os.dup2(b.fileno(), 2)
peer, _ = a.accept()
socket.socket().bind(("127.0.0.1", 8001))
peer.setblocking(False)
try:
    print("got", peer.recv(1000))
except BlockingIOError:
    print("got nothing")'
    [[ ${lines[-1]} == "got nothing" ]]
}

@test "a file that took the number of a stderr closed from the start gets no log line" {
    local python
    python=$(python3 -c 'import sys; print(sys.executable)') # no script before it, as of pyenv
    LIBREUSE_LOG=1 "$python" -c '
import os, socket
os.dup2(os.open("file", os.O_CREAT | os.O_RDWR), 2)
socket.socket().bind(("127.0.0.1", 8000))' 2>&-
    [[ -e file && ! -s file ]]
}

@test "a broken or full stderr neither kills nor stops the program" {
    LIBREUSE_LOG=1 run python3 -c '
import os, socket, sys
def bind(port):
    s = socket.socket()
    s.bind(("127.0.0.1", port))
    return s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
import signal
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
read, write = os.pipe()
os.dup2(write, 2)
os.set_blocking(write, False)
try:
    while True: os.write(write, b"x" * 4096)
except BlockingIOError:
    os.set_blocking(write, True)
print("full", bind(8000))
os.close(read)
print("broken", bind(8001))'
    [[ $output == $'full 1\nbroken 1' ]]
}
