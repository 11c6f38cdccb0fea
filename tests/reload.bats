#!/usr/bin/env bats
# reuse-launch, when a generation takes over from another: what clients get meanwhile, whatever the
# server is like; what else is heard; what is left when something goes wrong.

# The variables come from common.bash and bats; each test is a subshell; $ in quotes is for others.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154
load common
load launch

setup() {
    common_setup
    server=$programs/odd-server
}

teardown() {
    common_teardown
}

# flood NAME OPTION... WHERE: has open-load ask in the background, over and over; in $pid.
flood() {
    start "$1" "$programs/open-load" "${@:2}"
}

# ebb NAME PID: ends that, and shows what came of it.
ebb() {
    kill "$2"
    wait "$2"
    echo "# $1: $(head -n 1 "$1.log"); $(sed -n 2p "$1.log")" >&3
}

# sent NAME, lost NAME: how many requests were sent, how many failed.
sent() {
    awk 'NR == 1 { print $1 }' "$1.log"
}

lost() {
    awk 'NR == 1 { print $5 }' "$1.log"
}

# late NAME: within how many milliseconds 99 of 100 were answered, whole.
late() {
    awk 'NR == 1 { printf "%.0f\n", $10 }' "$1.log"
}

# owner PORT PID...: which of the processes has a connection there, if one has.
owner() {
    local port=$1 held one
    shift
    held=$(ss --no-header --numeric --processes --tcp state established "sport = :$port")
    for one; do
        [[ $held != *"pid=$one,"* ]] || echo "$one"
    done
}

# asks_for_long NAME MS PORT: a request that takes so long, in the background, and waits until a
# copy has it: in $pid the client, in $busy the copy.
asks_for_long() {
    start "$1" curl --silent --show-error --noproxy '*' --write-out '%{http_code}\n' \
        "http://127.0.0.1:$3/$2"
    eventually is_owned "$3"
}

is_owned() {
    # shellcheck disable=SC2046 # they are several
    busy=$(owner "$1" $(pids_on "$1"))
    [[ -n $busy ]]
}

# answers N PORT: whether N requests, one after the other, are answered.
answers() {
    local number
    for ((number = 0; number < $1; number++)); do
        curl --silent --fail --noproxy '*' --max-time 5 --output /dev/null "http://127.0.0.1:$2/" ||
            return
    done
}

# fewest NAME OLD...: the fewest processes other than OLD that got connections in any of the
# load's slots, from the second slot on in which there was such a one; the last slot is no whole one.
fewest() {
    awk -v old=" ${*:2} " '
        $1 != "at" { next }
        {
            gsub(",", "")
            count = 0
            for (i = 3; i <= NF; i += 2) count += index(old, " " $i " ") == 0
            if (begun) counts[++slots] = count
            begun = begun || count
        }
        END {
            for (i = 1; i < slots; i++) if (i == 1 || counts[i] < least) least = counts[i]
            print least + 0
        }' "$1.log"
}

# --- capacity

# keeps_capacity COPIES RATE STOP: copies that take one request at a time, 20 ms each, and STOP ms
# to stop: at so many requests a second a reload makes none fail, and none wait much longer.
keeps_capacity() {
    local copies=$1 rate=$2 stop=$3 launcher load most
    launched serves -n "$copies" -- "$server" -w 20 -s "$stop" 8000
    launcher=$pid
    flood calm -r "$rate" -t 10 8000
    wait "$pid"
    echo "# calm: $(head -n 1 calm.log)" >&3
    flood during -r "$rate" 8000
    load=$pid
    sleep 1
    kill -HUP "$launcher"
    eventually says serves 'reload: .* serves? on'
    sleep 1
    ebb during "$load"
    most=$((2 * $(late calm) > 100 ? 2 * $(late calm) : 100))
    [[ $(sent during) -gt 100 && $(lost during) -eq 0 && $(late during) -le $most ]]
    stop serves "$launcher"
}

@test "8 copies, half loaded, that take 0.3 s to stop: a reload loses nothing and delays little" {
    keeps_capacity 8 200 300
}

@test "4 copies, half loaded, that take 8 s to stop: a reload loses nothing and delays little" {
    keeps_capacity 4 100 8000
}

@test "32 copies at a tenth of their load: a reload loses nothing and delays little" {
    keeps_capacity 32 160 100
}

