"""Pending entries: what refers to nothing goes; the rest moves only as its owner says."""

import time
from typing import Any

import pytest
import redis
from pydantic import ValidationError

from evals.servers import Server
from tests.tools.load import failing
from tests.tools.remedies.keeping import CutOff, Notes
from tools.connection import CommandFailure, LiveConnection
from tools.opening import open_for_reading
from tools.remedies.clear_pending import ClearPending, ClearPendingArguments
from tools.remedies.pending_entries import Delivery, packed_deliveries, unpacked_deliveries
from tools.remedies.pending_gone import ClearGone
from tools.remedies.pending_idle import ClearIdle
from tools.remedies.stream_groups import EntryId

CLEAR = ClearPending(ClearGone(), ClearIdle())
KEY, GROUP = "shop:jobs", "workers"
HOUR = 3_600_000


def deliver(client: "redis.Redis", entries: int, consumer: str = "dead") -> list[str]:
    if not client.exists(KEY):
        client.xgroup_create(KEY, GROUP, id="0", mkstream=True)
    pipeline = client.pipeline(transaction=False)
    for number in range(entries):
        pipeline.xadd(KEY, {"n": number})
    ids = [entry.decode() for entry in pipeline.execute()]
    client.xreadgroup(GROUP, consumer, {KEY: ">"}, count=entries)
    return ids


def age(client: "redis.Redis", ids: list[str], consumer: str, deliveries: int, ms: int) -> None:
    client.xclaim(KEY, GROUP, consumer, 0, ids, idle=ms, retrycount=deliveries, justid=True)  # type: ignore[arg-type]


def pending(client: "redis.Redis") -> dict[str, tuple[str, int, int]]:
    """id -> consumer, hours idle, deliveries."""
    rows: Any = client.xpending_range(KEY, GROUP, "-", "+", 10_000)
    return {
        row["message_id"].decode(): (
            row["consumer"].decode(),
            round(row["time_since_delivered"] / HOUR),
            row["times_delivered"],
        )
        for row in rows
    }


def claiming(**more: Any) -> ClearPendingArguments:
    arguments = {"key": KEY, "group": GROUP, "how": "claim", "consumer": "dead"}
    return ClearPendingArguments.model_validate(arguments | {"to_consumer": "alive"} | more)


def confirmed(**more: Any) -> ClearPendingArguments:
    arguments = {"key": KEY, "group": GROUP, "how": "acknowledge", "consumer": "dead"}
    return ClearPendingArguments.model_validate(arguments | {"owner_confirmed": True} | more)


async def test_what_refers_to_trimmed_entries_goes_and_the_rest_can_be_processed(
    server: Server, connection: LiveConnection, client: "redis.Redis"
) -> None:
    ids = deliver(client, 4_000)
    client.xtrim(KEY, maxlen=500, approximate=False)
    args = ClearPendingArguments(key=KEY, group=GROUP)
    reader = await open_for_reading(server.url)
    assert failing(await CLEAR.preconditions(reader, args)) == []
    preview = await CLEAR.preview(reader, args)
    assert "At least 3,500 of 4,000 pending" in preview.predicted_effect
    captured = await CLEAR.capture(connection, args)
    assert await CLEAR.settle(connection, args, captured) == "not_applied"
    # Meanwhile the application goes on, and another group reads the same.
    client.xgroup_create(KEY, "other", id="0")
    client.xreadgroup("other", "c", {KEY: ">"}, count=100)
    more = deliver(client, 10)
    done = await CLEAR.apply(connection, args, captured, Notes().operation)
    assert done["entries_acknowledged"] == 3_500
    assert list(pending(client)) == [*ids[3_500:], *more]
    assert client.xpending(KEY, "other")["pending"] == 100
    verification = await CLEAR.verify(reader, args, captured | {"done": done})
    assert verification.helped is True
    assert await CLEAR.settle(connection, args, captured) == "applied"
    assert "nothing_to_put_back" in await CLEAR.undo(connection, args, captured)
    assert len(failing(await CLEAR.preconditions(reader, args))) == 1, "nothing is left to do"
    again: Any = client.xreadgroup(GROUP, "dead", {KEY: "0"}, count=1_000)
    assert all(fields for _, fields in again[0][1]), "each of them can be processed"
    await reader.close()


