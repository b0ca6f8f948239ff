"""How each type of collection is read a page at a time, relieved of it, and given it back.

A page is read and kept before it is removed. Members of sets, sorted sets and hashes are removed
by name, so that what somebody adds meanwhile stays; the end of a list is popped, and what comes
is compared with what was kept.
"""

from dataclasses import dataclass, field
from typing import Literal, Protocol

from tools.connection import Argument, CommandFailure, Connection, Reply
from tools.remedies.saved_commands import packed
from tools.replies import integer, items

CollectionType = Literal["list", "zset", "hash", "set"]
RemoveFrom = Literal["head", "tail", "lowest", "highest"]
LENGTH: dict[CollectionType, str] = {
    "list": "LLEN",
    "zset": "ZCARD",
    "hash": "HLEN",
    "set": "SCARD",
}
NOT_TAKEN = b"DISCARD"
"""In a list's backup: the page before this was read, and others took it first."""


@dataclass(frozen=True)
class Removed:
    """What became of a page."""

    count: int
    instead: list[bytes] | None = None
    """Another client was in between: the commands that give back what went in place of it."""


class Part(Protocol):
    """One collection under way, a page at a time."""

    @property
    def finished(self) -> bool:
        """Nothing further is named by the rule."""

    async def read(self, count: int) -> list[bytes]:
        """The next page, as the commands that give it back. Raises CommandFailure."""

    async def remove(self) -> Removed:
        """Remove the page that was read. Raises CommandFailure."""


@dataclass
class ListEnd:
    """The oldest or newest elements of a list."""

    connection: Connection
    key: bytes
    end: Literal["head", "tail"]
    page: list[bytes] = field(default_factory=list)
    finished: bool = False

    async def read(self, count: int) -> list[bytes]:
        """LRANGE from the end."""
        self.page = await read_end(self.connection, self.key, self.end, count)
        self.finished = not self.page
        return [self._pushing(self.page)] if self.page else []

    async def remove(self) -> Removed:
        """LPOP or RPOP: what comes is what is gone, whoever was there before."""
        pop = "RPOP" if self.end == "tail" else "LPOP"
        popped = _bytes(await self.connection.execute(pop, self.key, len(self.page)))
        taken = popped[::-1] if self.end == "tail" else popped
        if taken == self.page:
            return Removed(len(taken))
        pushing = [self._pushing(taken)] if taken else []
        return Removed(len(taken), [packed(NOT_TAKEN), *pushing])

    def _pushing(self, elements: list[bytes]) -> bytes:
        if self.end == "tail":
            return packed("RPUSH", self.key, *elements)
        return packed("LPUSH", self.key, *elements[::-1])


@dataclass
class ZsetEnd:
    """The lowest or highest members of a sorted set."""

    connection: Connection
    key: bytes
    end: Literal["lowest", "highest"]
    below: float | None = None
    members: list[bytes] = field(default_factory=list)
    finished: bool = False

    async def read(self, count: int) -> list[bytes]:
        """ZRANGE by rank, with scores."""
        first, last = (0, count - 1) if self.end == "lowest" else (-count, -1)
        reply = await self.connection.execute("ZRANGE", self.key, first, last, "WITHSCORES")
        flat = _bytes(reply)
        pairs = list(zip(flat[::2], flat[1::2], strict=True))
        if self.below is not None:
            pairs = [(member, score) for member, score in pairs if float(score) < self.below]
        self.members = [member for member, _ in pairs]
        self.finished = not pairs
        parts = [part for member, score in pairs for part in (score, member)]
        return [packed("ZADD", self.key, "NX", *parts)] if parts else []

    async def remove(self) -> Removed:
        """ZREM."""
        return Removed(integer(await self.connection.execute("ZREM", self.key, *self.members)))


