"""Backups in memory, and runs that are cut off: for the tests of remedies that remove."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tools.connection import Argument, CommandFailure, LiveConnection, Reply
from tools.permissions import READ_WRITE
from tools.remedies.operation import Operation, Saved


@dataclass
class Shelf:
    """Backups by name."""

    kept: dict[str, list[Saved]] = field(default_factory=dict)
    refuses: bool = False

    async def open(self, name: str) -> "Book":
        return Book(self, self.kept.setdefault(name, []))

    async def read(self, name: str) -> AsyncIterator[Saved]:
        for saved in list(self.kept.get(name, [])):
            yield saved


@dataclass
class Book:
    shelf: Shelf
    pages: list[Saved]

    async def add(self, saved: Sequence[Saved]) -> None:
        if self.shelf.refuses:
            raise OSError(28, "No space left on device")
        self.pages.extend(saved)

    async def close(self) -> dict[str, Any]:
        return {"entries": len(self.pages)}


@dataclass
class Notes:
    """The journal's side of an operation."""

    shelf: Shelf = field(default_factory=Shelf)
    progress: dict[str, Any] = field(default_factory=dict)
    stop_after: int | None = None
    reason: str = "asked to stop"
    batches: int = 0

    async def note(self, done: dict[str, Any]) -> str:
        self.batches += 1
        self.progress = dict(done)
        return self.reason if self.batches == self.stop_after else ""

    @property
    def operation(self) -> Operation:
        return Operation("i-1-1-A1", self.note, self.shelf)


class CutOff(LiveConnection):
    """A link that is lost at a command of this name: before the server has seen it, or after."""

    def __init__(self, url: str, command: str, *, nth: int, after: bool) -> None:
        super().__init__(url, READ_WRITE, reconnects=0)
        self.cut_at, self.left, self.after = command, nth, after

    async def execute(self, *command: Argument) -> Reply:
        if command[0] == self.cut_at:
            self.left -= 1
            if self.left == 0:
                if self.after:
                    await super().execute(*command)
                await self.close()
                raise CommandFailure("connection_lost", self.cut_at, "the link was cut")
        return await super().execute(*command)
