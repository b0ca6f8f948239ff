"""The only place where a Redis client is opened.

Everything above speaks to the `Connection` protocol, so that the same tools run on a live
server, on a server being recorded, and on a recording (`tools/recording.py`). Replies are the
raw RESP2 shapes: bytes, int, None, list.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol, cast
from urllib.parse import urlsplit, urlunsplit

import redis.exceptions as errors
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tools.permissions import READ_ONLY, Permission
from tools.reading import FailureKind, NotMeasured, printable

Argument = str | bytes | int | float
Command = Sequence[Argument]
Reply = bytes | int | None | list["Reply"]

CONNECT_SECONDS = 3.0
COMMAND_SECONDS = 5.0
RECONNECTS = 3
"""How often one investigation may reconnect after a dropped connection."""
LONGEST_PIPELINE = 2_000
CLIENT_NAME = "redis-oncall"


class CommandFailure(Exception):
    """An expected failure of one command: what was tried, what failed, what would help."""

    def __init__(self, kind: FailureKind, tried: str, failed: str, remedy: str = "") -> None:
        super().__init__(f"{tried}: {failed}")
        self.kind = kind
        self.tried = tried
        self.failed = failed
        self.remedy = remedy

    def as_not_measured(self) -> NotMeasured:
        """The same, as a reading."""
        return NotMeasured(
            not_measured=self.tried, because=self.failed, failure=self.kind, remedy=self.remedy
        )


class Connection(Protocol):
    """What a tool may do: run a command, run several in one round trip, wait, ask the time."""

    node: str
    """host:port and role, e.g. `127.0.0.1:6379 (master)`. No credentials."""

    async def execute(self, *command: Argument) -> Reply:
        """Run one command. Raises CommandFailure."""

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        """Run commands in one round trip; each fails on its own. Raises if the link is lost."""

    async def wait(self, seconds: float) -> None:
        """Let time pass on the target: sleeps on a live server, moves on in a recording."""

    def now(self) -> datetime:
        """The time of the look, UTC."""

    async def close(self) -> None:
        """Close the link. Repeatable."""


_PREFIX_KINDS: dict[str, FailureKind] = {
    "NOPERM": "refused",
    "NOAUTH": "auth",
    "WRONGPASS": "auth",
    "MISCONF": "misconf",
    "BUSY": "busy",
    "LOADING": "loading",
    "OOM": "oom",
    "MASTERDOWN": "masterdown",
    "READONLY": "readonly",
}
# redis-py strips the code of errors it knows a class for.
_CLASS_KINDS: tuple[tuple[type[Exception], FailureKind], ...] = (
    (errors.NoPermissionError, "refused"),
    (errors.AuthenticationError, "auth"),
    (errors.AuthorizationError, "auth"),
    (errors.BusyLoadingError, "loading"),
    (errors.OutOfMemoryError, "oom"),
    (errors.ReadOnlyError, "readonly"),
    (errors.MasterDownError, "masterdown"),
    (errors.MaxConnectionsError, "maxclients"),
    (errors.TimeoutError, "timeout"),
    (TimeoutError, "timeout"),
)
_REMEDIES: dict[FailureKind, str] = {
    "refused": "grant the command to this user (`redis-oncall acl` prints the rule)",
    "auth": "check the user name and password in the target's URL",
    "misconf": "fix the disk or directory that snapshots are written to",
    "busy": "a script blocks the server: SCRIPT KILL, if it has not written",
    "loading": "wait until the dataset is loaded",
    "oom": "the server is at maxmemory",
    "maxclients": "free a connection slot; keep one for diagnosis",
    "timeout": "the server or the network is too slow; try again when it answers",
    "connection_lost": "look at the server's log: it closed the connection",
    "unreachable": "check host, port and that the server runs",
    "unresolvable": "check the host name in the target's URL",
    "unknown_command": "this server version or service does not offer the command",
    "not_allowed": "",
}


def failure_of(error: Exception, tried: str) -> CommandFailure:
    """The typed failure for an exception of redis-py or the network."""
    text = printable(str(error) or type(error).__name__, 300)
    kind = _kind_of(error, text)
    return CommandFailure(kind, tried, text, _REMEDIES.get(kind, ""))


def _kind_of(error: Exception, text: str) -> FailureKind:
    lowered = text.lower()
    if "max number of clients" in lowered or "maxclients" in lowered:
        return "maxclients"
    prefix = text.split(" ", 1)[0]
    if prefix in _PREFIX_KINDS:
        return _PREFIX_KINDS[prefix]
    for cls, kind in _CLASS_KINDS:
        if isinstance(error, cls):
            return kind
    if isinstance(error, errors.ResponseError):
        return _kind_of_reply(lowered)
    if isinstance(error, errors.ConnectionError | OSError):
        return _kind_of_link(lowered)
    return "error"


def _kind_of_reply(lowered: str) -> FailureKind:
    if "unknown command" in lowered or "unknown subcommand" in lowered:
        return "unknown_command"
    if "snapshots" in lowered and "disk" in lowered:
        return "misconf"
    return "refused" if "no permissions" in lowered else "error"


def _kind_of_link(lowered: str) -> FailureKind:
    if any(s in lowered for s in ("name or service", "nodename", "name resolution", "getaddrinfo")):
        return "unresolvable"
    if any(s in lowered for s in ("connect call failed", "connecting to", "refused", "no route")):
        return "unreachable"
    return "connection_lost"


def display_url(url: str) -> str:
    """The URL without user, password and query: safe to print."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def worded(command: Command) -> str:
    """A command as it may be shown: bounded, printable."""
    shown = [
        printable(part if isinstance(part, bytes | str) else str(part), 80) for part in command
    ]
    return " ".join(shown[:8]) + (" …" if len(shown) > 8 else "")


