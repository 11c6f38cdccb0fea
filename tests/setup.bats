#!/usr/bin/env bats
# scripts/setup, with package managers that are not real, where what it writes to the system's
# folders is written over them and gone with the test.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2030,SC2031,SC2154
load common

setup() {
    common_setup
    needs_root
    # shellcheck disable=SC2016 # the shell inside expands it
    start system unshare --mount bash -euc '
        mount -t tmpfs tmpfs /mnt
        for folder in /etc /usr /var; do
            mkdir --parents "/mnt/upper$folder" "/mnt/work$folder"
            mount -t overlay -o "lowerdir=$folder,upperdir=/mnt/upper$folder,workdir=/mnt/work$folder" \
                overlay "$folder"
        done
        echo ready
        exec sleep infinity'
    system=$pid
    eventually grep --quiet ready system.log || skip "no overlay file system: $(<system.log)"
    on_system rm --force /usr/sbin/{policy-rc.d,nginx,haproxy,debootstrap}
    on_system install -D "$programs/static/http-server" /var/cache/libreuse/busybox
    services >at-boot
    gather_commands
}

# Puts into commands/ every command of this machine but the package managers and sudo, and what
# scripts/setup asks for besides: there, nothing is missing.
gather_commands() {
    mkdir commands tmp
    for folder in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin; do
        find "$folder" -maxdepth 1 -not -type d \
            -exec ln --symbolic --force --target-directory=commands {} +
    done
    rm --force commands/{apt-get,dnf,pacman,zypper,apk,sudo}
    local name
    while read -r name; do
        on_system test -x "commands/$name" || ln --symbolic --force "$(type -P true)" "commands/$name"
    done < <(awk '/^(build|tests|lint|bench)/ && $2 !~ /[/.]/ { print $2 }' "$root/scripts/setup")
}

teardown() {
    common_teardown
}

# on_system COMMAND...: runs COMMAND on that system.
on_system() {
    nsenter --target "$system" --mount --wd="$PWD" "$@"
}

# services: prints what that system starts when it boots.
services() {
    on_system find /etc/systemd/system /etc/systemd/user -type l
    on_system find /etc/ -path '/etc/rc?.d/S*'
}

# setup_with [OPTION...]: runs scripts/setup there, where only what is in commands/ is to be found.
# However it ends, it leaves no temporary folder behind, no policy and no service.
setup_with() {
    run on_system env PATH="$PWD/commands" TMPDIR="$PWD/tmp" "$root/scripts/setup" "$@"
    [[ -z $(ls --almost-all tmp) ]]
    [[ $(on_system ls /usr/sbin/policy-rc.d* 2>&1) == *"No such file"* ]]
    diff at-boot <(services)
}

# without NAME...: takes commands away.
without() {
    rm --force "${@/#/commands/}"
}

# manager NAME [SCRIPT]: a package manager that writes its arguments to NAME.log and runs SCRIPT, in
# which brings NAME... puts the commands NAME there.
manager() {
    cat >"commands/$1" <<END
#!/bin/sh
echo "\$*" >>'$PWD/$1.log'
brings() {
    for name; do
        printf '#!/bin/sh\n' >'$PWD'/commands/\$name
        chmod +x '$PWD'/commands/\$name
    done
}
${2-}
END
    chmod +x "commands/$1"
}

# A script for a manager that brings what it is asked for.
# shellcheck disable=SC2016 # it expands it
brings='for name; do case $name in curl|make|socat|haproxy|shellcheck) brings $name ;; esac; done'

@test "setup does nothing when all is there, whatever it is for" {
    manager apt-get
    setup_with --tests --lint --bench
    [[ $status -eq 0 && $output == "setup: everything needed is there" && ! -e apt-get.log ]]
}

@test "setup installs what building and the demo need, and the rest only when asked to" {
    manager apt-get "$brings"
    for options in '' --lint --bench --tests '--tests --lint --bench'; do
        without curl socat shellcheck haproxy
        rm --force apt-get.log
        # shellcheck disable=SC2086 # several
        setup_with $options
        [[ $status -eq 0 && ${lines[-1]} == "setup: done" ]]
        local wanted="curl"
        [[ $options != *bench* ]] || wanted+=" haproxy"
        [[ $options != *lint* ]] || wanted+=" shellcheck"
        [[ $options != *tests* ]] || wanted+=" socat"
        echo "$options: $wanted"
        [[ ${lines[0]} == "setup: installing with apt-get: $wanted" ]]
        [[ $(tail -n 1 apt-get.log) == "install "*" $wanted" ]]
    done
}

@test "setup knows five package managers, and what they call a package" {
    without curl ss
    local known=(
        'apt-get install -qq --yes --no-install-recommends curl iproute2'
        'dnf install --assumeyes curl iproute'
        'pacman --sync --refresh --needed --noconfirm curl iproute2'
        'zypper --non-interactive install --no-recommends curl iproute2'
        'apk add --update-cache curl iproute2'
    )
    local name arguments
    for line in "${known[@]}"; do
        read -r name arguments <<<"$line"
        manager "$name" 'brings curl ss'
        setup_with
        without "$name" curl ss
        [[ $status -eq 0 && $(tail -n 1 "$name.log") == "$arguments" ]]
    done
}

@test "setup runs where there is no bash, and brings it" {
    without bash
    manager apk 'brings bash'
    mkdir shell
    for name in sh env; do
        ln --symbolic "$(type -P busybox)" "shell/$name"
    done
    run on_system env PATH="$PWD/commands" "$PWD/shell/sh" "$root/scripts/setup"
    [[ $status -eq 0 && ${lines[0]} == "setup: installing with apk: bash" ]]
}

