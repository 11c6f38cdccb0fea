#!/usr/bin/env bats
# reuse-cgroup: whatever is bound in a cgroup is shared, by the kernel itself.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2154
load common
load cgroups

setup() {
    common_setup
    needs_cgroups
}

teardown() {
    remove_cgroups
    common_teardown
}

# refuses STATUS TEXT ARGUMENT...: whether reuse-cgroup ends so, with one line on stderr that has TEXT
# in it and nothing else.
refuses() {
    run "-$1" --separate-stderr "$reuse_cgroup" "${@:3}"
    echo "$stderr"
    [[ -z $output && ${#stderr_lines[@]} -eq 1 && $stderr == "reuse-cgroup: "*"$2"* ]]
}

# without_bpf ERROR COMMAND...: runs COMMAND where bpf(2) fails with that error number.
without_bpf() {
    local number
    number=$(awk '$2 == "__NR_bpf" { print $3 }' <(cpp -dM -include sys/syscall.h /dev/null))
    "$programs/deny" "$number" "$@"
}

# listed: what is on at the test's cgroups, each field with a blank behind.
listed() {
    "$reuse_cgroup" --tsv | grep "^$name" | sed "s/$name/CGROUP/g" | tr '\t' ' '
}

# --- on and off ---

@test "what is bound in the cgroup is shared, of TCP and UDP over IPv4 and IPv6" {
    "$reuse_cgroup" "$cgroup"
    for kind in tcp tcp6 udp udp6 udplite udplite6; do
        shares "$cgroup" "$kind" 8000
    done
    run -0 "$programs/bind-to" tcp 8000
    [[ $output == "8000 bound, SO_REUSEPORT 0" ]]
}

@test "what is bound below the cgroup is shared, whenever that was made" {
    mkdir "$cgroup/before"
    "$reuse_cgroup" "$cgroup"
    mkdir -p "$cgroup/after/below"
    shares "$cgroup/before" tcp 8000
    shares "$cgroup/after/below" udp6 8000
}

@test "a cgroup is named by path, from the mount on, by process or as one's own" {
    start sleep inside "$cgroup" sleep 100
    eventually grep --quiet "$pid" "$cgroup/cgroup.procs"
    for way in "$cgroup" "$name" "$name/" "./$name" self "$pid"; do
        (inside "$cgroup" "$reuse_cgroup" "$way")
        shares "$cgroup" tcp 8000
        (inside "$cgroup" "$reuse_cgroup" --remove "$way")
        leaves_out "$cgroup" tcp 8000
    done
}

@test "it is turned off, and what is bound then is not shared" {
    "$reuse_cgroup" "$name"
    start first inside "$cgroup" "$programs/bind-to" -w tcp 8000
    eventually grep --quiet bound first.log
    run -0 "$reuse_cgroup" --remove "$name"
    [[ -z $output ]]
    leaves_out "$cgroup" tcp 8001
    leaves_out "$cgroup" udp6 8001
    # What is bound stays as it is.
    run -0 "$programs/bind-to" -r tcp 8000
    [[ $output == "8000 bound, SO_REUSEPORT 1" ]]
    refuses 1 "it is not on for '$cgroup'" --remove "$name"
}

@test "turned on twice, the new list holds, and it is turned off at once" {
    "$reuse_cgroup" "$name"
    "$reuse_cgroup" --ports=8000 "$name"
    shares "$cgroup" tcp 8000
    leaves_out "$cgroup" tcp 8001
    leaves_out "$cgroup" udp6 8001
    "$reuse_cgroup" -p 8001/udp "$name"
    leaves_out "$cgroup" tcp 8000
    shares "$cgroup" udp6 8001
    "$reuse_cgroup" "$name"
    shares "$cgroup" tcp6 8000
    "$reuse_cgroup" --remove "$name"
    leaves_out "$cgroup" tcp6 8000
}

@test "no bind is missed while it is turned on again and again" {
    "$reuse_cgroup" "$name"
    start again bash -c 'while :; do "$1" --ports=7000-7010 "$2"; "$1" "$2"; done' _ "$reuse_cgroup" "$name"
    for round in {1..5}; do
        run -0 inside "$cgroup" "$programs/bind-in" threads
        [[ $output == "3200 bound, 3200 shared" ]]
    done
    alive "$pid"
}

@test "two that turn it on at once leave one program" {
    for round in {1..5}; do
        for port in {8000..8007}; do
            start "at-once-$port" "$reuse_cgroup" --ports="$port" "$name"
        done
        wait "${started[@]}"
        cat at-once-*.log
        [[ -z $(cat at-once-*.log) ]]
        listed | grep --line-regexp 'CGROUP 800[0-7] 0 root -'
        "$reuse_cgroup" --remove "$name"
        for port in {8000..8007}; do
            leaves_out "$cgroup" tcp "$port"
            leaves_out "$cgroup" tcp6 "$port"
        done
    done
}

@test "one that turns it on or off waits for another" {
    for arguments in "$name" "--remove $name"; do
        start holder flock --no-fork "$cgroup" sleep 100
        holder=$pid
        eventually grep --quiet "FLOCK .* $holder " /proc/locks
        before=$(listed || true)
        # shellcheck disable=SC2086 # words
        start waiting "$reuse_cgroup" $arguments
        eventually grep --quiet -- "-> FLOCK .* $pid " /proc/locks
        [[ $(listed || true) == "$before" ]]
        kill "$holder"
        wait "$pid"
        [[ $(listed || true) != "$before" ]]
    done
}

@test "it goes with the cgroup" {
    "$reuse_cgroup" "$name"
    rmdir "$cgroup"
    [[ -z $(listed) ]]
    mkdir "$cgroup"
    [[ -z $(listed) ]]
    leaves_out "$cgroup" tcp 8000
}

# --- with a program ---

@test "a program is run in the cgroup, which is made, by the same process and with nothing around it" {
    start program "$reuse_cgroup" "$name/new" -- "$programs/http-server" 8000
    eventually listening 1 8000
    [[ $(cat "$cgroup/new/cgroup.procs") == "$pid" ]]
    [[ $(readlink "/proc/$pid/exe") == "$programs/http-server" && -z $(pgrep --parent "$pid") ]]
    run ! grep --extended-regexp 'bpf|cgroup' <(find "/proc/$pid/fd" -type l -printf '%l\n')
    run -0 "$programs/bind-to" -r tcp 127.0.0.1:8000
    [[ $output == "127.0.0.1:8000 bound, SO_REUSEPORT 1" ]]
}

@test "the program gets its arguments, and its exit status is the tool's" {
    run -7 "$reuse_cgroup" --ports=80 "$name" -- sh -c 'echo "$@"; exit 7' _ --list -- self
    [[ $output == "--list -- self" ]]
    run -126 --separate-stderr "$reuse_cgroup" "$name" -- /
    [[ $stderr == "reuse-cgroup: cannot run '/': "* ]]
    run -127 --separate-stderr "$reuse_cgroup" "$name" -- ./nothing
    [[ $stderr == "reuse-cgroup: cannot run './nothing': No such file or directory" ]]
}

@test "a cgroup that can have no processes is told" {
    mkdir -p "$cgroup/threads/invalid"
    echo threaded >"$cgroup/threads/cgroup.type"
    refuses 125 "cannot go into '$cgroup/threads/invalid': Operation not supported; see cgroup.type" \
        "$name/threads/invalid" -- true
}

# --- who is there as well ---

@test "programs of others stay, and do what they did" {
    "$programs/other-hook" "$cgroup" 2
    refused_or() {
        run inside "$cgroup" "$programs/bind-to" tcp 7009 8000
        [[ ${lines[0]} == "7009 EPERM, SO_REUSEPORT "* && ${lines[1]} == "8000 bound, SO_REUSEPORT $1" ]]
    }
    refused_or 0
    "$reuse_cgroup" "$name"
    refused_or 1
    "$reuse_cgroup" --ports=8000 "$name"
    refused_or 1
    "$programs/other-hook" "$cgroup" 2
    "$reuse_cgroup" "$name"
    refused_or 1
    "$reuse_cgroup" --remove "$name"
    refused_or 0
    refuses 1 "it is not on" --remove "$name"
}

@test "where a program allows none beside it, or would be left out, that is told and left so" {
    for flags in 0 1; do
        other=$cgroup/$flags
        mkdir -p "$other/below"
        "$programs/other-hook" "$other" "$flags"
        for one in "$other" "$other/below"; do
            refuses 125 "cannot turn it on for '$one': a program that is attached to '$other' allows none" "$one"
            run -0 inside "$one" "$programs/bind-to" tcp 7009 8000
            [[ $output == $'7009 EPERM, SO_REUSEPORT 0\n8000 bound, SO_REUSEPORT 0' ]]
        done
    done
    # One that allows others in between has the last word.
    mkdir "$other/below/below"
    "$programs/other-hook" "$other/below" 2
    "$reuse_cgroup" "$other/below/below"
    shares "$other/below/below" tcp 8000
}

@test "a cgroup that has as many programs as there can be is told" {
    "$programs/other-hook" "$cgroup" 2 64
    refuses 125 "cannot turn it on for '$cgroup': Argument list too long; 64 programs" "$name"
    shares_none=$(listed)
    [[ -z $shares_none ]]
    leaves_out "$cgroup" tcp6 8000
}

# --- the table ---

@test "the table tells where it is on, for which ports, by whom, for how many, and what is above" {
    mkdir -p "$cgroup/off/on"
    start one inside "$cgroup" sleep 100
    start two inside "$cgroup/off/on" sleep 100
    eventually grep --quiet "$pid" "$cgroup/off/on/cgroup.procs"
    "$reuse_cgroup" "$name"
    "$reuse_cgroup" --ports='80,[::1]:53/udp' "$name/off/on"
    listed | diff - <(printf '%s\n' 'CGROUP all 2 root -' 'CGROUP/off/on 80,[::1]:53/udp 1 root CGROUP')
    mkdir "$cgroup/off/on/again"
    "$reuse_cgroup" --ports=81 "$name/off/on/again"
    [[ $(listed | tail -1) == "CGROUP/off/on/again 81 0 root CGROUP/off/on,CGROUP" ]]

    run -0 "$reuse_cgroup"
    [[ $("$reuse_cgroup" --list) == "$output" ]]
    run -0 grep --after-context=1 "^$name" <<<"$output"
    sed "s/$name/CGROUP/g; s/  */ /g" <<<"$output" | diff - <(
        printf '%s\n' 'CGROUP all 2 root' 'CGROUP/off/on 80,[::1]:53/udp 1 root' \
            ' and above: all by root at CGROUP' 'CGROUP/off/on/again 81 0 root' \
            ' and above: 80,[::1]:53/udp by root at CGROUP/off/on, all by root at CGROUP'
    )
}

# in_namespace SCRIPT: runs it where nothing but the test's cgroup and what is below it is to be seen.
in_namespace() {
    inside "$cgroup" unshare --cgroup --mount bash -euc \
        'umount "$0" && mount -t cgroup2 cgroup2 "$0" && '"$1" "$mount"
}

@test "where it is on nowhere, one line says so, and the status is 1" {
    run -1 --separate-stderr in_namespace "'$reuse_cgroup' --tsv"
    [[ -z $output && $stderr == "reuse-cgroup: it is on nowhere" ]]
}

@test "in a cgroup namespace self is what it is outside, and is no root" {
    run -0 in_namespace "'$reuse_cgroup' --ports=8000 self; '$reuse_cgroup' --tsv | tail -1 | cut -f 2-"
    [[ $output == $'8000\t'[0-9]*$'\troot\t-' ]]
    [[ $(listed) == "CGROUP 8000 0 root -" ]]
}

# --- what cannot be ---

@test "the root is refused, unless that is meant" {
    refuses 125 "'$mount' is the root of all cgroups, and so the whole machine; name one below" "$mount"
    refuses 125 "is the root of all cgroups" .
    refuses 125 "is the root of all cgroups" self -- true
    # Were it let, all tests of this machine would notice.
    run -125 --separate-stderr without_bpf 1 "$reuse_cgroup" --force "$mount"
    [[ $stderr == "reuse-cgroup: cannot look at '$mount': Operation not permitted; "* ]]
}

@test "what is no cgroup is told" {
    refuses 125 "no cgroup '$cgroup/none'; make it by mkdir" "$name/none"
    refuses 125 "cannot make '$cgroup/none/none': No such file" "$name/none/none" -- true
    refuses 125 "'/tmp' is no cgroup of version 2" /tmp
    refuses 125 "cannot open '$cgroup/cgroup.procs': Not a directory" "$cgroup/cgroup.procs"
    refuses 125 "no process 99999999" 99999999
    run -125 --separate-stderr unshare --mount bash -c 'umount "$1"; "$2" self' _ "$mount" "$reuse_cgroup"
    [[ $stderr == "reuse-cgroup: cgroup v2 is not mounted; mount -t cgroup2 "* ]]
    # A mount of a part of it.
    run -125 --separate-stderr unshare --mount bash -c 'mount --bind "$3" "$1"; "$2" self' _ \
        "$mount" "$reuse_cgroup" "$cgroup"
    [[ $stderr == "reuse-cgroup: cannot reach the cgroup of process self, '/', from here: "* ]]
}

@test "a lack of privileges is told, with those that it takes" {
    local takes
    takes="cannot look at '$cgroup': Operation not permitted; this takes CAP_BPF and CAP_NET_ADMIN, in the initial user namespace"
    public "$reuse_cgroup"
    for lack in 'setpriv --reuid=65534 --regid=65534 --clear-groups' 'unshare --user --map-root-user' \
        'setpriv --bounding-set=-all,+bpf'; do
        # shellcheck disable=SC2086 # words
        run -125 --separate-stderr $lack "$public/reuse-cgroup" "$name"
        echo "$lack: $stderr"
        [[ -z $output && $stderr == "reuse-cgroup: $takes"* ]]
    done
    run -125 --separate-stderr setpriv --bounding-set=-all,+net_admin "$reuse_cgroup" "$name"
    [[ $stderr == "reuse-cgroup: cannot turn it on for '$cgroup': Operation not permitted; this takes CAP_BPF "* ]]
}

@test "CAP_BPF and CAP_NET_ADMIN do where no program is; to tell programs apart takes CAP_SYS_ADMIN" {
    local two=(setpriv '--bounding-set=-all,+bpf,+net_admin')
    "${two[@]}" "$reuse_cgroup" --ports=8000 "$name"
    shares "$cgroup" tcp 8000
    for arguments in "$name" "--remove $name" --list; do
        # shellcheck disable=SC2086 # words
        run -125 --separate-stderr "${two[@]}" "$reuse_cgroup" $arguments
        echo "$stderr"
        [[ -z $output && $stderr == "reuse-cgroup: cannot "*": Operation not permitted; other programs are there, "*CAP_SYS_ADMIN* ]]
    done
}

@test "a kernel that lacks what it takes is told from one that forbids it" {
    run -125 --separate-stderr without_bpf 38 "$reuse_cgroup" "$name"
    [[ $stderr == *"Function not implemented; this kernel has no bpf(2), "*CONFIG_BPF_SYSCALL ]]
    run -125 --separate-stderr without_bpf 22 "$reuse_cgroup" "$name"
    [[ $stderr == *"Invalid argument; this kernel has no programs for the binds of a cgroup; it takes CONFIG_CGROUP_BPF" ]]
    run -125 --separate-stderr without_bpf 1 "$reuse_cgroup" "$name"
    [[ $stderr == *"Operation not permitted; this takes CAP_BPF and CAP_NET_ADMIN, "*"seccomp"* ]]
    run -125 --separate-stderr setarch --uname-2.6 "$reuse_cgroup" "$name"
    [[ $stderr == "reuse-cgroup: this kernel, Linux 2.6."*", is too old: it takes 5.13 or newer, "* ]]
    [[ -z $(listed) ]]
}

# is_as STATE: whether the cgroup is as it was before: off, or on for port 8000 alone.
is_as() {
    local kind
    for kind in tcp tcp6; do
        if [[ $1 == off ]]; then
            leaves_out "$cgroup" "$kind" 8000
        else
            shares "$cgroup" "$kind" 8000
        fi
        leaves_out "$cgroup" "$kind" 8001
    done
    [[ $(listed) == "$([[ $1 == off ]] || echo 'CGROUP 8000 0 root -')" ]]
}

@test "whatever call of bpf(2) fails, it is told, and all is as it was before" {
    command -v strace || skip "needs strace"
    for case in 'off --ports=8001' 'on --ports=8001' 'on --remove'; do
        read -r state option <<<"$case"
        [[ $state == off ]] || "$reuse_cgroup" --ports=8000 "$name"
        for ((failing = 1; failing < 40; failing++)); do
            status=0
            strace --quiet=all --output=trace --inject="bpf:error=ENOMEM:when=$failing" \
                "$reuse_cgroup" "$option" "$name" >said 2>message || status=$?
            grep --quiet INJECTED trace || break
            echo "$case, call $failing: status $status: $(<message)"
            [[ $status -eq 125 && ! -s said && $(wc -l <message) -eq 1 ]]
            grep --quiet "^reuse-cgroup: cannot .* '$mount.*': Cannot allocate memory; see bpf(2)$" message
            is_as "$state"
        done
        echo "$case: $failing calls"
        ((failing > 8 && failing < 40 && status == 0))
        "$reuse_cgroup" --remove "$name" || [[ $option == --remove ]]
    done
}

@test "out of descriptors, it is told, and all is as it was before" {
    local gave_up=0
    "$reuse_cgroup" --ports=8000 "$name"
    for limit in {4..16}; do
        status=0
        (
            exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- # what bats has open
            ulimit -n "$limit"
            exec "$reuse_cgroup" --ports=8001 "$name"
        ) >said 2>message || status=$?
        echo "$limit: status $status: $(<message)"
        ((status != 0)) || break
        [[ $status -eq 125 && ! -s said && $(wc -l <message) -eq 1 ]]
        grep --quiet '^reuse-cgroup: .*: Too many open files' message
        is_as on
        gave_up=$((gave_up + 1))
    done
    ((gave_up > 2 && status == 0))
}

@test "wrong usage is told, and nothing is turned on" {
    refuses 125 "--ports: '80x': a port is a number from 1 to 65535" --ports=80,80x "$name"
    for wrong in "$name $name" "$name true" "--list $name" "--remove $name -- true" "--remove" "--ports=80" \
        "--nothing" "$name --"; do
        # shellcheck disable=SC2086 # words
        run -125 --separate-stderr "$reuse_cgroup" $wrong
        echo "$wrong: $stderr"
        [[ -z $output && ${stderr_lines[0]} == "reuse-cgroup: "* ]]
        [[ ${stderr_lines[1]} == "Try 'reuse-cgroup --help' for more information." ]]
    done
    [[ -z $(listed) ]]
}

@test "the manual's units are what systemd takes" {
    command -v systemd-analyze || skip "needs systemd-analyze"
    local manual=$root/shim/cgroup/reuse-cgroup.8
    # unit FIRST: the example that begins with this line.
    unit() {
        sed -n "/^$1\$/,/^\.EE\$/p" "$manual" | sed "/^\.EE\$/d; s,\\\\-,-,g; s,/usr/local/bin,$build,"
    }
    unit '\[Unit\]' >shared-ports.service
    printf '[Service]\nType=notify\nUser=daemon\nExecStart=%s 8080\n' "$programs/http-server" >legacy@.service
    mkdir legacy@.service.d
    unit '\[Service\]' | sed '/^Type=/,$d' >legacy@.service.d/override.conf
    grep --quiet --line-regexp "ExecStartPre=+$build/reuse-cgroup --ports=8080 self" legacy@.service.d/override.conf
    grep --quiet --line-regexp "ExecStart=$build/reuse-cgroup shared.slice" shared-ports.service
    run -0 systemd-analyze verify ./shared-ports.service ./legacy@1.service
    [[ $output == '' ]]
}

@test "--help and --version are as they should be" {
    run -0 "$reuse_cgroup" --help
    [[ ${lines[0]} == "Usage: reuse-cgroup "* && $output == *--ports=LIST*--remove* ]]
    run -0 "$reuse_cgroup" --version
    [[ $output == "reuse-cgroup (libreuse) "* ]]
    run -125 --separate-stderr bash -c '"$1" --help >/dev/full' _ "$reuse_cgroup"
    [[ $stderr == "reuse-cgroup: cannot write: No space left on device" ]]
}
