#!/usr/bin/env python3
"""deep-server.py LIBRARY - opens LIBRARY with RTLD_DEEPBIND, as PHP opens its extensions, and serves on
the socket that it has bound when it was opened (libearly-bind.so: port 7000).

What LIBRARY calls is then looked for in itself and in the C library before anything that is preloaded
is.  Answers every HTTP request with its process id.
"""
import ctypes
import http.server
import os
import socket
import stat
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"server pid {os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def is_socket(path):
    return os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode)


ctypes.CDLL(sys.argv[1], mode=os.RTLD_DEEPBIND | os.RTLD_NOW)
sockets = [int(fd) for fd in os.listdir("/proc/self/fd") if is_socket(f"/proc/self/fd/{fd}")]
server = http.server.HTTPServer(("127.0.0.1", 7000), Handler, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=max(sockets))
server.server_activate()
server.serve_forever()