async def test_of_an_emptied_stream_only_what_was_there_before_is_gone(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    deliver(client, 300)
    client.xtrim(KEY, maxlen=0, approximate=False)
    args = ClearPendingArguments(key=KEY, group=GROUP)
    captured = await CLEAR.capture(connection, args)
    alive = deliver(client, 5)  # after the look, before the write
    done = await CLEAR.apply(connection, args, captured)
    assert done["entries_acknowledged"] == 300
    assert list(pending(client)) == alive


async def test_a_dead_consumers_entries_move_to_the_one_the_owner_named_and_back(
    server: Server, connection: LiveConnection, client: "redis.Redis"
) -> None:
    ids = deliver(client, 1_200)
    age(client, ids[:700], "dead", 3, 5 * HOUR)
    age(client, ids[700:1_100], "dead", 9, 30 * HOUR)  # the last hundred are fresh
    slow = deliver(client, 50, "slow")
    age(client, slow, "slow", 1, 2 * HOUR)
    client.xgroup_createconsumer(KEY, GROUP, "alive")
    before = pending(client)
    args = claiming()
    broken = failing(await CLEAR.preconditions(connection, args))
    assert broken == ["Who had them has asked for nothing for 3600 s"], "it was here just now"
    captured = await CLEAR.capture(connection, args)
    assert captured["entries"] == 1_100
    assert len(captured["deliveries"]) < 8_000, "compact"
    assert await CLEAR.settle(connection, args, captured) == "not_applied"
    client.xack(KEY, GROUP, ids[0])  # the dead one was not quite dead
    done = await CLEAR.apply(connection, args, captured, Notes().operation)
    assert done["entries_cleared"] == 1_099
    assert done["skipped"] == [ids[0]]
    now = pending(client)
    assert {now[one][0] for one in ids[1:1_100]} == {"alive"}
    assert {now[one][2] for one in ids[1:700]} == {3}, "JUSTID: no delivery was counted"
    assert {now[one][0] for one in ids[1_100:]} == {"dead"}
    assert {now[one][0] for one in slow} == {"slow"}
    reader = await open_for_reading(server.url)
    outcome = captured | {"done": done}
    assert (await CLEAR.verify(reader, args, outcome)).helped is True
    assert await CLEAR.settle(connection, args, captured) == "applied"
    client.xack(KEY, GROUP, *ids[1:11])  # processed by its new owner: stays processed
    undone = await CLEAR.undo(connection, args, outcome)
    assert undone == {"entries_put_back": 1_089, "entries_not_put_back": 10}
    expected = {one: row for one, row in before.items() if one not in ids[:11]}
    assert pending(client) == expected
    assert (await CLEAR.verify_undo(reader, args, outcome | {"undone": undone})).helped is True
    assert (await CLEAR.undo(connection, args, outcome))["entries_put_back"] == 0
    assert pending(client) == expected
    await reader.close()


async def test_the_consumer_that_is_to_have_them_must_be_there(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    """XCLAIM would make one of any name, and nobody would ever read its entries."""
    age(client, deliver(client, 20), "dead", 1, 5 * HOUR)
    broken = failing(await CLEAR.preconditions(connection, claiming(to_consumer="aliev")))
    assert "Who is to have them is there, and asks for work" in broken
    assert len(client.xinfo_consumers(KEY, GROUP)) == 1


async def test_exactly_what_the_owner_confirmed_is_acknowledged_and_comes_back(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    ids = deliver(client, 1_300)
    age(client, ids[:1_200], "dead", 4, 9 * HOUR)
    taken = ids[40:60]
    before = pending(client)
    args = confirmed(max_entries=1_150)
    assert failing(await CLEAR.preconditions(connection, args)) == []
    assert "NEVER BE PROCESSED" in (await CLEAR.preview(connection, args)).predicted_effect
    captured = await CLEAR.capture(connection, args)
    client.xclaim(KEY, GROUP, "rescuer", 0, taken)  # type: ignore[arg-type]
    done = await CLEAR.apply(connection, args, captured, Notes().operation)
    assert done["entries_cleared"] == 1_130
    assert sorted(pending(client)) == sorted([*taken, *ids[1_150:]])
    outcome = captured | {"done": done}
    assert (await CLEAR.verify(connection, args, outcome)).helped is True
    undone = await CLEAR.undo(connection, args, outcome)
    assert undone == {"entries_put_back": 1_130, "entries_not_put_back": 0}
    now = pending(client)
    assert {now.pop(one)[0] for one in taken} == {"rescuer"}
    assert now == {one: row for one, row in before.items() if one not in taken}
    assert (await CLEAR.undo(connection, args, outcome))["entries_put_back"] == 0


@pytest.mark.parametrize("how", ["claim", "acknowledge"])
@pytest.mark.parametrize("after", [False, True])
async def test_a_run_that_is_cut_off_is_settled_and_undone_completely(
    server: Server, connection: LiveConnection, client: "redis.Redis", how: str, after: bool
) -> None:
    ids = deliver(client, 1_200)
    age(client, ids, "dead", 2, 7 * HOUR)
    client.xgroup_createconsumer(KEY, GROUP, "alive")
    before = pending(client)
    args = claiming() if how == "claim" else confirmed()
    captured = await CLEAR.capture(connection, args)
    notes = Notes()
    cut = CutOff(server.url, "XCLAIM" if how == "claim" else "XACK", nth=2, after=after)
    with pytest.raises(CommandFailure, match="cut"):
        await CLEAR.apply(cut, args, captured, notes.operation)
    outcome = captured | {"done": notes.progress}
    assert await CLEAR.settle(connection, args, outcome) == "applied"
    undone = await CLEAR.undo(connection, args, outcome)
    assert undone["entries_put_back"] == (1_000 if after else 500)
    assert pending(client) == before


async def test_it_stops_when_told_to_and_undoes_just_that(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    ids = deliver(client, 1_200)
    age(client, ids, "dead", 2, 7 * HOUR)
    before = pending(client)
    args = confirmed()
    captured = await CLEAR.capture(connection, args)
    done = await CLEAR.apply(connection, args, captured, Notes(stop_after=1).operation)
    assert done["stopped_because"] == "asked to stop"
    assert len(pending(client)) == 700
    client.xack(KEY, GROUP, ids[600])  # the consumer itself: not for us to take back
    undone = await CLEAR.undo(connection, args, captured | {"done": done})
    assert undone["entries_put_back"] == 500
    before.pop(ids[600])
    assert pending(client) == before


async def test_a_group_or_key_that_vanished_fails_aloud(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    age(client, deliver(client, 20), "dead", 1, 5 * HOUR)
    args = confirmed()
    captured = await CLEAR.capture(connection, args)
    client.xgroup_destroy(KEY, GROUP)
    with pytest.raises(CommandFailure, match=r"(?i)nogroup|no such"):
        await CLEAR.apply(connection, args, captured)
    client.unlink(KEY)
    assert len(failing(await CLEAR.preconditions(connection, ClearPendingArguments(
        key=KEY, group=GROUP)))) == 1  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        {"how": "claim"},
        {"how": "claim", "consumer": "dead"},
        {"how": "claim", "consumer": "dead", "to_consumer": "dead"},
        {"how": "acknowledge", "consumer": "dead"},
        {"how": "acknowledge", "owner_confirmed": True},
        {"how": "claim", "consumer": "a", "to_consumer": "b", "min_idle_seconds": 1},
    ],
)
def test_what_only_the_owner_can_say_cannot_be_left_out(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ClearPendingArguments(key=KEY, group=GROUP, **arguments)


def test_deliveries_are_kept_in_a_few_bytes_each() -> None:
    now = int(time.time() * 1000)
    many = [Delivery(EntryId(now + n // 7, n % 7), now + n // 500, 1 + n % 2) for n in range(9_000)]
    text = packed_deliveries(many)
    assert list(unpacked_deliveries(text)) == many
    assert len(text) < 3 * len(many)
    assert list(unpacked_deliveries(packed_deliveries([]))) == []
