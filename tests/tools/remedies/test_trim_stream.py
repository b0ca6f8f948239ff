"""Trimming a stream: whoever has not read an entry yet, or not acknowledged it, still gets it."""

import asyncio
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from pydantic import ValidationError

from evals.servers import Server
from tests.tools.load import failing
from tests.tools.remedies.keeping import CutOff, Notes
from tools.connection import CommandFailure, LiveConnection
from tools.opening import open_for_reading
from tools.permissions import READ_WRITE
from tools.remedies.saved_commands import unpacked
from tools.remedies.stream_groups import read_stream
from tools.remedies.trim_stream import TrimStream, TrimStreamArguments

TRIM = TrimStream()
KEY = "shop:events"


def add(client: "redis.Redis", entries: int, key: str | bytes = KEY) -> list[str]:
    pipeline = client.pipeline(transaction=False)
    for number in range(entries):
        pipeline.xadd(key, {"n": number, "body": "x" * 40})
    return [entry.decode() for entry in pipeline.execute()]


def consume(client: "redis.Redis", group: str, count: int, ack: bool = True) -> list[str]:
    seen: Any = client.xreadgroup(group, "c-1", {KEY: ">"}, count=count)
    ids = [entry.decode() for _, entries in seen or [] for entry, _ in entries]
    if ids and ack:
        client.xack(KEY, group, *ids)
    return ids


async def behind_groups(connection: LiveConnection, **more: Any) -> TrimStreamArguments:
    """What a plan would fill in."""
    stream = await read_stream(connection, KEY.encode())
    arguments = {"key": KEY, "groups": len(stream.groups), "before_id": str(stream.needed_from)}
    return TrimStreamArguments.model_validate(arguments | {"copy_first": False} | more)


