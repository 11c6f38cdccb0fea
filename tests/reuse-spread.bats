#!/usr/bin/env bats
# What scripts/reuse-spread promises: a test for each behaviour.  The servers answer in a fixed
# order (programs/spread-server.py), so nothing here depends on chance or on time.

# shellcheck disable=SC2154 # common.bash and bats set them
# shellcheck disable=SC2016 # what must not be expanded is the point of several tests
# shellcheck disable=SC2046 # lists of counts are split into words

load common

setup() {
    common_setup
    spread=$root/scripts/reuse-spread
    export LC_ALL=C.UTF-8 TERM=xterm TMPDIR=$BATS_TEST_TMPDIR/tmp
    mkdir "$TMPDIR" bin
    unset NO_COLOR http_proxy https_proxy all_proxy no_proxy
}

teardown() {
    common_teardown
}

# Starts a server with ARGUMENTS (see programs/spread-server.py); its address is in $server.
serve() {
    local name=server.${#started[@]}
    start "$name" "$root/tests/programs/spread-server.py" "$@"
    eventually test -s "$name.log"
    server=$(<"$name.log")
}

# Puts a command NAME before the real one: a shell script of LINES.
put_before() {
    local name=$1
    shift
    printf '%s\n' '#!/bin/sh' "$@" >"bin/$name"
    chmod +x "bin/$name"
    PATH=$PWD/bin:$PATH
    hash -r
}

# Whether exactly COUNT connections to $server are open.
connections_are() {
    sockets "$1" --tcp state established "dst $server"
}

# Whether the one curl that runs waits for something.
curl_waits() {
    [[ $(ps --no-headers -o state -C curl) == S ]]
}

# Runs COMMAND, one string, with a terminal of COLUMNS for whatever it does not redirect.
in_terminal() {
    local columns=$1 command=$2
    script --quiet --return --command "stty cols $columns; $command" /dev/null </dev/null
}

# Whether any process but this test has TEXT in its command line.
running() {
    local file
    for file in /proc/[0-9]*/cmdline; do
        [[ $file != "/proc/$$/cmdline" ]] || continue
        if grep --quiet --text --fixed-strings -e "$1" "$file" 2>/dev/null; then
            return 0
        fi
    done
    return 1
}

# Prints what statistics makes of COPIES and COUNTS.
statistics() {
    bash -c 'source "$1"; statistics "${@:2}"' bash "$spread" "$@"
}

# Prints WORDS again and again, TIMES.
repeat() {
    local times=$1
    shift
    yes "$*" | head -n "$times"
}

# The verdict.

@test "an even spread over several copies is told with status 0" {
    serve 'pid 11' 'pid 12' 'pid 13'
    run -0 --separate-stderr "$spread" "http://$server/"
    [[ ${lines[0]} =~ ^11\ +100\ +33\.3%\ +█+$ ]]
    [[ ${lines[1]} =~ ^12\ +100\ +33\.3%\ +█+$ ]]
    [[ ${lines[2]} =~ ^13\ +100\ +33\.3%\ +█+$ ]]
    [[ ${lines[3]} == 'chi-square 0.00, df 2, p 1: spread evenly over 3 copies' ]]
    ((${#lines[@]} == 4))
    [[ -z $stderr ]]
}

@test "an uneven spread is told with status 1" {
    serve 'pid 11' 'pid 11' 'pid 11' 'pid 12'
    run -1 --separate-stderr "$spread" --connections 400 "http://$server/"
    [[ ${lines[0]} =~ ^11\ +300\ +75\.0% ]]
    [[ ${lines[1]} =~ ^12\ +100\ +25\.0% ]]
    [[ ${lines[2]} == 'chi-square 100.00, df 1, p 1.52e-23: spread unevenly over 2 copies' ]]
    [[ -z $stderr ]]
}

@test "a spread that chance brings about once in 1000 times is still even, a rarer one is not" {
    # 10,000 connections: chi-square is the difference squared over 10,000.
    [[ $(statistics 2 5164 4836) == '10.76 1 0.00104 even' ]]
    [[ $(statistics 2 5165 4835) == '10.89 1 0.000967 uneven' ]]
}

@test "one copy that answers everything is not spread" {
    serve 'pid 11'
    run -1 "$spread" "http://$server/"
    [[ ${lines[1]} == 'chi-square 0.00, df 0, p 1: not spread: one copy answered everything' ]]
}

@test "one copy that answers everything is right where one is expected" {
    serve 'pid 11'
    run -0 "$spread" --expect 1 "http://$server/"
    [[ ${lines[1]} == *': one copy answered everything, as expected' ]]
}

@test "as many copies as expected are right" {
    serve 'pid 11' 'pid 12'
    run -0 "$spread" --expect 2 "http://$server/"
}

@test "as many copies as expected are not enough if the spread is uneven" {
    serve 'pid 11' 'pid 11' 'pid 11' 'pid 12'
    run -1 "$spread" --expect 2 "http://$server/"
}

@test "a copy that is expected and does not answer counts as 0 and gives status 1" {
    serve 'pid 11' 'pid 12'
    run -1 "$spread" --expect 3 "http://$server/"
    [[ ${lines[2]} == \
        'chi-square 150.00, df 2, p 2.68e-33: not spread: only 2 of 3 copies answered' ]]
}

@test "more copies than expected give status 1" {
    serve 'pid 11' 'pid 12' 'pid 13'
    run -1 "$spread" --expect 2 "http://$server/"
    [[ ${lines[3]} == *'p 1: not as expected: 3 copies answered, not 2' ]]
}

@test "too few connections to tell much are said to be that" {
    serve 'pid 11' 'pid 12' 'pid 13'
    run -0 "$spread" -c 12 "http://$server/"
    [[ ${lines[3]} == *' over 3 copies (fewer than 5 connections a copy tell little)' ]]
    run -0 "$spread" -c 15 "http://$server/"
    [[ ${lines[3]} == *'spread evenly over 3 copies' ]]
}

# The statistic.  The p-values are those of mpmath's gammainc(), of 40 digits.

@test "p-values are right with every awk that is installed" {
    local awk found=0
    for awk in mawk gawk original-awk; do
        command -v "$awk" || continue
        found=$((found + 1))
        put_before awk "exec $awk \"\$@\""
        [[ $(statistics 2 60 40) == '4.00 1 0.0455 even' ]]
        [[ $(statistics 3 10 20 30) == '10.00 2 0.00674 even' ]]
        [[ $(statistics 4 10 10 10 10) == '0.00 3 1 even' ]]
        [[ $(statistics 5 18 22 20 25 15) == '2.90 4 0.575 even' ]]
        [[ $(statistics 2 100001 100000) == '0.00 1 0.998 even' ]]
        [[ $(statistics 1 7) == '0.00 0 1 even' ]]
    done
    ((found > 0))
}

@test "p-values are right when tiny" {
    [[ $(statistics 2 299 1) == '296.01 1 2.43e-66 uneven' ]]
    [[ $(statistics 2 1364 1) == '1361.00 1 6.26e-298 uneven' ]]
    [[ $(statistics 64 $(seq 64)) == '672.00 63 1.01e-102 uneven' ]]
    [[ $(statistics 2 3000 1) == '2997.00 1 <1e-300 uneven' ]]
    [[ $(statistics 2 999999 1) == '999996.00 1 <1e-300 uneven' ]]
}

@test "p-values are right for many degrees of freedom" {
    [[ $(statistics 500 1) == '499.00 499 0.492 even' ]]
    [[ $(statistics 1000 $(repeat 500 89 111)) == '1210.00 999 4.53e-06 uneven' ]]
    [[ $(statistics 1000 $(repeat 500 90 110)) == '1000.00 999 0.485 even' ]]
    [[ $(statistics 10000 $(repeat 5000 90 110)) == '10000.00 9999 0.495 even' ]]
    [[ $(statistics 10000 $(repeat 5000 89 111)) == '12100.00 9999 2.01e-44 uneven' ]]
}

# The copies' names.

@test "a copy is named by the number after the word pid, in any case and notation" {
    serve 'client 1.2.3.4:{n}, server PID: 11' '{"n": {n}, "server_pid": 11}' \
        'Pid=11, {n}' 'rapid 5, pid 11 {n}'
    run -1 "$spread" --tsv "http://$server/"
    [[ ${lines[0]} == $'copy\t11\t300\t1.0000' ]]
}

@test "where no PID is in the body, the whole body names the copy" {
    serve 'rapid 1' $'second\n'
    run -0 "$spread" --tsv "http://$server/"
    [[ ${lines[0]} == $'copy\trapid 1\t150\t0.5000' ]]
    [[ ${lines[1]} == $'copy\tsecond\t150\t0.5000' ]]
}

@test "where not every body has a PID, the whole body names the copy" {
    serve 'pid 1' 'green'
    run -0 "$spread" --tsv "http://$server/"
    [[ ${lines[0]} == $'copy\tgreen\t150\t0.5000' ]]
    [[ ${lines[1]} == $'copy\tpid 1\t150\t0.5000' ]]
}

@test "bodies that always differ are refused with the way out" {
    serve 'request {n}'
    run -2 --separate-stderr "$spread" "http://$server/"
    [[ -z $output ]]
    [[ $stderr == 'reuse-spread: the answers do not tell the copies apart: '*'--by'* ]]
}

@test "a few bodies that all differ are refused too" {
    serve 'request {n}'
    run -2 "$spread" -c 10 "http://$server/"
    [[ $output == 'reuse-spread: the answers do not tell the copies apart: '* ]]
}

@test "PIDs that always differ are refused: a process for each connection is no copy" {
    serve 'pid {n}'
    run -2 --separate-stderr "$spread" "http://$server/"
    [[ $stderr == 'reuse-spread: the answers do not tell the copies apart: '*'--by'* ]]
}

@test "more than 64 different bodies are refused, 64 are taken" {
    serve name-{01..64}
    run -0 "$spread" -c 640 --expect 64 "http://$server/"
    serve name-{01..65}
    run -2 "$spread" -c 650 "http://$server/"
    [[ $output == *--by* ]]
}

@test "--by names the copy by the first group of an extended regular expression" {
    serve 'pid 1, host=a7 {n}' 'pid 1, host=b9 {n}'
    run -0 "$spread" --tsv --by 'host=([a-z]([0-9]+))' "http://$server/"
    [[ ${lines[0]} == $'copy\ta7\t150\t0.5000' ]]
    [[ ${lines[1]} == $'copy\tb9\t150\t0.5000' ]]
}

@test "--by without a group names the copy by the whole match" {
    serve 'this is copy-1, {n}' 'this is copy-2, {n}'
    run -0 "$spread" --tsv --by='copy-[0-9]+' "http://$server/"
    [[ ${lines[0]} == $'copy\tcopy-1\t150\t0.5000' ]]
    [[ ${lines[1]} == $'copy\tcopy-2\t150\t0.5000' ]]
}

@test "--by that does not match every answer is refused with an answer to see why" {
    serve 'host=a' 'host=b' 'out of order'
    run -2 --separate-stderr "$spread" --by 'host=(.)' "http://$server/"
    [[ -z $output ]]
    [[ $stderr == "reuse-spread: --by: 'host=(.)' matches nothing in 100 of 300 answers, "* ]]
    [[ $stderr == *"such as 'out of order'" ]]
}

@test "names are sorted as people count" {
    serve 'pid 100' 'pid 20' 'pid 3'
    run -0 "$spread" --tsv "http://$server/"
    [[ ${lines[*]} == $'copy\t3\t'*$'copy\t20\t'*$'copy\t100\t'* ]]
}

@test "a name cannot move the cursor, split a column, or be empty to the eye" {
    serve $'\e[31mred\tone\ntwo\n\n' ''
    run -0 --separate-stderr "$spread" --tsv "http://$server/"
    [[ ${lines[0]} == $'copy\t [31mred one two\t150\t0.5000' ]]
    [[ ${lines[1]} == $'copy\t(empty)\t150\t0.5000' ]]
    ((${#lines[@]} == 4))
}

@test "what looks like shell code in a body is a name and nothing more" {
    serve '$(touch hacked)`touch hacked`]' '*' '@' 'a[$(touch hacked)]'
    run -0 "$spread" --tsv --expect 4 "http://$server/"
    [[ ! -e hacked ]]
}

@test "a large body takes no more than its beginning" {
    serve "pid 11 $(printf '%0100000d' 0)" "$(printf '%0100000d' 0) pid 12"
    run -0 "$spread" --tsv -c 20 "http://$server/"
    [[ ${lines[0]} == $'copy\t000'* ]]
    [[ ${lines[1]} == $'copy\tpid 11 000'* ]]
}

@test "bodies that were read take no room" {
    serve 'pid 11' 'pid 12'
    put_before rm "[ \"\$1\" != -rf ] || cat \"\$3\"/* | wc -c >'$PWD/left'" \
        "exec '$(command -v rm)' \"\$@\""
    run -0 "$spread" "http://$server/"
    [[ $(<left) == 0 ]]
}

# The connections.

@test "every request has a connection of its own, and no more of them than asked for" {
    serve 'pid {n}'
    run -0 "$spread" --by '(pid)' --expect 1 --tsv -c 123 "http://$server/"
    [[ ${lines[0]} == $'copy\tpid\t123\t1.0000' ]]
    # The number of the next request.
    [[ $(curl --silent --noproxy '*' "http://$server/") == 'pid 123' ]]
}

@test "requests that go over a kept connection are refused, not counted" {
    serve --keep-alive 'pid 11' 'pid 12'
    run --separate-stderr "$spread" -c 40 -j 4 "http://$server/"
    # A curl that keeps what it sends ("Connection: close") gives an honest result.
    if ((status == 0)); then
        curl --silent -H 'Connection: close' -w '%{num_connects}\n' -o /dev/null -o /dev/null \
            "http://$server/" "http://$server/" | grep --quiet 1.1
        skip 'this curl closes the connections itself'
    fi
    ((status == 2))
    [[ -z $output ]]
    [[ $stderr == \
        "reuse-spread: 36 of 40 requests went over a connection of an earlier one"*--parallel* ]]
}

@test "10,000 connections take one curl" {
    start server "$programs/http-server" 8000
    eventually listening 1 8000
    put_before curl "echo started >>'$PWD/curls'" "exec '$(command -v curl)' \"\$@\""
    run -0 --separate-stderr "$spread" --connections 10000 --expect 1 --tsv http://127.0.0.1:8000/
    [[ ${lines[0]} == $'copy\t'"$pid"$'\t10000\t1.0000' ]]
    [[ $(<curls) == started ]]
    [[ -z $stderr ]]
}

@test "--parallel is how many connections are open at once" {
    serve '!hang'
    start spread "$spread" --parallel 7 "http://$server/"
    eventually connections_are 7
    # It has opened what it opens at first when it waits for answers.
    eventually curl_waits
    connections_are 7
}

@test "an IPv6 address in brackets works" {
    grep --quiet ' lo$' /proc/net/if_inet6 || skip 'no IPv6 here'
    serve --address=::1 'pid 11' 'pid 12'
    [[ $server == \[::1]:* ]]
    run -0 "$spread" "http://$server/"
}

@test "special characters in the URL reach the server as they are" {
    local path='/{a,b}[1-3]?q="x\"&$HOME=`x`%20#1;'"'y'"
    serve '{path}'
    run -0 "$spread" --expect 1 --tsv --by '.*' "http://$server$path"
    [[ ${lines[0]} == $'copy\t'"${path%%#*}"$'\t300\t1.0000' ]]
}

@test "a URL needs no http:// before it" {
    serve 'pid 11' 'pid 12'
    run -0 "$spread" "$server"
    # Curl alone would guess FTP.
    run -0 "$spread" "ftp.localhost:${server#*:}"
}

@test "only HTTP is spoken" {
    run -2 "$spread" file:///etc/passwd
    # In the words of curl 7, and of 8.
    [[ $output =~ ^'reuse-spread: '.*'requests failed: Protocol "file" '('not supported'|'disabled') ]]
}

@test "a proxy and a ~/.curlrc do not come between" {
    export HOME=$PWD CURL_HOME=$PWD
    export http_proxy=http://127.0.0.1:1 all_proxy=http://127.0.0.1:1
    echo 'url = http://127.0.0.1:1/' >.curlrc
    serve 'pid 11' 'pid 12'
    run -0 "$spread" "http://$server/"
}

# Failures.

@test "nothing listening gives status 2, how many failed, and curl's words" {
    run -2 --separate-stderr "$spread" -c 5 "http://127.0.0.1:8000/"
    [[ -z $output ]]
    [[ $stderr == 'reuse-spread: 5 of 5 requests failed: Failed to connect to 127.0.0.1 '* ]]
    ((${#stderr_lines[@]} == 1))
}

@test "when all fail from the start, it gives up early" {
    serve '!close'
    run -2 --separate-stderr "$spread" --parallel 8 "http://$server/"
    [[ $stderr == 'reuse-spread: the first 8 of 300 requests failed: Empty reply from server' ]]
}

@test "a server that closes without an answer gives status 2" {
    serve '!close' 'pid 11' 'pid 12'
    run -2 --separate-stderr "$spread" "http://$server/"
    [[ -z $output ]]
    [[ $stderr == 'reuse-spread: 100 of 300 requests failed: Empty reply from server' ]]
}

@test "an HTTP status of 400 or more is a failure" {
    serve 'pid 11' '!500'
    run -2 --separate-stderr "$spread" "http://$server/"
    [[ $stderr == \
        'reuse-spread: 150 of 300 requests failed: The requested URL returned error: 500'* ]]
    serve 'pid 11' 'pid 12' 'pid 13' '!404'
    run -2 --separate-stderr "$spread" "http://$server/"
    [[ $stderr == \
        'reuse-spread: 75 of 300 requests failed: The requested URL returned error: 404'* ]]
    serve 'pid 11' '!302'
    run -0 "$spread" --by '(.)' --expect 2 "http://$server/"
}

@test "--timeout ends a request that is not answered" {
    serve '!hang'
    run -2 --separate-stderr "$spread" --timeout 1 -c 2 "http://$server/"
    [[ $stderr == 'reuse-spread: 2 of 2 requests failed: Operation timed out after '[1-9][0-9][0-9][0-9]* ]]
}

@test "a curl that breaks off is told" {
    put_before curl 'echo "curl: out of order" >&2' 'exit 27'
    run -2 --separate-stderr "$spread" http://127.0.0.1/
    [[ $stderr == 'reuse-spread: curl ended after 0 of 300 requests: curl: out of order' ]]
}

@test "a missing curl is told" {
    run -2 env PATH="$PWD/bin" "$BASH" "$spread" http://127.0.0.1/
    [[ $output == 'reuse-spread: curl is not installed'* ]]
}

@test "a missing temporary directory is told" {
    TMPDIR=$PWD/missing run -2 "$spread" http://127.0.0.1/
    [[ $output == *'reuse-spread: '*TMPDIR* ]]
}

@test "an awk that fails is no verdict" {
    serve 'pid 11' 'pid 12'
    put_before awk 'exit 1'
    run -2 "$spread" "http://$server/"
}

# The command line.

@test "options take their value in every usual spelling, before and after the URL" {
    serve 'pid 11' 'pid 12'
    local options
    for options in '-c 8' '-c8' '--connections 8' '--connections=8' '-c 08'; do
        # shellcheck disable=SC2086
        run -0 "$spread" $options "http://$server/" --tsv
        [[ ${lines[0]} == $'copy\t11\t4\t0.5000' ]]
    done
    for options in '-j 2' '-j2' '--parallel 2' '--parallel=2' '--expect 2' '--expect=2' \
        '--timeout 9' '--timeout=9' '--by pid.(.*)' '--by=pid.(.*)' '--'; do
        # shellcheck disable=SC2086
        run -0 "$spread" -c 8 --tsv $options "http://$server/"
        [[ ${lines[0]} == $'copy\t11\t4\t0.5000' ]]
    done
}

@test "a wrong command line is answered with the wrong thing and the way out, and status 2" {
    wrong() {
        local complaint=$1
        shift
        run -2 --separate-stderr "$spread" "$@"
        [[ -z $output && $stderr == "reuse-spread: $complaint. Try 'reuse-spread --help'." ]]
    }
    local url=http://127.0.0.1/ value
    wrong 'no URL given'
    wrong 'no URL given' ''
    wrong "one URL only: 'b' is too many" a b
    wrong "unknown option '-x'" -x "$url"
    wrong "unknown option '--conections=5'" --conections=5 "$url"
    wrong "unknown option '--tsv=yes'" --tsv=yes "$url"
    wrong "option '-c' requires an argument" "$url" -c
    wrong "option '--by' requires an argument" "$url" --by
    for value in 0 -1 1.5 abc '' ' 5' 1000001 99999999999999999999 0x10 '5;ls' 'a[$(ls)]'; do
        wrong "-c: '$value' is not a whole number from 1 to 1000000" -c "$value" "$url"
        wrong "--expect: '$value' is not a whole number from 1 to 1000000" --expect="$value" "$url"
        wrong "--timeout: '$value' is not a whole number from 1 to 86400" --timeout="$value" "$url"
    done
    wrong "--parallel: '301' is not a whole number from 1 to 300" --parallel 301 "$url"
    wrong "--by: '(' is not an extended regular expression" --by '(' "$url"
    wrong '--by: the regular expression is empty' --by '' "$url"
}

@test "--help goes to standard output and names every option" {
    run -0 --separate-stderr "$spread" --help
    [[ ${lines[0]} == 'Usage: reuse-spread [OPTIONS] URL' && -z $stderr ]]
    local option
    for option in connections parallel expect by timeout tsv help version; do
        [[ $output == *"--$option"* ]]
    done
}

@test "--version is the version that the Makefile gives" {
    local version
    version=$(sed -n 's/^VERSION = //p' "$root/Makefile")
    [[ -n $version ]]
    run -0 "$spread" --version
    [[ $output == "reuse-spread (libreuse) $version" ]]
}

@test "the manual page has no mistake that man finds, and every option of --help" {
    local page=$root/scripts/reuse-spread.1 option text
    command -v man || skip 'man is not installed'
    run -0 man --warnings -E UTF-8 -l -Tutf8 -Z "$page"
    [[ -z $(man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null) ]]
    text=$(MANWIDTH=200 man -l "$page" | sed $'s/.\b//g')
    for option in $("$spread" --help | grep --only-matching -e '--[a-z]*' | sort --unique); do
        [[ $text == *"$option"* ]]
    done
}

# The output.

@test "--tsv writes copies, statistic and verdict, each line beginning with what it is" {
    serve 'pid 11' 'pid 11' 'pid 12'
    run -1 "$spread" --tsv "http://$server/"
    [[ ${lines[0]} == $'copy\t11\t200\t0.6667' ]]
    [[ ${lines[1]} == $'copy\t12\t100\t0.3333' ]]
    [[ ${lines[2]} == $'chi-square\t33.33\t1\t7.76e-09' ]]
    [[ ${lines[3]} == $'verdict\tuneven' ]]
    ((${#lines[@]} == 4))
}

@test "--tsv has a word for each verdict" {
    serve 'pid 11' 'pid 12'
    run -0 "$spread" --tsv "http://$server/"
    [[ ${lines[-1]} == $'verdict\teven' ]]
    run -1 "$spread" --tsv --expect 3 "http://$server/"
    [[ ${lines[-1]} == $'verdict\tmissing' ]]
    run -1 "$spread" --tsv --expect 1 "http://$server/"
    [[ ${lines[-1]} == $'verdict\tsurplus' ]]
    run -1 "$spread" --tsv --by '(pid)' "http://$server/"
    [[ ${lines[-1]} == $'verdict\tsingle' ]]
}

@test "the longest line is 80 wide where there is no terminal" {
    serve 'pid 1' 'pid 1' 'pid 22'
    run -1 "$spread" "http://$server/"
    ((${#lines[0]} == 80))
    # The bars are as the counts: 63 characters for 200, 32 for 100.
    [[ ${lines[0]##* } == $(printf '█%.0s' {1..63}) ]]
    [[ ${lines[1]##* } == $(printf '█%.0s' {1..32}) ]]
}

@test "the longest line is as wide as the terminal" {
    serve 'pid 11' 'pid 12'
    local width
    for width in 40 132; do
        run -0 in_terminal "$width" "'$spread' http://$server/ 2>/dev/null"
        ((${#lines[0]} == width + 1)) # a carriage return ends it
    done
}

@test "a long name is cut so that a bar is seen, but not in --tsv" {
    local name
    name=$(printf 'x%.0s' {1..200})
    serve "$name" b
    run -0 "$spread" "http://$server/"
    ((${#lines[1]} == 80))
    [[ ${lines[1]} == xxxxx*x...\ *███ ]]
    run -0 "$spread" --tsv "http://$server/"
    [[ ${lines[1]} == $'copy\t'"$name"$'\t150'* ]]
}

@test "bars are of # where the locale has no blocks" {
    serve 'pid 11' 'pid 12'
    LC_ALL=C run -0 "$spread" "http://$server/"
    [[ ${lines[0]} =~ ^11\ +150\ +50\.0%\ +#+$ ]]
}

@test "colour is for terminals, and not with NO_COLOR or a dumb one" {
    serve 'pid 11' 'pid 12'
    run -0 in_terminal 80 "'$spread' http://$server/ 2>/dev/null"
    [[ $output == *$'\e[32mspread evenly over 2 copies\e[0m'* ]]
    run -1 in_terminal 80 "'$spread' --expect 3 http://$server/ 2>/dev/null"
    [[ $output == *$'\e[31mnot spread: only 2 of 3 copies answered\e[0m'* ]]
    NO_COLOR=1 run -0 in_terminal 80 "'$spread' http://$server/ 2>/dev/null"
    [[ $output != *$'\e'* ]]
    TERM=dumb run -0 in_terminal 80 "'$spread' http://$server/"
    [[ $output != *$'\e'* ]]
    run -0 "$spread" "http://$server/"
    [[ $output != *$'\e'* ]]
}

@test "progress is shown where standard error is a terminal, and erased" {
    serve 'pid 11' 'pid 12'
    run -0 in_terminal 80 "'$spread' http://$server/ >/dev/null"
    [[ $output == *$'\r\e[Kreuse-spread: 3 of 300\r\e[K'*$'reuse-spread: 300 of 300\r\e[K' ]]
    run -0 in_terminal 80 "'$spread' http://$server/ 2>progress"
    [[ $output != *' of 300'* && ! -s progress ]]
}

@test "with standard output closed there is the status and not a word" {
    serve 'pid 11' 'pid 12'
    run -0 --separate-stderr bash -c '"$@" >&-' bash "$spread" "http://$server/"
    [[ -z $output && -z $stderr ]]
    run -1 --separate-stderr bash -c '"$@" >&-' bash "$spread" --expect 3 "http://$server/"
    [[ -z $output && -z $stderr ]]
}

@test "with standard input and error closed too it works" {
    serve 'pid 11' 'pid 12'
    run -0 bash -c '"$@" <&- 2>&-' bash "$spread" --tsv "http://$server/"
    [[ ${lines[-1]} == $'verdict\teven' ]]
    run -0 bash -c '"$@" <&- >&- 2>&-' bash "$spread" "http://$server/"
}

@test "a reader that went away ends it without a word" {
    serve 'pid 11' 'pid 12'
    run --separate-stderr bash -c '"$@" | true; exit ${PIPESTATUS[0]}' \
        bash "$spread" "http://$server/"
    ((status == 141)) # SIGPIPE
    [[ -z $stderr ]]
    [[ -z $(ls -A "$TMPDIR") ]]
}

@test "a result that cannot be written is no verdict" {
    serve 'pid 11' 'pid 12'
    run -2 --separate-stderr bash -c '"$@" >/dev/full' bash "$spread" "http://$server/"
    [[ $stderr == 'reuse-spread: cannot write to standard output' ]]
}

# What is left behind.

@test "nothing is left in the temporary directory, whatever the outcome" {
    serve 'pid 11' 'pid 12' '!500'
    run -2 "$spread" "http://$server/"
    run -2 "$spread" "http://127.0.0.1:8000/"
    serve 'pid 11' 'pid 12'
    run -0 "$spread" "http://$server/"
    [[ -z $(ls -A "$TMPDIR") ]]
}

@test "a signal ends it by that signal, and leaves no file and no process" {
    serve '!hang'
    local signal pid
    for signal in INT TERM HUP; do
        # Bash has commands in the background ignore SIGINT.
        start spread env --default-signal=INT "$spread" "http://$server/"
        eventually connections_are 20
        [[ -n $(ls -A "$TMPDIR") ]]
        running "$TMPDIR"
        kill -s "$signal" "$pid"
        status=0
        wait "$pid" || status=$?
        ((status == 128 + $(kill -l "$signal")))
        [[ -z $(ls -A "$TMPDIR") ]]
        run ! running "$TMPDIR"
        run ! running "http://$server/"
    done
}

@test "Ctrl-C ends it, erases the progress line, and leaves no file and no process" {
    serve 'pid 1' 'pid 1' 'pid 1' 'pid 1' '!hang'
    # SIGINT may be ignored here, as in whatever a shell runs in the background.
    # shellcheck disable=SC2094 # to be read while it is written is what the screen is for
    { eventually grep --quiet ' of 300' screen; printf '\003'; } 3>&- |
        script --quiet --return --flush /dev/null >screen 3>&- \
            --command "env --default-signal=INT '$spread' http://$server/" || true
    [[ $(cat --show-nonprinting screen) == *' of 300'*'^M^[[K' ]]
    [[ -z $(ls -A "$TMPDIR") ]]
    run ! running "$TMPDIR"
    run ! running "http://$server/"
}
