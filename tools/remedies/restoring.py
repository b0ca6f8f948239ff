"""Putting back what a backup holds, where nothing has taken its place."""

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from typing import Any

from tools.connection import CommandFailure, Connection
from tools.remedies.deadlines import milliseconds
from tools.remedies.operation import BackupDamaged, Backups, Operation, Saved
from tools.remedies.pace import Pace
from tools.remedies.vitals import round_trip_seconds

LEFT = "left"
"""A kind of `Saved`: the key of that name was kept, and then left alone after all."""
MOST_AT_ONCE = 200
MOST_BYTES_AT_ONCE = 8 * 1024**2


@dataclass
class Restored:
    """What became of what a backup holds."""

    restored: int = 0
    exist_already: int = 0
    """Written again by the application, or never removed: left as they are."""
    expired_since: int = 0
    left_alone: int = 0
    """Kept, and not removed."""
    other: int = 0
    """Parts that only the remedy that made them can put back."""
    refused: int = 0
    first_refusal: str = ""

    @property
    def shown(self) -> str:
        """In a sentence."""
        return (
            f"{self.restored:,} put back, {self.exist_already:,} exist already and are as they "
            f"are, {self.expired_since:,} expired since"
            + (f", {self.refused:,} refused: {self.first_refusal}" if self.refused else "")
        )


async def restore(connection: Connection, backups: Backups, operation: Operation) -> dict[str, Any]:
    """All of the operation's backup: counts, for the outcome. Repeatable.

    Raises CommandFailure with the counts when a part could not be put back.
    """
    restored = Restored()
    troubles = []
    try:
        await _restore_all(connection, backups, operation, restored)
    except (BackupDamaged, OSError) as trouble:
        troubles.append(str(trouble))
    if restored.refused:
        troubles.append(f"{restored.refused:,} were refused")
    if troubles:
        failed = f"{restored.shown}; {'; '.join(troubles)}"
        raise CommandFailure("error", f"restore the backup {operation.id}", failed)
    return asdict(restored)


async def _restore_all(
    connection: Connection, backups: Backups, operation: Operation, restored: Restored
) -> None:
    pace = Pace(connection, await round_trip_seconds(connection), operation)
    name = operation.id
    damaged: list[BackupDamaged] = []
    async for batch in _batches(connection, backups, name, restored, damaged):
        replies = await connection.execute_many([_COMMANDS[one.kind](one) for one in batch])
        _count(replies, restored)
        if stop := await pace.next(asdict(restored)):
            raise CommandFailure("error", f"restore the backup {name}", f"{restored.shown}; {stop}")
    for trouble in damaged:
        raise trouble


async def _batches(
    connection: Connection,
    backups: Backups,
    name: str,
    restored: Restored,
    damaged: list[BackupDamaged],
) -> AsyncIterator[list[Saved]]:
    """What is to be put back; the rest is counted, and damage noted once all else was given."""
    left = await _left_alone(backups, name)
    now = milliseconds(await connection.execute("TIME"))
    batch: list[Saved] = []
    size = 0
    try:
        async for saved in backups.read(name):
            if _counted_out(saved, left, now, restored):
                continue
            if len(batch) >= MOST_AT_ONCE or size + len(saved.payload) > MOST_BYTES_AT_ONCE:
                yield batch
                batch, size = [], 0
            batch.append(saved)
            size += len(saved.payload)
    except BackupDamaged as trouble:
        damaged.append(trouble)
    if batch:
        yield batch


def _counted_out(saved: Saved, left: set[bytes], now: int, restored: Restored) -> bool:
    if saved.kind not in _COMMANDS:
        restored.other += saved.kind != LEFT
    elif _digest(saved.name) in left:
        restored.left_alone += 1
    elif saved.expires_at_ms is not None and saved.expires_at_ms <= now:
        restored.expired_since += 1
    else:
        return False
    return True


async def _left_alone(backups: Backups, name: str) -> set[bytes]:
    found = set()
    try:
        async for saved in backups.read(name):
            if saved.kind == LEFT:
                found.add(_digest(saved.name))
    except BackupDamaged:
        pass  # said once all that is whole was put back
    return found


def _digest(name: bytes) -> bytes:
    return hashlib.blake2b(name, digest_size=16).digest()


_COMMANDS: dict[str, Callable[[Saved], tuple[str | bytes | int, ...]]] = {
    "key": lambda one: ("RESTORE", one.name, one.expires_at_ms or 0, one.payload, "ABSTTL"),
    "library": lambda one: ("FUNCTION", "LOAD", one.payload),
}


def _count(replies: list[Any], restored: Restored) -> None:
    for reply in replies:
        if not isinstance(reply, CommandFailure):
            restored.restored += 1
        elif reply.failed.startswith("BUSYKEY") or "already exists" in reply.failed:
            restored.exist_already += 1
        else:
            restored.refused += 1
            restored.first_refusal = restored.first_refusal or reply.failed