@dataclass
class Matching:
    """Members of a set, or fields of a hash, that match a glob."""

    connection: Connection
    key: bytes
    match: bytes
    fields: bool
    """A hash's; else a set's members."""
    cursor: int | None = None
    """Of the scan; None: it has not begun."""
    found: list[bytes] = field(default_factory=list)
    """Seen, and not read yet: a scan gives what it likes, whatever COUNT says."""
    names: list[bytes] = field(default_factory=list)
    """The page."""
    names_only: bool = True
    """HSCAN knows NOVALUES (7.4, Valkey 8.0)."""
    fields_expire: bool = True
    """HPEXPIRETIME is known (7.4, Valkey 9.0)."""

    @property
    def finished(self) -> bool:
        """The scan came home, and all that it gave was read."""
        return self.cursor == 0 and not self.found

    async def read(self, count: int) -> list[bytes]:
        """HSCAN or SSCAN for names; values just before they go."""
        if not self.found:
            self.found = await self._scan(count)
        self.names, self.found = self.found[:count], self.found[count:]
        if not self.names:
            return []
        if not self.fields:
            return [packed("SADD", self.key, *self.names)]
        values = items(await self.connection.execute("HMGET", self.key, *self.names))
        pairs = [
            (name, value)
            for name, value in zip(self.names, values, strict=True)
            if isinstance(value, bytes)
        ]
        self.names = [name for name, _ in pairs]
        if not pairs:
            return []
        putting = packed("HSET", self.key, *(part for pair in pairs for part in pair))
        return [putting, *await self._expiries()]

    async def _scan(self, count: int) -> list[bytes]:
        scan: tuple[Argument, ...] = (
            "HSCAN" if self.fields else "SSCAN",
            self.key,
            self.cursor or 0,
        )
        how: tuple[Argument, ...] = ("MATCH", self.match, "COUNT", count)
        reply: Reply = None
        if self.fields and self.names_only:
            try:
                reply = await self.connection.execute(*scan, *how, "NOVALUES")
            except CommandFailure as failure:
                if "syntax" not in failure.failed.lower():
                    raise
                self.names_only = False
        if reply is None:
            reply = await self.connection.execute(*scan, *how)
        match reply:
            case [bytes() as cursor, list() as found]:
                self.cursor = int(cursor)
            case _:
                raise CommandFailure("error", str(scan[0]), "an unexpected reply")
        flat = _bytes(found)
        return flat[::2] if self.fields and not self.names_only else flat

    async def _expiries(self) -> list[bytes]:
        """Fields may expire on their own since 7.4 (Valkey 9.0)."""
        names = self.names
        if not self.fields_expire:
            return []
        try:
            times = items(
                await self.connection.execute(
                    "HPEXPIRETIME", self.key, "FIELDS", len(names), *names
                )
            )
        except CommandFailure as failure:
            if failure.kind == "unknown_command":
                # Asked on each page, our own errors would look like harm that the change did.
                self.fields_expire = False
                return []
            raise
        return [
            packed("HPEXPIREAT", self.key, at, "FIELDS", 1, name)
            for name, at in zip(names, times, strict=False)
            if isinstance(at, int) and at > 0
        ]

    async def remove(self) -> Removed:
        """HDEL or SREM, by name."""
        if not self.names:
            return Removed(0)
        remove = "HDEL" if self.fields else "SREM"
        return Removed(integer(await self.connection.execute(remove, self.key, *self.names)))


async def read_end(
    connection: Connection, key: bytes, end: Literal["head", "tail"], count: int
) -> list[bytes]:
    """The first or last elements of a list. Raises CommandFailure."""
    first, last = (-count, -1) if end == "tail" else (0, count - 1)
    return _bytes(await connection.execute("LRANGE", key, first, last))


async def length_of(connection: Connection, key: bytes, kind: CollectionType) -> int:
    """How many elements. Raises CommandFailure."""
    return integer(await connection.execute(LENGTH[kind], key))


def _bytes(reply: Reply) -> list[bytes]:
    return [part for part in items(reply) if isinstance(part, bytes)]
