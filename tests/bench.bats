#!/usr/bin/env bats
# scripts/bench: that it measures what it says; not what comes of it, which is the machine's.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2030,SC2031,SC2154
load common
load cgroups

# One run for the tests that look at its tables.
setup_file() {
    names=(bind calls spread group)
    ! command -v valgrind >/dev/null || names+=(startup)
    "$BATS_TEST_DIRNAME/../scripts/bench" --quick --rounds 3 --to "$BATS_FILE_TMPDIR/tables" \
        "${names[@]}" >"$BATS_FILE_TMPDIR/output" 2>&1
}

setup() {
    common_setup
    bench=$root/scripts/bench
    tables=$BATS_FILE_TMPDIR/tables
}

teardown() {
    common_teardown
}

# median NAME CASE MEASURE ALTERNATIVE: prints that median of a table, and fails where there is none.
median() {
    awk -F '\t' -v which="$2;$3;$4" '
        $1 ";" $2 ";" $4 == which { print $5; found = 1 }
        END { exit !found }' "$tables/$1.tsv"
}

# more A B: whether the number A is larger than B.
more() {
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a + 0 > b + 0) }'
}

@test "bench writes a line for each alternative of each case, with every round and the median" {
    for table in "$tables"/{bind,calls,spread,group}.tsv; do
        awk -F '\t' -v table="$table" '
            function fail(what) { print table ", line " NR ": " what; failed = 1; exit 1 }
            NR == 1 && ($1 != "case" || $NF != "round_3") { fail("no head") }
            NF != 12 { fail(NF " columns") }
            NR == 1 { next }
            $5 !~ /^[0-9.]+$/ || $10 $11 $12 !~ /^[0-9.]+$/ { fail("no numbers") }
            # The median of three is one of them, with one on each side.
            ($10 < $5) + ($11 < $5) + ($12 < $5) > 1 { fail("more than one round is below") }
            ($10 > $5) + ($11 > $5) + ($12 > $5) > 1 { fail("more than one round is above") }
            $1 $2 == group && $7 != "-" && ($7 < $8 || $7 > $9) { fail("ratio outside of its rounds") }
            $1 $2 != group && $7 != 1 { fail("not compared with the first alternative") }
            { group = $1 $2 }
            END { if (!failed && NR < 3) fail("too few lines") }' "$table"
    done
}

@test "bench shows each median with its unit, ratio and bar" {
    grep --quiet '^  tcp, port 7000: bind, ns$' "$BATS_FILE_TMPDIR/output"
    grep --quiet --extended-regexp '^    shim +[0-9.,]+ +\+-[0-9]+% +x [0-9.]+ \(.*\) *(█|#)' \
        "$BATS_FILE_TMPDIR/output"
}

@test "bench names the machine and the versions" {
    for key in date processor processors kernel libreuse nginx rounds; do
        awk -F '\t' -v key="$key" '$1 == key && $2 != "" { found = 1 } END { exit !found }' \
            "$tables/machine.tsv"
        grep --quiet "^$key  *[^ ]" "$BATS_FILE_TMPDIR/output"
    done
}

@test "bench finds that a bind costs more with the shim, and still more when watched" {
    for what in 'tcp, port 7000' 'tcp, port 0' 'udp, port 7000' 'udp, port 0'; do
        none=$(median bind "$what" bind 'no option')
        shim=$(median bind "$what" bind shim)
        more "$shim" "$none"
        [[ -x $build/reuse-run ]] || continue
        more "$(median bind "$what" bind 'reuse-run --watch')" "$shim"
    done
}

@test "bench finds that a bind costs less in a cgroup than with the shim, where it can be root" {
    needs_cgroups
    remove_cgroups
    for what in 'tcp, port 7000' 'tcp, port 0' 'udp, port 7000' 'udp, port 0'; do
        more "$(median bind "$what" bind shim)" "$(median bind "$what" bind reuse-cgroup)"
    done
}

@test "bench finds that a request takes as many system calls with the shim as without" {
    own=$(median calls 'a connection each' 'system calls' 'own option')
    # accept, read, write and close, at the least.
    [[ $own =~ ^[0-9]+$ && $own -ge 4 ]]
    [[ $(median calls 'a connection each' 'system calls' shim) == "$own" ]]
}

@test "bench finds that reuse-group takes at most one and a half times the processor time of ss" {
    for what in '2000 sockets' '2000 sockets, 1 connection waits' '400 processes'; do
        ss=$(median group "$what" 'processor time' ss)
        more "$ss" 0
        more "$(awk -v ss="$ss" 'BEGIN { print 1.5 * ss }')" \
            "$(median group "$what" 'processor time' reuse-group)"
    done
}

@test "bench finds that connections are spread over all the copies" {
    for copies in 2 8; do
        busiest=$(median spread 'over copies' 'connections of the busiest copy' "$copies copies")
        more "$busiest" 0.999
        more "$copies" "$busiest"
    done
}

@test "bench finds that the shim adds instructions and memory to a program" {
    [[ -e $tables/startup.tsv ]] || skip "needs valgrind"
    none=$(median startup 'true' 'instructions in user mode' 'no shim')
    more "$none" 1000
    more "$(median startup 'true' 'instructions in user mode' shim)" "$none"
    none=$(median startup 'sleep' 'memory of its own' 'no shim')
    more "$none" 0
    more "$(median startup 'sleep' 'memory of its own' shim)" "$none"
}

@test "bench leaves nothing behind when it is interrupted" {
    mkdir tmp
    TMPDIR=$PWD/tmp start bench "$bench" --to tables --rounds 100 calls
    eventually pgrep --exact work-server
    [[ -n $(ls tmp) ]]
    kill "$pid"
    status=0
    wait "$pid" || status=$?
    [[ $status -eq 143 && -z $(ls tmp) ]]
    run ! pgrep 'work-server|strace|unshare|bench'
}

@test "bench names the tools that are missing, and the way out" {
    mkdir commands
    for folder in /usr/local/bin /usr/bin; do
        find "$folder" -maxdepth 1 -not -type d -exec ln --symbolic --force --target-directory=commands {} +
    done
    rm --force commands/{curl,strace}
    run env PATH="$PWD/commands" "$bench" --to tables bind calls spread
    [[ $status -eq 1 && ! -e tables ]]
    [[ $output == "bench: not there: strace (for calls), curl (for spread); run 'scripts/setup --bench'" ]]
}

@test "bench says what it does, and refuses what it does not know" {
    run "$bench" --help
    [[ $status -eq 0 && $output == *"--rounds N"*"--quick"* ]]
    for name in bind calls request sharing spread reload startup; do
        [[ $output == *$'\n'"  $name "* ]]
    done
    run "$bench" bind latency
    [[ $status -eq 1 && $output == "bench: latency: no such measurement; try 'scripts/bench --help'" ]]
    run "$bench" --fast
    [[ $status -eq 1 && $output == "bench: --fast: no such option; try 'scripts/bench --help'" ]]
    for value in 0 -1 five 1000; do
        run "$bench" --rounds "$value" bind
        [[ $status -eq 1 && $output == "bench: --rounds: '$value' is no number from 1 to 999; "* ]]
    done
}
