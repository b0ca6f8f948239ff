"""Between any two steps of the executor: frozen, replaced, failed over, cut off in an undo."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
import redis

from agent import executor, rollback, verification, work
from agent.incident import Action
from agent.work import identify
from evals.servers import Server
from tests.agent.operating import HZ, NOW, Desk, Wrapped, hz
from tests.tools.load import fill
from tools.connection import Argument, Command, CommandFailure, Connection, Reply
from tools.remedies.config import SetConfig

EXPIRE = {"prefix": "session:", "ttl_seconds": 600, "batch_size": 50}


@pytest.fixture
async def desk(start_server: Callable[..., Server]) -> AsyncIterator[Desk]:
    made = Desk(start_server("valkey-9.1"))
    yield made
    if made.reading is not None:
        await made.reading.close()


@pytest.fixture
def client(desk: Desk) -> Iterator["redis.Redis"]:
    with closing(redis.Redis(port=desk.server.port, protocol=2)) as opened:
        yield opened


class Between(Wrapped):
    """Does something before the n-th batch of one command."""

    def __init__(
        self, connection: Connection, name: str, batch: int, do: Callable[[], object]
    ) -> None:
        super().__init__(connection)
        self.name, self.left, self.do = name, batch, do

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        if commands[0][0] == self.name:
            self.left -= 1
            if self.left == 0:
                self.do()
        return await super().execute_many(commands)


def expiring(client: "redis.Redis") -> int:
    return int(client.info("keyspace")["db0"]["expires"])


async def test_a_failover_in_the_middle_ends_it_and_says_how_far_it_came(
    desk: Desk, client: "redis.Redis"
) -> None:
    """A demoted primary that still takes writes: only its role gives it away."""
    fill(client, "session:", 1_000, size=10)
    action = await desk.approved("expire_prefix", EXPIRE)

    def demote() -> None:
        client.config_set("replica-read-only", "no")
        client.replicaof("127.0.0.1", 1)

    desk.wrap = lambda connection: Between(connection, "PEXPIREAT", 3, demote)
    ended = await executor.apply(await desk.context(), action)
    done = ended.outcome["done"]["keys_touched"]
    assert ended.status == "outcome_unknown"
    assert f"at least {done:,} keys touched" in ended.comment
    assert 0 < done < expiring(client) < 1_000, "the batch in doubt is not counted"
    assert [f"{done:,} keys" in page for page in desk.journal.pages] == [True]
    assert await desk.journal.intent("A1") is None


async def test_keys_refused_within_a_batch_are_counted(desk: Desk, client: "redis.Redis") -> None:
    fill(client, "session:", 300, size=10)
    action = await desk.approved("expire_prefix", EXPIRE)

    class Refusing(Wrapped):
        async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
            if commands[0][0] != "PEXPIREAT" or len(commands) < 20:
                return await super().execute_many(commands)
            done = await super().execute_many(commands[:7])
            return [*done, *(CommandFailure("oom", "PEXPIREAT", "OOM") for _ in commands[7:])]

    desk.wrap = Refusing
    context = await desk.context()
    ended = await executor.apply(context, action)
    assert ended.status == "applied"
    assert ended.outcome["done"]["keys_touched"] == expiring(client) == 17
    assert "OOM" in ended.outcome["done"]["stopped_because"]
    desk.wrap = lambda connection: connection
    judged = await verification.verify(context, ended, hold_seconds=0)
    assert (await rollback.roll_back(context, judged)).status == "rolled_back"
    assert client.info("keyspace")["db0"]["expires"] == 0


async def test_a_write_that_went_to_another_server_is_never_called_applied(
    desk: Desk, client: "redis.Redis", start_server: Callable[..., Server]
) -> None:
    """A proxy leads elsewhere between the last look and the one command."""
    other = Desk(start_server("valkey-9.1"))

    class Swapped(Wrapped):
        async def execute(self, *command: Argument) -> Reply:
            if command[:2] == ("CONFIG", "SET"):
                await self.connection.close()
                self.connection = await other.open()
            return await super().execute(*command)

    desk.wrap = Swapped
    action = await desk.approved("set_config", HZ)
    ended = await executor.apply(await desk.context(), action)
    assert (ended.status, hz(client), len(desk.journal.pages)) == ("outcome_unknown", "10", 1)
    assert "may have gone there" in ended.comment
    with closing(redis.Redis(port=other.server.port)) as strayed:
        assert hz(strayed) == "50"


class Frozen(BaseException):
    """SIGSTOP, as its successor sees it: nothing more comes from there."""


async def test_an_undo_cut_off_in_the_middle_is_completed_and_counts_all(
    desk: Desk, client: "redis.Redis"
) -> None:
    fill(client, "session:", 1_000, size=10)
    action = await desk.approved("expire_prefix", EXPIRE)
    context = await desk.context()
    applied = await executor.apply(context, action)
    touched = applied.outcome["done"]["keys_touched"]
    fill(client, "session:new:", 9_000, size=10)
    judged = await verification.verify(context, applied, hold_seconds=0)
    assert judged.status == "rolling_back"
    left_open: list[Connection] = []

    def freeze() -> None:
        raise Frozen

    class KeptOpen(Between):
        async def close(self) -> None:
            left_open.append(self.connection)

    desk.wrap = lambda connection: KeptOpen(connection, "MULTI", 4, freeze)
    with pytest.raises(Frozen):
        await rollback.roll_back(context, judged)
    assert 0 < expiring(client) < touched
    assert (await desk.stored()).status == "rolling_back"
    desk.wrap = lambda connection: connection
    undone = await rollback.roll_back(context, judged)
    assert (undone.status, client.info("keyspace")["db0"]["expires"]) == ("rolled_back", 0)
    assert undone.outcome["undone"]["keys_persisted"] == touched == 1_000
    with pytest.raises(CommandFailure):  # the frozen one wakes, and can write no more
        await left_open[0].execute("PERSIST", "session:000001")
    await left_open[0].close()


async def test_another_incidents_frozen_executor_is_disconnected_first(
    desk: Desk, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target's lease passed to another incident; whoever had it before is only frozen."""
    frozen = await desk.open()
    intent = {
        "phase": "apply",
        "captured": {},
        "client_id": await frozen.execute("CLIENT", "ID"),
        "identity": (await identify(frozen)).model_dump(),
        "at": NOW.isoformat(),
    }

    async def unsettled() -> list[dict[str, Any]]:
        return [intent]

    monkeypatch.setattr(desk.journal, "unsettled", unsettled)
    action = await desk.approved("set_config", HZ)
    assert (await executor.apply(await desk.context(), action)).status == "applied"
    with pytest.raises(CommandFailure):
        await frozen.execute("CONFIG", "SET", "hz", "77")
    assert hz(client) == "50"
    await frozen.close()


