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

import redis.exceptions as errors
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tools.failures import ERROR_REPLIES, CommandFailure, failure_of
from tools.permissions import READ_ONLY, READ_WRITE, Permission
from tools.reading import printable
from tools.target_url import display_url, host_port, user_of, with_known_options

__all__ = [
    "Argument",
    "Command",
    "CommandFailure",
    "Connection",
    "LiveConnection",
    "Reply",
    "UnreachableConnection",
    "display_url",
    "failure_of",
    "open_for_reading",
    "open_for_remedies",
    "parse_info",
    "read_info",
    "worded",
]

Argument = str | bytes | int | float
Command = Sequence[Argument]
Reply = bytes | int | None | list["Reply"]

CONNECT_SECONDS = 3.0
COMMAND_SECONDS = 5.0
RECONNECTS = 3
"""How often one investigation may reconnect after a dropped connection."""
LONGEST_PIPELINE = 2_000
CLIENT_NAME = "redis-oncall"


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


def worded(command: Command) -> str:
    """A command as it may be shown: bounded, printable."""
    shown = [
        printable(part if isinstance(part, bytes | str) else str(part), 80) for part in command
    ]
    return " ".join(shown[:8]) + (" …" if len(shown) > 8 else "")


def _link(url: str, command_seconds: float) -> tuple[AbstractConnection, str]:
    """An unopened link to what the URL names, and its user. Raises CommandFailure."""
    try:
        pool = ConnectionPool.from_url(
            with_known_options(url),
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=command_seconds,
            socket_connect_timeout=CONNECT_SECONDS,
            driver_info=None,
            maint_notifications_config=None,
        )
        make = cast(Callable[[], AbstractConnection], pool.make_connection)
        return make(), user_of(pool.connection_kwargs)
    except (ValueError, TypeError):  # the text may hold a piece of the password
        raise CommandFailure(
            "error",
            "read the target's URL",
            "not a redis://, rediss:// or unix:// URL",
            "percent-encode special characters in user name and password",
        ) from None


