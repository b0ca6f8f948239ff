"""What a remedy has at hand while it writes, besides its target."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tools.connection import Connection


@dataclass(frozen=True)
class Saved:
    """One thing as it was before it was removed. Never shown, logged or kept as evidence."""

    name: bytes
    """Of a key, or of a library."""
    payload: bytes
    """DUMP's reply, or another command's that can be given back to the server."""
    expires_at_ms: int | None = None
    """Milliseconds since the epoch; None: it does not expire."""
    kind: str = "key"
    """`key`: RESTORE takes the payload; `library`: FUNCTION LOAD does; any other: its remedy."""


class BackupDamaged(Exception):
    """A backup, or a part of it, cannot be read back; the text names file and remedy."""


class Backup(Protocol):
    """One file, open for adding: encrypted, checksummed, with an expiry of its own."""

    async def add(self, saved: Sequence[Saved]) -> None:
        """Keep them; on disk when it returns. Raises OSError."""

    async def close(self) -> dict[str, Any]:
        """Finish it: file, entries, bytes and SHA-256, for the outcome. Repeatable."""


class Backups(Protocol):
    """Where backups are kept (`tools/backups.py`)."""

    async def open(self, name: str) -> Backup:
        """Add to the backup of that name, made if there is none. Raises OSError."""

    def read(self, name: str) -> AsyncIterator[Saved]:
        """Everything in it that is whole, oldest first. Raises OSError, BackupDamaged.

        A damaged part is passed over; the exception comes after the rest.
        """


class ResizeHook(Protocol):
    """Carries out a resize by the user's own command or webhook."""

    @property
    def shown(self) -> str:
        """What is called, as a plan may show it: no secret."""

    @property
    def wait_seconds(self) -> float:
        """How long a resize may take, from the order until the server shows its new limit."""

    @property
    def keeps_data(self) -> bool:
        """The data outlive it, even where the server has neither a replica nor a file."""

    @property
    def undoes(self) -> bool:
        """May the old size be ordered back through it?"""

    async def __call__(self, order: dict[str, Any]) -> dict[str, Any]:
        """Place the order, once; its answer, bounded.

        Raises CommandFailure: `refused` if nothing was ordered, any other kind if nobody knows.
        """


Note = Callable[[dict[str, Any]], Awaitable[str]]
"""After each batch: keeps what was done so far, durably. A text: stop here, for this reason."""


async def _goes_on(_: dict[str, Any]) -> str:
    return ""


@dataclass(frozen=True)
class Operation:
    """One action being carried out."""

    id: str
    """Of this action and attempt alone; names its backup."""
    note: Note = _goes_on
    backups: Backups | None = None
    resize_hook: ResizeHook | None = None
    reopen: Callable[[], Awaitable[Connection]] | None = None
    """Another connection to the target, where the first one ends with a restart. Raises
    CommandFailure."""


ALONE = Operation("alone")
"""Nobody keeps the progress: one-shot use, and remedies of a single command."""
