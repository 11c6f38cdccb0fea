#!/usr/bin/env bats
# The rooms of shim/group/ that more than one tool uses, each by a program of its own.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2030,SC2031,SC2154
load common

setup() {
    common_setup
    port=$((8100 + 10 * BATS_TEST_NUMBER))
}

teardown() {
    common_teardown
}

# ask ARG...: prints what ask-diag does, sorted, in one line.
ask() {
    "$programs/ask-diag" "$@" | sort | paste -sd '|'
}

# is EXPECTED ACTUAL
is() {
    [[ $1 == "$2" ]] && return
    printf 'expected "%s", got "%s"\n' "$1" "$2" >&2
    return 1
}

# --- diag ---

@test "the kernel tells of the sockets of the states and ports that are asked for, and no others" {
    start listeners "$programs/hold" -p 9 "$port"
    eventually listening 1 $((port + 8))
    is "$port 0 10 0" "$(ask tcp 10 "$port")"
    is "$((port + 1)) 0 10 0|$((port + 8)) 0 10 0" "$(ask tcp 10 $((port + 8)) $((port + 1)))"
    is "" "$(ask tcp 10 $((port + 9)) $((port - 1)))"
    is "" "$(ask tcp 1,2,3,4,5,6,7,8,9,11 "$port")"
    is 9 "$("$programs/ask-diag" tcp 10 | wc -l)"
}

@test "it tells of connections with what is known of TCP, and of connected UDP sockets" {
    local connection client
    start listener "$programs/hold" "$port"
    start bound "$programs/bind-to" -w udp "127.0.0.1:$port"
    eventually listening 1 "$port"
    eventually bound 1 "$port"
    exec {connection}<>"/dev/tcp/127.0.0.1/$port"
    client=$(ask tcp 1 "$port" | cut -d ' ' -f 2)
    is "$port $client 1 0" "$(ask tcp 1 "$port")"
    echo hello >&"$connection"
    eventually acknowledged 7 "$client" # one more for the SYN
    exec {connection}>&-
    is "$port 0 7" "$(ask udp 7 "$port")"
    exec {connection}<>"/dev/udp/127.0.0.1/$port"
    client=$(ask udp 1 | cut -d ' ' -f 1)
    is "$client $port 1" "$(ask udp 1 "$client" "$port")"
    exec {connection}>&-
}

# acknowledged OCTETS PORT: whether so many were, of those that the connection on the port sent.
acknowledged() {
    [[ $(ask tcp 1 "$2") == *" $1" ]]
}

@test "it tells which sockets have a port that the kernel chose" {
    start server "$programs/odd-server" "$port" 0 udp:$((port + 1)) udp:0 '[::1]:0' 0
    eventually open_sockets
    is 2 "$("$programs/ask-diag" -p tcp 10 | wc -l)"
    is 1 "$("$programs/ask-diag" -p udp 7 | wc -l)"
    is "" "$(ask -p tcp 10 "$port")"
    local one
    one=$("$programs/ask-diag" -p tcp 10 | head -n 1 | cut -d ' ' -f 1)
    is "$one 0 10 0" "$(ask -p tcp 10 "$port" "$one")"
}

# open_sockets: whether the server of the test has opened the last of its own.
open_sockets() {
    [[ $("$programs/ask-diag" tcp 10 | wc -l) -eq 3 ]]
}

@test "a filter has room for 3275 ports, and more are refused" {
    start listener "$programs/hold" "$port"
    eventually listening 1 "$port"
    local others
    mapfile -t others < <(seq 20001 23275)
    is "$port 0 10 0" "$(ask tcp 10 "${others[@]:0:1000}" "$port" "${others[@]:1001}")"
    is "" "$(ask tcp 10 "${others[@]}")"
    run "$programs/ask-diag" tcp 10 "${others[@]}" "$port"
    [[ $status -eq 1 && $output == "ask-diag: Argument list too long" ]]
}

# --- placeholder ---

# clients N HOST: starts a client that makes N connections to the port at once and keeps them.
clients() {
    start clients python3 -c "
import socket, time, resource
made = [socket.socket(socket.AF_INET6 if ':' in '$2' else socket.AF_INET) for _ in range($1)]
for one in made:
    one.setblocking(False)
    one.connect_ex(('$2', $port))
time.sleep(100)"
    eventually begun "$1"
}

# Client sockets on the port, those that are connected, and those that wait for an answer.
begun() {
    sockets "$1" --tcp --all "dport = :$port"
}

connected() {
    sockets "$1" --tcp "dport = :$port"
}

unanswered() {
    ss --no-header --numeric --tcp --all state syn-sent "dport = :$port" | wc -l
}

