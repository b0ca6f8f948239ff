"""The executor at work on a real server: one incident, one action, what was written."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import redis

from agent.context import Context, Target
from agent.incident import Action, Approval, Incident, Plan, fingerprint
from agent.memory_journal import MemoryJournal
from agent.policy import Policy
from agent.runbook import Library
from agent.work import identify
from evals.servers import Server
from tools.connection import Argument, Command, CommandFailure, Connection, LiveConnection, Reply
from tools.opening import open_for_reading
from tools.permissions import READ_WRITE
from tools.remedies.catalogue import REMEDIES

NOW = datetime.now(UTC)
AT_ONCE = Policy(verify_for=timedelta(0))
"""Nobody watches: one look before the write and one after it."""
HZ = {"parameter": "hz", "value": "50"}


class Noted(LiveConnection):
    """The executor's connection, with its CONFIG SETs written down."""

    def __init__(self, url: str, writes: list[Command]) -> None:
        super().__init__(url, READ_WRITE, reconnects=0)
        self.writes = writes

    async def execute(self, *command: Argument) -> Reply:
        if command[:2] == ("CONFIG", "SET"):
            self.writes.append(command)
        return await super().execute(*command)


class Desk:
    """One incident on one server: its journal, its connections, and what was written."""

    def __init__(self, server: Server) -> None:
        self.server = server
        incident = Incident(
            id="i-1",
            status="awaiting_approval",
            severity="critical",
            title="memory",
            target="cache-1",
            opened_at=NOW,
            updated_at=NOW,
        )
        self.journal = MemoryJournal(incident)
        self.wrap: Callable[[Connection], Connection] = lambda connection: connection
        self.writes: list[Command] = []
        self.reading: Connection | None = None

    async def open(self) -> Connection:
        connection = Noted(self.server.url, self.writes)
        await connection.open()
        return self.wrap(connection)

    async def context(self, **target: Any) -> Context:
        self.reading = self.reading or await open_for_reading(self.server.url)
        return Context(
            target=Target("cache-1", self.server.url, environment="staging", **target),
            connection=self.reading,
            open_for_remedies=self.open,
            journal=self.journal,
            library=Library(runbooks=[]),
            rules=None,  # type: ignore[arg-type]
            policy=AT_ONCE,
        )

    async def approved(self, kind: str, arguments: dict[str, Any], /, **changes: Any) -> Action:
        connection = await self.open()
        identity = await identify(connection)
        await connection.close()
        remedy = REMEDIES[kind]
        action = Action(
            id="A1",
            fingerprint=fingerprint(kind, arguments, identity, ["E1"]),
            kind=kind,
            title=kind,
            arguments=arguments,
            risk=remedy.risk,
            evidence=["E1"],
            approvals=[Approval(by="ann", role="approver", at=NOW)],
            expires_at=NOW + timedelta(hours=1),
            status="approved",
        ).model_copy(update=changes)
        await self.journal.set_plan(Plan(actions=[action]))
        return action

    async def stored(self) -> Action:
        return (await self.journal.incident()).plan.actions[0]


class Wrapped:
    """A connection in between."""

    def __init__(self, connection: Connection, url: str = "") -> None:
        self.connection, self.url, self.node = connection, url, connection.node

    async def execute(self, *command: Argument) -> Reply:
        return await self.connection.execute(*command)

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        return await self.connection.execute_many(commands)

    async def opened_again(self) -> Connection:
        other = LiveConnection(self.url, READ_WRITE, reconnects=0)
        await other.open()
        return other

    async def at(self, address: str) -> Connection:
        return await self.connection.at(address)

    async def wait(self, seconds: float) -> None:
        await self.connection.wait(seconds)

    def now(self) -> datetime:
        return self.connection.now()

    async def close(self) -> None:
        await self.connection.close()


class Severed(Wrapped):
    """A link that breaks at the first CONFIG SET, before or after the server has seen it."""

    def __init__(self, connection: Connection, *, after: bool) -> None:
        super().__init__(connection)
        self.after = after

    async def execute(self, *command: Argument) -> Reply:
        if command[:2] != ("CONFIG", "SET"):
            return await self.connection.execute(*command)
        if self.after:
            await self.connection.execute(*command)
        raise CommandFailure("connection_lost", "CONFIG SET", "the connection is gone")


def hz(client: "redis.Redis") -> str:
    return str(client.config_get("hz")["hz"])
