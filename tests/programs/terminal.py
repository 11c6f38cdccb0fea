"""terminal.py COMMAND - types at an interactive shell that has a terminal, and prints how the jobs
fared: COMMAND (which runs tell-signals) is stopped by ^Z, goes on by fg, and gets one ^C.  Prints
what the terminal showed."""

import os
import pty
import select
import sys
import time

shown = b""


def read_until(fd, text):
    global shown
    start, end = len(shown), time.monotonic() + 60
    while text not in shown[start:]:
        left = end - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            sys.exit(f"terminal.py: no {text!r} in: {shown.decode()}")
        shown += os.read(fd, 4096)


pid, fd = pty.fork()
if pid == 0:
    os.environ["PS1"] = "$ "
    os.execvp("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"])

read_until(fd, b"$ ")
os.write(fd, sys.argv[1].encode() + b"\n")
read_until(fd, b"ready")
os.write(fd, b"\x1a")
read_until(fd, b"Stopped")
os.write(fd, b"fg\n")
read_until(fd, b"CONT")
os.write(fd, b"\x03")
read_until(fd, b"INT")
os.write(fd, b"\x1c")
read_until(fd, b"$ ")
os.write(fd, b"echo status $?; exit\n")
read_until(fd, b"status 131")
print(shown.decode())
os.close(fd)
os.waitpid(pid, 0)
