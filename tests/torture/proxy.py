"""A TCP proxy between executor and server that does one bad thing at one exact command.

It passes commands on one at a time, so each has a before and an after. Pipelines arrive as they
were, only slower.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

Bad = Literal[
    "nothing", "drop", "delay", "duplicate", "error", "error_after", "cut_before", "cut_after",
    "cut_in_reply", "drip", "outage", "elsewhere",
]  # fmt: skip
ERRORS = (
    b"-ERR injected by the proxy\r\n",
    b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    b"-READONLY You can't write against a read only replica.\r\n",
    b"-BUSY Redis is busy running a script.\r\n",
    b"-LOADING Redis is loading the dataset in memory\r\n",
)
Hook = Callable[[], Awaitable[None]]


async def read_command(reader: asyncio.StreamReader) -> bytes:
    """One RESP command, as it came. Raises IncompleteReadError at the end of the stream."""
    head = await reader.readuntil(b"\r\n")
    whole = head
    for _ in range(int(head[1:])):
        size = await reader.readuntil(b"\r\n")
        whole += size + await reader.readexactly(int(size[1:]) + 2)
    return whole


async def read_reply(reader: asyncio.StreamReader) -> bytes:
    """One RESP2 reply, as it came."""
    head = await reader.readuntil(b"\r\n")
    if head[:1] == b"$" and head != b"$-1\r\n":
        return head + await reader.readexactly(int(head[1:]) + 2)
    if head[:1] == b"*" and head != b"*-1\r\n":
        return head + b"".join([await read_reply(reader) for _ in range(int(head[1:]))])
    return head


def words(command: bytes) -> tuple[str, ...]:
    """The first two words of a command, in capitals."""
    parts = command.split(b"\r\n")[2::2]
    return tuple(part.decode("ascii", "replace").upper() for part in parts[:2])


@dataclass
class Proxy:
    """Listens on `port` once started; counts commands over all of its connections."""

    server: int
    bad: Bad = "nothing"
    at: int = -1
    """The number of the command it happens at, from 0."""
    seconds: float = 0.0
    """Of a delay or an outage."""
    error: bytes = ERRORS[0]
    elsewhere: int = 0
    """The port of another server."""
    before: Hook | None = None
    """Awaited before that command is passed on."""
    after: Hook | None = None
    """Awaited when the server has done it, before its reply is passed on."""
    seen: list[tuple[str, ...]] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._away_until = 0.0
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**24)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Drop every connection. What was delayed is delivered no more."""
        if self._listener is not None:
            self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        ends = [writer]
        try:
            if asyncio.get_running_loop().time() < self._away_until:
                return
            beyond, onward = await asyncio.open_connection("127.0.0.1", self.server, limit=2**26)
            ends.append(onward)
            while True:
                command = await read_command(reader)
                number = len(self.seen)
                self.seen.append(words(command))
                if number != self.at:
                    await self._pass(command, writer, beyond, onward)
                    continue
                if self.before is not None:
                    await self.before()
                if self.bad == "elsewhere":
                    self.server = self.elsewhere
                    beyond, onward = await asyncio.open_connection("127.0.0.1", self.server)
                    ends.append(onward)
                if not await self._spoil(command, writer, beyond, onward):
                    return
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for end in ends:
                end.close()
            for end in ends:
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await end.wait_closed()

    async def _pass(
        self,
        command: bytes,
        writer: asyncio.StreamWriter,
        beyond: asyncio.StreamReader,
        onward: asyncio.StreamWriter,
    ) -> None:
        writer.write(await _ask(command, beyond, onward))
        await writer.drain()

    async def _spoil(
        self,
        command: bytes,
        writer: asyncio.StreamWriter,
        beyond: asyncio.StreamReader,
        onward: asyncio.StreamWriter,
    ) -> bool:
        """Do the bad thing; False: the connection ends with it."""
        if self.bad in ("drop", "cut_before", "error"):
            if self.bad == "error":
                writer.write(self.error)
            return self.bad != "cut_before"
        if self.bad == "delay":
            await asyncio.sleep(self.seconds)  # delivered, whether or not anybody still waits
        reply = await _ask(command, beyond, onward)
        if self.bad == "duplicate":
            await _ask(command, beyond, onward)
        if self.after is not None:
            await self.after()
        if self.bad == "outage":
            self._away_until = asyncio.get_running_loop().time() + self.seconds
        if self.bad in ("cut_after", "outage"):
            return False
        return await self._answer(reply, writer)

    async def _answer(self, reply: bytes, writer: asyncio.StreamWriter) -> bool:
        if self.bad == "cut_in_reply":
            writer.write(reply[: len(reply) // 2])
            await writer.drain()
            return False
        if self.bad == "drip":
            for place in range(min(len(reply), 40)):
                writer.write(reply[place : place + 1])
                await writer.drain()
                await asyncio.sleep(0.01)
            reply = reply[40:]
        writer.write(self.error if self.bad == "error_after" else reply)
        await writer.drain()
        return True


async def _ask(command: bytes, beyond: asyncio.StreamReader, onward: asyncio.StreamWriter) -> bytes:
    onward.write(command)
    await onward.drain()
    return await read_reply(beyond)
