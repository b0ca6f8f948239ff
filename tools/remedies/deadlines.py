"""The expiry times one action gives, recognisable afterwards without a list of keys.

Each key's deadline is computed from its name, so a key that carries exactly its deadline got it
from this action. That is bounded for any number of keys, survives a crash between write and
outcome, and leaves alone what an application has given another expiry since.
"""

import zlib
from dataclasses import dataclass
from typing import Any

from tools.connection import CommandFailure, Connection, Reply


@dataclass(frozen=True)
class Deadlines:
    """When each key is to expire: a base, spread by a hash of the key's name."""

    base_ms: int
    """Server time of the action plus the TTL, in milliseconds."""
    jitter_ms: int
    salt: str
    """Keeps two actions on the same keys apart."""

    def of(self, key: bytes) -> int:
        """Milliseconds since the epoch."""
        spread = zlib.crc32(key, zlib.crc32(self.salt.encode())) / 2**32
        return self.base_ms + int(spread * self.jitter_ms)

    async def carried_by(self, connection: Connection, keys: list[bytes]) -> list[bytes]:
        """Those keys whose expiry is exactly the one given here.

        PEXPIRETIME exists since 7.0; before, the same from PTTL between two readings of the
        server's clock. Raises CommandFailure.
        """
        replies = await connection.execute_many(
            [("TIME",), *(("PTTL", key) for key in keys), ("TIME",)]
        )
        first, last = milliseconds(replies[0]), milliseconds(replies[-1])
        return [
            key
            for key, left in zip(keys, replies[1:-1], strict=True)
            if isinstance(left, int)
            and left >= 0
            and first - 1 <= self.of(key) - left <= last + 1  # PTTL and TIME round to the ms
        ]

    def to_json(self) -> dict[str, Any]:
        """For the journal."""
        return {"base_ms": self.base_ms, "jitter_ms": self.jitter_ms, "salt": self.salt}


def milliseconds(reply: Reply | CommandFailure) -> int:
    """TIME's reply. Raises CommandFailure."""
    if isinstance(reply, CommandFailure):
        raise reply
    match reply:
        case [bytes() as seconds, bytes() as micros]:
            return int(seconds) * 1000 + int(micros) // 1000
    raise CommandFailure("error", "TIME", "an unexpected reply")
