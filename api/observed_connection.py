"""A connection to a target, observed: its load is counted, and its round trips are spans.

A span has the names of the commands, and nothing else of them.
"""

from collections.abc import Sequence
from datetime import datetime

from api import metrics, tracing
from tools.connection import Argument, Command, CommandFailure, Connection, Reply

MOST_SPANS = 1_000
"""Round trips of one connection that are traced: a scan of a large server makes many more."""
CONTAINERS = frozenset(
    {"ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "FUNCTION", "LATENCY", "MEMORY", "MODULE",
     "OBJECT", "PUBSUB", "SCRIPT", "SLOWLOG", "XGROUP", "XINFO"}
)  # fmt: skip
"""Commands whose second word is a part of the name."""


class ObservedConnection:
    """Passes everything on. `purpose`: investigation, remedy, chat or watch."""

    def __init__(self, connection: Connection, target: str, purpose: str) -> None:
        self._inner = connection
        self._target = target
        self._purpose = purpose
        self._others: dict[str, ObservedConnection] = {}
        self._commands = metrics.TARGET_COMMANDS.labels(target, purpose)
        self._seconds = metrics.TARGET_SECONDS.labels(target, purpose)
        self._told: tuple[int, float] = (0, 0.0)
        self._left = MOST_SPANS
        self.node = connection.node

    async def execute(self, *command: Argument) -> Reply:
        """Run one command. Raises CommandFailure."""
        (reply,) = await self.execute_many([command])
        if isinstance(reply, CommandFailure):
            raise reply
        return reply

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        """Run commands in one round trip."""
        try:
            if self._left <= 0 or not tracing.is_on():
                return await self._inner.execute_many(commands)
            self._left -= 1
            return await self._traced(commands)
        finally:
            self._tell()
            self.node = self._inner.node

    async def _traced(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        names = sorted({name_of(command) for command in commands})
        with tracing.span(
            names[0] if len(names) == 1 else "PIPELINE",
            {
                "db.system.name": "redis",
                "db.operation.name": ", ".join(names[:8]),
                "db.operation.batch.size": len(commands),
                "redis_oncall.target": self._target,
            },
            kind="client",
        ) as span:
            replies = await self._inner.execute_many(commands)
            failed = [reply.kind for reply in replies if isinstance(reply, CommandFailure)]
            if failed:
                span.fail(failed[0])
        return replies

    def _tell(self) -> None:
        """Count what the connection has counted since the last time; one never opened, nothing."""
        before = self._told
        now = (getattr(self._inner, "commands", 0), getattr(self._inner, "seconds", 0.0))
        self._told = now
        self._commands.inc(now[0] - before[0])
        self._seconds.inc(now[1] - before[1])

    async def at(self, address: str) -> Connection:
        """Another node of the deployment, observed as well. Raises CommandFailure."""
        other = await self._inner.at(address)
        if other is self._inner:
            return self
        if address not in self._others:
            self._others[address] = ObservedConnection(other, self._target, self._purpose)
        return self._others[address]

    async def wait(self, seconds: float) -> None:
        """Let time pass on the target."""
        await self._inner.wait(seconds)

    def now(self) -> datetime:
        """The time of the look, UTC."""
        return self._inner.now()

    async def close(self) -> None:
        """Close the link. Repeatable."""
        await self._inner.close()


def name_of(command: Command) -> str:
    """A command's name, without any argument of it."""
    words = [
        (part if isinstance(part, bytes) else str(part).encode()).decode("ascii", "replace").upper()
        for part in command[:2]
    ]
    return " ".join(words[: 2 if words[0] in CONTAINERS else 1])