class LiveConnection:
    """One kept connection to a live server, restricted to what `permission` lists.

    A dropped connection is opened again at the next command, at most `reconnects` times; an
    executor passes 0, since a write must never be sent twice.
    """

    def __init__(
        self,
        url: str,
        permission: Permission = READ_ONLY,
        *,
        reconnects: int = RECONNECTS,
        command_seconds: float = COMMAND_SECONDS,
    ) -> None:
        self.address = display_url(url)
        self.node = self.address
        self.client_id: int | None = None
        self.commands = 0
        """Commands sent so far."""
        self.seconds = 0.0
        """Time spent waiting for the server, in seconds."""
        self._permission = permission
        self._reconnects = reconnects
        self._lock = asyncio.Lock()
        self._opened = False
        pool = ConnectionPool.from_url(
            url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=command_seconds,
            socket_connect_timeout=CONNECT_SECONDS,
            driver_info=None,
            maint_notifications_config=None,
        )
        self._user = str(pool.connection_kwargs.get("username") or "default")
        make = cast(Callable[[], AbstractConnection], pool.make_connection)
        self._link = make()

    async def open(self) -> None:
        """Connect, authenticate and introduce ourselves. Raises CommandFailure."""
        async with self._lock:
            await self._connect()

    async def _connect(self) -> None:
        tried = f"connect to {self.address} as '{self._user}'"
        try:
            await self._link.connect()  # type: ignore[no-untyped-call]
            client_id = await self._ask("CLIENT", "ID")
        except errors.RedisError as error:
            raise failure_of(error, tried) from None
        self._opened = True
        self.client_id = client_id if isinstance(client_id, int) else None
        # Courtesies: a server or user that refuses them is still a server to diagnose.
        # NO-TOUCH keeps our reads from resetting OBJECT IDLETIME.
        await self._ask("CLIENT", "SETNAME", CLIENT_NAME)
        await self._ask("CLIENT", "NO-TOUCH", "ON")
        role = await self._ask("ROLE")
        if isinstance(role, list) and role and isinstance(role[0], bytes):
            self.node = f"{_host_port(self.address)} ({printable(role[0])})"
        else:
            self.node = _host_port(self.address)

    async def _ask(self, *command: Argument) -> Reply:
        await self._link.send_command(*command)
        try:
            return cast(Reply, await self._link.read_response())
        except errors.ResponseError as error:
            if _kind_of(error, str(error)) in ("maxclients", "auth"):
                raise
            return None

    async def execute(self, *command: Argument) -> Reply:
        """Run one command. Raises CommandFailure."""
        (reply,) = await self.execute_many([command])
        if isinstance(reply, CommandFailure):
            raise reply
        return reply

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        """Run commands in one round trip (at most LONGEST_PIPELINE)."""
        if len(commands) > LONGEST_PIPELINE:
            raise ValueError(
                f"{len(commands)} commands in one pipeline; page by {LONGEST_PIPELINE}"
            )
        for command in commands:
            if (refusal := self._permission.refusal(command)) is not None:
                raise CommandFailure("not_allowed", worded(command), refusal)
        async with self._lock:
            await self._ensure_connected(commands)
            started = time.perf_counter()
            try:
                return await self._round_trip(commands)
            finally:
                self.commands += len(commands)
                self.seconds += time.perf_counter() - started

    async def _ensure_connected(self, commands: Sequence[Command]) -> None:
        if self._link.is_connected:
            return
        if self._opened:
            if self._reconnects <= 0:
                raise CommandFailure(
                    "connection_lost", self._tried(commands[0]), "the connection is gone"
                )
            self._reconnects -= 1
        await self._connect()

    async def _round_trip(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        replies: list[Reply | CommandFailure] = []
        try:
            await self._link.send_packed_command(
                self._link.pack_commands(commands), check_health=False
            )
            for command in commands:
                try:
                    replies.append(cast(Reply, await self._link.read_response()))
                except errors.ResponseError as error:
                    replies.append(failure_of(error, self._tried(command)))
        except (errors.RedisError, OSError) as error:
            await self._link.disconnect(nowait=True)
            raise failure_of(error, self._tried(commands[len(replies)])) from None
        return replies

    def _tried(self, command: Command) -> str:
        return f"{worded(command)} on {_host_port(self.address)} as '{self._user}'"

    async def wait(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)

    def now(self) -> datetime:
        """Now, UTC."""
        return datetime.now(UTC)

    async def close(self) -> None:
        """Close the link. Repeatable."""
        await self._link.disconnect(nowait=True)


class UnreachableConnection:
    """Stands in for a server that could not be opened: every command fails with the reason."""

    def __init__(self, node: str, failure: CommandFailure) -> None:
        self.node = node
        self.failure = failure

    async def execute(self, *command: Argument) -> Reply:
        """Fail with the reason why the connection could not be opened."""
        raise CommandFailure(
            self.failure.kind, worded(command), str(self.failure), self.failure.remedy
        )

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        """Fail with the reason why the connection could not be opened."""
        return [await self.execute(*commands[0])]

    async def wait(self, seconds: float) -> None:
        """Nothing changes on a server that cannot be seen: do not wait."""

    def now(self) -> datetime:
        """Now, UTC."""
        return datetime.now(UTC)

    async def close(self) -> None:
        """Nothing to close."""


async def open_for_reading(url: str) -> LiveConnection | UnreachableConnection:
    """The diagnosis identity's connection: read-only commands, kept, may reconnect."""
    try:
        connection = LiveConnection(url)
    except ValueError:  # its text may hold a piece of the password
        failure = CommandFailure(
            "error",
            "read the target's URL",
            "not a redis://, rediss:// or unix:// URL",
            "percent-encode special characters in user name and password",
        )
        return UnreachableConnection(_host_port(display_url(url)), failure)
    try:
        await connection.open()
    except CommandFailure as failure:
        await connection.close()
        return UnreachableConnection(_host_port(connection.address), failure)
    return connection


def _host_port(address: str) -> str:
    parts = urlsplit(address)
    return parts.netloc or parts.path


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
