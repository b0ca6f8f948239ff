"""Opening a target: the two identities, and the node that a URL leads to."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from tools.connection import (
    RECONNECTS,
    Argument,
    Command,
    CommandFailure,
    Connection,
    LiveConnection,
    Reply,
    Route,
    read_info,
    worded,
)
from tools.node_rows import SECTIONS, NodeNumbers, most_loaded, numbers_of
from tools.permissions import READ_ONLY, READ_WRITE, Permission
from tools.reading import Measured, NotMeasured
from tools.routes import ClusterRoute, SentinelRoute, Trouble
from tools.siblings import MOST_OTHERS
from tools.target_url import deployment_of, display_url, host_port, url_at


class UnreachableConnection:
    """Stands in for a server that could not be opened: every command fails with the reason."""

    def __init__(self, node: str, failure: CommandFailure) -> None:
        self.node = node
        self.failure = failure

    async def execute(self, *command: Argument) -> Reply:
        """Fail with the reason why the connection could not be opened."""
        raise self._failure(worded(command))

    def _failure(self, tried: str) -> CommandFailure:
        return CommandFailure(self.failure.kind, tried, str(self.failure), self.failure.remedy)

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        """Fail with the reason why the connection could not be opened."""
        return [await self.execute(*command) for command in commands]

    async def at(self, address: str) -> Connection:
        """Fail with the reason why the connection could not be opened."""
        raise self._failure(f"connect to {address}")

    async def wait(self, seconds: float) -> None:
        """Nothing changes on a server that cannot be seen: do not wait."""

    def now(self) -> datetime:
        """Now, UTC."""
        return datetime.now(UTC)

    async def close(self) -> None:
        """Nothing to close."""


async def open_for_reading(
    url: str, *, wanted: Sequence[str] = (), follows: bool = False
) -> LiveConnection | UnreachableConnection:
    """The diagnosis identity's connection: read-only commands, kept, may reconnect.

    `wanted`: what may name the node of a cluster: that of an earlier look, an alert's labels.
    `follows`: it may lead to the other nodes of its deployment, too; those of clusters and
    Sentinels do.
    """
    try:
        connection = _connection(url, READ_ONLY, wanted, follows=follows)
    except CommandFailure as failure:
        return UnreachableConnection(host_port(display_url(url)), failure)
    try:
        await connection.open()
    except CommandFailure as failure:
        await connection.close()
        return UnreachableConnection(host_port(connection.address), failure)
    return connection


async def open_for_remedies(url: str | None, *, node: str = "") -> LiveConnection:
    """The executor's connection: may write, never retries, never reconnects.

    `node`: of a cluster, host:port of the one to write to. Raises CommandFailure, also when no
    second identity is configured.
    """
    if url is None:
        raise CommandFailure(
            "not_allowed",
            "open a connection for remedies",
            "the target has no remedy_url",
            "configure remedy_url (`redis-oncall acl` prints its user), or carry it out by hand",
        )
    connection = _connection(url, READ_WRITE, [node] if node else [])
    try:
        await connection.open()
    except CommandFailure:
        await connection.close()
        raise
    return connection


def _connection(
    url: str, permission: Permission, wanted: Sequence[str], *, follows: bool = False
) -> LiveConnection:
    """Not opened yet. Raises CommandFailure."""
    try:
        deployment = deployment_of(url)
    except ValueError as error:
        raise CommandFailure("error", "read the target's URL", str(error)) from None
    reads = permission is READ_ONLY
    route: Route | None = None
    if deployment.kind == "sentinel":
        route = SentinelRoute(url, deployment)
    elif deployment.kind == "cluster":
        route = ClusterRoute(url, deployment.addresses, _cluster_nodes, _most_loaded(url), wanted)
    return LiveConnection(
        url if route is None else url_at(url, deployment.addresses[0]),
        permission,
        reconnects=RECONNECTS if reads else 0,
        route=route,
        follows=reads and (follows or route is not None),
    )


async def _cluster_nodes(url: str) -> Reply:
    connection = LiveConnection(url, reconnects=0)
    try:
        await connection.open()
        return await connection.execute("CLUSTER", "NODES")
    finally:
        await connection.close()


def _most_loaded(url: str) -> Trouble:
    async def look(address: str) -> tuple[str, Measured[NodeNumbers]]:
        connection = LiveConnection(url_at(url, address), reconnects=0)
        try:
            await connection.open()
            return address, numbers_of(await read_info(connection, *SECTIONS), 0)
        except CommandFailure as failure:
            return address, failure.as_not_measured()
        finally:
            await connection.close()

    async def trouble(addresses: Sequence[str]) -> str | None:
        found = await asyncio.gather(*map(look, addresses[:MOST_OTHERS]))
        loads = {node: n for node, n in found if not isinstance(n, NotMeasured)}
        return most_loaded(loads) if loads else None

    return trouble
