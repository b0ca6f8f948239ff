"""Real servers that take what Apprise sends: over HTTP, and by mail."""

import json
import socketserver
import threading
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def serve(server: socketserver.BaseServer) -> None:
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()


class Pagerhouse:
    """A server that takes pages, and says no for as long as it is `down`."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.down = False
        house = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                if not house.down:
                    house.got.append(json.loads(content))
                self.send_response(503 if house.down else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.url = f"json://user:s3cret@127.0.0.1:{self.server.server_address[1]}/"
        serve(self.server)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Mailhouse:
    """An SMTP server that keeps what it is given."""

    def __init__(self) -> None:
        self.got: list[EmailMessage] = []
        house = self

        class Door(socketserver.StreamRequestHandler):
            def say(self, line: str) -> None:
                self.wfile.write(f"{line}\r\n".encode())

            def handle(self) -> None:
                self.say("220 mail")
                while line := self.rfile.readline():
                    verb = line[:4].upper()
                    if verb == b"DATA":
                        self.say("354 go on")
                        lines = iter(self.rfile.readline, b".\r\n")
                        made = message_from_bytes(b"".join(lines), policy=policy.default)
                        house.got.append(made)
                    self.say("221 bye" if verb == b"QUIT" else "250 ok")
                    if verb == b"QUIT":
                        return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self.server = Server(("127.0.0.1", 0), Door)
        port = self.server.server_address[1]
        self.url = f"mailto://127.0.0.1:{port}/?from=oncall@a.example&to=sre@a.example"
        serve(self.server)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
