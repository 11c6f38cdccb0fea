#!/usr/bin/env bats
# reuse-launch: several copies of a server as one service.

# The variables come from common.bash and bats; each test is a subshell; $ in quotes is for others.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154
load common
load launch

setup() {
    common_setup
    server=$programs/http-server
}

teardown() {
    common_teardown
}

# traffic NAME SECONDS PORT [OPTION]...: 64 connections for so long, a request each; in $pid.  A
# request that is not answered in a minute has failed.
traffic() {
    start "$1" wrk --threads 1 --connections 64 --duration "$2" --timeout 60 \
        --header 'Connection: close' "${@:4}" "http://127.0.0.1:$3/"
}

# answered NAME, failed NAME [KIND]: what traffic has counted; KIND is connect, read, write, timeout or
# status.
answered() {
    awk '/ requests in / { print $1 }' "$BATS_TEST_TMPDIR/$1.log"
}

failed() {
    awk -v kind="${2-}" '
        /Socket errors:/ { gsub(",", ""); for (i = 3; i < NF; i += 2) count[$i] = $(i + 1) }
        /Non-2xx or 3xx responses:/ { count["status"] = $NF }
        END { for (i in count) if (!kind || kind == i) sum += count[i]; print sum + 0 }
    ' "$BATS_TEST_TMPDIR/$1.log"
}

# reloads_under_load NAME PID PORT N: N reloads, and a load that lasts longer; nothing fails.
reloads_under_load() {
    local launcher=$2 round
    traffic "$1-load" 600 "$3"
    local wrk=$pid
    eventually connected "$3"
    for ((round = 0; round < $4; round++)); do
        reload "$1" "$launcher"
    done
    after_connections 200
    kill -INT "$wrk"
    wait "$wrk"
    echo "# $1: $(answered "$1-load") requests during $4 reloads, $(failed "$1-load") failed" >&3
    [[ $(answered "$1-load") -gt 100 && $(failed "$1-load") -eq 0 ]]
}

# connected PORT: whether there are connections.
connected() {
    [[ -n $(ss --no-header --tcp state connected "sport = :$1") ]]
}

# after_connections N: waits until N connections more have come.
after_connections() {
    eventually has_come $(($(connections) + $1))
}

has_come() {
    [[ $(connections) -ge $1 ]]
}

# connections: how many have come to this network namespace (PassiveOpens).
connections() {
    awk '/^Tcp: [0-9]/ { print $7 }' /proc/net/snmp
}

# wait_for_go: for servers that are to start late: says so, and waits until there is a file "go".
wait_for_go() {
    echo 'waits'
    until [[ -e go ]]; do
        sleep 0.05
    done
}
export -f wait_for_go

# --- starting

@test "the copies share the port, each knows its number, and the line says who serves where" {
    launched three -n 3 -- bash -c 'echo copy $LIBREUSE_COPY; exec "$0" 8000' "$server"
    listening 3 8000
    for number in 0 1 2; do
        said three 1 "^copy $number\$"
    done
    [[ $(grep -o ' on .*' three.log) == " on 127.0.0.1:8000/tcp: pids "*,*,* ]]
    [[ $(grep -o 'pids .*' three.log | grep -o '[0-9]*' | sort) == "$(pids_on 8000)" ]]
    stop three "$pid"
}

@test "without -n there are as many copies as processors" {
    launched default "$server" 8000
    listening "$(nproc)" 8000
    stop default "$pid"
}

@test "every copy has a process group of its own, and else what reuse-launch was started with" {
    # SIGINT and SIGQUIT, which a shell ignores in its background, are as they were at first.
    printf '%s\n' '#!/bin/sh' 'ls /proc/self/fd | wc -l; grep SigIgn /proc/self/status' \
        'echo group $(ps -o pgid= $$) stdin $(readlink /proc/self/fd/0)' >asked
    chmod +x asked
    start plain env --ignore-signal=USR2 --default-signal=INT,QUIT ./asked
    wait "$pid"
    start own env --ignore-signal=USR2 "$launch" -n 2 -- sh -c './asked; exec "$0" 8000' "$server"
    eventually says own ' on .*: pids'
    said own 2 '^group [0-9]+ stdin /dev/null$'
    [[ $(grep '^group' own.log | sort --unique | wc -l) -eq 2 ]]
    diff <(sed '/^group/d' plain.log) <(sed '/^group/d; /reuse-launch/d' own.log | sort --unique)
    stop own "$pid"
}

