"""Load for the remedies' tests: keys, and a subscriber that does not read."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import redis

from evals.pouring import pour
from tools.remedies.remedy import Check


def fill(
    client: "redis.Redis", prefix: str, keys: int, size: int = 100, ex: int | None = None
) -> None:
    """Raises OutOfMemoryError if any is refused."""
    port = client.connection_pool.connection_kwargs["port"]
    expiry = () if ex is None else ("EX", ex)
    value = b"x" * size
    if refused := pour(port, (("SET", f"{prefix}{n}", value, *expiry) for n in range(keys))):
        raise redis.exceptions.OutOfMemoryError(f"{refused} of {keys} keys were refused")


def failing(checks: list[Check]) -> list[str]:
    """Texts of the preconditions that do not hold."""
    return [check.text for check in checks if check.holds is not True]


@contextmanager
def stuck_subscriber(client: "redis.Redis", name: str) -> Iterator[None]:
    """A subscriber that never reads, with some megabytes waiting for it."""
    port = client.connection_pool.connection_kwargs["port"]
    with closing(socket.socket()) as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", port))
        stuck.sendall(f"CLIENT SETNAME {name}\r\nSUBSCRIBE news\r\n".encode())
        deadline = time.monotonic() + 5
        while client.publish("news", b"x") != 1:
            assert time.monotonic() < deadline, "it did not subscribe in time"
            time.sleep(0.02)
        pipeline = client.pipeline(transaction=False)
        for _ in range(800):
            pipeline.publish("news", b"x" * 10_000)
        pipeline.execute()
        yield