@test "at every moment of a reload three quarters of the new copies get connections" {
    local launcher load old
    launched whole -n 8 -- "$server" -s 500 8000
    launcher=$pid
    old=$(pids_on 8000)
    flood load -r 1000 -s 100 8000
    load=$pid
    sleep 0.5
    reload whole "$launcher"
    sleep 0.5
    ebb load "$load"
    # shellcheck disable=SC2086 # they are several
    echo "# at every moment: $(fewest load $old)" >&3
    # shellcheck disable=SC2086
    [[ $(lost load) -eq 0 && $(fewest load $old) -ge 6 ]]
    # Nor is one left out that has got connections before: in the end all do.
    [[ $(grep '^at' load.log | tail -n 2 | head -n 1 | tr ',' '\n' | wc -l) -eq 8 ]]
    stop whole "$launcher"
}

@test "at every moment of TTOU three quarters of the copies that stay get connections" {
    local launcher load leaving
    launched fewer -n 5 -- "$server" -s 1500 8000
    launcher=$pid
    # The copy that leaves is amidst the others: it gets the place of one that dies.
    kill -KILL "$(grep -o 'pids .*' fewer.log | grep -o '[0-9]*' | sed -n 3p)"
    eventually listening 5 8000
    leaving=$(grep -o 'pids .*' fewer.log | grep -o '[0-9]*$')
    sleep 0.3
    flood load -r 1000 -s 100 8000
    load=$pid
    sleep 0.5
    kill -TTOU "$launcher"
    eventually says fewer 'copy 4 taken away'
    sleep 0.5
    ebb load "$load"
    ended "$leaving"
    [[ $(lost load) -eq 0 && $(fewest load "$leaving") -ge 3 ]]
    stop fewer "$launcher"
}

@test "an old copy that holds nothing is stopped while another is still busy" {
    launched early -n 4 -- "$server" 8000
    local launcher=$pid old client one
    old=$(pids_on 8000)
    asks_for_long client 6000 8000
    client=$pid
    kill -HUP "$launcher"
    for one in $old; do
        [[ $one == "$busy" ]] || eventually ended "$one"
    done
    alive "$busy" "$client"
    said early 0 'reload: .* serve'
    eventually says early 'reload: .* serve on'
    ended "$busy"
    wait "$client"
    grep --quiet '^200$' client.log
    stop early "$launcher"
}

# --- ports

# reloads_in_peace NAME PID PORT [OPTION...]: two reloads under load, where nothing fails and nothing
# is said but what is said each time.
reloads_in_peace() {
    local name=$1 launcher=$2 load
    flood "$name-load" -r 100 "${@:4}" "$3"
    load=$pid
    sleep 0.3
    reload "$name" "$launcher"
    reload "$name" "$launcher"
    sleep 0.3
    ebb "$name-load" "$load"
    [[ $(sent "$name-load") -gt 20 && $(lost "$name-load") -eq 0 ]]
    [[ $(grep --count '^reuse-launch: ' "$name.log") -eq 5 ]]
}

@test "a port that the kernel picked is no matter to a reload, whether opened first or last" {
    local order launcher
    for order in '0 8000' '8000 0' 'udp:0 8000 0'; do
        # shellcheck disable=SC2086 # they are several
        launched picked -n 2 -- "$server" -w 20 $order
        launcher=$pid
        listening 2 8000
        reloads_in_peace picked "$launcher" 8000
        stop picked "$launcher"
    done
}

@test "a server that answers late and has a picked port loses nothing in a reload" {
    launched slow -n 4 -- "$server" -w 300 0 8000
    local launcher=$pid load
    flood load -r 6 8000
    load=$pid
    sleep 1
    reload slow "$launcher"
    sleep 1
    ebb load "$load"
    [[ $(lost load) -eq 0 ]]
    said slow 0 'cannot'
    stop slow "$launcher"
}

@test "copies serve when the named port is open, not when a picked one is" {
    launched named -n 2 -- "$server" -d 2000 0 8000
    listening 2 8000
    stop named "$pid"
    launched named -n 2 -- "$server" -d 1500 udp:0 0 8000
    listening 2 8000
    reload named "$pid"
    listening 2 8000
    stop named "$pid"
}

@test "a copy whose only port is a picked one does not get ready, and it is said what is missing" {
    local where
    for where in 0 udp:0 '0 0'; do
        # shellcheck disable=SC2086 # they are several
        run -1 timeout 20 "$launch" -n 2 --ready=1 -- "$server" $where
        [[ $output == *'reuse-launch: copy 0 '*'port'*'kernel picked'*' after 1 s'* ]]
        none_left
    done
}

