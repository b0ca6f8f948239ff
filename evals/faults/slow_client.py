"""Clients on raw sockets, for those that do not read what they asked for."""

import contextlib
import socket

from evals.faults.fault import Lab

_SMALL_WINDOW = 4_096


def encoded(*words: str | bytes) -> bytes:
    """A command as RESP."""
    parts = [word if isinstance(word, bytes) else word.encode() for word in words]
    body = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"*%d\r\n" % len(parts) + body


def slow_client(lab: Lab, name: str) -> socket.socket:
    """A named connection whose kernel takes in next to nothing; it closes with the lab."""
    raw = socket.socket()
    lab.stack.enter_context(contextlib.closing(raw))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_WINDOW)
    raw.settimeout(10)
    raw.connect(("127.0.0.1", lab.server.port))
    raw.sendall(encoded("CLIENT", "SETNAME", name))
    raw.recv(64)
    return raw


def output_bytes(lab: Lab, name: str) -> int:
    """What waits in the output buffer of this client."""
    return sum(int(c["omem"]) for c in lab.admin.client_list() if c["name"] == name)
