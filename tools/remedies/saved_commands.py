"""What a remedy removes, kept as the commands that give it back.

A payload is one command as it goes over the wire: `redis-cli --pipe` takes it as it is, too.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import hiredis

from tools.connection import CommandFailure, Reply
from tools.remedies.operation import Backup, BackupDamaged, Backups, Operation, Saved

Part = bytes | str | int
COMMAND = "command"
"""Kind of what is saved."""
NO_BACKUPS = "no place for backups is configured"


def packed(*command: Part) -> bytes:
    """A command as it goes over the wire."""
    return bytes(hiredis.pack_command(command))  # type: ignore[arg-type] # its stub: one part only


def unpacked(payload: bytes) -> list[bytes]:
    """The command in a payload. Raises CommandFailure for what is none."""
    reader = hiredis.Reader()
    reader.feed(payload)
    command: Any = reader.gets()
    if not isinstance(command, list) or not all(isinstance(part, bytes) for part in command):
        raise CommandFailure("error", "read the backup", "it holds something else than commands")
    return command


def backups_of(operation: Operation) -> Backups:
    """Where copies go. Raises CommandFailure where there is no such place."""
    if operation.backups is None:
        raise CommandFailure("not_allowed", "keep a copy of what is removed", NO_BACKUPS)
    return operation.backups


class Copy:
    """The backup of one action while it removes."""

    def __init__(self, backup: Backup, name: bytes) -> None:
        self._backup = backup
        self._name = name

    async def keep(self, payloads: Sequence[bytes]) -> None:
        """On disk when it returns. Raises CommandFailure."""
        try:
            await self._backup.add(
                [Saved(self._name, payload, kind=COMMAND) for payload in payloads]
            )
        except OSError as error:
            raise _unkept(error) from None

    async def close(self) -> dict[str, Any]:
        """What was written, for the outcome. Raises CommandFailure."""
        try:
            return await self._backup.close()
        except OSError as error:
            raise _unkept(error) from None


async def open_copy(operation: Operation, name: bytes) -> Copy:
    """A copy of what is removed from this key. Raises CommandFailure."""
    try:
        return Copy(await backups_of(operation).open(operation.id), name)
    except OSError as error:
        raise _unkept(error) from None
    except BackupDamaged as damaged:
        raise CommandFailure("error", "keep a copy of what is removed", str(damaged)) from None


async def kept_commands(operation: Operation) -> AsyncIterator[list[bytes]]:
    """The commands of this action's backup, oldest first. Raises CommandFailure."""
    try:
        async for saved in backups_of(operation).read(operation.id):
            yield unpacked(saved.payload)
    except OSError as error:
        raise CommandFailure("error", "read the backup", _words(error)) from None
    except BackupDamaged as damaged:
        raise CommandFailure("error", "read the backup", str(damaged)) from None


def raised(replies: Sequence[Reply | CommandFailure]) -> list[Reply]:
    """The replies. Raises the first failure among them."""
    for reply in replies:
        if isinstance(reply, CommandFailure):
            raise reply
    return [reply for reply in replies if not isinstance(reply, CommandFailure)]


def _unkept(error: OSError) -> CommandFailure:
    return CommandFailure("error", "keep a copy of what is removed", _words(error))


def _words(error: OSError) -> str:
    return error.strerror or type(error).__name__
