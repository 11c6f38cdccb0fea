#!/usr/bin/env bats
# Which way reuse-run takes, for which program, and what it says of it.

# The variables come from common.bash and bats; each test is a subshell.
# shellcheck disable=SC2154
load common

setup() {
    common_setup
    reuse_run=$build/reuse-run
}

teardown() {
    common_teardown
}

# --- beside other libraries

@test "another preloaded library whose bind reads its address meets the program's binds only" {
    export LD_PRELOAD=$programs/libother-bind.so
    run -0 "$reuse_run" "$programs/bind-to" tcp 8000
    [[ ${#lines[@]} -eq 2 && ${lines[0]} == 'other bind, family 2, '*'SO_REUSEPORT 1' ]]
    run -0 "$reuse_run" --watch "$programs/bind-to" tcp 8000
    [[ ${#lines[@]} -eq 2 && ${lines[1]} == *'8000 bound, SO_REUSEPORT 1' ]]
}

# --- Go

# way_of PROGRAM [ARG]...: what -v says of it, which is run with arguments that end it.
way_of() {
    "$reuse_run" -v "$@" 2>&1 >/dev/null | sed -n 's/^reuse-run: [^:]*: //p'
}

@test "a Go program that gcc linked is known by its note, and by its build information wherever that lies" {
    local object offset odd=0 even=0
    echo '__attribute__((constructor)) static void nothing(void) {}' >start.c
    gcc -c start.c
    # Each constructor is a pointer, 8 bytes, before the data: which begins at a multiple of 16 or not.
    for object in '' "$PWD/start.o"; do
        GOFLAGS=-mod=mod GOCACHE=$build/go CGO_ENABLED=1 go build -o go-now \
            -ldflags="-linkmode=external -extldflags '-Wl,-z,now $object'" \
            "$root/tests/programs/go-server.go"
        objcopy --remove-section=.note.go.buildid go-now no-note
        objcopy --remove-section=.go.buildinfo go-now no-build
        offset=$(readelf --program-headers --wide go-now | awk '/LOAD .* RW / { print $2 }')
        ((offset % 16)) && odd=1 || even=1
        for program in go-now no-note no-build; do
            [[ $(way_of "./$program" nonsense) == 'watched, written in Go'* ]]
        done
    done
    [[ $odd -eq 1 && $even -eq 1 ]]
}

@test "whatever a program file says of itself, nothing is read beyond its end" {
    echo 'int main(void) { return 0; }' >main.c
    echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' >probe.c
    clang -fsanitize=fuzzer,address,undefined probe.c -o probe >&2 || skip "clang makes no fuzzers"
    clang -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
        "$root"/tests/fuzz/elf.c "$root"/shim/run/elf_file.c -o fuzz
    mkdir files
    gcc -s -Wl,-z,noseparate-code -o files/one main.c
    gcc -m32 -s -Wl,-z,noseparate-code -o files/two main.c >&2 || true
    run -0 ./fuzz -seed="${SEED:-1}" -runs="$(times 5000 1000000)" -max_len=20000 \
        -print_final_stats=1 files
    [[ $output =~ stat::new_units_added:\ +([0-9]+) && ${BASH_REMATCH[1]} -gt 20 ]]
}

# --- wrappers

@test "a static program behind another that runs it is watched, and -v says why" {
    local wrapper wrappers=(nice 'env A=1' 'timeout 9' setsid 'taskset --all-tasks 1'
        'nice env setpriv --no-new-privs')
    ! type -P tini >&2 || wrappers+=('tini -s --')
    ! type -P dumb-init >&2 || wrappers+=('dumb-init --')
    for wrapper in "${wrappers[@]}"; do
        # shellcheck disable=SC2086 # several words
        run -0 "$reuse_run" -v $wrapper "$programs/static/bind-to" tcp 8000
        [[ $output == "reuse-run: ${wrapper%% *}: watched, static: $programs/static/bind-to"* ]]
        [[ $output == *'8000 bound, SO_REUSEPORT 1' ]]
        # A dynamic one is reached as ever.
        # shellcheck disable=SC2086
        run -0 "$reuse_run" -v $wrapper "$programs/bind-to" tcp 8000
        [[ $output == "reuse-run: ${wrapper%% *}: preloaded with "*'8000 bound, SO_REUSEPORT 1' ]]
    done
}

@test "a program behind another is found in PATH, by a script's interpreter, and is known as Go" {
    cp "$programs/static/bind-to" interpreter
    printf '#!%s\n' "$PWD/interpreter" >script
    chmod +x script
    PATH=$PWD:$PATH run "$reuse_run" -v nice interpreter
    [[ $output == *": watched, static: $PWD/interpreter"* ]]
    run "$reuse_run" -v nice ./script
    [[ $output == *": watched, static: $PWD/interpreter"* ]]
    [[ $(way_of nice "$programs/go-dynamic" nonsense) == 'watched, written in Go'* ]]
}

@test "what lies below another root is watched, as the library may not be there" {
    needs_root
    mkdir root
    cp "$programs/static/bind-to" root
    run -0 "$reuse_run" -v chroot root /bind-to tcp 8000
    [[ $output == *': watched, runs a program below another root'*'8000 bound, SO_REUSEPORT 1' ]]
}

@test "a 32-bit program behind a 64-bit one is watched: one library is not for both" {
    needs_m32
    run -0 "$reuse_run" -v nice "$build/tests32/bind-to" tcp 8000
    [[ $output == *': watched, of another kind of machine'*'8000 bound, SO_REUSEPORT 1' ]]
}

@test "arguments that are no programs decide nothing: folders, libraries, objects, FIFOs" {
    echo 'int main(void) { return 0; }' >main.c
    gcc -c main.c
    gcc -shared -nostdlib -Wl,-soname,main.so -o main.so main.o
    mkfifo fifo
    chmod +x main.o fifo
    cp "$programs/libother-bind.so" other.so
    [[ $(timeout 10 "$reuse_run" -v echo . "$PWD" ./main.o ./main.so ./other.so ./fifo '' 2>&1) == \
        *': preloaded with '* ]]
}

@test "what gains privileges behind another keeps them: nothing is watched on account of what it runs" {
    needs_root
    public "$reuse_run" "$shim" "$programs/static/bind-to" "$(type -P id)"
    chmod 4755 "$public/id"
    local no_rights=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    run "${no_rights[@]}" "$public/reuse-run" -v nice "$public/id" "$public/bind-to"
    [[ $output == *': preloaded with '* ]]
    run "${no_rights[@]}" "$public/reuse-run" -v nice "$public/bind-to" "$public/id"
    [[ $output == *': watched, static: '* ]]
}

@test "with --preload and --watch the arguments decide nothing" {
    [[ $(way_of --preload nice "$programs/static/bind-to") == "preloaded with "*/nice ]]
    [[ $(way_of --watch nice "$programs/static/bind-to") == "watched, asked for: "*/nice ]]
}

# --- AddressSanitizer

# needs_asan COMPILER [OPTION]...: builds bind-to as asan, its sanitizer in a library, or skips.
needs_asan() {
    "$@" -fsanitize=address -pthread -o asan "$root/tests/programs/bind-to.c" >&2 ||
        skip "$1 makes no such programs"
}

@test "a program that needs AddressSanitizer's library is watched, alone and behind another" {
    needs_asan gcc
    for wrapper in '' nice; do
        # shellcheck disable=SC2086 # none or one
        run -0 "$reuse_run" -v $wrapper ./asan tcp 8000
        [[ $output == *": watched, needs AddressSanitizer's library"*'8000 bound, SO_REUSEPORT 1' ]]
    done
}

@test "a program that needs clang's library of AddressSanitizer is watched" {
    local libraries
    libraries=$(dirname "$(clang -print-file-name=libclang_rt.asan-x86_64.so)")
    needs_asan clang -shared-libasan "-Wl,-rpath,$libraries"
    run -0 "$reuse_run" -v ./asan tcp 8000
    [[ $output == *": watched, needs AddressSanitizer's library"*'8000 bound, SO_REUSEPORT 1' ]]
}

@test "where AddressSanitizer's library is preloaded already, the program is watched" {
    needs_asan gcc
    LD_PRELOAD=$(gcc -print-file-name=libasan.so) \
        run -0 "$reuse_run" -v "$programs/bind-to" tcp 8000
    [[ $output == *": watched, AddressSanitizer's library, which LD_PRELOAD names"* ]]
    [[ $output == *'8000 bound, SO_REUSEPORT 1' ]]
}

# --- protocols that name a process

# names: prints what its environment says of the process that runs it.
names='import os
fd = os.pidfd_open(os.getpid())
numbers = {str(os.getpid()): "own", str(os.fstat(fd).st_ino): "own pidfd"}
for name in "LISTEN_PID", "LISTEN_PIDFDID", "WATCHDOG_PID", "SYSTEMD_EXEC_PID":
    value = os.environ.get(name, "none")
    print(name, numbers.get(value, value))'

@test "variables that name reuse-run name the program, whichever process that is" {
    for options in --preload --watch '--leave-nothing --preload' '--leave-nothing --watch'; do
        # LISTEN_PIDFDID is right for the first process only, where that becomes the program.
        [[ $options == --preload ]] && id=123 || id='own pidfd'
        # shellcheck disable=SC2086 # several options
        run -0 env -u WATCHDOG_PID bash -c 'export LISTEN_PID=$$ LISTEN_PIDFDID=123 SYSTEMD_EXEC_PID=$$
            exec "$@"' bash "$reuse_run" $options python3 -c "$names"
        [[ ${lines[*]} == "LISTEN_PID own LISTEN_PIDFDID $id WATCHDOG_PID none SYSTEMD_EXEC_PID own" ]]
        # shellcheck disable=SC2086
        run -0 env -u LISTEN_PID -u SYSTEMD_EXEC_PID bash -c 'export WATCHDOG_PID=$$
            exec "$@"' bash "$reuse_run" $options python3 -c "$names"
        [[ ${lines[*]} == *"LISTEN_PIDFDID none WATCHDOG_PID own SYSTEMD_EXEC_PID none" ]]
    done
}

@test "variables that name another process stay as they are" {
    LISTEN_PID=1 LISTEN_PIDFDID=2 WATCHDOG_PID=3 SYSTEMD_EXEC_PID=nonsense \
        run -0 "$reuse_run" --watch python3 -c "$names"
    [[ ${lines[*]} == 'LISTEN_PID 1 LISTEN_PIDFDID 2 WATCHDOG_PID 3 SYSTEMD_EXEC_PID nonsense' ]]
}

@test "a program that is watched takes over the sockets that systemd has for it" {
    type -P systemd-socket-activate >&2 || skip "needs systemd-socket-activate"
    cat >server.py <<'PYTHON'
import os, socket
assert os.environ["LISTEN_PID"] == str(os.getpid()) and os.environ["LISTEN_FDS"] == "1"
connection, client = socket.socket(fileno=3).accept()
connection.sendall(b"taken over\n")
PYTHON
    # At the port, which it closes first, TIME_WAIT stays.
    for options in --watch '--leave-nothing --watch'; do
        # shellcheck disable=SC2086 # several options
        start activated systemd-socket-activate -l 127.0.0.1:8001 "$reuse_run" $options \
            "$(type -P python3)" server.py
        eventually listening 1 8001
        [[ $(timeout 10 bash -c 'cat </dev/tcp/127.0.0.1/8001') == 'taken over' ]]
        wait "$pid"
    done
}

@test "what a watched program says to NOTIFY_SOCKET comes from below the process that was started" {
    cat >manager.py <<'PYTHON'
import os, socket, struct, subprocess, sys
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
manager.settimeout(10)
manager.bind("notify")

def parent(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(next(line for line in status if line.startswith("PPid:")).split()[1])

program = """import os, socket, sys
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
sys.stdin.read()"""
main = subprocess.Popen(sys.argv[1:] + ["python3", "-c", program], stdin=subprocess.PIPE,
                        env=dict(os.environ, NOTIFY_SOCKET="notify"))
message, control, flags, address = manager.recvmsg(100, 100)
sender = struct.unpack("iii", control[0][2])[0]
where = "itself"
while sender != main.pid:
    sender = parent(sender)
    where = "below it"
main.communicate()
print(message.decode(), where)
PYTHON
    [[ $(python3 manager.py "$reuse_run" --preload) == 'READY=1 itself' ]]
    rm notify
    [[ $(python3 manager.py "$reuse_run" --watch) == 'READY=1 below it' ]]
}

# --- what goes past a preload

# call_number NAME: the number of the system call NAME on this machine.
call_number() {
    echo "SYS_$1" | gcc -E -include sys/syscall.h -x c - | tail -1 | tr --delete '() '
}

@test "a bind past the C library's bind gets no line of LIBREUSE_LOG, and is shared when watched" {
    cat >library.c <<'C'
#include <sys/socket.h>
int bind_here(int fd, const struct sockaddr *address, socklen_t length) {
    return bind(fd, address, length);
}
C
    gcc -shared -fPIC -o library.so library.c
    cat >go-library.go <<'GO'
package main

import "C"
import "syscall"

//export go_bind
func go_bind(fd, port C.int) C.int {
	if syscall.Bind(int(fd), &syscall.SockaddrInet4{Port: int(port)}) != nil {
		return -1
	}
	return 0
}

func main() {}
GO
    GOFLAGS=-mod=mod GOCACHE=$build/go CGO_ENABLED=1 \
        go build -buildmode=c-shared -o go-library.so go-library.go
    cat >binds.py <<'PYTHON'
import ctypes, os, socket, struct, sys
way, number = sys.argv[1], int(sys.argv[2])
server = socket.socket()
fd, address = server.fileno(), struct.pack("=H", socket.AF_INET) + struct.pack("!HIq", 8000, 0, 0)
libc = ctypes.CDLL("libc.so.6")
binds = {
    "library": lambda: ctypes.CDLL("./library.so").bind_here(fd, address, 16),
    "handle": lambda: libc.bind(fd, address, 16),
    "deep": lambda: ctypes.CDLL("./library.so", os.RTLD_DEEPBIND).bind_here(fd, address, 16),
    "call": lambda: libc.syscall(number, fd, address, 16),
    "go": lambda: ctypes.CDLL("./go-library.so").go_bind(fd, 8000),
}
assert binds[way]() == 0
print("SO_REUSEPORT", server.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
PYTHON
    export LIBREUSE_LOG=1
    for past in handle deep call go; do
        run -0 "$reuse_run" --preload python3 binds.py "$past" "$(call_number bind)"
        [[ $output == 'SO_REUSEPORT 0' ]]
        run -0 "$reuse_run" --watch python3 binds.py "$past" "$(call_number bind)"
        [[ ${lines[*]} == 'libreuse: '*' tcp 0.0.0.0:8000: shared SO_REUSEPORT 1' ]]
    done
    run -0 "$reuse_run" --preload python3 binds.py library 0
    [[ ${lines[*]} == 'libreuse: '*' tcp 0.0.0.0:8000: shared SO_REUSEPORT 1' ]]
}

# --- without /proc

@test "without /proc a program is preloaded or watched as ever" {
    needs_root
    ln -s "$reuse_run" linked
    for command in "$reuse_run" "cd $build && ./reuse-run" "PATH=$build:\$PATH && reuse-run" ./linked; do
        run -0 unshare --mount sh -c "mount -t tmpfs none /proc && $command -v $programs/bind-to tcp 8000"
        [[ $output == *": preloaded with $shim: "*'8000 bound, SO_REUSEPORT 1' ]]
    done
    run -0 unshare --mount sh -c "mount -t tmpfs none /proc &&
        LIBREUSE_LOG=1 $reuse_run -v $programs/static/bind-to tcp 8000"
    [[ ${lines[0]} == *': watched, static: '* && ${lines[1]} == 'libreuse: '*': shared' ]]
    [[ ${lines[2]} == '8000 bound, SO_REUSEPORT 1' ]]
}

# --- where watching is forbidden

@test "a filter or kernel that forbids watching, or kills for it: one line, status 125, nothing is run" {
    local call number eperm=1 enosys=38 einval=22
    for call in seccomp pidfd_open pidfd_getfd process_vm_readv ptrace; do
        number=$(call_number "$call")
        for denied in "$eperm" "$enosys" "$einval" kill; do
            run -125 --separate-stderr "$programs/deny" "$number" "$denied" \
                "$reuse_run" --watch "$programs/bind-to" tcp 8000
            [[ -z $output && ${#stderr_lines[@]} -eq 1 ]]
            [[ $stderr == "reuse-run: cannot watch '$programs/bind-to': $call: "* ]]
            [[ $stderr == *container*SystemCallFilter=*"$call"*--preload*reuse-cgroup*'Linux 5.6 or newer' ]]
            [[ $denied != kill || $stderr == *"$call: killed by a seccomp filter; "* ]]
            # A preload takes none of them.
            run -0 "$programs/deny" "$number" "$denied" "$reuse_run" "$programs/bind-to" tcp 8000
            [[ $output == *'8000 bound, SO_REUSEPORT 1' ]]
        done
    done
    run ! pgrep reuse-run
    [[ -z $(find . -name 'core*') ]]
}

@test "what watching takes is permitted or not, whatever becomes of children" {
    trap '' CHLD
    run -0 "$reuse_run" --watch "$programs/bind-to" tcp 8000
    [[ $output == *'8000 bound, SO_REUSEPORT 1' ]]
    run -125 "$programs/deny" "$(call_number ptrace)" kill "$reuse_run" --watch true
    [[ $output == *": ptrace: killed by a seccomp filter; "* ]]
}
