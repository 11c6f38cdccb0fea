#!/usr/bin/env bats
# Out of descriptors, of memory, of processes: who runs out says so in one line and leaves nothing
# behind, and a program whose ports are shared notices no more of it than it would alone.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2030,SC2031,SC2154
load common

setup() {
    common_setup
    static=$programs/static
    # In the place that other users reach.
    public "$build/reuse-run" "$static/bind-to" "$root/scripts/reuse-spread"
    export TMPDIR=$public/tmp
    mkdir --mode=1777 "$TMPDIR"
    # The limit of processes counts all of a user, those of another run of the tests too.
    local uid=$((20000 + RANDOM))
    user=(setpriv --reuid "$uid" --regid "$uid" --clear-groups)
}

teardown() {
    common_teardown
}

# limited OPTION LIMIT COMMAND...: runs COMMAND with a limit of the shell's ulimit; its output and
# messages go to the files said and message, its exit status to $status.
limited() {
    status=0
    (
        exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- # what bats has open
        ulimit "$1" "$2"
        exec "${@:3}"
    ) >said 2>message || status=$?
    echo "ulimit $1 $2: status $status: $(<said) $(<message)"
}

# works TEXT: whether the last command did as ever, and said TEXT.
works() {
    [[ $status -eq 0 && $(<said) == *"$1"* && ! -s message ]]
}

# gives_up STATUS TEXT...: whether the last command ended with STATUS, and gave one of the TEXTs as
# the reason in one line and nothing else.
gives_up() {
    [[ $status -eq $1 && ! -s said && $(wc -l <message) -eq 1 ]] &&
        grep --quiet --fixed-strings --regexp="$(printf '%s\n' "${@:2}")" message
}

# starts_not: whether the last command was not even loaded, for want of what is limited: ld.so(8)
# says so then, in words of its own.
starts_not() {
    [[ $status -eq 127 ]] &&
        grep --quiet --regexp='libc.so' --regexp='^cannot allocate TLS data structures' message
}

# nothing_left: whether no process of this project is left, and no temporary file.
nothing_left() {
    local name
    for name in reuse- curl bind-to; do
        ! pgrep "$name" || return
    done
    [[ -z $(ls -A "$TMPDIR") ]]
}

# two_servers: two copies of a server share port 8000.
two_servers() {
    for name in one two; do start "$name" with_shim "$programs/http-server" 8000; done
    eventually listening 2 8000
}

# --- descriptors

@test "out of descriptors, reuse-run runs nothing and says so" {
    local worked=0 gave_up=0
    for limit in {4..12}; do
        limited -n "$limit" "$build/reuse-run" "$static/bind-to" tcp 8000
        if works '8000 bound, SO_REUSEPORT 1'; then
            worked=$((worked + 1))
        else
            gives_up 125 'reuse-run: cannot '
            grep --quiet 'Too many open files' message
            gave_up=$((gave_up + 1))
        fi
        eventually nothing_left
    done
    ((worked > 1 && gave_up > 1))
}

@test "with as few descriptors as a program can do with, the shim shares its port" {
    limited -n 4 env LD_PRELOAD="$shim" "$programs/bind-to" tcp 8000
    works '8000 bound, SO_REUSEPORT 1'
    limited -n 4 "$build/reuse-run" "$programs/bind-to" tcp 8000
    works '8000 bound, SO_REUSEPORT 1'
}

@test "a program can open as many descriptors as without the shim or reuse-run" {
    local count='
import socket
sockets = []
try:
    while True:
        sockets.append(socket.socket())
        sockets[-1].bind(("127.0.0.1", 8000 + len(sockets)))
except OSError as error:
    print(len(sockets), error)'
    limited -n 40 python3 -c "$count"
    grep '^3[0-9] .*Too many open files' said
    mv said plain
    limited -n 40 env LD_PRELOAD="$shim" python3 -c "$count"
    diff plain said
    limited -n 40 "$build/reuse-run" --watch python3 -c "$count"
    diff plain said
}

@test "with few descriptors, reuse-group tells who shares the port" {
    two_servers
    for limit in {5..8}; do
        limited -n "$limit" "$build/reuse-group" --tsv 8000
        [[ $status -eq 0 && ! -s message && $(awk '$7 == "yes"' said | wc -l) -eq 2 ]]
        limited -n "$limit" "$build/reuse-group" --steer=0-1 8000
        [[ $status -eq 0 && ! -s message ]]
    done
    for action in --tsv --steer=0-1; do
        limited -n 4 "$build/reuse-group" "$action" 8000
        gives_up 2 'reuse-group: cannot look who holds the sockets: Too many open files'
    done
}