async def carried_out(
    connection: LiveConnection, args: TrimStreamArguments, notes: Notes | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    captured = await TRIM.capture(connection, args)
    done = await TRIM.apply(connection, args, captured, (notes or Notes()).operation)
    return captured, done


async def test_what_every_group_acknowledged_goes_and_nothing_else(
    server: Server, connection: LiveConnection, client: "redis.Redis"
) -> None:
    client.xgroup_create(KEY, "billing", id="0", mkstream=True)
    client.xgroup_create(KEY, "search", id="0")
    ids = add(client, 5_000)
    consume(client, "billing", 5_000)
    consume(client, "search", 3_000)
    args = await behind_groups(connection)
    assert args.before_id == ids[2_999], "the last entry that the slower one was given"
    reader = await open_for_reading(server.url)  # the plan is made with the identity that reads
    assert failing(await TRIM.preconditions(reader, args)) == []
    preview = await TRIM.preview(reader, args)
    promised = re.search(r"(About|At most) ([\d,]+) of 5,000 entries", preview.predicted_effect)
    assert promised is not None
    # 6.2 does not tell how much a group has still to read.
    counted = 5_000 if server.build == "redis-6.2" else 3_000
    assert int(promised[2].replace(",", "")) == counted
    assert "No copy is kept" in preview.rollback
    assert "cannot be seen" in preview.predicted_effect
    captured = await TRIM.capture(connection, args)
    assert await TRIM.settle(connection, args, captured) == "not_applied"
    done = await TRIM.apply(connection, args, captured)
    assert 2_900 <= done["entries_removed"] < 3_000, "whole nodes"
    assert client.xlen(KEY) == 5_000 - done["entries_removed"]
    assert consume(client, "search", 5_000) == ids[3_000:]
    verification = await TRIM.verify(reader, args, captured | {"done": done})
    assert verification.helped is True
    assert await TRIM.settle(connection, args, captured) == "applied"
    with pytest.raises(CommandFailure, match="nothing can be added below"):
        await TRIM.undo(connection, args, captured | {"done": done})
    await reader.close()


async def test_what_is_pending_stays_however_old(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    client.xgroup_create(KEY, "billing", id="0", mkstream=True)
    ids = add(client, 2_000)
    stuck = consume(client, "billing", 1_500)[500]
    client.xclaim(KEY, "billing", "c-2", 0, [stuck], force=True)
    args = await behind_groups(connection)
    assert args.before_id == stuck == ids[500]
    _, done = await carried_out(connection, args)
    assert 400 <= done["entries_removed"] <= 500
    again: Any = client.xreadgroup("billing", "c-2", {KEY: "0"}, count=10)
    assert again[0][1][0][1][b"n"] == b"500", "it can still be processed"


async def test_consumers_at_work_meanwhile_lose_nothing(
    server: Server, connection: LiveConnection, client: "redis.Redis"
) -> None:
    """Producer, a group that acknowledges and one that keeps entries pending, all the time."""
    client.xgroup_create(KEY, "billing", id="0", mkstream=True)
    client.xgroup_create(KEY, "search", id="0")
    added, seen = add(client, 20_000), {"billing": [], "search": []}  # type: ignore[var-annotated]
    seen["billing"] += consume(client, "billing", 12_000)
    seen["search"] += consume(client, "search", 11_000)
    pending = consume(client, "search", 500, ack=False)
    seen["search"] += pending
    stop = threading.Event()

    def work() -> None:
        with redis.Redis(port=server.port, protocol=2) as other:
            while not stop.is_set():
                added.extend(add(other, 20))
                for group, ids in seen.items():
                    ids.extend(consume(other, group, 50))

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(5):
            args = await behind_groups(connection)
            await carried_out(connection, args)
    finally:
        stop.set()
        await asyncio.to_thread(worker.join)
    assert client.xlen(KEY) < 20_000 - 9_000
    for group, ids in seen.items():
        while more := consume(client, group, 5_000):
            ids.extend(more)
        assert ids == added, f"{group} was given every entry, once, in order"
    again: Any = client.xreadgroup("search", "c-1", {KEY: "0"}, count=1_000)
    whole = [entry.decode() for entry, fields in again[0][1] if fields]
    assert whole == pending, "what was pending is there to be processed"


async def test_a_group_that_came_after_the_approval_stops_it(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    client.xgroup_create(KEY, "billing", id="0", mkstream=True)
    add(client, 1_000)
    consume(client, "billing", 1_000)
    args = await behind_groups(connection)
    client.xgroup_create(KEY, "audit", id="0")
    broken = failing(await TRIM.preconditions(connection, args))
    assert any("as when this was proposed" in text for text in broken)
    # The same, between the last look and the first step.
    _, done = await carried_out(connection, args)
    assert done["entries_removed"] == 0
    assert "2 groups" in done["stopped_because"]
    assert client.xlen(KEY) == 1_000
    client.xgroup_destroy(KEY, "audit")
    assert failing(await TRIM.preconditions(connection, args)) == []


async def test_a_group_that_is_set_back_between_two_steps_stops_it(
    connection: LiveConnection, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.remedies.trim_stream.MOST_TRIMMED", 100)
    client.xgroup_create(KEY, "billing", id="0", mkstream=True)
    ids = add(client, 3_000)
    consume(client, "billing", 3_000)
    args = await behind_groups(connection)

    class SetBack(Notes):
        async def note(self, done: dict[str, Any]) -> str:
            if self.batches == 3:
                client.xgroup_setid(KEY, "billing", ids[1_000])
            return await super().note(done)

    captured, done = await carried_out(connection, args, SetBack())
    assert 0 < done["entries_removed"] <= 1_000
    assert "needs entries from" in done["stopped_because"]
    assert consume(client, "billing", 3_000) == ids[1_001:]
    verification = await TRIM.verify(connection, args, captured | {"done": done})
    assert verification.helped is None, "a part is gone: for people to judge"


async def test_a_stream_that_somebody_deletes_meanwhile_is_no_success_of_ours(
    connection: LiveConnection, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.remedies.trim_stream.MOST", 100)
    add(client, 3_000)
    args = TrimStreamArguments(key=KEY, groups=0, keep_entries=1_000)

    class Deleted(Notes):
        async def note(self, done: dict[str, Any]) -> str:
            if self.batches == 3:
                client.delete(KEY)
            return await super().note(done)

    captured, notes = await TRIM.capture(connection, args), Deleted()
    with pytest.raises(CommandFailure, match="no such key"):
        await TRIM.apply(connection, args, captured, notes.operation)
    known = captured | {"done": notes.progress}
    assert 0 < notes.progress["entries_removed"] < 2_000
    assert await TRIM.settle(connection, args, known) == "applied"
    judged = await TRIM.verify(connection, args, known)
    assert judged.helped is None
    assert "somebody deleted the whole stream" in judged.because
    # Cut off in its first step: who can tell what became of it?
    assert await TRIM.settle(connection, args, captured) == "unknown"


async def test_without_groups_it_keeps_the_newest_and_a_copy_of_the_rest(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    key = b"log:\x1b[31m*?"
    ids = add(client, 2_500, key)
    args = TrimStreamArguments(key=key.decode(), groups=0, keep_entries=1_000)
    assert failing(await TRIM.preconditions(connection, args)) == []
    preview = await TRIM.preview(connection, args)
    assert "NO GROUP READS THIS STREAM" in preview.predicted_effect
    assert "About 1,500 of 2,500" in preview.predicted_effect
    assert "\x1b" not in str(preview)
    notes = Notes()
    _, done = await carried_out(connection, args, notes)
    assert 1_400 <= done["entries_removed"] <= 1_500
    assert client.xlen(key) == 2_500 - done["entries_removed"]
    kept = notes.shelf.kept["i-1-1-A1"]
    assert [unpacked(saved.payload)[2].decode() for saved in kept] == ids[: len(kept)]
    assert len(kept) == done["entries_copied"] >= done["entries_removed"]
    for saved in kept:  # the copy is good for another key
        name, _, *entry = unpacked(saved.payload)
        client.execute_command(name.decode(), "restored", *entry)  # type: ignore[no-untyped-call]
    assert client.xlen("restored") == len(kept)


async def test_without_a_place_for_the_copy_nothing_is_removed(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    add(client, 500)
    args = TrimStreamArguments(key=KEY, groups=0, keep_entries=100)
    captured = await TRIM.capture(connection, args)
    with pytest.raises(CommandFailure, match="no place for backups"):
        await TRIM.apply(connection, args, captured)
    notes = Notes()
    notes.shelf.refuses = True
    with pytest.raises(CommandFailure, match="No space left"):
        await TRIM.apply(connection, args, captured, notes.operation)
    assert client.xlen(KEY) == 500
    assert await TRIM.settle(connection, args, captured) == "not_applied"


@pytest.mark.parametrize(
    "arguments",
    [
        {"groups": 1},
        {"groups": 1, "keep_entries": 10},
        {"groups": 0},
        {"groups": 0, "keep_entries": 10, "copy_first": False},
        {"groups": 1, "before_id": "$"},
        {"groups": 1, "before_id": "+"},
    ],
)
def test_a_trim_without_a_bound_cannot_be_asked_for(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrimStreamArguments(key=KEY, **arguments)


@pytest.mark.parametrize("after", [False, True])
async def test_a_link_that_is_lost_in_a_step_is_settled_by_the_first_entry(
    server: Server, connection: LiveConnection, client: "redis.Redis", after: bool
) -> None:
    client.xgroup_create(KEY, "billing", id="0", mkstream=True)
    add(client, 1_000)
    consume(client, "billing", 1_000)
    args = await behind_groups(connection)
    cut = CutOff(server.url, "XTRIM", nth=1, after=after)
    captured = await TRIM.capture(connection, args)
    notes = Notes()
    with pytest.raises(CommandFailure, match="cut"):
        await TRIM.apply(cut, args, captured, notes.operation)
    add(client, 2_000)  # the producer goes on: the length says nothing
    settled = await TRIM.settle(connection, args, captured | {"done": notes.progress})
    assert settled == ("applied" if after else "not_applied")


async def test_it_stops_when_told_to_and_says_how_far_it_came(
    connection: LiveConnection, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.remedies.trim_stream.MOST_TRIMMED", 100)
    client.xgroup_create(KEY, "billing", id="0", mkstream=True)
    add(client, 3_000)
    consume(client, "billing", 3_000)
    args = await behind_groups(connection)
    notes = Notes(stop_after=2)
    _, done = await carried_out(connection, args, notes)
    assert done["stopped_because"] == "asked to stop"
    assert done["batches"] == 2
    assert 0 < done["entries_removed"] == notes.progress["entries_removed"] <= 200


async def test_a_key_that_became_something_else_or_vanished(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    client.xgroup_create(KEY, "billing", id="0", mkstream=True)
    add(client, 1_000)
    consume(client, "billing", 1_000)
    args = await behind_groups(connection)
    captured = await TRIM.capture(connection, args)
    client.unlink(KEY)
    assert "The key is a stream" in failing(await TRIM.preconditions(connection, args))
    with pytest.raises(CommandFailure, match="no such key"):
        await TRIM.apply(connection, args, captured)
    client.set(KEY, "1")
    assert "The key is a stream" in failing(await TRIM.preconditions(connection, args))
    with pytest.raises(CommandFailure, match=r"(?i)wrong"):
        await TRIM.apply(connection, args, captured)
    assert client.get(KEY) == b"1"


async def test_on_a_node_that_does_not_serve_the_slot_it_fails_aloud(
    build: str, start_server: Callable[..., Server]
) -> None:
    node = start_server(build, "--cluster-enabled", "yes")
    connection = LiveConnection(node.url, READ_WRITE, reconnects=0)
    await connection.open()
    args = TrimStreamArguments(key=KEY, groups=1, before_id="1-0", copy_first=False)
    with pytest.raises(CommandFailure, match="slot"):
        await TRIM.preconditions(connection, args)
    await connection.close()
