#!/usr/bin/env bats
# Bash completion of the tools' command lines.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2030,SC2031,SC2154
load common

setup() {
    common_setup
    PATH=$build:$root/scripts:$PATH
    # shellcheck disable=SC1091 # linted by itself
    . "$root/scripts/completion.bash"
}

teardown() {
    common_teardown
}

# completes TO WORD...: whether the last WORD of the command line is completed to the words TO.
completes() {
    COMP_WORDS=("${@:2}")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _libreuse "$2" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    echo "$*: ${COMPREPLY[*]}"
    [[ ${COMPREPLY[*]} == "$1" ]]
}

@test "options are those that --help has, with = where a value follows" {
    completes '--stop= --signal=' reuse-launch --s
    completes '--preload' reuse-run --pre
    completes '--tsv' reuse-group --t
    completes '--remove' reuse-cgroup --rem
    completes '--expect=' reuse-spread --e
    for tool in reuse-run reuse-launch reuse-cgroup reuse-group reuse-spread; do
        completes '--version' "$tool" --vers
    done
}

@test "values are signals and files" {
    completes 'SIGUSR1 SIGUSR2' reuse-launch --signal US
    completes 'SIGUSR1 SIGUSR2' reuse-launch --signal = SIGUS
    touch 'a-pid-file'
    completes a-pid-file reuse-launch --pid-file = a-p
    completes '' reuse-launch --copies = 1
}

@test "programs are commands, and what follows them is theirs" {
    touch serverconf
    completes basename reuse-run basenam
    completes basename reuse-launch -n 3 --signal TERM --copies = 2 -- basenam
    completes serverconf reuse-launch --prefix basename -x serverc
    completes '' reuse-launch basename --pre
    completes basename reuse-cgroup demo -- basenam
    completes serverconf reuse-cgroup --ports = 80 demo -- basename serverc
}

@test "cgroups are those that there are, or one's own" {
    findmnt --types cgroup2 || skip "needs cgroup v2"
    completes self reuse-cgroup sel
    completes self reuse-cgroup --ports = 80 sel
    completes '' reuse-cgroup self sel
    completes '' reuse-cgroup --remove sel
}

@test "ports are those that are shared" {
    start shared with_shim "$programs/http-server" 8765
    eventually listening 1 8765
    completes 8765/tcp reuse-group 87
}
