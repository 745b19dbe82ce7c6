"""A TCP server: echoes; greets first if told a word; hangs up after that if told `close`."""

import socketserver
import sys

PORT, *WORDS = sys.argv[1:]


class Bytes(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        if WORDS:
            self.request.sendall(WORDS[0].encode())
        while WORDS[1:] != ["close"] and (data := self.request.recv(4096)):
            self.request.sendall(data)


socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("127.0.0.1", int(PORT)), Bytes).serve_forever()
