#!/usr/bin/env bats
# scripts/setup, with package managers that are not real.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2030,SC2031,SC2154
load common

setup() {
    common_setup
    needs_root
    # Every command of this machine but the package managers, socat, and sudo.
    mkdir commands
    for folder in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin; do
        find "$folder" -maxdepth 1 -not -type d -exec ln --symbolic --force --target-directory=commands {} +
    done
    rm --force commands/{apt-get,dnf,pacman,socat,sudo}
    real_path=$PATH
    setup=$root/scripts/setup
}

teardown() {
    PATH=${real_path-$PATH}
    common_teardown
}

# setup_with PATH ARGUMENT...: runs scripts/setup where only the commands in PATH are to be found.
setup_with() {
    local policy_before
    policy_before=$(ls /usr/sbin/policy-rc.d 2>&1 || true)
    run env PATH="$1" "$setup" "${@:2}"
    [[ $(ls /usr/sbin/policy-rc.d 2>&1 || true) == "$policy_before" ]]
}

# manager NAME SCRIPT: a package manager that writes its arguments to NAME.log and runs SCRIPT.
manager() {
    printf '#!/bin/sh\necho "$@" >>%s/%s.log\n%s\n' "$PWD" "$1" "$2" >"commands/$1"
    chmod +x "commands/$1"
}

@test "setup installs what is missing, and that alone" {
    manager apt-get "case \$* in *socat) cp $(command -v socat) $PWD/commands ;; esac"
    setup_with "$PWD/commands"
    [[ $status -eq 0 ]]
    [[ ${lines[0]} == "setup: installing with apt-get: socat" && ${lines[-1]} == "setup: done" ]]
    [[ $(tail -n 1 apt-get.log) == *"install"*" socat" ]]
}

@test "setup does nothing when all is there" {
    manager apt-get
    setup_with "$PWD/commands:$(dirname "$(command -v socat)")"
    [[ $status -eq 0 && $output == "setup: everything needed is there" && ! -e apt-get.log ]]
}

@test "setup knows dnf and pacman" {
    for name in dnf pacman; do
        manager "$name" "cp $(command -v socat) $PWD/commands"
        setup_with "$PWD/commands"
        rm "commands/$name" commands/socat
        [[ $status -eq 0 && $(<"$name.log") == *" socat" ]]
    done
}

@test "setup installs what the measurements need when asked to, and only then" {
    # A copy that does not look into /usr/sbin, where haproxy may be.
    mkdir --parents tree/scripts tree/build/tests/static
    touch tree/build/tests/static/busybox
    sed '/^PATH=/d' "$setup" >tree/scripts/setup
    chmod +x tree/scripts/setup
    setup=$PWD/tree/scripts/setup
    rm --force commands/haproxy
    manager apt-get "case \$* in *install*) for tool in socat haproxy; do
        [ -e $PWD/commands/\$tool ] || cp $(type -P true) $PWD/commands/\$tool; done ;; esac"
    setup_with "$PWD/commands" --bench
    [[ $status -eq 0 && $(tail -n 1 apt-get.log) == *"install"*" socat haproxy" ]]
    rm commands/{socat,haproxy}
    setup_with "$PWD/commands"
    [[ $status -eq 0 && $(tail -n 1 apt-get.log) == *"install"*" socat" ]]
}

@test "setup fails when the package manager does" {
    manager apt-get 'exit 100'
    setup_with "$PWD/commands"
    [[ $status -ne 0 && $output != *done* ]]
}

@test "setup fails when a package does not bring what it should" {
    manager apt-get
    setup_with "$PWD/commands"
    [[ $status -eq 1 && ${lines[-1]} == "setup: socat is still missing after the install" ]]
}

@test "setup names what is missing where it knows no package manager" {
    setup_with "$PWD/commands"
    [[ $status -eq 1 ]]
    [[ $output == "setup: no package manager that it knows (apt-get dnf pacman); install: socat" ]]
}

@test "setup says that it takes root, where there is no sudo" {
    manager apt-get
    unshare --user true || skip "needs user namespaces"
    run unshare --user env PATH="$PWD/commands" "$root/scripts/setup"
    [[ $status -eq 1 && $output == *"setup: takes root: run it as root, or install sudo" ]]
}

@test "setup refuses an option that it does not know" {
    setup_with "$PWD/commands" --everything
    [[ $status -eq 1 && $output == "setup: --everything: no such option; try 'scripts/setup --help'" ]]
}
