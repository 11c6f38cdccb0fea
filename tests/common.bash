# What the tests share.  A file loads it and calls common_setup and common_teardown.
# shellcheck disable=SC2034 # the variables are for the tests

bats_require_minimum_version 1.5.0

common_setup() {
    root=$(cd "$BATS_TEST_DIRNAME/.." && pwd)
    build=$root/build
    programs=$build/tests
    shim=$build/libreuse.so
    launch=$build/reuse-launch
    started=()
    unset LD_PRELOAD LIBREUSE_PORTS LIBREUSE_LOG
    cd "$BATS_TEST_TMPDIR" || return
}

common_teardown() {
    local pid
    for pid in ${started[@]+"${started[@]}"}; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in ${started[@]+"${started[@]}"}; do
        wait "$pid" 2>/dev/null || true
    done
    [[ -z ${public-} ]] || rm -rf "$public"
}

# public FILE...: copies FILEs to where every user can read them, as the checkout may be private:
# to the folder $public.
public() {
    public=$(mktemp --directory /tmp/libreuse.XXXXXX)
    chmod 755 "$public"
    install -m 755 "$@" "$public"
}

# needs_root: skips a test that takes the real root, who can be any user and write anywhere.
needs_root() {
    [[ $EUID -eq 0 && $(awk '{ print $3 }' /proc/self/uid_map) == 4294967295 ]] ||
        skip "needs root"
}

# needs_m32: skips a test of 32-bit programs where the compiler makes none.
needs_m32() {
    [[ -e $build/lib32/libreuse.so ]] || skip "the compiler makes no 32-bit programs"
}

# start NAME COMMAND...: runs COMMAND in the background, its output in NAME.log, its pid in $pid.
start() {
    local name=$1
    shift
    "$@" >"$BATS_TEST_TMPDIR/$name.log" 2>&1 </dev/null 3>&- &
    pid=$!
    started+=("$pid")
}

# with_shim COMMAND...: runs COMMAND in this process's place, with the shim preloaded.  For start.
with_shim() {
    LD_PRELOAD=$shim exec "$@"
}

# eventually COMMAND...: waits until COMMAND succeeds; a minute at most, which only a test that fails
# takes, however busy the machine is.
eventually() {
    local end=$((SECONDS + 60))
    until "$@"; do
        if ((SECONDS >= end)); then
            echo "not so after a minute: $*" >&2
            return 1
        fi
        sleep 0.05
    done
}

# sockets N FILTER...: whether ss finds N sockets (such as: 2 --listening --tcp 'sport = :8000').
sockets() {
    local count=$1
    shift
    [[ $(ss --no-header --numeric "$@" | wc -l) -eq $count ]]
}

# listening N PORT, bound N PORT: whether N TCP sockets listen, N UDP sockets are bound there.
listening() {
    sockets "$1" --listening --tcp "sport = :$2"
}

bound() {
    sockets "$1" --all --udp "sport = :$2"
}

# alive PID...: whether every one of the processes runs.
alive() {
    local one
    for one; do
        kill -0 "$one" 2>/dev/null || return
    done
}

# ended PID: whether the process has ended.
ended() {
    ! alive "$1"
}

# times FEW MANY: how often something is done: FEW times, or MANY where STRESS is set.
times() {
    [[ -n ${STRESS-} ]] && echo "$2" || echo "$1"
}