@pytest.mark.parametrize("outage", [2, 10_000])
async def test_a_target_that_is_away_for_a_moment_is_settled_later(
    desk: Desk, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch, outage: int
) -> None:
    monkeypatch.setattr(work, "PATIENCE_SECONDS", 2.0)
    action = await desk.approved("set_config", HZ)
    opened = 0

    async def open_sometimes() -> Connection:
        nonlocal opened
        opened += 1
        if 1 < opened <= 1 + outage:
            raise CommandFailure("unreachable", "connect", "connection refused")
        return await Desk.open(desk)

    class Lost(Wrapped):
        async def execute(self, *command: Argument) -> Reply:
            reply = await super().execute(*command)
            if command[:2] == ("CONFIG", "SET"):
                raise CommandFailure("connection_lost", "CONFIG SET", "the connection is gone")
            return reply

    desk.wrap = Lost
    desk.open = open_sometimes  # type: ignore[method-assign]
    ended = await executor.apply(await desk.context(), action)
    assert ended.status == ("applied" if outage == 2 else "outcome_unknown"), ended.comment
    assert (len(desk.writes), hz(client)) == (1, "50")
    assert len(desk.journal.pages) == (0 if outage == 2 else 1)


async def test_an_undo_survives_a_lost_link(desk: Desk, client: "redis.Redis") -> None:
    action = await desk.approved("set_config", HZ)
    context = await desk.context()
    applied = await executor.apply(context, action)
    links = 0

    class Weak(Wrapped):
        async def execute(self, *command: Argument) -> Reply:
            nonlocal links
            if command[:2] == ("CONFIG", "SET") and links == 0:
                links += 1
                raise CommandFailure("connection_lost", "CONFIG SET", "the connection is gone")
            return await super().execute(*command)

    desk.wrap = Weak
    undone = await rollback.roll_back(context, applied)
    assert (undone.status, hz(client), links) == ("rolled_back", "10", 1)


async def test_a_proxy_that_shares_connections_is_not_written_through(
    desk: Desk, client: "redis.Redis"
) -> None:
    class Shared(Wrapped):
        asked = 0

        async def execute(self, *command: Argument) -> Reply:
            if command == ("CLIENT", "ID"):
                self.asked += 1
                return self.asked
            return await super().execute(*command)

    desk.wrap = Shared
    action = await desk.approved("set_config", HZ)
    ended = await executor.apply(await desk.context(), action)
    assert (ended.status, hz(client), desk.writes) == ("lapsed", "10", [])
    assert "proxy" in ended.comment


async def test_frozen_between_intent_and_write_it_looks_again_first(
    desk: Desk, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "STALE_SECONDS", -1.0)
    action = await desk.approved("set_config", HZ)
    ended = await executor.apply(await desk.context(), action)
    assert (ended.status, hz(client), desk.writes) == ("lapsed", "10", [])
    assert await desk.journal.intent("A1") is None


async def test_killed_between_the_action_and_what_follows_it_has_one_open_intent_at_most(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is applied is settled by the same write to the journal: nothing stays open."""
    action = await desk.approved("set_config", HZ)
    context = await desk.context()
    during: list[Action] = []
    apply = SetConfig.apply

    async def watched(self: SetConfig, *given: Any) -> dict[str, Any]:
        assert await desk.journal.intent("A1") is not None
        during.append(await desk.stored())
        return await apply(self, *given)

    monkeypatch.setattr(SetConfig, "apply", watched)
    applied = await executor.apply(context, action)
    assert [one.status for one in during] == ["applying"]
    assert (applied.status, await desk.journal.intent("A1")) == ("applied", None)
