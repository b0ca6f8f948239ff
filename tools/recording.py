"""Recording what a server answered, and answering from a recording.

Virtual time is what a tool waited for: a wait moves the clock of the task that waits, so tools
that run side by side each see both of their samples, and a replay sleeps for nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from tools import recording_file
from tools.connection import (
    Argument,
    Command,
    CommandFailure,
    Connection,
    Reply,
    parse_info,
    worded,
)
from tools.permissions import READ_ONLY, acl_name
from tools.recording_answers import (
    ASKED_OF_KEYS,
    INTRODUCTION,
    LINK_FAILURES,
    answer,
    cell_of,
    normalised,
)
from tools.recording_file import (
    MOST_FRAMES,
    MOST_KEYS,
    Failure,
    Header,
    Outcome,
    Recording,
    RecordingUnreadable,
    Words,
)
from tools.recording_privacy import Pseudonyms, tidy, without_arguments, without_credentials

__all__ = ["RecordedConnection", "RecordingConnection", "RecordingUnreadable"]

_clock: ContextVar[WeakKeyDictionary[object, float] | None] = ContextVar(
    "virtual_time", default=None
)
"""Of each connection: one that records may be on top of one that is recorded."""


def _virtual(connection: object) -> float:
    """Seconds this task has let pass on this connection."""
    clocks = _clock.get()
    return clocks.get(connection, 0.0) if clocks is not None else 0.0


def _pass_time(connection: object, seconds: float) -> None:
    clocks = WeakKeyDictionary[object, float](_clock.get() or {})
    clocks[connection] = round(_virtual(connection) + max(0.0, seconds), 3)
    _clock.set(clocks)


class RecordingConnection:
    """Passes commands on and keeps what came of them; `close` writes the file.

    Kept is what a read-only tool may ask; values and secrets are dropped before they are kept.
    With `hash_names` names of keys, clients, groups, users and hosts are replaced.
    """

    def __init__(
        self,
        live: Connection,
        path: Path | str | None = None,
        *,
        hash_names: bool = False,
        memory_limit: int | None = None,
        alert: dict[str, Any] | None = None,
        limit: int | None = None,
    ) -> None:
        self.node = live.node
        self.path = Path(path) if path is not None else None
        self._live = live
        self._limit = limit
        self._names = Pseudonyms() if hash_names else None
        self._pages: dict[str, dict[bytes, bytes]] = {}
        self._others: dict[str, RecordingConnection] = {}
        header = Header(
            captured_at=live.now().isoformat(),
            flavour="unknown",
            node=self._node(),
            hashed=hash_names,
            memory_limit=memory_limit,
            alert=alert,
        )
        self.recording = Recording(header)
        self._frames = 0
        self._full = False

    def _node(self) -> str:
        address, space, role = self._live.node.partition(" ")
        if self._names:
            address = self._names.address(address.encode()).decode("utf-8", "replace")
        return address + space + role

    async def execute(self, *command: Argument) -> Reply:
        """Run one command. Raises CommandFailure."""
        (reply,) = await self.execute_many([command])
        if isinstance(reply, CommandFailure):
            raise reply
        return reply

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        """Run commands in one round trip."""
        at = _virtual(self)
        try:
            replies = await self._live.execute_many(commands)
        except CommandFailure as failure:
            for command in commands:
                self._keep(command, at, failure)
            raise
        finally:
            self.node = self._live.node  # another one, after a failover
        for command, reply in zip(commands, replies, strict=True):
            self._keep(command, at, reply)
        return replies

    async def at(self, address: str) -> Connection:
        """Another node, recorded beside this one. Raises CommandFailure."""
        name = self._names.address(address.encode()).decode() if self._names else address
        try:
            live = await self._live.at(address)
        except CommandFailure as failure:
            self.recording.others[name] = self._failure(failure)
            raise
        if live is self._live:
            return self
        if name not in self._others:
            other = RecordingConnection(live)
            other._names = self._names
            self._others[name] = other
        return self._others[name]

    async def wait(self, seconds: float) -> None:
        """Let time pass, and say so in the recording."""
        await self._live.wait(seconds)
        _pass_time(self, seconds)

    def now(self) -> datetime:
        """The time on the live side."""
        return self._live.now()

    async def close(self) -> None:
        """Write the recording and close the link. Repeatable."""
        if self.path is not None:
            await asyncio.to_thread(self.save, self.path)
        await self._live.close()

    def save(self, path: Path) -> None:
        """Write what was recorded so far."""
        recording_file.write(path, self.finished(), self._limit)

    def finished(self) -> Recording:
        """What was recorded so far, and what of it is complete."""
        for kind, following in self._pages.items():
            if not self._full and _ran_to_its_end(following):
                self.recording.table.complete.add(kind)
        flavour = _flavour(self.recording)
        self.recording.header = replace(self.recording.header, flavour=flavour, node=self._node())
        self.recording.others |= {name: one.finished() for name, one in self._others.items()}
        return self.recording

    def _keep(self, command: Command, at: float, reply: Reply | CommandFailure) -> None:
        if READ_ONLY.refusal(command) is not None or acl_name(command) == INTRODUCTION:
            return
        words = tuple(without_credentials(word) for word in normalised(tuple(command)))
        outcome = self._failure(reply) if isinstance(reply, CommandFailure) else tidy(words, reply)
        if words[0] == b"SCAN":
            self._keep_page(words, outcome)
        elif (cell := cell_of(words)) is not None:
            self._keep_cell(*cell, outcome)
        else:
            self._keep_frame(words, at, outcome)

    def _keep_frame(self, words: Words, at: float, outcome: Outcome) -> None:
        if self._names:
            if not isinstance(outcome, Failure):
                outcome = self._names.reply(words, outcome)
            words = self._names.command(words)
        if self._frames < MOST_FRAMES:
            self._frames += 1
            self.recording.add(words, at, outcome)
        else:
            header = self.recording.header
            self.recording.header = replace(header, dropped=header.dropped + 1)

    def _failure(self, failure: CommandFailure) -> Failure:
        """The failure without names in it: the replay words the command anew."""
        tried = "" if self._names else without_credentials(failure.tried.encode()).decode()
        return Failure(failure.kind, without_arguments(failure.failed), failure.remedy, tried)

    def _keep_page(self, words: Words, outcome: Outcome) -> None:
        table = self.recording.table
        if isinstance(outcome, Failure):
            table.failures.setdefault("SCAN", outcome)
            return
        if not (isinstance(outcome, list) and len(outcome) == 2 and isinstance(outcome[1], list)):
            return
        options = {words[i].upper(): words[i + 1] for i in range(2, len(words) - 1, 2)}
        kind = options.get(b"TYPE", b"").lower()
        shown = [self._row(key) for key in outcome[1] if isinstance(key, bytes)]
        if not kind and b"MATCH" not in options:
            table.scanned.update(key for key, _ in filter(None, shown))
        for _, cells in filter(None, shown) if kind else ():
            cells.setdefault("TYPE", kind)
        if b"MATCH" not in options and isinstance(outcome[0], bytes):
            pages = self._pages.setdefault(kind.decode("utf-8", "replace"), {})
            pages.setdefault(words[1], outcome[0])

    def _row(self, key: bytes) -> tuple[bytes, dict[str, Reply]] | None:
        """The key as it is kept, and its cells; None when the table is full."""
        keys = self.recording.table.keys
        if self._names:
            key = self._names.name(key)
        if key not in keys and len(keys) >= MOST_KEYS:
            self._full = True
            return None
        return key, keys.setdefault(key, {})

    def _keep_cell(self, column: str, key: bytes, outcome: Outcome) -> None:
        if isinstance(outcome, Failure):
            self.recording.table.failures.setdefault(column, outcome)
        elif (row := self._row(key)) is not None:
            # Of idle times the last: tools read it again before they decide to touch a key.
            if column == "OBJECT IDLETIME":
                row[1][column] = outcome
            row[1].setdefault(column, outcome)


def _ran_to_its_end(following: dict[bytes, bytes]) -> bool:
    cursor = b"0"
    for _ in range(len(following)):
        cursor = following.get(cursor, b"")
        if cursor in (b"0", b""):
            break
    return cursor == b"0"


def _flavour(recording: Recording) -> str:
    for words, outcomes in recording.frames.items():
        if words[0] == b"INFO" and isinstance(outcomes[0][1], bytes):
            info = parse_info(outcomes[0][1])
            if version := info.get("valkey_version"):
                return f"valkey {version}"
            if version := info.get("redis_version"):
                return f"redis {version}"
    return "unknown"


class RecordedConnection:
    """Answers from a recording. Reading it twice gives the same answers."""

    def __init__(self, source: Path | str | Recording) -> None:
        """Raises RecordingUnreadable, OSError."""
        loaded = source if isinstance(source, Recording) else recording_file.read(Path(source))
        self.recording = loaded
        self.header = loaded.header
        self.node = loaded.header.node
        self._others: dict[str, RecordedConnection] = {}
        self.missing: Counter[str] = Counter()
        """What was asked and not recorded, by command."""
        try:
            self._captured_at = datetime.fromisoformat(loaded.header.captured_at)
        except ValueError as error:
            raise RecordingUnreadable(f"captured_at: {error}") from None

    @property
    def not_recorded(self) -> int:
        """How many commands the recording could not answer."""
        return self.missing.total()

    async def execute(self, *command: Argument) -> Reply:
        """Answer one command. Raises CommandFailure."""
        (reply,) = await self.execute_many([command])
        if isinstance(reply, CommandFailure):
            raise reply
        return reply

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        """Answer commands; raises where the live link was lost."""
        when = _virtual(self)
        keys = self.recording.table.keys
        replies: list[Reply | CommandFailure] = []
        for command in commands:
            # Nearly all that is asked is one of a few questions about a key.
            column = ASKED_OF_KEYS.get(tuple(command[:-1]))
            cells = keys.get(command[-1]) if column and isinstance(command[-1], bytes) else None
            if column and cells and column in cells:
                replies.append(cells[column])
            else:
                replies.append(self._answer(tuple(command), when))
        for reply in replies:
            if isinstance(reply, CommandFailure) and reply.kind in LINK_FAILURES:
                raise reply
        return replies

    def _answer(self, command: tuple[Argument, ...], when: float) -> Reply | CommandFailure:
        if (refusal := READ_ONLY.refusal(command)) is not None:
            return CommandFailure("not_allowed", worded(command), refusal)
        found = answer(self.recording, normalised(command), when)
        if found is None:
            self.missing[acl_name(command)] += 1
            return CommandFailure(
                "not_recorded", worded(command), "the recording does not hold the answer"
            )
        (outcome,) = found
        return outcome.raised_for(command) if isinstance(outcome, Failure) else outcome

    async def at(self, address: str) -> Connection:
        """Another node, where it was recorded. Raises CommandFailure."""
        tried = f"connect to {address}"
        known = self.recording.others.get(address)
        if isinstance(known, Failure):
            raise CommandFailure(known.kind, known.tried or tried, known.text, known.remedy)
        if address == self.node.partition(" ")[0]:
            return self
        if known is None:
            self.missing["at"] += 1
            raise CommandFailure("not_recorded", tried, "the recording does not hold this node")
        if address not in self._others:
            other = self._others[address] = RecordedConnection(known)
            other.missing = self.missing
        return self._others[address]

    async def wait(self, seconds: float) -> None:
        """Move this task's clock on; nothing sleeps."""
        _pass_time(self, seconds)

    def now(self) -> datetime:
        """When it was captured, plus the time this task let pass."""
        return self._captured_at + timedelta(seconds=_virtual(self))

    async def close(self) -> None:
        """Nothing to close."""
