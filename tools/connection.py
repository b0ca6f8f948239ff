"""Connections to targets: the only place where one is opened (by `tools/link.py`).

Everything above speaks to the `Connection` protocol, so that the same tools run on a live
server, on a server being recorded, and on a recording (`tools/recording.py`). Replies are the
raw RESP2 shapes: bytes, int, None, list.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol, cast

import redis.exceptions as errors

from tools.failures import ERROR_REPLIES, CommandFailure, failure_of
from tools.link import Argument, Command, Link, LinkLost
from tools.permissions import READ_ONLY, Permission
from tools.reading import printable
from tools.siblings import Siblings
from tools.target_url import display_url, host_port, url_at

__all__ = [
    "Argument",
    "Command",
    "CommandFailure",
    "Connection",
    "LiveConnection",
    "Reply",
    "display_url",
    "failure_of",
    "parse_info",
    "read_info",
    "worded",
]

Reply = bytes | int | None | list["Reply"]

COMMAND_SECONDS = 5.0
RECONNECTS = 3
"""How often one investigation may reconnect after a dropped connection."""
PATIENCE_SECONDS = 60.0
"""How long, in all, it is waited for another node to take over. Sentinels need 30 s by default, a
cluster 15 s, before they begin to."""
PAUSE_SECONDS = 0.5
ROLE_SECONDS = 2.0
"""How old the role in a node's name may be."""
LONGEST_PIPELINE = 2_000
CLIENT_NAME = "redis-oncall"
_PLAIN = frozenset({bytes, int, list, type(None)})
"""Types of replies that are no errors."""


class Connection(Protocol):
    """What a tool may do: run a command, run several in one round trip, wait, ask the time."""

    node: str
    """host:port and role, e.g. `127.0.0.1:6379 (master)`. No credentials."""

    async def execute(self, *command: Argument) -> Reply:
        """Run one command. Raises CommandFailure."""

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        """Run commands in one round trip; each fails on its own. Raises if the link is lost."""

    async def at(self, address: str) -> "Connection":
        """Another node of the same deployment, by host:port, with the same credentials.

        The same one again for the same address; it is closed with this one. Raises CommandFailure,
        also where the target's URL names but one node.
        """

    async def wait(self, seconds: float) -> None:
        """Let time pass on the target: sleeps on a live server, moves on in a recording."""

    def now(self) -> datetime:
        """The time of the look, UTC."""

    async def close(self) -> None:
        """Close the link. Repeatable."""


def worded(command: Command) -> str:
    """A command as it may be shown: bounded, printable."""
    shown = [
        printable(part if isinstance(part, bytes | str) else str(part), 80) for part in command
    ]
    return " ".join(shown[:8]) + (" …" if len(shown) > 8 else "")


class Route(Protocol):
    """Finds the node to speak to, where a URL names several (`tools/routes.py`)."""

    async def url(self) -> str:
        """The URL of the node to connect to now. Raises CommandFailure."""

    def takes(self, role: str) -> bool:
        """Whether a node in this role (`master`, `slave`; empty: unknown) is the one wanted."""


def _link(url: str, seconds: float) -> Link:
    """An unopened link to what the URL names. Raises CommandFailure."""
    try:
        return Link(url, seconds)
    except (ValueError, TypeError, errors.RedisError):  # the text may hold a piece of the password
        raise CommandFailure(
            "error",
            "read the target's URL",
            "not a redis://, rediss:// or unix:// URL, or an option of it is none",
            "percent-encode special characters in user name and password; compare `ssl_…` options",
        ) from None