@test "out of descriptors, reuse-spread gives no verdict and says so" {
    two_servers
    for limit in {6..10}; do
        limited -n "$limit" "$root/scripts/reuse-spread" --connections 20 http://127.0.0.1:8000/
        gives_up 2 'reuse-spread: too few file descriptors; raise their limit (ulimit -n)'
        nothing_left
    done
}

# --- memory

@test "out of memory, reuse-run says so, or shares the port of the program as ever" {
    local worked=0 gave_up=0
    # In KiB: from what the loader cannot do with to what is enough.
    for ((limit = 2000; limit <= 3600; limit += 100)); do
        limited -v "$limit" "$build/reuse-run" "$static/bind-to" tcp 8000
        if works '8000 bound, SO_REUSEPORT 1'; then
            worked=$((worked + 1))
        else
            starts_not || gives_up 125 'Cannot allocate memory'
            gave_up=$((gave_up + 1))
        fi
        eventually nothing_left
    done
    ((worked > 1 && gave_up > 1))
}

@test "every piece of memory that reuse-group does not get, it says so or does without" {
    local said_so=0
    two_servers
    for ((failing = 8; failing < 60; failing++)); do
        status=0
        strace --quiet=all --output=trace --inject=brk:error=ENOMEM:when=2+ \
            --inject="mmap:error=ENOMEM:when=$failing+" \
            "$build/reuse-group" --tsv 8000 >said 2>message || status=$?
        grep --quiet 'mmap.*INJECTED' trace || break
        echo "from call $failing on: status $status: $(<message)"
        if [[ $status -eq 0 ]]; then
            [[ $(awk '$7 == "yes"' said | wc -l) -eq 2 ]]
        elif [[ $status -ne 127 ]]; then
            gives_up 2 'reuse-group: out of memory' 'Cannot allocate memory'
            said_so=$((said_so + 1))
        fi
    done
    ((failing < 60 && said_so > 0))
}

@test "a program gets as much memory as without the shim" {
    local size='
import mmap, socket
pieces = []
try:
    while True:
        pieces.append(mmap.mmap(-1, 1 << 20))
except (OSError, MemoryError) as error:
    print(error)
s = socket.socket()
s.bind(("127.0.0.1", 8000))
print(len(pieces) // 4, s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))'
    limited -v 200000 python3 -c "$size"
    sed 's/0$/1/' said >plain
    [[ $(wc -l <plain) -eq 2 ]]
    limited -v 200000 env LD_PRELOAD="$shim" python3 -c "$size"
    diff plain said
    limited -v 200000 "$build/reuse-run" --watch python3 -c "$size"
    diff plain said
}

# --- processes

@test "out of processes, reuse-run runs nothing and says so" {
    needs_root
    local worked=0 gave_up=0
    for limit in 1 2 3 4; do
        # The limit is looked at when the user forks, so it is set as that user.
        limited -c 0 "${user[@]}" bash -c "ulimit -u $limit && exec $public/reuse-run $public/bind-to tcp 8000"
        if works '8000 bound, SO_REUSEPORT 1'; then
            worked=$((worked + 1))
        else
            gives_up 125 "reuse-run: cannot start '$public/bind-to': fork: Resource temporarily unavailable"
            gave_up=$((gave_up + 1))
        fi
        eventually nothing_left
    done
    ((worked > 0 && gave_up > 0))
}

@test "out of processes, reuse-spread gives no verdict and leaves nothing behind" {
    needs_root
    [[ -n ${STRESS-} ]] || skip "bash tries again for 15 seconds; run by 'make stress'"
    local limit
    two_servers
    for limit in 1 2 3 4; do
        limited -c 0 "${user[@]}" bash -c "ulimit -u $limit && exec $public/reuse-spread http://127.0.0.1:8000/"
        grep --quiet 'Resource temporarily unavailable' message
        # Bash goes on where its next try helps.
        [[ $status -ge 2 && ! -s said ]] || grep 'spread evenly over 2 copies' said
        eventually nothing_left
    done
    limited -c 0 "${user[@]}" bash -c "ulimit -u 20 && exec $public/reuse-spread http://127.0.0.1:8000/"
    works 'spread evenly over 2 copies'
}
