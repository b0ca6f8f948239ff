"""A model endpoint on loopback, for programs that run in a process of their own."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from agent.functions import SUBMIT
from evals.truth import incidents
from tests.agent.endpoint import reply


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A model that always names the first cause of the first incident."""
    named = {"root_cause": incidents()[0].truth.root_cause[0], "confidence": 0.5, "claims": []}
    body = reply((SUBMIT, named)).content

    class Scripted(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
