"""Replies of a keyspace of any size, made as they are asked for."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tools.bigkeys import BigKeysArguments, bigkeys
from tools.connection import Argument, Command, CommandFailure, Reply
from tools.keyspace import BigKeys

INFO = b"run_id:" + b"0" * 40 + b"\r\nused_memory_dataset:1000000000\r\nredis_mode:standalone\r\n"


class Stream:
    """A connection to so many keys of so many prefixes, in SCAN's order."""

    node = "stream"

    def __init__(self, keys: int, prefixes: int) -> None:
        self.keys = keys
        self.prefixes = prefixes

    async def execute(self, *command: Argument) -> Reply:
        (reply,) = await self.execute_many([command])
        assert not isinstance(reply, CommandFailure)
        return reply

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        return [self._answer(*command) for command in commands]

    def _answer(self, *command: Argument) -> Reply:
        match command[0]:
            case "MEMORY":
                return 50 + len(command[2]) * 7 % 1_000  # type: ignore[arg-type]
            case "SCAN":
                return self._page(int(command[1]), int(command[3]))
            case "INFO":
                return INFO
            case "DBSIZE":
                return self.keys
            case "TYPE":
                return b"string"
            case "OBJECT" if command[1] == "ENCODING":
                return b"raw"
            case "CLIENT":
                return b"OK"
            case "PTTL":
                return -1
        return 100

    def _page(self, cursor: int, count: int) -> Reply:
        last = min(cursor + count, self.keys)
        # As mixed as SCAN shows them: neighbours have nothing in common.
        names: list[Reply] = [
            b"team%d:%x" % ((number * 2_654_435_761) % self.prefixes, number)
            for number in range(cursor, last)
        ]
        return [b"0" if last == self.keys else b"%d" % last, names]

    async def at(self, address: str) -> "Stream":
        raise AssertionError(address)

    async def wait(self, seconds: float) -> None:
        pass

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def close(self) -> None:
        pass


async def peak_mb(keys: int, prefixes: int) -> float:
    """The most memory that this process had, resident, MB, walking over so many."""
    args = BigKeysArguments(seconds=120, keys=10_000_000, every_key=True)
    reading = await bigkeys(Stream(keys, prefixes), args)
    assert isinstance(reading, BigKeys)
    assert reading.keys_seen == keys or "budget" in reading.stopped_because
    # Not getrusage: that begins with what the process had that started this one.
    told = Path("/proc/self/status").read_text()
    (peak,) = [line for line in told.splitlines() if line.startswith("VmHWM:")]
    return int(peak.split()[1]) * 1024 / 1e6