@test "a named port from the range out of which the kernel picks is a named one, for one copy too" {
    local low launcher
    read -r low _ </proc/sys/net/ipv4/ip_local_port_range
    launched high -n 1 -- "$server" $((low + 7)) 0
    launcher=$pid
    reloads_in_peace high "$launcher" $((low + 7))
    stop high "$launcher"
}

@test "MPTCP listeners are reloaded as TCP ones are" {
    local program launcher
    [[ $(cat /proc/sys/net/mptcp/enabled) == 1 ]] || skip 'the kernel has no MPTCP'
    for program in "$server" "$programs/static/odd-server"; do
        launched mptcp -n 3 -- "$program" -w 5 mptcp:8000
        launcher=$pid
        listening 3 8000
        reloads_in_peace mptcp "$launcher" 8000
        listening 3 8000
        "$root/scripts/reuse-spread" --expect 3 http://127.0.0.1:8000/
        stop mptcp "$launcher"
    done
}

@test "a port that no new copy opens: refused, the ports and --may-drop-ports are named" {
    echo 8000 8001 udp:8003 >ports
    launched moves -n 2 --ready=3 -- "$server" -f ports 8004
    local launcher=$pid before
    before=$(pids_on 8000)
    echo 8000 8002 >ports
    kill -HUP "$launcher"
    eventually says moves 'reload: .*; the old copies serve on'
    grep 'the old copies serve on' moves.log | grep --fixed-strings 127.0.0.1:8001/tcp |
        grep --fixed-strings 127.0.0.1:8003/udp | grep -- --may-drop-ports
    eventually listening 0 8002
    [[ $(pids_on 8000) == "$before" && $(pids_on 8001) == "$before" ]]
    answers 5 8001
    # And with all of them again, it goes on as ever.
    echo 8001 udp:8003 8000 >ports
    reload moves "$launcher"
    [[ -z $(comm -12 <(echo "$before") <(pids_on 8001)) ]]
    stop moves "$launcher"
}

@test "--may-drop-ports: a port is given up, and what is on it answered" {
    echo 8000 8001 >ports
    launched drops -n 2 --ready=5 --may-drop-ports -- "$server" -f ports
    local launcher=$pid client load
    echo 8002 8000 >ports
    flood load -r 100 8000
    load=$pid
    asks_for_long client 3000 8001
    client=$pid
    reload drops "$launcher"
    wait "$client"
    grep --quiet '^200$' client.log
    listening 2 8000
    listening 0 8001
    listening 2 8002
    sleep 0.2
    ebb load "$load"
    [[ $(lost load) -eq 0 ]]
    stop drops "$launcher"
}

@test "--may-drop-ports does not take a copy that opens nothing, or less than others, for ready" {
    launched part -n 2 --ready=2 --may-drop-ports -- bash -c '
        ((LIBREUSE_COPY == 0)) || [[ ! -e less ]] || exec "$0" 8000; exec "$0" 8000 8001' "$server"
    local launcher=$pid
    touch less
    kill -HUP "$launcher"
    eventually says part 'reload: .*127.0.0.1:8001/tcp.*; the old copies serve on'
    listening 2 8000
    listening 2 8001
    stop part "$launcher"
}

@test "UDP: what an old copy has read it may answer, for as long as --udp-linger" {
    local launcher load
    launched late -n 3 -- "$server" -w 500 udp:8000
    launcher=$pid
    reloads_in_peace late "$launcher" 8000 -u
    stop late "$launcher"
    # Without that time it is lost, else this shows nothing.
    reload_late --udp-linger=0
    [[ $(lost load) -gt 0 ]]
    reload_late --udp-linger=6
    [[ $(lost load) -eq 0 ]]
}

# reload_late OPTION: a reload of copies that answer after 4 s, under load.
reload_late() {
    local launcher load
    launched later -n 3 "$1" -- "$server" -w 4000 udp:8000
    launcher=$pid
    flood load -u -r 100 8000
    load=$pid
    sleep 0.3
    reload later "$launcher"
    ebb load "$load"
    stop later "$launcher"
}

# --- what a copy has for itself