@test "the copies have the environment that reuse-launch has, and no descriptor more" {
    # The names are those of variables of the script.
    export prefix=/usr pids=7 environment=x due='a  b'
    printf '%s\n' '#!/bin/sh' 'env | grep -v "^LIBREUSE_COPY\|^LIBREUSE_SLOT\|^LIBREUSE_LAUNCH\|^_=\|^SHLVL=" | sort' \
        'ls /proc/self/fd | wc -l' >asked
    chmod +x asked
    start plain ./asked
    wait "$pid"
    launched own -n 1 --prefix -- sh -c './asked; exec "$0" 8000' "$server"
    diff plain.log <(sed -n 's/^0 | //p' own.log | grep -v 'LD_PRELOAD')
    stop own "$pid"
}

@test "--replace puts the number for {}, and nothing else does" {
    launched replaced -n 2 --replace -- bash -c 'echo "is $1"; exec "$0" 8000' "$server" 'x{}y{}'
    said replaced 1 '^is x0y0$'
    said replaced 1 '^is x1y1$'
    stop replaced "$pid"
    launched untouched -n 2 -- bash -c 'echo "is $1"; exec "$0" 8000' "$server" 'x{}y{}'
    said untouched 2 '^is x\{\}y\{\}$'
    stop untouched "$pid"
}

@test "each copy may have a port of its own as well" {
    launched own -n 2 --replace -- nginx -c "$(nginx_conf '8000; listen 810{}')"
    listening 2 8000
    listening 1 8100
    listening 1 8101
    reload own "$pid"
    listening 1 8100
    listening 1 8101
    stop own "$pid"
}

