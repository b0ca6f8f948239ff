"""Connections that are slow, silent, many or no HTTP at all: none of them holds up the others."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from api import connections
from api.app import create_app
from api.settings import Settings
from tests.api import serving

GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
Link = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Listening:
    """The service on a port, as `serve` runs it."""

    port: int

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Link]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def one_answer(link: Link) -> bytes:
    reader, _ = link
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    )
    return head + await reader.readexactly(length)


async def everything(link: Link) -> bytes:
    """Until the other side hangs up."""
    answer = bytearray()
    with contextlib.suppress(ConnectionError):
        while part := await link[0].read(65536):
            answer += part
    return bytes(answer)


@pytest.fixture
async def listening(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Listening]:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 3.0)
    monkeypatch.setattr(connections, "KEEP_ALIVE_SECONDS", 3)
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 20)
    monkeypatch.setattr(connections, "MOST_OPEN", 30)
    app = create_app(configured := settings(), worker=False)
    async with serving.listening(app, configured) as url:
        yield Listening(int(url.rpartition(":")[2]))


async def drip(link: Link, head: bytes) -> float:
    """One header after another until somebody hangs up; how long that took."""
    reader, writer = link
    started = time.monotonic()
    writer.write(head)
    while not reader.at_eof():
        assert time.monotonic() < started + 20, "nobody hung up"
        with contextlib.suppress(OSError):
            writer.write(b"X-a: b\r\n")
            await writer.drain()
        with contextlib.suppress(TimeoutError, ConnectionError):
            await asyncio.wait_for(reader.read(100), 0.1)
    return time.monotonic() - started


async def test_whoever_sends_nothing_or_a_header_now_and_then_is_hung_up_on(
    listening: Listening,
) -> None:
    """Slowloris, also on a connection that was used before."""
    async with (
        listening.connected() as silent,
        listening.connected() as slow,
        listening.connected() as used,
        listening.connected() as other,
    ):
        used[1].write(GET)
        assert b"200 OK" in await one_answer(used)
        begun = GET.removesuffix(b"\r\n")
        took = await asyncio.gather(drip(slow, begun), drip(used, begun))
        assert min(took) > connections.HEAD_SECONDS / 2
        assert await asyncio.wait_for(everything(silent), 20) == b""
        async with listening.connected() as fresh:
            fresh[1].write(GET)
            assert b"200 OK" in await one_answer(fresh)
        assert await asyncio.wait_for(everything(other), 20) == b""


async def test_a_connection_that_is_used_stays_open(listening: Listening) -> None:
    async with listening.connected() as link:
        for _ in range(4):
            link[1].write(GET)
            assert b"200 OK" in await one_answer(link)
            await asyncio.sleep(connections.HEAD_SECONDS / 2)


async def test_a_slow_answer_is_not_cut_off(listening: Listening) -> None:
    """The body comes late, so the head's time is long over when it is answered."""
    async with listening.connected() as link:
        link[1].write(b"POST /v1/alerts/generic HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        await asyncio.sleep(connections.HEAD_SECONDS * 1.5)
        link[1].write(b"{}")
        assert b" 401 " in await one_answer(link)


BAD = [
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-large: " + b"x" * 40_000,
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-large: " + b"x" * 400_000,
    b"GET /" + b"x" * 400_000,
    b"\x16\x03\x01\x02\x00\x01",
    b"GET /healthz HTTP/1.1",
    b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 2",
    b"POST /v1/alerts/generic HTTP/1.1\r\nHost: x\r\nContent-Length: -1",
    b"POST /v1/alerts/generic HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\x00b",
    b"GET http://[ HTTP/1.1\r\nHost: x",
    random.Random(6).randbytes(5_000),
]


@pytest.mark.parametrize("head", BAD, ids=range(len(BAD)))
async def test_what_is_no_http_or_too_large_is_told_so(
    listening: Listening, head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 20.0)  # a busy machine may be slow to write
    async with listening.connected() as link:
        with contextlib.suppress(OSError):
            link[1].write(head + b"\r\n\r\n")
            await link[1].drain()
        answer = await asyncio.wait_for(everything(link), 20)
    assert answer[9:12] in (b"400", b"404", b"431"), answer[:200]
    for told in (b"application/problem+json", b"nosniff", b"no-store", b"default-src 'none'"):
        assert told in answer
    assert b"uvicorn" not in answer


async def test_too_many_connections_are_refused_and_closed_and_then_it_answers_again(
    listening: Listening,
) -> None:
    async with contextlib.AsyncExitStack() as held:

        async def open_until(number: int) -> Link:
            while True:
                link = await held.enter_async_context(listening.connected())
                links.append(link)
                if len(links) == number:
                    return link

        links: list[Link] = []
        link = await open_until(connections.MOST_CONNECTIONS)
        link[1].write(GET)
        assert (await one_answer(link)).startswith(b"HTTP/1.1 200 ")
        link = await open_until(connections.MOST_CONNECTIONS + 1)
        link[1].write(GET)
        refused = (await everything(link)).lower()
        assert refused.startswith(b"http/1.1 503 ")
        for told in (b"application/problem+json", b"retry-after: ", b"nosniff", b"20 connections"):
            assert told in refused
        link = await open_until(connections.MOST_OPEN + 2)
        assert await asyncio.wait_for(everything(link), connections.HEAD_SECONDS / 2) == b""

    async def answered() -> bool:
        async with listening.connected() as link:
            link[1].write(GET)
            return b"200 OK" in await everything(link)

    await eventually(answered)


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + 20
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
