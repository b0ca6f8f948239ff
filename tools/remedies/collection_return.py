"""Giving back what a trim took from a collection. Each way may be gone twice."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from tools.connection import CommandFailure, Connection
from tools.remedies.collection_rules import NOT_TAKEN, length_of, read_end
from tools.remedies.operation import Operation
from tools.remedies.pace import PAUSE_SHARE
from tools.remedies.saved_commands import kept_commands, raised
from tools.replies import integer

WINDOW = 16
"""Pages of a list held in memory at a time: they are given back last one first."""


async def give_back_members(connection: Connection, operation: Operation) -> int:
    """Members of sets and sorted sets, fields of hashes, where nobody wrote them since.

    Returns how many are there again because of this. Raises CommandFailure.
    """
    given, restored = 0, set[bytes]()
    async for command in kept_commands(operation):
        started = time.monotonic()
        match command:
            case [b"HSET", key, *pairs]:
                names = pairs[::2]
                commands = [
                    ("HSETNX", key, name, value)
                    for name, value in zip(names, pairs[1::2], strict=True)
                ]
                replies = raised(await connection.execute_many(commands))
                back = [name for name, reply in zip(names, replies, strict=True) if reply == 1]
                restored.update(back)
                given += len(back)
            case [b"HPEXPIREAT", _, _, _, _, name]:
                # What the application wrote since keeps the expiry that it gave, or none.
                if name in restored:
                    await connection.execute(*command)
                    restored.discard(name)
            case [b"ZADD" | b"SADD", *_]:
                given += integer(await connection.execute(*command))
            case _:
                raise CommandFailure("error", "read the backup", "an unexpected command in it")
        await connection.wait(PAUSE_SHARE * (time.monotonic() - started))
    return given


@dataclass
class ListReturn:
    """The end of a list, given back last page first.

    Positions are all that elements of a list have, so what is back already is found out by looking
    at its end, and at its length where elements repeat.
    """

    connection: Connection
    operation: Operation
    key: bytes
    end: Literal["head", "tail"]
    noted: int
    """Pages that were certainly taken."""
    under_way: bool
    """The run was cut off: one more may have been."""
    length_after: int
    """Of the list, when the last of those was taken."""

    async def run(self) -> int:
        """How many elements were pushed. Raises CommandFailure."""
        missing = await self._missing([len(page) async for page in self._pages()])
        given = 0
        for last in range(missing, 0, -WINDOW):
            first = max(0, last - WINDOW)
            window, place = [], 0
            async for page in self._pages():
                if first <= place < last:
                    window.append(page)
                place += 1
            for page in reversed(window):
                given += await self._push(page)
        return given

    async def _missing(self, sizes: list[int]) -> int:
        """How many pages, from the outermost on, are not in the list."""
        length = await length_of(self.connection, self.key, "list")
        place = 0
        async for page in self._pages():
            if length >= self.length_after + sum(sizes[place : self.noted]):
                there = await read_end(self.connection, self.key, self.end, len(page))
                if there == page:
                    return place
            place += 1
        return place

    async def _pages(self) -> AsyncIterator[list[bytes]]:
        """Those that were taken, outermost first, each as it lay in the list."""
        place, held = 0, None
        async for command in kept_commands(self.operation):
            if held is not None and command[0] != NOT_TAKEN:
                yield held
                place += 1
            if place >= self.noted and not self.under_way:
                return
            held = _elements(command) if command[0] != NOT_TAKEN else None
        if held is not None:
            yield held

    async def _push(self, page: list[bytes]) -> int:
        started = time.monotonic()
        push, elements = ("RPUSH", page) if self.end == "tail" else ("LPUSH", page[::-1])
        await self.connection.execute(push, self.key, *elements)
        await self.connection.wait(PAUSE_SHARE * (time.monotonic() - started))
        return len(page)


def _elements(command: list[bytes]) -> list[bytes]:
    if command[0] not in (b"RPUSH", b"LPUSH"):
        raise CommandFailure("error", "read the backup", "an unexpected command in it")
    return command[2:] if command[0] == b"RPUSH" else command[:1:-1]