@test "what meets a placeholder waits, and is with the others once it has gone" {
    local at host placeholder
    for at in '127.0.0.1 127.0.0.1' '[::1] ::1' '[::] 127.0.0.1'; do
        read -r at host <<<"$at"
        start member with_shim "$programs/hold" "$at:$port"
        eventually listening 1 "$port"
        start placeholder "$programs/placeholder" tcp "$at:$port"
        placeholder=$pid
        eventually listening 2 "$port"
        clients 40 "$host"
        # All to one of the two, by chance: one of 10^11 runs.
        (($(unanswered) > 0 && $(unanswered) < 40))
        is 0 "$(queued "$placeholder")"
        kill "$placeholder"
        eventually connected 40
        port=$((port + 1))
    done
}

# queued PID: how many connections wait in the accept queue of what PID listens on.
queued() {
    ss --no-header --numeric --listening --tcp --processes "sport = :$port" |
        awk -v pid="pid=$1," 'index($0, pid) { print $2 }'
}

@test "a placeholder joins a UDP group as the last" {
    start first with_shim "$programs/udp-server" "$port"
    eventually bound 1 "$port"
    start placeholder "$programs/placeholder" udp "127.0.0.1:$port"
    eventually bound 2 "$port"
    "$build/reuse-group" --steer=0 "$port"
    "$build/reuse-group" --tsv "$port" >table
    is "NO,0,1" "$(cut -f 4 table | paste -sd ',')"
    is "$pid" "$(awk 'END { print $5 }' table)"
}

# --- steer ---

# plan ARG...: sets counts to what steer-plan prints, "PLACE COUNT" a line.
plan() {
    run "$programs/steer-plan" "$@"
    [[ $status -eq 0 ]]
    counts=$output
}

# places: those that got something, in one line.
places() {
    cut -d ' ' -f 1 <<<"$counts" | paste -sd ' '
}

# between LEAST MOST PLACE...: whether the places together got as many.  Bounds are five standard
# deviations from the mean: chance leaves them in one of a million cases.
between() {
    awk -v least="$1" -v most="$2" -v places=" ${*:3} " '
        index(places, " " $1 " ") { sum += $2 }
        END { if (sum < least || sum > most) { print "got " sum + 0; exit 1 } }' <<<"$counts"
}

@test "a plan gives what is new to its places alone, and about as much to each" {
    local kind place
    for kind in tcp tcp6 udp udp6; do
        plan -t 1-2,4 "$kind" 6 3000
        is "1 2 4" "$(places)"
        for place in 1 2 4; do
            between 871 1129 "$place"
        done
    done
}

@test "a share of what is new goes to some places, and what is left to others" {
    plan -t 1-2 -r 3,5 -s 16384 udp 7 4000
    is "1 2 3 5" "$(places)"
    between 863 1137 1 2
    between 411 589 1
    between 1361 1639 3
    plan -t 1-2 -r 3,5 -s 0 tcp 7 100
    is "3 5" "$(places)"
    plan -t 1-2 -r 3,5 -s 65536 tcp 7 100
    is "1 2" "$(places)"
}

@test "a lane leads to its place, and no other address does" {
    local kind
    for kind in tcp udp; do
        plan -t 1 -l 127.77.0.2=3 -l 127.77.0.1=2 -f 127.77.0.1 "$kind" 4 50
        is "2 50" "$counts"
        plan -t 1 -l 127.77.0.2=3 -l 127.77.0.1=2 -f 127.77.0.2 "$kind" 4 50
        is "3 50" "$counts"
        plan -t 1 -l 127.77.0.2=3 -l 127.77.0.1=2 -f 127.77.0.3 "$kind" 4 50
        is "1 50" "$counts"
    done
    plan -l 127.77.0.2=3 tcp 4 200
    is "0 1 2 3" "$(places)"
}

@test "a flow stays with its member, whatever the plan" {
    local kind
    for kind in udp udp6; do
        plan -2 -t 1-3,5 -r 0,4 -s 32768 "$kind" 6 500
        is 500 "$counts"
    done
}

@test "without places, with one that nobody has, and after the end of a plan, all members get some" {
    local option
    for option in '' '-t 9' '-t 1 -d'; do
        # shellcheck disable=SC2086 # none or several words
        plan $option udp 3 300
        is "0 1 2" "$(places)"
    done
}

@test "a plan of many places is followed, and one that the kernel has no room for refused" {
    local even
    even=$(seq -s , 0 2 2600)
    plan -t "$even" udp 2602 4000
    is 0 "$(awk '$1 % 2' <<<"$counts" | wc -l)"
    (($(wc -l <<<"$counts") > 1000))
    run "$programs/steer-plan" -t "$even,$(seq -s , 2602 2 2800)" udp 2 1
    [[ $status -eq 1 && $output == "steer: Argument list too long" ]]
}

@test "a socket that is in no group is not steered" {
    local kind
    for kind in tcp udp; do
        run "$programs/steer-plan" -n -t 0 "$kind" 1 1
        [[ $status -eq 1 && $output == "steer: Invalid argument" ]]
    done
}
