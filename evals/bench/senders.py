"""Senders of alerts: an open-loop load that costs little, so that it leaves the cores alone.

Each request has its moment, whether the ones before are answered or not, and its time is counted
from that moment. What is answered 503 is sent again, as real senders do. Plain sockets and requests
that were made before the start: about 0.1 ms of a core for each.
"""

import asyncio
import itertools
import random
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

CONNECTIONS = 64
LATE_SECONDS = 120.0
"""How long after the last moment answers may still come."""
RETRY_SECONDS = 0.5
"""After a lost connection."""
_HEADERS = (
    "POST /v1/alerts/alertmanager HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
    "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
)


def wire(body: bytes, token: str) -> bytes:
    """A whole request."""
    return _HEADERS.format(token=token, length=len(body)).encode() + body


@dataclass
class Answers:
    """What came back."""

    accepted: set[int] = field(default_factory=set)
    """Numbers of the requests that were answered 202."""
    milliseconds: list[float] = field(default_factory=list)
    """Of the 202s, from the moment at which they were due."""
    codes: Counter[int] = field(default_factory=Counter)
    """0: the connection was lost."""
    seconds: float = 0.0
    """From the first moment to the last answer."""
    cpu_seconds: float = 0.0
    """What the senders themselves took."""

    def percentile(self, share: float) -> float:
        """Milliseconds within which that share of the 202s was answered."""
        ranked = sorted(self.milliseconds)
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else float("nan")


class Senders:
    """Sends requests at their moments over kept connections to one or more ports."""

    def __init__(self, ports: Sequence[int], requests: Sequence[bytes], seconds: float) -> None:
        self._ports = itertools.cycle(ports)
        self._requests = requests
        self._seconds = seconds
        self._idle: deque[_Link] = deque()
        self._ready: deque[tuple[int, float]] = deque()
        self._left = len(requests)
        self._done = asyncio.Event()
        self._renewals = set[asyncio.Task[None]]()
        self.answers = Answers()

    async def run(self) -> Answers:
        """Send them all, at random moments (seeded) within the time."""
        for _ in range(CONNECTIONS):
            await self._connect()
        draw = random.Random(len(self._requests))  # noqa: S311 - the same load each time
        moments = sorted(draw.uniform(0.0, self._seconds) for _ in self._requests)
        cpu, start = time.process_time(), time.perf_counter()
        for number, moment in enumerate(moments):
            if (early := start + moment - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            self._give(number, start + moment)
        async with asyncio.timeout(LATE_SECONDS):
            await self._done.wait()
        self.answers.seconds = time.perf_counter() - start
        self.answers.cpu_seconds = time.process_time() - cpu
        await self._close()
        return self.answers

    async def _close(self) -> None:
        for renewal in self._renewals:
            renewal.cancel()
        links = list(self._idle)
        for link in links:
            link.transport.close()
        await asyncio.gather(*self._renewals, return_exceptions=True)
        await asyncio.gather(*(link.closed for link in links))

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                _, link = await loop.create_connection(
                    lambda: _Link(self), "127.0.0.1", next(self._ports)
                )
            except OSError:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return self.free(link)

    def _give(self, number: int, due: float) -> None:
        self._ready.append((number, due))
        if self._idle:
            self.free(self._idle.popleft())

    def free(self, link: "_Link") -> None:
        """A connection has nothing to do."""
        if self._ready:
            number, due = self._ready.popleft()
            link.send(number, due, self._requests[number])
        else:
            self._idle.append(link)

    def answered(self, number: int, due: float, code: int, retry_after: float) -> None:
        """A request was answered: 0 if its connection was lost."""
        self.answers.codes[code] += 1
        if code in (0, 503):
            again = time.perf_counter() + retry_after
            asyncio.get_running_loop().call_later(retry_after, self._give, number, again)
            return
        if code == 202:
            self.answers.accepted.add(number)
            self.answers.milliseconds.append((time.perf_counter() - due) * 1_000)
        self._left -= 1
        if not self._left:
            self._done.set()

    def lost(self, link: "_Link") -> None:
        """A connection ended."""
        if link in self._idle:
            self._idle.remove(link)
        if link.busy:
            self.answered(link.number, link.due, 0, RETRY_SECONDS)
        if not self._done.is_set():
            renewal = asyncio.ensure_future(self._connect())
            self._renewals.add(renewal)
            renewal.add_done_callback(self._renewals.discard)


class _Link(asyncio.Protocol):
    def __init__(self, owner: Senders) -> None:
        self._owner = owner
        self._received = b""
        self.transport: asyncio.Transport
        self.closed = asyncio.get_running_loop().create_future()
        self.number, self.due, self.busy = 0, 0.0, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a TCP connection
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)
        self._owner.lost(self)

    def send(self, number: int, due: float, request: bytes) -> None:
        self.number, self.due, self.busy = number, due, True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        headers = head.lower()
        if len(body) < int(_header(headers, b"content-length", b"0")):
            return
        self._received, self.busy = b"", False
        code = int(head[9:12])
        wait = float(_header(headers, b"retry-after", b"1"))
        self._owner.answered(self.number, self.due, code, wait)
        self._owner.free(self)


def _header(headers: bytes, name: bytes, default: bytes) -> bytes:
    _, found, rest = headers.partition(b"\r\n" + name + b":")
    return rest.partition(b"\r\n")[0].strip() if found else default