class LiveConnection:
    """One kept connection to a live server, restricted to what `permission` lists.

    A dropped connection is opened again, at most `reconnects` times, and with the read-only
    permission the commands that met the drop are sent once more. An executor passes 0 and has
    another permission: a write must never be sent twice.
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
        self._gone: CommandFailure | None = None
        self._command_seconds = command_seconds
        self._link, self._user = _link(url, command_seconds)

    async def open(self) -> None:
        """Connect, authenticate and introduce ourselves. Raises CommandFailure."""
        async with self._lock:
            await self._connect()

    async def _connect(self) -> None:
        tried = f"connect to {self.address} as '{self._user}'"
        self._link.socket_timeout = self._command_seconds
        try:
            await self._link.connect()  # type: ignore[no-untyped-call]
            await self._introduce()
        except (errors.RedisError, OSError) as error:
            await self._drop()
            raise failure_of(error, tried) from None
        except BaseException:  # cancelled: a reply may still be under way
            await self._drop()
            raise
        self._link.socket_timeout = None  # from here on `_round_trip` keeps the time
        self._opened = True

    async def _introduce(self) -> None:
        client_id = await self._ask("CLIENT", "ID")
        self.client_id = client_id if isinstance(client_id, int) else None
        # Courtesies: a server or user that refuses them is still a server to diagnose.
        # NO-TOUCH keeps our reads from resetting OBJECT IDLETIME.
        await self._ask("CLIENT", "SETNAME", CLIENT_NAME)
        await self._ask("CLIENT", "NO-TOUCH", "ON")
        role = await self._ask("ROLE")
        if isinstance(role, list) and role and isinstance(role[0], bytes):
            self.node = f"{host_port(self.address)} ({printable(role[0])})"
        else:
            self.node = host_port(self.address)

    async def _ask(self, *command: Argument) -> Reply:
        await self._link.send_command(*command)
        reply = await self._read()
        if isinstance(reply, errors.AuthenticationError):
            raise reply
        return None if isinstance(reply, Exception) else reply

    async def _read(self) -> Reply | Exception:
        """A reply, or the error the server replied; raises when the link fails.

        redis-py takes some error replies for link failures and would close a good connection.
        """
        try:
            return cast(Reply, await self._link.read_response(disconnect_on_error=False))
        except ERROR_REPLIES as error:
            return error

    async def _drop(self) -> None:
        await self._link.disconnect(nowait=True)

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
        for command in commands:
            if (refusal := self._permission.refusal(command)) is not None:
                raise CommandFailure("not_allowed", worded(command), refusal)
        async with self._lock:
            started = time.perf_counter()
            try:
                return await self._send_and_read(commands)
            finally:
                self.commands += len(commands)
                self.seconds += time.perf_counter() - started

    async def _send_and_read(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        await self._ensure_connected(commands)
        try:
            return await self._round_trip(commands)
        except CommandFailure as failure:
            self._gone = failure
            if failure.kind != "connection_lost" or self._permission is not READ_ONLY:
                raise
        await self._ensure_connected(commands)
        try:
            return await self._round_trip(commands)
        except CommandFailure as failure:
            self._gone = failure
            raise

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
        replies: list[Reply | CommandFailure] = []
        # So long may each reply take. A timer for each would cost more than to read it.
        clock, slack = asyncio.get_running_loop().time, self._command_seconds / 10
        renewed = clock()
        try:
            async with asyncio.timeout(self._command_seconds) as silence:
                await self._link.send_packed_command(
                    self._link.pack_commands(commands), check_health=False
                )
                _stop_if_cancelled()
                for command in commands:
                    if clock() > renewed + slack:
                        renewed = clock()
                        silence.reschedule(renewed + self._command_seconds)
                    reply = await self._read()
                    replies.append(
                        failure_of(reply, self._tried(command))
                        if isinstance(reply, Exception)
                        else reply
                    )
        except TimeoutError:
            await self._drop()
            silent = errors.TimeoutError(f"Timeout: no answer in {self._command_seconds:g} s")
            raise failure_of(silent, self._tried(commands[len(replies)])) from None
        except (errors.RedisError, OSError) as error:
            await self._drop()
            raise failure_of(error, self._tried(commands[len(replies)])) from None
        except BaseException:  # cancelled: the replies still under way must not answer others
            await self._drop()
            raise
        return replies

    def _tried(self, command: Command) -> str:
        return f"{worded(command)} on {host_port(self.address)} as '{self._user}'"

    async def wait(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)

    def now(self) -> datetime:
        """Now, UTC."""
        return datetime.now(UTC)

    async def close(self) -> None:
        """Close the link: it is not opened again. Repeatable."""
        self._reconnects = 0
        await self._drop()


def _stop_if_cancelled() -> None:
    """Python 3.11's wait_for, by which redis-py connects, forgets a cancellation now and then."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


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
        return [await self.execute(*command) for command in commands]

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
    except CommandFailure as failure:
        return UnreachableConnection(host_port(display_url(url)), failure)
    try:
        await connection.open()
    except CommandFailure as failure:
        await connection.close()
        return UnreachableConnection(host_port(connection.address), failure)
    return connection


async def open_for_remedies(url: str | None) -> LiveConnection:
    """The executor's connection: may write, never retries, never reconnects.

    Raises CommandFailure, also when no second identity is configured.
    """
    if url is None:
        raise CommandFailure(
            "not_allowed",
            "open a connection for remedies",
            "the target has no remedy_url",
            "configure remedy_url (`redis-oncall acl` prints its user), or carry it out by hand",
        )
    connection = LiveConnection(url, READ_WRITE, reconnects=0)
    try:
        await connection.open()
    except CommandFailure:
        await connection.close()
        raise
    return connection


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
