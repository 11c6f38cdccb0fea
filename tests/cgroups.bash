# What the tests of reuse-cgroup share.  A file loads it after common.bash.
# shellcheck disable=SC2034,SC2154 # the variables are for the tests, or from common.bash

# needs_cgroups: skips a test where no program can be attached to a cgroup of version 2; else makes a
# cgroup for it: $cgroup, which is $name below $mount.
needs_cgroups() {
    reuse_cgroup=$build/reuse-cgroup
    needs_root
    [[ -x $reuse_cgroup ]] || skip "needs the kernel headers of Linux 5.10"
    mount=$(findmnt --first-only --noheadings --output TARGET --types cgroup2) ||
        skip "needs cgroup v2"
    local status=0
    cgroup=$(mktemp --directory "$mount/libreuse.XXXXXX")
    "$programs/other-hook" "$cgroup" 2 || status=$?
    rmdir "$cgroup"
    [[ $status -ne 77 ]] || skip "needs the permission to attach programs to a cgroup"
    mkdir "$cgroup"
    name=${cgroup##*/}
}

# remove_cgroups: ends what is in the test's cgroups, and removes them.
remove_cgroups() {
    [[ -n ${cgroup-} && -d $cgroup ]] || return 0
    find "$cgroup" -type d -exec sh -c 'for pid in $(cat "$1/cgroup.procs"); do kill -KILL "$pid"; done' _ {} \; \
        2>/dev/null || true
    eventually removed
}

removed() {
    find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null
    [[ ! -d $cgroup ]]
}

# inside CGROUP COMMAND...: runs COMMAND in that cgroup, in this process's place.  For start.
inside() {
    echo 0 >"$1/cgroup.procs"
    exec "${@:2}"
}

# shares CGROUP KIND ADDRESS, leaves_out CGROUP KIND ADDRESS: what comes of a bind in that cgroup.
shares() {
    run inside "$1" "$programs/bind-to" "${@:2}"
    echo "$*: $output"
    [[ $output == "${*: -1} bound, SO_REUSEPORT 1" ]]
}

leaves_out() {
    run inside "$1" "$programs/bind-to" "${@:2}"
    echo "$*: $output"
    [[ $output == "${*: -1} bound, SO_REUSEPORT 0" ]]
}
