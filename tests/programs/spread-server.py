#!/usr/bin/env python3
"""spread-server.py [--address=ADDRESS] [--keep-alive] ANSWER... - a server that is no chance's toy.

Answers the requests in turn with each ANSWER, and then from the start again, so that a test knows
how often each was given.  Prints its address and port, which the kernel picks, once it listens.

In an ANSWER, {n} stands for the number of the request and {path} for what it asks for.  Instead of
an answer, !503 fails with that status, !close closes the connection, !hang leaves it open.
A connection is kept open for more requests unless the client asks to close it; with --keep-alive
even then.
"""
import argparse
import itertools
import socket
import socketserver
import threading
import time


class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        keep = True
        while keep and (request := self.rfile.readline()):
            closing = False
            while header := self.rfile.readline().strip():
                closing = closing or header.lower() == b"connection: close"
            keep = self.server.keep_alive or not closing
            keep = self.answer(request.decode("latin-1").split()[1], keep)

    def answer(self, path, keep):
        """Returns whether the connection carries another request, as it may if KEEP."""
        with self.server.lock:
            number, answer = next(self.server.answers)
        if answer == "!close":
            return False
        if answer == "!hang":
            time.sleep(3600)
        status = answer[1:] if answer.startswith("!") else "200"
        body = answer.replace("{n}", str(number)).replace("{path}", path).encode("latin-1")
        head = f"HTTP/1.1 {status} -\r\nContent-Length: {len(body)}\r\n"
        head += "\r\n" if keep else "Connection: close\r\n\r\n"
        self.wfile.write(head.encode() + body)
        return keep


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, options):
        self.address_family = socket.AF_INET6 if ":" in options.address else socket.AF_INET
        self.keep_alive = options.keep_alive
        self.lock = threading.Lock()
        self.answers = enumerate(itertools.cycle(options.answers))
        super().__init__((options.address, 0), Handler)

    def handle_error(self, request, client_address):
        """A client that goes away early is no error here."""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--keep-alive", action="store_true")
    parser.add_argument("answers", nargs="+")
    options = parser.parse_args()
    with Server(options) as server:
        host = f"[{options.address}]" if ":" in options.address else options.address
        print(f"{host}:{server.server_address[1]}", flush=True)
        server.serve_forever()


main()