@test "a package that cannot be had is named, and costs only itself" {
    without curl socat make
    manager apt-get "case \$* in *socat*) exit 100 ;; esac; $brings"
    setup_with --tests
    [[ $status -eq 1 && -e commands/curl && -e commands/make ]]
    [[ $output == *"setup: socat: cannot be installed"* && $output != *done* ]]
    [[ ${lines[-1]} == "setup: socat is still missing (package socat)" ]]
}

@test "setup succeeds without what some tests are skipped for, and names it" {
    without curl man
    manager apt-get "case \$* in *man-db*) exit 100 ;; esac; $brings"
    setup_with --tests
    [[ $status -eq 0 && -e commands/curl ]]
    [[ ${lines[-2]} == "setup: without man (package man-db), some tests are skipped" ]]
}

@test "setup fails when a package does not bring what it should" {
    without curl
    manager apt-get
    setup_with
    [[ $status -eq 1 && ${lines[-1]} == "setup: curl is still missing (package curl)" ]]
}

@test "setup installs what it can where the lists of packages cannot be fetched" {
    without curl
    manager apt-get "case \$* in update*) exit 100 ;; esac; brings curl"
    setup_with
    [[ $status -eq 0 && -e commands/curl ]]
}

@test "setup names what is missing where it knows no package manager" {
    without curl make
    setup_with
    [[ $status -eq 1 ]]
    [[ $output == "setup: no package manager that it knows; install: make curl" ]]
}

# A script for apt-get that installs services as Debian's packages do, for systemd and the other
# init, and starts one if it may.
service='
brings curl
/usr/sbin/policy-rc.d libreuse-test start || echo "policy: $?"
printf "[Install]\nWantedBy=multi-user.target\nAlias=libreuse-alias.service\n" \
    >/usr/lib/systemd/system/libreuse-unit.service
DPKG_MAINTSCRIPT_PACKAGE=test deb-systemd-helper enable libreuse-unit.service
printf "#!/bin/sh\n### BEGIN INIT INFO\n# Provides: libreuse-init\n# Default-Start: 2 3 4 5\n### END INIT INFO\n" \
    >/etc/init.d/libreuse-init
chmod +x /etc/init.d/libreuse-init
update-rc.d libreuse-init defaults
find /etc/systemd/system/multi-user.target.wants /etc/rc3.d -name "*libreuse-*"'

@test "setup starts no service that Debian would start, and leaves none enabled" {
    command -v deb-systemd-helper update-rc.d || skip "not on Debian"
    without curl
    manager apt-get "[ \$1 = update ] || { $service; }"
    setup_with
    echo "$output"
    [[ $status -eq 0 && $output == *"policy: 101"* ]]
    # It was enabled meanwhile.
    [[ $output == *multi-user.target.wants/libreuse-unit.service* && $output == *rc3.d/S*libreuse-init* ]]
}

@test "setup puts back the policy for services that it finds" {
    without curl
    manager apt-get "/usr/sbin/policy-rc.d libreuse-test start || echo \"policy: \$?\"; brings curl"
    for answer in 0 101; do
        printf '#!/bin/sh\nexit %s\n' "$answer" >policy
        on_system install policy /usr/sbin/policy-rc.d
        run on_system env PATH="$PWD/commands" "$root/scripts/setup"
        without curl
        [[ $status -eq 0 && $output == *"policy: 101"* && $output != *"policy: 0"* ]]
        on_system cmp policy /usr/sbin/policy-rc.d
        [[ $(on_system find /usr/sbin -name 'policy-rc.d*') == /usr/sbin/policy-rc.d ]]
    done
}

@test "setup leaves nothing behind when it is interrupted" {
    without curl
    manager apt-get "[ \$1 = update ] || kill -TERM \$PPID"
    setup_with
    [[ $status -eq 143 ]]
}

@test "setup unpacks a static busybox where Debian has only room for one that is not" {
    command -v dpkg-deb || skip "not on Debian"
    for folder in bin usr/bin; do
        on_system rm --recursive /var/cache/libreuse
        mkdir --parents "$folder/package/DEBIAN" "$folder/package/$folder"
        cp "$programs/static/http-server" "$folder/package/$folder/busybox"
        printf 'Package: busybox-static\nVersion: 1\nArchitecture: all\nMaintainer: none\nDescription: none\n' \
            >"$folder/package/DEBIAN/control"
        dpkg-deb --build "$folder/package" "$folder/busybox-static_1_all.deb"
        manager apt-get "[ \$1 = update ] || cp '$PWD/$folder/busybox-static_1_all.deb' ."
        setup_with --tests
        [[ $status -eq 0 && ${lines[-1]} == "setup: done" ]]
        on_system cmp "$programs/static/http-server" /var/cache/libreuse/busybox
        rm apt-get.log
        setup_with --tests
        [[ $status -eq 0 && $output == "setup: everything needed is there" && ! -e apt-get.log ]]
    done
}

@test "setup does without a static busybox where that cannot be had" {
    on_system rm --recursive /var/cache/libreuse
    manager apt-get 'exit 100'
    setup_with --tests
    [[ $status -eq 0 && $output == *"without static-busybox (package busybox-static), some tests are skipped"* ]]
}

@test "setup says that it takes root, where there is no sudo" {
    without curl
    manager apt-get
    unshare --user true || skip "needs user namespaces"
    run unshare --user env PATH="$PWD/commands" "$root/scripts/setup"
    [[ $status -eq 1 && $output == *"setup: takes root: run it as root, or install sudo" ]]
}

@test "setup refuses an option that it does not know" {
    setup_with --everything
    [[ $status -eq 1 && $output == "setup: --everything: no such option; try 'scripts/setup --help'" ]]
}