@test "a slot is what no other living copy has: a server with a lock in it is reloaded" {
    mkdir locks
    launched locked -n 2 --replace -- bash -c 'echo "slot $LIBREUSE_SLOT $1"; exec "$@"' '{slot}' \
        "$server" -l 'locks/{slot}' 8000
    local launcher=$pid
    said locked 1 "^slot 0 "
    said locked 1 "^slot 1 "
    reloads_in_peace locked "$launcher" 8000
    # The second generation has 2 and 3, the third again 0 and 1.
    [[ $(echo locks/*) == 'locks/0 locks/1 locks/2 locks/3' ]]
    said locked 2 '^slot 0 '
    said locked 1 '^slot 2 '
    # Every copy has had its own in the environment, too.
    [[ $(grep --count -E "^slot ([0-9]) .*$server" locked.log) -eq 6 ]]
    # A copy that is added has the next, and one that is started again its own.
    kill -TTIN "$launcher"
    eventually listening 3 8000
    said locked 2 '^slot 2 '
    kill -KILL "$(pids_on 8000 | head -n 1)"
    eventually said locked 8 '^slot '
    eventually listening 3 8000
    [[ $(echo locks/*) == 'locks/0 locks/1 locks/2 locks/3' ]]
    stop locked "$launcher"
}

@test "a lock by the copy's number keeps the new ones out: the old copies serve on" {
    launched number -n 2 --replace -- "$server" -l 'lock{}' 8000
    local launcher=$pid before
    before=$(pids_on 8000)
    kill -HUP "$launcher"
    eventually says number 'lock[01]: Resource temporarily unavailable'
    eventually says number 'reload: copy [01] ended with status 1 before all were ready; the old copies serve on'
    [[ $(pids_on 8000) == "$before" ]]
    stop number "$launcher"
}

@test "each generation starts in what \$PWD names then" {
    local release
    for release in 1 2 3; do
        mkdir "release$release"
        printf '#!/bin/sh\necho "release %d in $(pwd -P)"\nexec "$@"\n' "$release" >"release$release/run"
        chmod +x "release$release/run"
    done
    ln -s release1 current
    launch_in "$PWD/current" linked
    said linked 2 "^release 1 in $PWD/release1\$"
    ln -sfn release2 current
    reload linked "$pid"
    said linked 2 "^release 2 in $PWD/release2\$"
    # And so does a copy that is started again.
    kill -KILL "$(pids_on 8000 | head -n 1)"
    eventually said linked 3 "^release 2 in $PWD/release2\$"
    eventually listening 2 8000
    stop linked "$pid"
    # One that says nothing of where it was started changes nothing.
    PWD=/ launch_in "$(realpath current)" elsewhere
    ln -sfn release3 current
    reload elsewhere "$pid"
    said elsewhere 4 "^release 2 in .*/release2\$"
    stop elsewhere "$pid"
}

# launch_in FOLDER NAME: starts two copies of ./run there, PWD as it is if that is not the shell's.
launch_in() {
    local log=$BATS_TEST_TMPDIR/$2.log
    : >"$log"
    start "$2" env --chdir="$1" PWD="${PWD_OF:-$1}" "$launch" -n 2 -- ./run "$server" 8000
    eventually says "$2" ' on .*: pids'
}

@test "a relayed signal goes to every copy, the old ones too, and means nothing else" {
    launched relay -n 2 --relay=USR1 --relay SIGUSR2 -- bash -c '
        trap "echo got USR1" USR1; trap "echo got USR2" USR2; trap "kill %1; exit" TERM
        "$0" 8000 & while true; do wait; done' "$server"
    local launcher=$pid
    kill -USR1 "$launcher"
    eventually said relay 2 '^got USR1$'
    kill -USR2 "$launcher"
    eventually said relay 2 '^got USR2$'
    said relay 0 '^reuse-launch: copy'
    asks_for_long client 4000 8000
    kill -HUP "$launcher"
    eventually more_than_listen 2 8000
    eventually says relay '^reuse-launch: reload'
    sleep 0.5
    kill -USR1 "$launcher"
    # Both new copies, and the old ones that are still there.
    eventually has_got relay 5
    eventually said relay 1 'reload: .* serve on'
    stop relay "$launcher"
}

# has_got NAME N: whether at least N copies in all have said that they have got USR1.
has_got() {
    [[ $(grep --count '^got USR1$' "$1.log") -ge $2 ]]
}

# more_than_listen N PORT: whether more than N sockets listen there.
more_than_listen() {
    ! listening "$1" "$2" && [[ $(pids_on "$2" | wc -l) -gt $1 ]]
}

@test "HUP is relayed where it is asked for, and then reloads nothing" {
    launched relay -n 1 --relay=HUP -- bash -c '
        trap "echo got HUP" HUP; trap "kill %1; exit" TERM
        "$0" 8000 & while true; do wait; done' "$server"
    kill -HUP "$pid"
    eventually said relay 1 '^got HUP$'
    said relay 0 'reload'
    run -2 "$launch" --relay=NONE -- "$server"
    [[ $output == "reuse-launch: --relay: 'NONE' is no signal"* ]]
    stop relay "$pid"
}

@test "--watch and --preload are handed to reuse-run" {
    # What is watched has a filter.
    launched watched -n 1 --watch -- "$server" 8000
    grep --quiet '^Seccomp:.2' "/proc/$(pids_on 8000)/status"
    stop watched "$pid"
    launched loaded -n 1 --preload -- "$server" 8000
    grep --quiet '^Seccomp:.0' "/proc/$(pids_on 8000)/status"
    grep --quiet libreuse.so "/proc/$(pids_on 8000)/maps"
    stop loaded "$pid"
}

# --- what is heard and done meanwhile

@test "USR1 and TTIN are answered while old copies drain" {
    launched heard -n 2 -- "$server" 8000
    local launcher=$pid client old
    old=$(pids_on 8000)
    asks_for_long client 8000 8000
    client=$pid
    kill -HUP "$launcher"
    eventually more_than_listen 2 8000
    kill -USR1 "$launcher"
    eventually says heard 'copy 1: pids [0-9]+, up [0-9]+ s, on 127.0.0.1:8000/tcp, 0 waiting$'
    kill -TTIN "$launcher"
    eventually says heard 'copy 2 added'
    alive "$client" "$busy"
    said heard 0 'reload: .* serve on'
    eventually others_listen 3 8000 "$old" "$launcher"
    alive "$client"
    eventually said heard 1 'reload: .* serve on'
    wait "$client"
    eventually listening 3 8000
    "$root/scripts/reuse-spread" --expect 3 http://127.0.0.1:8000/
    stop heard "$launcher"
}

# others_listen N PORT LIST...: whether N processes listen there that are in none of the lists.
others_listen() {
    [[ $(comm -13 <(printf '%s\n' "${@:3}" | sort --unique) <(pids_on "$2") | wc -l) -eq $1 ]]
}

@test "TERM while old copies drain ends all at once" {
    launched both -n 2 --drain=100 -- "$server" 8000
    local launcher=$pid client
    asks_for_long client 60000 8000
    client=$pid
    kill -HUP "$launcher"
    eventually more_than_listen 2 8000
    kill -TERM "$launcher"
    eventually ended "$launcher"
    none_left
    wait "$launcher"
}

@test "an old copy that dies while new ones start is started again before the reload ends" {
    launched mends -n 2 -- bash -c '
        [[ ! -e slow || $LIBREUSE_COPY == 9 ]] || sleep "$(cat slow)"; exec "$0" 8000' "$server"
    local launcher=$pid before
    before=$(pids_on 8000)
    echo 4 >slow
    kill -HUP "$launcher"
    eventually sleeping 2
    echo 0 >slow
    kill -KILL "$(head -n 1 <<<"$before")"
    eventually said mends 1 'was killed by SIGKILL; starting it again'
    eventually listening 2 8000
    said mends 0 'reload: .* serve on'
    eventually said mends 1 'reload: .* serve on'
    listening 2 8000
    "$root/scripts/reuse-spread" --expect 2 http://127.0.0.1:8000/
    stop mends "$launcher"
}

# sleeping N: whether so many copies sleep for 4 s before they listen.
sleeping() {
    [[ $(pgrep --full --exact 'sleep 4' --count) -eq $1 ]]
}

@test "servers that end themselves regularly with status 0 run into no growing pauses" {
    launched regular -n 2 -- "$server" -m 100 8000
    local launcher=$pid load
    flood load -r 100 8000
    load=$pid
    eventually said regular 10 'ended with status 0'
    said regular 0 'again in ([2-9]|[1-9][0-9]+) s'
    eventually listening 2 8000
    ebb load "$load"
    stop regular "$launcher"
}

@test "that a server goes to the background is said only of one that does" {
    run -1 timeout 20 "$launch" -n 2 -- bash -c 'echo it is running already'
    [[ $output == *'ended with status 0 before all were ready'* && $output != *background* ]]
    run -1 timeout 20 "$launch" -n 2 -- setsid --fork "$server" 8000
    [[ $output == *'a server that goes to the background cannot be launched'* ]]
    none_left
}

@test "while nothing is awaited, nothing is done" {
    launched idle -n 4 -- "$server" 8000
    sleep 1
    local before
    before=$(switches "$pid")
    sleep 3
    [[ $(switches "$pid") == "$before" ]]
    stop idle "$pid"
}

# switches PID: how often it and its children have begun to wait, by their pids.
switches() {
    local one
    # shellcheck disable=SC2013 # they are words
    for one in "$1" $(cat "/proc/$1/task/$1/children"); do
        echo "$one $(sed -n 's/^voluntary_ctxt_switches:\t//p' "/proc/$one/status")"
    done
}

@test "other sockets that are shared on the machine are no matter" {
    local number
    for number in 1 2; do
        start "foreign$number" with_shim "$programs/hold" -n 16 -p 200 9000
    done
    eventually listening 2 9199
    launched among -n 2 --ready=5 -- "$server" 8000
    local launcher=$pid
    reloads_in_peace among "$launcher" 8000
    kill -TERM "$launcher"
    wait "$launcher"
    listening 2 9199
}

# --- with little around it

@test "an environment that other tools trip over is handed on as it is" {
    local python
    python=$(python3 -c 'import sys; print(sys.executable)')
    start odd "$python" -c '
import os, sys
environment = {"-x": "y", "--": "z", "POSIXLY_CORRECT": "1", "SHELLOPTS": "posix", "no equals": ""}
os.execve(sys.argv[1], sys.argv[1:], environment)' \
        "$launch" -n 1 -- "$python" -c '
import os, sys
print(*sorted(k for k in os.environ if not k.startswith("L")), flush=True)
os.execv(sys.argv[1], sys.argv[1:])' "$server" 8000
    eventually says odd ' serves on .*: pids'
    said odd 1 '^-- -x (LC_CTYPE )?POSIXLY_CORRECT SHELLOPTS no equals$'
    reload odd "$pid"
    stop odd "$pid"
}

@test "no program is run but reuse-run and the server" {
    start alone strace --follow-forks --quiet=all --output=trace --trace=execve --signal=none \
        env -i PATH=/nowhere "$launch" -n 2 -- "$server" 8000
    eventually says alone ' on .*: pids'
    local launcher
    launcher=$(pgrep --oldest --full "^$launch")
    reload alone "$launcher"
    kill -TTIN "$launcher"
    eventually says alone 'added'
    kill -USR1 "$launcher"
    eventually listening 3 8000
    kill -TERM "$launcher"
    wait "$pid"
    [[ $(grep 'execve(.*= 0$' trace | grep -o '"[^"]*"' | grep '^"/.*/' | grep -E 'reuse|server|/env' |
        sort --unique | grep -cE '/(reuse-run|odd-server|reuse-launch)"$') -eq 3 ]]
    [[ $(grep -c 'execve(.*= 0$' trace) -eq $((1 + 1 + 2 * 5)) ]]
    none_left
}

# build_tools FOLDER VARIABLE=VALUE...: builds the tools from this source, in another place.
build_tools() {
    mkdir -p "$1/tests"
    cp --recursive "$root/Makefile" "$root/shim" "$1"
    cp --recursive "$root/tests/programs" "$1/tests"
    make --silent --directory="$1" "${@:2}" build/reuse-run build/reuse-group build/reuse-launch
}

@test "static, it starts, reloads and stops a static server where there is nothing else but /proc" {
    needs_root
    build_tools built LDFLAGS=-static
    mkdir -p bare/proc
    cp built/build/reuse-run built/build/reuse-launch "$programs/static/odd-server" bare
    : >bare.log
    start bare unshare --mount bash -c '
        mount -t proc proc bare/proc && exec chroot bare /reuse-launch -n 2 -- /odd-server 8000'
    eventually says bare ' on .*: pids'
    local launcher=$pid
    reloads_in_peace bare "$launcher" 8000
    [[ $(ls bare) == $'odd-server\nproc\nreuse-launch\nreuse-run' ]]
    kill -USR1 "$launcher"
    eventually said bare 2 'copy [01]: pids'
    stop bare "$launcher"
}

@test "built with musl, it does the same" {
    command -v musl-gcc || skip 'musl-gcc is not installed'
    build_tools built CC=musl-gcc all
    launch=$PWD/built/build/reuse-launch
    launched musl -n 2 --prefix -- "$server" 8000
    local launcher=$pid
    reloads_in_peace musl "$launcher" 8000
    stop musl "$launcher"
}

# --- output

@test "--prefix tears no line shorter than 64 KiB, loses nothing and keeps the order" {
    launched long -n 3 --prefix -- "$server" -v 65000 8000
    local launcher=$pid load
    flood load -r 100 8000
    load=$pid
    sleep 1
    reload long "$launcher"
    sleep 1
    ebb load "$load"
    stop long "$launcher"
    # Each process numbers its lines from 1.
    awk '
        /^reuse-launch: / { next }
        length($0) != 65003 - 0 || !/^[012] \| [0-9]+ [0-9]+ x+$/ { print "torn: " substr($0, 1, 80), length($0); exit bad = 1 }
        $3 != ++last[$4] { print "out of order: " substr($0, 1, 80); exit bad = 1 }
        { lines++ }
        END { exit bad || lines < 100 }' long.log
}

@test "--prefix passes every octet" {
    head --bytes=3000000 /dev/urandom >noise
    printf 'no newline at the end' >>noise
    launched noisy -n 1 --prefix -- bash -c 'cat noise; exec 1>&-; exec "$0" 8000' "$server"
    stop noisy "$pid"
    # A line longer than 64 KiB may be parted, but of random octets none is.
    grep --text --invert-match '^reuse-launch: ' noisy.log | sed 's/^0 | //' | head --bytes=-1 |
        cmp - noise
}

@test "a reader that does not read hinders the copies, but not reuse-launch" {
    mkfifo pipe
    exec {reader}<>pipe
    : >blocked.log
    "$launch" -n 2 --prefix -- "$server" -v 60000 8000 >pipe 2>blocked.log 3>&- &
    started+=($!)
    local launcher=$!
    eventually says blocked ' on .*: pids'
    flood load -r 50 -t 1 -T 1000 8000
    wait "$pid"
    kill -USR1 "$launcher"
    eventually said blocked 2 'copy [01]: pids'
    kill -TERM "$launcher"
    eventually ended "$launcher"
    none_left
    exec {reader}>&-
}

# --- when something goes wrong

# seeded: begins the random numbers of a test.
seeded() {
    RANDOM=${SEED:-1}
    echo "# $BATS_TEST_DESCRIPTION: SEED=${SEED:-1}" >&3
}

# random_moment: waits for a part of a second, so long as a reload may take.
random_moment() {
    sleep "0.$(printf '%03d' $((RANDOM % 1000)))"
}

@test "--keep: killed at random moments of a reload, the service answers, and the next takes over" {
    local round load kills
    kills=$(times 20 200)
    seeded
    launched keeps0 -n 3 --keep -- "$server" -w 2 8000
    flood load -r 100 8000
    load=$pid
    local launcher=${started[0]}
    for ((round = 1; round <= kills; round++)); do
        kill -HUP "$launcher"
        random_moment
        kill -KILL "$launcher"
        launched "keeps$round" -n 3 --keep -- "$server" -w 2 8000
        launcher=$pid
        answers 5 8000
    done
    eventually listening 3 8000
    reload "keeps$kills" "$launcher"
    "$root/scripts/reuse-spread" --expect 3 http://127.0.0.1:8000/
    ebb load "$load"
    # Somebody listens all the time, and what is lost is told before.
    grep 'failed: 0 refused,.* 0 timed out, 0 other' load.log
    [[ $(lost load) -eq 0 ]] ||
        grep 'requests to the copies that are stopped may fail' "$BATS_TEST_TMPDIR"/keeps*.log
    stop "keeps$kills" "$launcher"
}

@test "killed at random moments of a reload, nothing is left" {
    local round kills
    kills=$(times 20 200)
    seeded
    for ((round = 1; round <= kills; round++)); do
        launched leaves -n 3 -- "$server" 8000
        kill -HUP "$pid"
        random_moment
        kill -KILL "$pid"
        eventually none_left
    done
}

# faults CALLS ERROR: the first of CALLS fails in a reload, the second in another, and so on, and in
# the last all of them: each time the service goes on and the next reload, where none fails, is as
# ever.  Of the last there is a line, of the others where it makes a difference.
faults() {
    local nth words
    launched faulty -n 2 --ready=5 --drain=5 -- "$server" 8000
    local launcher=$pid
    for ((nth = 1; nth <= $(times 4 30); nth++)); do
        fault_in_reload "$1" "$2" "$nth" || break
    done
    fault_in_reload "$1" "$2" 1+
    [[ -n $words ]]
    stop faulty "$launcher"
}

# fault_in_reload CALLS ERROR WHEN: whether there was such a call, and in words what was said of it.
fault_in_reload() {
    local before strace
    before=$(grep --count '^reuse-launch: ' faulty.log)
    strace --quiet=all --output=trace --attach="$launcher" --inject="$1:error=$2:when=$3" 2>strace.log 3>&- &
    strace=$!
    eventually is_traced "$launcher"
    kill -HUP "$launcher"
    eventually reload_is_over "$before"
    kill "$strace"
    wait "$strace" || true
    alive "$launcher"
    answers 10 8000
    grep --quiet INJECTED trace || return
    words=$(said_since "$before" | grep --invert-match -E 'reload: (starting|.* serve on .*: pids)') || true
    echo "# $3: $(grep INJECTED trace | head -n 1 | cut -c 1-60): $words" >&3
    reload faulty "$launcher"
    listening 2 8000
    "$root/scripts/reuse-spread" --expect 2 http://127.0.0.1:8000/
}

is_traced() {
    grep --quiet '^TracerPid:.[1-9]' "/proc/$1/status"
}

# said_since LINES: what the launcher has said, after so many lines.
said_since() {
    grep '^reuse-launch: ' faulty.log | tail -n "+$(($1 + 1))"
}

# reload_is_over LINES: whether it has said, after so many lines, how a reload has ended.
reload_is_over() {
    said_since "$1" | grep --quiet -E 'reload: .* serves? on .*: pids|old copies serve on'
}

# fails_at_start FIRST INJECT...: the same while the copies are started, for what strace injects, with
# a number for the % in it, from FIRST on: it serves all the same, or says why not, ends with 1 and
# leaves nothing.  Both happens.
fails_at_start() {
    local nth served=0 gave_up=0 status inject=("${@:2}")
    for ((nth = $1; nth < $1 + $(times 12 60); nth++)); do
        : >begins.log
        start begins strace --quiet=all --output=trace "${inject[@]//%/$nth}" \
            "$launch" -n 2 --ready=5 -- "$server" 8000
        eventually serves_or_ended begins "$pid"
        if alive "$pid"; then
            answers 5 8000
            kill -TERM "$(pgrep --parent "$pid")"
            wait "$pid"
            served=$((served + 1))
        else
            status=0
            wait "$pid" || status=$?
            echo "$nth: status $status: $(<begins.log)"
            [[ $status -eq 1 ]]
            says begins '^reuse-launch: '
            gave_up=$((gave_up + 1))
        fi
        none_left
        grep --quiet INJECTED trace || break
    done
    ((served > 0 && gave_up > 0))
}

# serves_or_ended NAME PID: whether it does, or has.
serves_or_ended() {
    says "$1" ' on .*: pids' || ended "$2"
}

@test "a process that cannot be started is told, and the service goes on" {
    faults '/^(v?fork|clone3?)$' EAGAIN
}

@test "without the right to reach into copies, it is told, and the service goes on" {
    faults pidfd_getfd EPERM
}

@test "out of descriptors, it is told, and the service goes on" {
    faults '/^(socket|openat|pidfd_open|pidfd_getfd|pipe2|timerfd_create|memfd_create|dup|fcntl)$' EMFILE
}

@test "out of memory, it is told, and the service goes on" {
    faults '/^(mmap|brk|mremap|setsockopt|sendto|sendmsg|recvmsg|clone3?)$' ENOMEM
}

@test "what fails while the copies are started is told, and nothing is left" {
    fails_at_start 1 --inject='/^(v?fork|clone3?)$:error=EAGAIN:when=%'
    fails_at_start 1 --inject='/^(socket|openat|pidfd_open|pipe2|signalfd4)$:error=EMFILE:when=%'
    fails_at_start 9 --inject='brk:error=ENOMEM:when=2+' --inject='mmap:error=ENOMEM:when=%+'
}

@test "thousands of half-open connections are waited for, and hinder nothing" {
    needs_root
    ip link add near type veth peer name far
    ip link set near arp off address 02:00:00:00:00:01 up
    ip link set far arp off address 02:00:00:00:00:02 up
    ip address add 10.9.0.1/16 dev near
    sysctl --quiet net.ipv4.tcp_syncookies=0 net.ipv4.tcp_max_syn_backlog=65536 \
        net.ipv4.tcp_synack_retries=2 net.ipv4.conf.near.rp_filter=0 net.ipv4.conf.all.rp_filter=0
    launched flooded -n 4 -- "$server" 10.9.0.1:8000
    # Half a handshake each, of clients that are not there.
    python3 "$BATS_TEST_DIRNAME/programs/half-open.py" far 10.9.0.1 8000 6000
    [[ $(ss --no-header --numeric state syn-recv | wc -l) -gt 4500 ]]
    kill -HUP "$pid"
    eventually more_than_listen 4 8000
    sleep 1
    said flooded 0 'reload: .* serve on'
    eventually said flooded 1 'reload: .* serve on'
    [[ $(ss --no-header --numeric state syn-recv | wc -l) -eq 0 ]]
    [[ $(grep --count '^reuse-launch: ' flooded.log) -eq 3 ]]
    stop flooded "$pid"
    ip link delete near
}
