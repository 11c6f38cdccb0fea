# What the tests of reuse-launch share.  A file loads it after common.
# shellcheck disable=SC2154 # the variables come from common.bash and bats

# launched NAME ARG...: starts reuse-launch in the background and waits until its copies serve.
launched() {
    : >"$BATS_TEST_TMPDIR/$1.log"
    start "$1" "$launch" "${@:2}"
    eventually says "$1" ' on .*: pids'
}

# says NAME REGEX: whether the background command NAME has printed a line that matches.
says() {
    grep --quiet --extended-regexp --regexp="$2" "$BATS_TEST_TMPDIR/$1.log"
}

# said NAME N REGEX: whether N lines match.
said() {
    [[ $(grep --count --extended-regexp --regexp="$3" "$BATS_TEST_TMPDIR/$1.log") -eq $2 ]]
}

# reload NAME PID: has reuse-launch reload, and waits until it has.
reload() {
    local before
    before=$(grep --count 'reload: .* serves\? on' "$BATS_TEST_TMPDIR/$1.log") || true
    kill -HUP "$2"
    eventually said "$1" $((before + 1)) 'reload: .* serves? on'
}

# stop NAME PID: has reuse-launch stop, and checks that it does so in order and leaves nothing.
stop() {
    kill -TERM "$2"
    wait "$2"
    none_left
}

# none_left: whether no copy is left, and nothing that a copy has started.
none_left() {
    # shellcheck disable=SC2009 # pgrep looks at one of the two
    ! ps --no-headers -eo comm,args |
        grep --quiet -E '^(reuse-run|http-server|odd-server|udp-server|hold|nginx|go-static) |sleep 60$'
}

# pids_on PORT: the process ids that listen on TCP PORT, each once.
pids_on() {
    ss --no-header --listening --numeric --processes --tcp "sport = :$1" |
        grep --only-matching --perl-regexp 'pid=\K[0-9]+' | sort --unique
}
