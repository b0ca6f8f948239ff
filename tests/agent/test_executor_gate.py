"""At the last moment before the first write, and between two batches: frozen, stopped, dry run."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from agent import executor, rollback, steps, verification
from agent.policy import Policy
from agent.windows import Window
from evals.servers import BUILDS, Server
from tests.agent.operating import HZ, Desk, hz

SESSIONS = {"prefix": "session:", "ttl_seconds": 600, "batch_size": 50}


@pytest.fixture
async def desk(start_server: Callable[..., Server]) -> AsyncIterator[Desk]:
    made = Desk(start_server(BUILDS[-1]))
    yield made
    if made.reading is not None:
        await made.reading.close()


@pytest.fixture
def client(desk: Desk) -> Iterator["redis.Redis"]:
    with closing(redis.Redis(port=desk.server.port, protocol=2)) as opened:
        yield opened


def frozen(hours: float = 0.5) -> Window:
    return Window(reason="quarter end", ends=datetime.now(UTC) + timedelta(hours=hours))


async def test_a_freeze_that_began_after_the_approval_puts_it_off(
    desk: Desk, client: "redis.Redis"
) -> None:
    action = await desk.approved("set_config", HZ)
    context = await desk.context()
    desk.journal.frozen = [frozen()]
    waiting = await executor.apply(context, action)
    assert (waiting.status, waiting.not_before) == ("approved", desk.journal.frozen[0].ends)
    assert "quarter end" in waiting.comment
    assert (hz(client), await desk.journal.intent("A1")) == ("10", None)
    approved, left = steps._decisions(await desk.journal.incident())
    assert (approved, [each.id for each in left]) == (None, ["A1"])
    desk.journal.frozen = []
    assert (await executor.apply(context, action)).status == "applied"


async def test_a_freeze_longer_than_the_approval_ends_it(desk: Desk, client: "redis.Redis") -> None:
    action = await desk.approved("set_config", HZ)
    desk.journal.frozen = [frozen(hours=2)]
    ended = await executor.apply(await desk.context(), action)
    assert (ended.status, hz(client)) == ("lapsed", "10")
    assert "the approval expires before" in ended.comment


async def test_broken_glass_passes_the_freeze(desk: Desk, client: "redis.Redis") -> None:
    now = datetime.now(UTC)
    glass = {"by": "ann", "role": "admin", "at": now, "break_glass": True, "comment": "it burns"}
    action = await desk.approved("set_config", HZ)
    broken = type(action).model_validate(action.model_dump() | {"approvals": [glass]})
    await desk.journal.save_action(broken)
    desk.journal.frozen = [frozen()]
    assert (await executor.apply(await desk.context(), broken)).status == "applied"
    assert hz(client) == "50"


async def test_a_dry_run_checks_everything_and_opens_no_connection_to_write(
    desk: Desk, client: "redis.Redis"
) -> None:
    async def never() -> Any:
        raise AssertionError("a connection to write was opened")

    action = await desk.approved("set_config", HZ)
    context = await desk.context()
    for dry, changes in ((True, {}), (False, {"dry_run": True})):
        await desk.journal.save_action(action.model_copy(update=changes))
        told = replace(context, open_for_remedies=never, policy=Policy(dry_run=dry))
        ended = await executor.apply(told, action)
        assert ended.status == "lapsed"
        assert "dry run, nothing was written" in ended.comment
        assert "CONFIG SET hz 50" in ended.comment
        assert (hz(client), await desk.journal.intent("A1")) == ("10", None)
    client.config_set("hz", "50")
    await desk.journal.save_action(action)
    broken = await executor.apply(replace(context, policy=Policy(dry_run=True)), action)
    assert (broken.status, "would" in broken.comment) == ("lapsed", False)


async def test_an_incident_of_a_dry_run_says_that_it_was_one(desk: Desk) -> None:
    await desk.approved("set_config", HZ, status="lapsed", dry_run=True)
    status, because = steps.conclude(await desk.journal.incident())
    assert (status, because.startswith("dry run")) == ("needs_human", True)


def leak(client: "redis.Redis", keys: int) -> None:
    pipeline = client.pipeline(transaction=False)
    for number in range(keys):
        pipeline.set(f"session:{number}", "x")
    pipeline.execute()


def stop_midway(desk: Desk, how: str) -> None:
    """After the second batch a person stops it, or a freeze begins."""
    note, noted = desk.journal.note_progress, 0

    async def second(action_id: str, done: dict[str, Any]) -> str:
        nonlocal noted
        noted += 1
        said = await note(action_id, done)
        if noted >= 2 and how == "frozen":
            desk.journal.frozen = [frozen()]
        return "stopped by ann: it hurts" if noted >= 2 and how == "stopped" else said

    desk.journal.note_progress = second  # type: ignore[method-assign]


@pytest.mark.parametrize(("how", "because"), [("stopped", "by ann"), ("frozen", "quarter end")])
async def test_it_stops_after_the_present_batch_and_its_undo_does_not(
    desk: Desk, client: "redis.Redis", how: str, because: str
) -> None:
    leak(client, 400)
    action = await desk.approved("expire_prefix", SESSIONS)
    context = await desk.context()
    stop_midway(desk, how)
    applied = await executor.apply(context, action)
    assert applied.status == "applied"
    assert because in applied.outcome["done"]["stopped_because"]
    touched = applied.outcome["done"]["keys_touched"]
    assert 0 < touched < 400
    judged = await verification.verify(context, applied, hold_seconds=0)
    assert judged.status == "rolling_back", judged.comment
    undone = await rollback.roll_back(context, judged)
    assert undone.status == "rolled_back", undone.comment
    assert client.info("keyspace")["db0"]["expires"] == 0
