"""A tiny real HTTP server on loopback, for what a patched client cannot show: time and cables."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.agent.endpoint import streamed
from tests.answering import answering

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Line:
    """One request's connection, to answer on."""

    body: dict[str, Any]
    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader

    async def begin(self) -> None:
        """Status and headers of a stream."""
        self.writer.write(HEAD)
        await self.writer.drain()

    async def piece(self, piece: bytes) -> None:
        """A piece of the stream."""
        self.writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await self.writer.drain()

    async def end(self) -> None:
        """The regular end of the stream."""
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    async def until_hung_up(self) -> None:
        """Say nothing more until the client goes."""
        with suppress(ConnectionError):
            await self.reader.read()


Script = Callable[[Line], Awaitable[None]]


@dataclass
class Wire:
    """Where the server is, and what it was asked."""

    url: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)


def whole(reply: httpx.Response) -> Script:
    """Streams the reply to its end."""

    async def stream(line: Line) -> None:
        await line.begin()
        for piece in streamed(reply):
            await line.piece(piece)
        await line.end()

    return stream


@asynccontextmanager
async def serving(*scripts: Script) -> AsyncIterator[Wire]:
    """A server that plays a script for each request, the last one again and again."""
    wire = Wire("")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length:")[2].split("\r\n")[0])
        wire.heads.append(head)
        wire.bodies.append(json.loads(await reader.readexactly(length)))
        script = scripts[min(len(wire.bodies), len(scripts)) - 1]
        await script(Line(wire.bodies[-1], writer, reader))

    async with answering(answer) as port:
        wire.url = f"http://127.0.0.1:{port}/v1"
        yield wire