# nginx_conf LISTEN: makes a configuration with two workers that listens there; prints its name.  A
# {} in LISTEN makes it one a copy.
nginx_conf() {
    local number name=nginx.conf
    [[ $1 != *'{}'* ]] || name='nginx{}.conf'
    for number in 0 1; do
        cat >"${name/'{}'/$number}" <<END
daemon off; worker_processes 2; pid $PWD/${name%%[.{]*}$number.pid; error_log stderr;
events { worker_connections 512; }
http { access_log off; server { listen ${1//'{}'/$number}; location / { return 200 "pid \$pid"; } } }
END
    done
    echo "$PWD/$name"
}

@test "a copy that ends before all are ready stops all: exit 1, a line says which and how" {
    run -1 "$launch" -n 3 -- bash -c '((LIBREUSE_COPY != 1)) || exit 7; exec "$0" 8000' "$server"
    [[ $output == *'reuse-launch: copy 1 ended with status 7 before all were ready'* ]]
    none_left
    run -1 "$launch" -n 2 -- ./no-such-program
    [[ $output == *'cannot run'*'reuse-launch: copy '[01]' ended with status 127'* ]]
    run -1 "$launch" -n 2 -- bash -c 'kill -SEGV $$'
    [[ $output == *'reuse-launch: copy '[01]' was killed by SIGSEGV'* && $output != *'Segmentation'* ]]
}

@test "a server that goes to the background is told, and its daemon does not stay" {
    run -1 "$launch" -n 2 -- setsid --fork "$server" 8000
    [[ $output == *'a server that goes to the background cannot be launched'* ]]
    none_left
}

@test "copies that do not listen in time are stopped: exit 1" {
    run -1 "$launch" -n 2 --ready=1 -- sleep 60
    [[ $output == *'reuse-launch: copy 0 shares no port after 1 s'* ]]
    none_left
    # All but one listen.
    # In five seconds the others do, on a busy machine too.
    run -1 "$launch" -n 3 --ready=5 -- \
        bash -c '((LIBREUSE_COPY != 2)) || exec sleep 60; exec "$0" 8000' "$server"
    [[ $output == *'reuse-launch: copy 2 shares no port after 5 s'* ]]
    none_left
}

@test "a port that somebody has who does not share it: the copies say so, exit 1" {
    start other "$server" 8000
    eventually listening 1 8000
    run -1 "$launch" -n 2 -- "$server" 8000
    [[ $output == *'Address already in use'*'reuse-launch: copy '[01]' ended with status 1'* ]]
    alive "$pid"
}

# --- watching

@test "a copy that dies is started again, the others serve on, and nobody else speaks of it" {
    launched mended -n 3 -- "$server" 8000
    local launcher=$pid victim
    victim=$(pids_on 8000 | head -n 1)
    kill -SEGV "$victim"
    eventually says mended "^reuse-launch: copy [012] \\(pid $victim\\) was killed by SIGSEGV; starting it again\$"
    eventually listening 3 8000
    [[ $(pids_on 8000) != *"$victim"* ]]
    [[ $(wc -l <mended.log) -eq 2 ]]
    stop mended "$launcher"
}

@test "a copy may end with any status: it is told, and the service goes on" {
    launched any -n 2 -- bash -c '
        trap "read -r status <status; exit \$status" USR1
        "$0" 8000 & while true; do wait; done' "$server"
    local launcher=$pid status
    for status in 1 130 137 192 193 255; do
        eventually listening 2 8000
        echo "$status" >status
        kill -USR1 "$(ps -o ppid= -p "$(pids_on 8000 | head -n 1)" | tr -d ' ')"
        eventually says any "^reuse-launch: copy [01] .* ended with status $status; starting it again"
    done
    alive "$launcher"
    stop any "$launcher"
}

@test "a copy that keeps dying is started after pauses that grow" {
    launched dying -n 2 -- "$server" 8000
    local launcher=$pid victim=0 last
    for words in again 'again in 1 s' 'again in 2 s'; do
        last=$victim
        eventually replaced_by_another "$last"
        kill -KILL "$victim"
        eventually says dying "^reuse-launch: copy 0 .*starting it $words\$"
    done
    kill -USR1 "$launcher"
    eventually says dying 'copy 0: down, starts again in [01] s'
    stop dying "$launcher"
}

# replaced_by_another PID: whether copy 0 is another process, and which: in $victim.
replaced_by_another() {
    victim=$(pgrep --full "^$server 8000" | while read -r one; do
        ! grep --quiet --null-data '^LIBREUSE_COPY=0' "/proc/$one/environ" || echo "$one"
    done)
    [[ -n $victim && $victim != "$1" ]]
}

@test "what a copy leaves when it dies goes too: nginx's workers without their master" {
    launched orphans -n 1 --signal QUIT -- nginx -c "$(nginx_conf 8000)"
    local launcher=$pid before
    before=$(pids_on 8000)
    kill -KILL "$(head -n 1 <<<"$before")"
    eventually says orphans 'was killed by SIGKILL; starting it again'
    eventually other_pids "$before"
    for one in $before; do
        ended "$one"
    done
    stop orphans "$launcher"
}

# other_pids LIST: whether port 8000 is served, by none of LIST.
other_pids() {
    local now
    now=$(pids_on 8000)
    [[ -n $now && -z $(comm -12 <(echo "$1") <(echo "$now")) ]]
}

@test "copies killed at random under load: only requests that they held fail" {
    launched killed -n 3 -- "$server" 8000 2
    local launcher=$pid round kills=6 loss
    traffic killed-load 600 8000
    local wrk=$pid
    eventually connected 8000
    for ((round = 0; round < kills; round++)); do
        eventually listening 3 8000
        kill -KILL "$(pids_on 8000 | shuf -n 1)"
        eventually said killed $((round + 1)) 'was killed by SIGKILL'
    done
    eventually listening 3 8000
    kill -INT "$wrk"
    wait "$wrk"
    loss=$(failed killed-load)
    echo "# $(answered killed-load) requests, $kills copies killed, $loss failed" >&3
    # A copy holds at most all 64 connections; none is refused, and none hangs.
    [[ $loss -gt 0 && $loss -le $((64 * kills)) ]]
    [[ $(failed killed-load connect) -eq 0 && $(failed killed-load timeout) -eq 0 ]]
    [[ $(answered killed-load) -gt $((64 * kills)) ]]
    stop killed "$launcher"
}

# --- reloading

@test "ten reloads under load, as an ordinary user: no request fails, and as many are answered" {
    needs_root
    public "$launch" "$build/reuse-run" "$build/reuse-group" "$shim" "$server"
    launch=$public/reuse-launch
    start user setpriv --reuid=65534 --regid=65534 --clear-groups \
        "$launch" -n 3 -- "$public/http-server" 8000 5
    local launcher=$pid began calm
    eventually says user ' on .*: pids'
    traffic calm 3 8000
    wait "$pid"
    calm=$(answered calm)
    began=${EPOCHREALTIME/./}
    reloads_under_load user "$launcher" 8000 10
    local time=$((${EPOCHREALTIME/./} - began))
    # Per second, as a percentage of the calm.
    local ratio=$(($(answered user-load) * 3 * 100 * 1000 / calm / (time / 1000)))
    echo "# throughput during the reloads: $ratio % of that without" >&3
    [[ $ratio -ge 90 ]]
    listening 3 8000
    stop user "$launcher"
}

@test "nginx, which has workers, two ports and IPv4 and IPv6, is reloaded under load" {
    launched nginx -n 2 --signal=QUIT -- nginx -c "$(nginx_conf '8000; listen [::]:8000; listen 8001')"
    local launcher=$pid before
    before=$(pids_on 8001)
    grep -E ' on (.*0.0.0.0:8000/tcp.*|.*0.0.0.0:8001/tcp.*|.*\[::\]:8000/tcp.*){1}: pids' nginx.log
    reloads_under_load nginx "$launcher" 8000 3
    [[ -z $(comm -12 <(echo "$before") <(pids_on 8001)) ]]
    listening 4 8000 # two copies, two addresses
    stop nginx "$launcher"
}

@test "a static Go server is reloaded under load" {
    launched go -n 2 -- "$programs/go-static" 127.0.0.1:8000
    local launcher=$pid
    reloads_under_load go "$launcher" 8000 3
    listening 2 8000
    stop go "$launcher"
}

@test "python3 -m http.server is reloaded under load" {
    mkdir empty
    launched python -n 2 -- python3 -m http.server --directory "$PWD/empty" 8000
    local launcher=$pid
    reloads_under_load python "$launcher" 8000 3
    listening 2 8000
    stop python "$launcher"
}

@test "a UDP server is reloaded, and every datagram answered" {
    launched udp -n 3 -- "$programs/udp-server" 8000
    local launcher=$pid
    start client python3 -c '
import socket, time
while True:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(60)
    client.sendto(b"x", ("127.0.0.1", 8000))
    print(client.recv(100).decode().strip(), flush=True)
    client.close()
    time.sleep(0.002)'
    local client=$pid
    for copies in 3 6 9; do
        eventually have_answered "$copies" client
        [[ $copies -eq 9 ]] || reload udp "$launcher"
    done
    alive "$client" # it ends when no answer comes
    kill "$client"
    bound 3 8000
    stop udp "$launcher"
}

# have_answered N NAME: whether N copies have, as the background command NAME says.
have_answered() {
    [[ $(sort --unique "$2.log" | grep --count '^pid [0-9]*$') -eq $1 ]]
}

@test "keep-alive clients: a reload closes idle connections, and no request is lost" {
    # Idle connections are closed after half of the time, while the clients have more to ask.
    launched kept -n 2 --drain=10 -- \
        python3 "$BATS_TEST_DIRNAME/programs/keep-alive-server.py" 8000 0.3
    local launcher=$pid number
    # Each thinks for two seconds between requests, over one connection.
    for number in 1 2 3 4; do
        start "client$number" curl --silent --show-error --noproxy '*' --rate 30/m \
            --write-out '%{http_code} %{num_connects}\n' "http://127.0.0.1:8000/[1-10]" \
            --output "answer$number.#1"
    done
    for number in 1 2 3 4; do
        eventually test -s "answer$number.1"
    done
    reload kept "$launcher"
    said kept 0 'still busy'
    for number in "${started[@]:1}"; do
        wait "$number"
    done
    [[ $(cat client?.log | grep --count '^200 ') -eq 40 ]]
    [[ $(cat client?.log | wc -l) -eq 40 ]]
    # The reload closed some, else the test shows nothing.
    [[ $(awk '{ sum += $2 } END { print sum }' client?.log) -gt 4 ]]
    stop kept "$launcher"
}

@test "a reload into a broken program: the old copies serve on, and no request fails" {
    # In five seconds copies listen, on a busy machine too.
    launched broken -n 3 --ready=5 -- bash -c '
        [[ ! -e broken ]] || . ./broken
        exec "$0" 8000 2' "$server"
    local launcher=$pid before
    before=$(pids_on 8000)
    traffic broken-load 600 8000
    local wrk=$pid
    # One copy does not come up; none listens; one listens, and dies.
    echo '((LIBREUSE_COPY != 2)) || exit 9' >broken
    kill -HUP "$launcher"
    eventually says broken 'reload: copy 2 ended with status 9 before all were ready; the old copies serve on'
    eventually listening 3 8000
    echo 'exec sleep 60' >broken
    kill -HUP "$launcher"
    eventually says broken 'reload: copy 0 shares no port after 5 s; the old copies serve on'
    eventually listening 3 8000
    echo '((LIBREUSE_COPY != 2)) || exec sleep 60' >broken
    kill -HUP "$launcher"
    eventually says broken 'reload: copy 2 shares no port after 5 s; the old copies serve on'
    eventually listening 3 8000
    [[ $(pids_on 8000) == "$before" ]]
    kill -INT "$wrk"
    wait "$wrk"
    [[ $(answered broken-load) -gt 100 && $(failed broken-load) -eq 0 ]]
    "$root/scripts/reuse-spread" --expect 3 http://127.0.0.1:8000/
    # And once it is whole, all of them are replaced.
    rm broken
    reload broken "$launcher"
    listening 3 8000
    [[ -z $(comm -12 <(echo "$before") <(pids_on 8000)) ]]
    stop broken "$launcher"
}

@test "a copy that hangs does not hold up a reload for longer than --drain and --stop" {
    launched hung -n 3 --drain=2 --stop=1 -- "$server" 8000 1
    local launcher=$pid victim
    victim=$(pids_on 8000 | tail -n 1)
    kill -STOP "$victim"
    traffic hung-load 600 8000
    local wrk=$pid
    eventually waits_for "$victim"
    kill -HUP "$launcher"
    eventually says hung 'copy [012]: still busy after 2 s; stopped all the same'
    eventually says hung 'copy [012]: does not stop by SIGTERM; killed'
    eventually said hung 1 'reload: .* serve on'
    eventually ended "$victim"
    listening 3 8000
    kill -INT "$wrk"
    wait "$wrk"
    # Nothing but what it held.
    [[ $(failed hung-load) -gt 0 && $(failed hung-load) -le 64 && $(failed hung-load connect) -eq 0 ]]
    stop hung "$launcher"
}

# waits_for PID: whether connections wait for it.
waits_for() {
    [[ $("$build/reuse-group" --tsv --no-wait 8000 | awk -F '\t' -v pid="$1" '$5 == pid { print $8 }') -gt 5 ]]
}

@test "a member of the group that is not of the service is told, left alone, and no request is lost" {
    start stranger with_shim "$server" 8000 2
    local stranger=$pid
    eventually listening 1 8000
    "$build/reuse-group" --steer=0 8000 # what a killed reuse-launch may leave
    launched service -n 2 -- "$server" 8000 2
    local launcher=$pid
    "$root/scripts/reuse-spread" --expect 3 http://127.0.0.1:8000/
    eventually said service 1 "127.0.0.1:8000/tcp: shared with processes that are not of this service, pid $stranger"
    reloads_under_load service "$launcher" 8000 3
    alive "$stranger"
    listening 3 8000
    "$root/scripts/reuse-spread" --expect 3 http://127.0.0.1:8000/
    stop_but_stranger service "$launcher"
}

# stop_but_stranger NAME PID: has reuse-launch stop; the stranger does not.
stop_but_stranger() {
    kill -TERM "$2"
    wait "$2"
    listening 1 8000
}

@test "somebody who joins amidst a reload is told, and no obstacle to it" {
    launched amidst -n 2 -- bash -c '[[ ! -e slow ]] || wait_for_go; exec "$0" 8000' "$server"
    local launcher=$pid
    touch slow
    kill -HUP "$launcher"
    # The new copies are started once the old ones have been counted.
    eventually said amidst 2 '^waits$'
    start stranger with_shim "$server" 8000
    local stranger=$pid
    eventually listening 3 8000
    touch go
    eventually said amidst 1 'reload: .* serve on'
    eventually says amidst "127.0.0.1:8000/tcp: shared with processes that are not of this service, pid $stranger"
    said amidst 0 'cannot steer'
    listening 3 8000
    "$root/scripts/reuse-spread" --expect 3 http://127.0.0.1:8000/
    stop_but_stranger amidst "$launcher"
}

@test "old copies that die amidst a reload are no obstacle to it" {
    launched deaths -n 3 -- bash -c '[[ ! -e slow ]] || wait_for_go; exec "$0" 8000 2' "$server"
    local launcher=$pid before
    before=$(pids_on 8000)
    touch slow
    kill -HUP "$launcher"
    eventually said deaths 3 '^waits$'
    kill -KILL "$(head -n 1 <<<"$before")"
    eventually listening 2 8000
    touch go
    eventually said deaths 1 'reload: .* serve on'
    said deaths 0 'cannot'
    listening 3 8000
    "$root/scripts/reuse-spread" --expect 3 http://127.0.0.1:8000/
    stop deaths "$launcher"
}

@test "a HUP during a reload is done after it, several are one" {
    launched twice -n 2 -- bash -c '[[ ! -e slow ]] || wait_for_go; exec "$0" 8000' "$server"
    local launcher=$pid
    touch slow
    kill -HUP "$launcher"
    eventually said twice 1 'reload: starting'
    kill -HUP "$launcher"
    kill -HUP "$launcher"
    touch go
    eventually said twice 2 'reload: .* serve on'
    # What it hears later it does later.
    for lines in 2 4; do
        kill -USR1 "$launcher"
        eventually said twice "$lines" 'copy [01]: pids'
    done
    said twice 2 'reload: starting'
    stop twice "$launcher"
}

@test "64 copies start, take over from 64 others, and stop" {
    launched many -n 64 -- "$server" 8000
    local launcher=$pid before
    listening 64 8000
    before=$(pids_on 8000)
    kill -HUP "$launcher"
    eventually said many 1 'reload: .* serve on'
    listening 64 8000
    [[ -z $(comm -12 <(echo "$before") <(pids_on 8000)) ]]
    "$root/scripts/reuse-spread" --connections 1500 --expect 64 http://127.0.0.1:8000/
    stop many "$launcher"
}

# --- one more, one less

@test "TTIN adds a copy and TTOU takes one away, and no request fails" {
    launched changed -n 2 -- "$server" 8000 2
    local launcher=$pid
    traffic changed-load 600 8000
    local wrk=$pid
    eventually connected 8000
    kill -TTIN "$launcher"
    eventually listening 3 8000
    reload changed "$launcher"
    listening 3 8000
    for copies in 2 1; do
        kill -TTOU "$launcher"
        eventually says changed "copy $copies taken away"
        listening "$copies" 8000
    done
    kill -TTOU "$launcher"
    eventually says changed 'the last copy stays'
    said changed 0 'cannot steer'
    kill -INT "$wrk"
    wait "$wrk"
    [[ $(answered changed-load) -gt 100 && $(failed changed-load) -eq 0 ]]
    listening 1 8000
    stop changed "$launcher"
}

@test "a copy that dies while another is taken away does not bring that one new requests" {
    launched fewer -n 3 -- "$programs/go-static" 127.0.0.1:8000
    local launcher=$pid leaving
    leaving=$(grep -o '[0-9]*$' fewer.log)
    # Half a request holds up the drain.
    until [[ $(ss --no-header --tcp --processes state established 'sport = :8000') == *"pid=$leaving,"* ]]; do
        exec {open}<>/dev/tcp/127.0.0.1/8000
        sleep 0.05
    done
    printf 'GET / HTTP/1.0\r\n' >&"$open"
    kill -TTOU "$launcher"
    eventually spared "$leaving"
    kill -KILL "$(pids_on 8000 | grep -v "^\($leaving\|$launcher\)\$" | head -n 1)"
    eventually copies_listen 3 "$launcher"
    eventually spared "$leaving"
    alive "$leaving"
    printf '\r\n' >&"$open"
    eventually says fewer 'copy 2 taken away'
    listening 2 8000
    stop fewer "$launcher"
}

# spared PID: whether others answer 40 requests.  If it had a third of them, that would have a chance
# of 9e-8.
spared() {
    local number
    for number in {1..40}; do
        curl --silent --fail --noproxy '*' http://127.0.0.1:8000/
    done >answers
    ! grep --quiet "pid $1\$" answers
}

# copies_listen N LAUNCHER: whether N copies listen; there may be a placeholder of the launcher's.
copies_listen() {
    [[ $(pids_on 8000 | grep --count --invert-match "^$2\$") -eq $1 ]]
}

@test "a reload right after TTIN takes a copy along that does not listen yet" {
    launched late -n 2 -- bash -c '((LIBREUSE_COPY < 2)) || wait_for_go; exec "$0" 8000 2' "$server"
    local launcher=$pid
    traffic late-load 600 8000
    local wrk=$pid
    eventually connected 8000
    kill -TTIN "$launcher"
    eventually said late 1 '^waits$'
    kill -HUP "$launcher"
    eventually said late 1 'reload: starting'
    touch go
    eventually said late 1 'reload: .* serve on'
    listening 3 8000
    kill -INT "$wrk"
    wait "$wrk"
    [[ $(answered late-load) -gt 100 && $(failed late-load) -eq 0 ]]
    stop late "$launcher"
}

@test "a server whose UDP sockets come and go gets ready" {
    launched passing -n 2 -- python3 -c '
import socket, time
server = socket.create_server(("127.0.0.1", 8000))
while True:
    passing = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    passing.bind(("", 0))
    time.sleep(0.03)
    passing.close()'
    local launcher=$pid
    reload passing "$launcher"
    listening 2 8000
    stop passing "$launcher"
}

@test "USR1 prints a line on each copy" {
    launched told -n 2 -- "$server" 8000
    local launcher=$pid one
    kill -USR1 "$launcher"
    eventually said told 2 'copy [01]: pids [0-9]+, up [0-9]+ s, on 127.0.0.1:8000/tcp, 0 waiting$'
    for one in $(pids_on 8000); do
        said told 1 "copy [01]: pids $one,"
    done
    stop told "$launcher"
}

# --- stopping

@test "INT and QUIT stop as TERM does: exit 0, nothing is left" {
    for signal in INT QUIT TERM; do
        rm -f "stopped.log"
        start stopped "$launch" -n 2 -- "$server" 8000
        eventually says stopped ' on .*: pids'
        kill -"$signal" "$pid"
        wait "$pid"
        none_left
    done
}

@test "signals that were ignored at the start, as nohup does, are heard all the same" {
    start ignored env --ignore-signal=HUP,INT "$launch" -n 2 -- "$server" 8000
    eventually says ignored ' on .*: pids'
    reload ignored "$pid"
    kill -INT "$pid"
    wait "$pid"
    none_left
}

@test "the stop signal is the one that is asked for" {
    for name in USR1 SIGUSR1 10; do
        launched signal -n 1 --signal "$name" -- bash -c '
            trap "echo got USR1; kill %1; exit" USR1; "$0" 8000 & wait' "$server"
        stop signal "$pid"
        said signal 1 '^got USR1$'
    done
}

@test "SIGKILL as the stop signal leaves nothing either" {
    launched killed -n 2 --signal=KILL -- bash -c 'setsid --fork sleep 60; exec "$0" 8000' "$server"
    stop killed "$pid"
    said killed 0 'does not stop'
}

@test "a copy that does not stop is killed after --stop, and told" {
    launched stubborn -n 2 --stop 1 -- bash -c 'trap "" TERM; exec "$0" 8000' "$server"
    stop stubborn "$pid"
    said stubborn 1 'copy ([01] ?){2}: does not stop by SIGTERM; killed'
}

@test "a second TERM kills at once" {
    launched impatient -n 2 --stop 1000 -- bash -c '
        (trap "" TERM; exec "$0" 8000) & trap "echo got TERM" TERM; while true; do wait; done' "$server"
    kill -TERM "$pid"
    eventually said impatient 2 '^got TERM$'
    listening 2 8000
    stop impatient "$pid"
}

@test "TERM amidst a reload stops both generations" {
    launched both -n 2 -- bash -c '[[ ! -e slow ]] || sleep 60; exec "$0" 8000' "$server"
    local launcher=$pid
    touch slow
    kill -HUP "$launcher"
    eventually says both 'reload: starting'
    stop both "$launcher"
    rm slow
    launched drained -n 2 -- "$programs/hold" 8000
    launcher=$pid
    exec {open}<>/dev/tcp/127.0.0.1/8000
    kill -HUP "$launcher"
    eventually listening 4 8000
    sleep 0.5 # nothing tells that it drains by now
    stop drained "$launcher"
    exec {open}>&-
}

@test "killed, reuse-launch leaves nothing: no worker, no daemon, no copy that is being started" {
    launched workers -n 2 -- bash -c 'setsid --fork sleep 60; exec nginx -c "$0"' "$(nginx_conf 8000)"
    eventually pgrep sleep
    kill -KILL "$pid"
    eventually none_left
    for round in {1..20}; do
        start begun "$launch" -n 3 -- "$server" 8000
        sleep "0.0$((RANDOM % 10))" # whatever it is about
        kill -KILL "$pid"
        eventually none_left
    done
}

@test "--keep: killed, reuse-launch leaves the copies, and the next one takes over" {
    launched kept -n 2 --keep -- "$server" 8000 2
    local before
    before=$(pids_on 8000)
    kill -KILL "$pid"
    eventually ended "$pid"
    traffic kept-load 600 8000
    local wrk=$pid
    after_connections 200
    [[ $(pids_on 8000) == "$before" ]]
    launched next -n 2 --keep -- "$server" 8000 2
    local launcher=$pid
    eventually says next 'taking over from 2 copies of a reuse-launch that was killed'
    eventually listening 2 8000
    [[ -z $(comm -12 <(echo "$before") <(pids_on 8000)) ]]
    kill -INT "$wrk"
    wait "$wrk"
    [[ $(answered kept-load) -gt 100 && $(failed kept-load) -eq 0 ]]
    stop next "$launcher"
}

@test "copies of another service that lives are not taken over" {
    # Not even if it was started from within a copy of a service that is dead.
    export LIBREUSE_LAUNCH=4194304
    launched first -n 2 -- "$server" 8000
    local first=$pid
    launched second -n 2 -- "$server" 8000
    said second 0 'taking over'
    eventually said second 1 'shared with processes that are not of this service'
    kill -USR1 "$pid"
    eventually said second 2 'copy [01]: pids'
    listening 4 8000
    kill -TERM "$pid"
    wait "$pid"
    listening 2 8000
    stop first "$first"
}

# --- output, files, processors

@test "--prefix puts the number before every line, without it output is untouched" {
    local script='echo "out $LIBREUSE_COPY"; printf "a\tb\n" >&2; exec "$0" 8000'
    launched plain -n 2 -- bash -c "$script" "$server"
    stop plain "$pid"
    said plain 2 $'^a\tb$'
    launched labelled -n 2 --prefix -- bash -c "$script" "$server"
    stop labelled "$pid"
    eventually said labelled 1 '^0 \| out 0$'
    eventually said labelled 1 '^1 \| out 1$'
    said labelled 1 $'^0 \\| a\tb$'
    # To where it was written.
    "$launch" -n 1 --prefix -- bash -c "$script" "$server" >out 2>errors 3>&- &
    started+=($!)
    eventually grep 'serves on' errors
    grep '^0 | out 0$' out
    grep $'^0 | a\tb$' errors
}

@test "with all standard descriptors closed it stops in order" {
    "$launch" -n 2 --stop=5 -- "$server" 8000 <&- >&- 2>&- 3>&- &
    started+=($!)
    eventually listening 2 8000
    sleep 0.5 # it cannot tell that it has seen that
    kill -TERM "${started[-1]}"
    eventually ended "${started[-1]}"
    eventually none_left
    # By the signal, not by the SIGKILL after five seconds.
    run -0 bash -c '"$0" --leave-nothing sleep 60 <&- &
        until pgrep --full --exact "sleep 60"; do sleep 0.05; done
        kill -TERM $!; wait $!; [[ $? -eq 143 ]]' "$build/reuse-run"
}

@test "when the terminal goes away, all is stopped" {
    start terminal python3 -c '
import os, pty, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
seen = b""
while b"serve on" not in seen:
    seen += os.read(terminal, 1000)
os.close(terminal)
print("gone", os.waitpid(pid, 0)[1])' "$launch" -n 2 -- "$server" 8000
    eventually says terminal '^gone 0$'
    none_left
}

@test "the last words of a copy come through --prefix" {
    run -1 "$launch" -n 1 --prefix -- bash -c 'echo last words; echo unfinished >&2; exit 3'
    [[ $output == *'0 | last words'* && $output == *'0 | unfinished'* ]]
}

@test "--pid-file holds the process id, and is removed in the end" {
    launched filed -n 1 --pid-file "$PWD/a file" -- "$server" 8000
    [[ $(cat 'a file') == "$pid" ]]
    run -1 "$launch" -n 1 --pid-file "$PWD/a file" -- "$server" 8000
    [[ $output == "reuse-launch: $PWD/a file: pid $pid runs already; stop it first" ]]
    stop filed "$pid"
    [[ ! -e 'a file' ]]
    echo 4194304 >stale
    launched again -n 1 --pid-file stale -- "$server" 8000
    [[ $(cat stale) == "$pid" ]]
    stop again "$pid"
    run -1 "$launch" -n 1 --pid-file no/such/folder -- "$server" 8000
    [[ $output == 'reuse-launch: no/such/folder: cannot be written' ]]
    none_left
}

@test "--pin gives each copy a processor, in turn" {
    launched pinned -n 3 --pin -- "$server" 8000
    local all one
    all=$(taskset --cpu-list --pid $$ | sed 's/.*: //')
    for one in $(pids_on 8000); do
        taskset --cpu-list --pid "$one" | sed 's/.*: //'
    done | sort >processors
    [[ $(grep -cE '^[0-9]+$' processors) -eq 3 ]]
    if [[ $all != [0-9]* || $all == *[-,]* ]]; then
        [[ $(sort --unique processors | wc -l) -ge 2 ]]
    fi
    stop pinned "$pid"
}

@test "with standard error closed it serves all the same" {
    "$launch" -n 2 -- "$server" 8000 2>&- >/dev/null 3>&- &
    started+=($!)
    eventually listening 2 8000
    sleep 0.5 # it cannot tell that it has seen that
    local victim
    victim=$(pids_on 8000 | head -n 1)
    kill -KILL "$victim"
    eventually ended "$victim"
    eventually listening 2 8000
    stop closed "${started[-1]}"
}

@test "wrong usage is exit 2, and says what is wrong" {
    run -2 "$launch"
    [[ $output == "reuse-launch: no program given; try 'reuse-launch --help'" ]]
    for bad in -n0 -nx --copies= --copies=1001 --ready=0 --ready=x --drain=-1 --stop=1.5 --signal=NONE \
        --signal= --signal=0 --signal=EXIT --signal=DEBUG --signal=-1 --signal=65; do
        run -2 "$launch" "$bad" -- "$server"
        value=${bad#*=}
        [[ ${#lines[@]} -eq 1 && $output == "reuse-launch: -"*": '${value#-n}' is "* ]]
    done
    run -2 "$launch" --no-such-option "$server"
    [[ $output == *"--no-such-option"*"Try 'reuse-launch --help' for more information." ]]
}

@test "options end at the program" {
    launched ended -n 1 bash -c 'echo "got $*"; exec "$0" 8000' "$server" --version -n 5
    said ended 1 '^got --version -n 5$'
    stop ended "$pid"
}

@test "help and version go to standard output; the manual page is clean and names every option" {
    run -0 --separate-stderr "$launch" --help
    [[ $output == 'Usage: reuse-launch '* && -z $stderr ]]
    grep -oE -- '--[a-z-]+' <<<"$output" | sort --unique | while read -r option; do
        grep --quiet --fixed-strings -- "${option//-/\\-}" "$root/shim/launch/reuse-launch.1"
    done
    run -0 "$launch" --version
    [[ $output == 'reuse-launch (libreuse) '* ]]
    command -v man || skip 'man is not installed'
    run -0 man --warnings -l "$root/shim/launch/reuse-launch.1"
}
