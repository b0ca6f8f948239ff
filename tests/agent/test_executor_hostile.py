"""The executor when everything goes wrong: crashes, cut links, frozen or replaced targets."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from typing import Any

import pytest
import redis

from agent import executor, rollback, verification, work
from agent.context import Context
from agent.incident import Action
from evals.servers import Server
from tests.agent.operating import HZ, Desk, Wrapped, hz
from tests.tools.load import fill
from tools.connection import Argument, Command, CommandFailure, Connection, LiveConnection, Reply
from tools.opening import open_for_reading
from tools.permissions import READ_WRITE
from tools.remedies.vitals import MIB

EXPIRE = {"prefix": "session:", "ttl_seconds": 600}


@pytest.fixture
async def desk(server: Server) -> AsyncIterator[Desk]:
    made = Desk(server)
    yield made
    if made.reading is not None:
        await made.reading.close()


@pytest.fixture
def client(server: Server) -> Iterator["redis.Redis"]:
    with closing(redis.Redis(port=server.port, protocol=2)) as opened:
        yield opened


def expiring(client: "redis.Redis") -> int:
    return int(client.info("keyspace")["db0"]["expires"])


async def carry_on(context: Context, action: Action) -> Action:
    """What the graph does with an action, from wherever it stands."""
    action = await executor.apply(context, action)
    action = await verification.verify(context, action, hold_seconds=0)
    return await rollback.roll_back(context, action)


class Killed(BaseException):
    """kill -9."""


def kill_at(desk: Desk, step: int, *, after: bool) -> None:
    """Die at this write to the journal, before or after it is durable."""
    writes = 0

    def dying(write: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapped(*given: Any, **named: Any) -> None:
            nonlocal writes
            writes += 1
            if writes - 1 == step and not after:
                raise Killed
            await write(*given, **named)
            if writes - 1 == step:
                raise Killed

        return wrapped

    desk.journal.save_action = dying(desk.journal.save_action)  # type: ignore[method-assign]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", ["set_config", "expire_prefix"])
async def test_killed_at_any_step_nothing_is_done_twice_or_half_or_silently(
    start_server: Callable[..., Server], kind: str, after: bool
) -> None:
    server = start_server("valkey-9.1")
    for step in range(3):
        desk = Desk(server)
        with closing(redis.Redis(port=server.port)) as client:
            client.flushall()
            client.config_set("hz", "10")
            fill(client, "session:", 300, size=10)
            action = await desk.approved(kind, HZ if kind == "set_config" else EXPIRE)
            context = await desk.context()
            kill_at(desk, step, after=after)
            with pytest.raises(Killed):
                await carry_on(context, action)
            ended = await carry_on(context, action)
            done = hz(client) == "50" if kind == "set_config" else expiring(client) == 300
            untouched = hz(client) == "10" and expiring(client) == 0
            assert ended.status in ("verified", "failed"), (step, ended.comment)
            assert done if ended.status == "verified" else untouched, (step, ended.comment)
            assert len(desk.writes) <= 1
        await context.connection.close()


async def test_a_limit_that_somebody_raised_meanwhile_is_not_lowered(
    desk: Desk, client: "redis.Redis"
) -> None:
    client.config_set("maxmemory", "20mb")
    arguments = {"parameter": "maxmemory", "value": "30mb", "expected": str(20 * MIB)}
    action = await desk.approved("set_config", arguments)
    for since in ("60mb", "10mb"):
        client.config_set("maxmemory", since)
        ended = await executor.apply(await desk.context(), action)
        assert ended.status == "lapsed"
        assert "Nobody changed it since" in ended.comment
        assert client.config_get("maxmemory")["maxmemory"] == str(int(since[:2]) * MIB)
        await desk.approved("set_config", arguments)


async def test_another_server_in_its_place_verifies_nothing(
    desk: Desk, start_server: Callable[..., Server]
) -> None:
    action = await desk.approved("set_config", HZ)
    context = await desk.context()
    applied = await executor.apply(context, action)
    other = start_server(desk.server.build)
    with closing(redis.Redis(port=other.port)) as client:
        client.config_set("hz", "50")
    failed_over = replace(context, connection=await open_for_reading(other.url))
    judged = await verification.verify(failed_over, applied, hold_seconds=0)
    await failed_over.connection.close()
    assert judged.status == "outcome_unknown"
    assert "was replaced since" in judged.comment


async def test_a_promoted_replica_is_another_target(
    desk: Desk, start_server: Callable[..., Server]
) -> None:
    action = await desk.approved("set_config", HZ)
    context = await desk.context()
    applied = await executor.apply(context, action)
    with closing(redis.Redis(port=desk.server.port)) as client:
        client.replicaof("127.0.0.1", 1)
        judged = await verification.verify(context, applied, hold_seconds=0)
        assert judged.status == "outcome_unknown"
        await desk.journal.save_action(judged.model_copy(update={"status": "rolling_back"}))
        undone = await rollback.roll_back(context, judged)
        assert (undone.status, hz(client)) == ("rollback_failed", "50")
        assert "role" in undone.comment


class Nameless(Wrapped):
    """A proxy or managed service that hides which process answers."""

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        replies = await self.connection.execute_many(commands)
        return [
            reply.replace(b"run_id:", b"hidden:") if isinstance(reply, bytes) else reply
            for reply in replies
        ]


async def test_a_target_that_hides_its_identity_is_not_written_to(
    start_server: Callable[..., Server],
) -> None:
    desk = Desk(start_server("valkey-9.1"))
    desk.wrap = Nameless
    ended = await executor.apply(await desk.context(), await desk.approved("set_config", HZ))
    assert (ended.status, "run_id" in ended.comment) == ("lapsed", True)
    assert desk.writes == []
    assert desk.reading is not None
    await desk.reading.close()


class Freezing(Wrapped):
    """The server stops answering just as it is sent the write."""

    pid = 0

    async def execute(self, *command: Argument) -> Reply:
        if command[:2] == ("CONFIG", "SET"):
            os.kill(self.pid, signal.SIGSTOP)
        return await super().execute(*command)


async def test_a_frozen_server_has_an_unknown_outcome_and_is_not_written_to_again(
    desk: Desk, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "PATIENCE_SECONDS", 1.0)
    action = await desk.approved("set_config", HZ)
    context = await desk.context()

    async def impatient() -> Connection:
        live = LiveConnection(desk.server.url, READ_WRITE, reconnects=0, command_seconds=0.3)
        await live.open()
        made = Freezing(live)
        made.pid = desk.server.pid
        return made

    try:
        ended = await executor.apply(replace(context, open_for_remedies=impatient), action)
    finally:
        os.kill(desk.server.pid, signal.SIGCONT)
    assert ended.status == "outcome_unknown"
    assert "a person has to look" in ended.comment
    assert ["outcome unknown" in page for page in desk.journal.pages] == [True]
    client.config_set("hz", "33")
    assert (await carry_on(context, ended)).status == "outcome_unknown"
    assert hz(client) == "33"


@asynccontextmanager
async def cutting(port: int, needle: bytes) -> AsyncIterator[int]:
    """A TCP proxy that passes the first request with `needle` on, and never its reply."""
    cut: list[bool] = []
    serving: set[asyncio.Task[None] | None] = set()

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
            if needle in data and not cut:
                cut.append(True)
                break

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        beyond, onward = await asyncio.open_connection("127.0.0.1", port)
        pumps = [asyncio.create_task(pump(reader, onward))]
        pumps.append(asyncio.create_task(pump(beyond, writer)))
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for task in pumps:
            task.cancel()
        for end in (writer, onward):
            end.close()
            with suppress(OSError):
                await end.wait_closed()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield listener.sockets[0].getsockname()[1]
    listener.close()
    await asyncio.wait_for(asyncio.gather(*filter(None, serving)), 5)


@pytest.mark.parametrize(
    ("kind", "arguments", "needle", "statuses"),
    [
        ("set_config", HZ, b"$3\r\nSET", {"verified"}),
        ("expire_prefix", EXPIRE, b"PEXPIREAT", {"rolled_back", "failed"}),
    ],
)
async def test_a_link_cut_between_write_and_reply(
    desk: Desk, client: "redis.Redis", kind: str, arguments: Any, needle: bytes, statuses: set[str]
) -> None:
    fill(client, "session:", 3_000, size=10)
    action = await desk.approved(kind, arguments)
    context = await desk.context()
    async with cutting(desk.server.port, needle) as port:
        desk.server = replace(desk.server, port=port)
        ended = await carry_on(context, action)
    assert ended.status in statuses, ended.comment
    assert (hz(client) == "50") is (kind == "set_config")
    assert expiring(client) == 0
    assert await desk.journal.intent("A1") is None


class Disconnected(Wrapped):
    """Somebody disconnects the executor in the middle of its batches."""

    pages = 0

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        if commands and commands[0][0] == "PEXPIREAT":
            self.pages += 1
            if self.pages == 3:
                other = await self.opened_again()
                own = await self.connection.execute("CLIENT", "ID")
                assert own is not None
                await other.execute("CLIENT", "KILL", "ID", str(own))
                await other.close()
        return await super().execute_many(commands)


async def test_an_executor_disconnected_half_way_leaves_nothing_half_done(
    desk: Desk, client: "redis.Redis"
) -> None:
    fill(client, "session:", 4_000, size=10)
    fill(client, "session:own:", 20, size=10, ex=5_000)
    action = await desk.approved("expire_prefix", EXPIRE)
    desk.wrap = lambda connection: Disconnected(connection, desk.server.url)
    ended = await carry_on(await desk.context(), action)
    assert ended.status == "rolled_back", ended.comment
    assert ended.outcome["undone"]["keys_persisted"] > 100
    assert expiring(client) == 20