class LiveConnection:
    """One kept connection to a live server, restricted to what `permission` lists.

    A dropped connection is opened again, at most `reconnects` times, and with the read-only
    permission the commands that met the drop are sent once more. An executor passes 0 and has
    another permission: a write must never be sent twice.

    With a `route` the node is looked for anew each time, for at most PATIENCE_SECONDS in all: a
    failover takes its time. `follows`: `at` opens the nodes that this one names, with its
    credentials.
    """

    def __init__(
        self,
        url: str,
        permission: Permission = READ_ONLY,
        *,
        reconnects: int = RECONNECTS,
        command_seconds: float = COMMAND_SECONDS,
        route: Route | None = None,
        follows: bool = False,
    ) -> None:
        self.address = display_url(url)
        self.node = self.address
        self.client_id: int | None = None
        self.commands = 0
        """Commands sent so far."""
        self._permission = permission
        self._reconnects = reconnects
        self._command_seconds = command_seconds
        self._route = route
        self._others = Siblings(self._open_other if follows else None)
        self._patience = PATIENCE_SECONDS
        self._role = ""
        self._role_at: float | None = None
        self._waited = 0.0
        self._lock = asyncio.Lock()
        self._opened = False
        self._gone: CommandFailure | None = None
        self._url = url
        self._link = _link(url, command_seconds)

    @property
    def seconds(self) -> float:
        """Time spent waiting for the server, in seconds."""
        return self._waited + self._link.waited

    async def open(self) -> None:
        """Connect, authenticate and introduce ourselves. Raises CommandFailure."""
        async with self._lock:
            await self._connect()

    async def _connect(self) -> None:
        if self._route is None:
            return await self._connect_to_node()
        while True:
            began = time.monotonic()
            try:
                if await self._is_connected_by(self._route):
                    return None
            finally:
                self._patience -= time.monotonic() - began + PAUSE_SECONDS
            await asyncio.sleep(PAUSE_SECONDS)

    async def _is_connected_by(self, route: Route) -> bool:
        """One try; False: another is worth it. Raises CommandFailure: none is."""
        is_last = self._patience <= 0
        try:
            url = await route.url()
        except CommandFailure:
            if is_last or not self._opened:
                raise
            return False
        try:
            await self._connect_to_node(url)
        except CommandFailure as failure:
            if is_last or failure.kind == "auth":
                raise
            return False
        if route.takes(self._role):
            return True
        await self._link.drop()
        if not is_last:
            return False
        tried = f"look at the primary, {host_port(self.address)}"
        raise CommandFailure("unreachable", tried, "it is none: a failover is under way")

    async def _connect_to_node(self, url: str | None = None) -> None:
        if url is not None and url != self._url:
            self._waited += self._link.waited
            self._url, self.address = url, display_url(url)
            self._link = _link(url, self._command_seconds)
        tried = f"connect to {self.address} as '{self._link.user}'"
        try:
            await self._link.connect()
            await self._introduce()
        except (errors.RedisError, OSError) as error:
            await self._link.drop()
            raise failure_of(error, tried) from None
        except BaseException:  # cancelled: a reply may still be under way
            await self._link.drop()
            raise
        self._link.begin()
        self._opened = True

    async def _introduce(self) -> None:
        client_id = await self._ask("CLIENT", "ID")
        self.client_id = client_id if isinstance(client_id, int) else None
        # Courtesies: a server or user that refuses them is still a server to diagnose.
        # NO-TOUCH keeps our reads from resetting OBJECT IDLETIME.
        await self._ask("CLIENT", "SETNAME", CLIENT_NAME)
        await self._ask("CLIENT", "NO-TOUCH", "ON")
        self._take_role(await self._ask("ROLE"))

    def _take_role(self, reply: Reply | CommandFailure) -> None:
        known = isinstance(reply, list) and reply and isinstance(reply[0], bytes)
        if not known and isinstance(reply, CommandFailure) and reply.kind in ("busy", "loading"):
            known = True  # as it was
        elif known:
            self._role = printable(cast("list[bytes]", reply)[0])
        # Where it is refused it is not asked again.
        self._role_at = time.monotonic() if known else None
        self.node = host_port(self.address) + (f" ({self._role})" if self._role else "")

    async def _ask(self, *command: Argument) -> Reply:
        reply = await self._link.ask(*command)
        if isinstance(reply, errors.AuthenticationError):
            raise reply
        return None if isinstance(reply, Exception) else cast(Reply, reply)

    async def execute(self, *command: Argument) -> Reply:
        """Run one command. Raises CommandFailure."""
        (reply,) = await self.execute_many([command])
        if isinstance(reply, CommandFailure):
            raise reply
        return reply

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        """Run commands in one round trip (at most LONGEST_PIPELINE)."""
        if not commands:
            return []
        if len(commands) > LONGEST_PIPELINE:
            raise ValueError(
                f"{len(commands)} commands in one pipeline; page by {LONGEST_PIPELINE}"
            )
        if (refused := self._permission.refused(commands)) is not None:
            place, refusal = refused
            raise CommandFailure("not_allowed", worded(commands[place]), refusal)
        self.commands += len(commands)
        if not self._role_is_old():
            return await self._send(commands)
        *replies, role = await self._send([*commands, ("ROLE",)])
        self._take_role(role)
        if self._route is not None and not self._route.takes(self._role):
            await self._link.drop()  # the next command goes to the one that took over
        return replies

    def _role_is_old(self) -> bool:
        """Asked along now and then: a failover may leave the link as it is."""
        reads = self._permission is READ_ONLY
        at = self._role_at
        return reads and at is not None and time.monotonic() - at > ROLE_SECONDS

    async def _send(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        try:
            return await self._round_trip(commands)
        except CommandFailure as failure:
            if failure.kind != "connection_lost" or self._permission is not READ_ONLY:
                raise
        return await self._round_trip(commands)

    async def _ensure_connected(self, commands: Sequence[Command]) -> None:
        if self._link.is_connected:
            return
        if self._opened:
            if self._reconnects <= 0:
                raise self._stays_gone(commands[0])
            self._reconnects -= 1
        await self._connect()

    def _stays_gone(self, command: Command) -> CommandFailure:
        cause = self._gone or CommandFailure("connection_lost", "", "the connection is gone")
        return CommandFailure(
            cause.kind,
            self._tried(command),
            f"not connected again after: {cause.failed}",
            cause.remedy,
        )

    async def _round_trip(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        async with self._lock:
            await self._ensure_connected(commands)
            answered = await self._link.send(commands)
            _stop_if_cancelled()
        try:
            replies = await answered
        except LinkLost as lost:
            self._gone = failure_of(lost.error, self._tried(commands[lost.place]))
            raise self._gone from None
        if _PLAIN.issuperset(map(type, replies)):
            return cast("list[Reply | CommandFailure]", replies)
        return [
            await self._failure(reply, command)
            if isinstance(reply, Exception)
            else cast(Reply, reply)
            for command, reply in zip(commands, replies, strict=True)
        ]

    async def _failure(self, reply: Exception, command: Command) -> CommandFailure:
        """The error that the server replied. Raises it if the server hangs up with it."""
        failure = failure_of(reply, self._tried(command))
        if isinstance(reply, errors.ConnectionError) and not isinstance(reply, ERROR_REPLIES):
            await self._link.drop()
            self._gone = failure
            raise failure
        return failure

    def _tried(self, command: Command) -> str:
        return f"{worded(command)} on {host_port(self.address)} as '{self._link.user}'"

    async def at(self, address: str) -> "LiveConnection":
        """Another node of the deployment. Raises CommandFailure."""
        return self if address == host_port(self.address) else await self._others.at(address)

    async def _open_other(self, address: str) -> "LiveConnection":
        url, seconds = url_at(self._url, address), self._command_seconds
        other = LiveConnection(url, reconnects=1, command_seconds=seconds)
        try:
            await other.open()
        except BaseException:
            await other.close()
            raise
        return other

    async def wait(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)

    def now(self) -> datetime:
        """Now, UTC."""
        return datetime.now(UTC)

    async def close(self) -> None:
        """Close the link: it is not opened again. Repeatable."""
        self._reconnects = 0
        await self._link.drop()
        await self._others.close()


def _stop_if_cancelled() -> None:
    """Python 3.11's wait_for, by which redis-py connects, forgets a cancellation now and then."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def parse_info(reply: Reply) -> dict[str, str]:
    """INFO's text as field -> value. Values are untrusted text, bounded in length."""
    if not isinstance(reply, bytes):
        return {}
    fields = {}
    for line in reply.decode("utf-8", "backslashreplace").splitlines():
        name, separator, value = line.partition(":")
        if separator and not line.startswith("#"):
            fields[name] = printable(value.strip(), 1000)
    return fields


async def read_info(connection: Connection, *sections: str) -> dict[str, str]:
    """INFO fields of the given sections (none: the default ones). Raises CommandFailure.

    INFO takes several sections only since 7.0, so each is its own command in one round trip.
    """
    replies = await connection.execute_many(
        [("INFO", section) for section in sections or ("default",)]
    )
    fields: dict[str, str] = {}
    for reply in replies:
        if isinstance(reply, CommandFailure):
            raise reply
        fields |= parse_info(reply)
    return fields
