"""Trimming huge collections: by the owner's rule, in steps, and all of it can come back."""

import asyncio
import threading
from typing import Any

import pytest
import redis
from pydantic import ValidationError

from evals.servers import Server
from tests.tools.load import failing
from tests.tools.remedies.keeping import CutOff, Notes
from tools.connection import CommandFailure, LiveConnection
from tools.opening import open_for_reading
from tools.remedies.trim_collection import TrimCollection, TrimCollectionArguments

TRIM = TrimCollection()
KEY = "feed:\x1b]0;*[a]"
ELEMENTS = 3_000
RULES: list[dict[str, Any]] = [
    {"type": "list", "remove_from": "tail", "keep": 700},
    {"type": "list", "remove_from": "head", "keep": 700},
    {"type": "zset", "remove_from": "lowest", "keep": 700},
    {"type": "zset", "remove_from": "highest", "keep": 700},
    {"type": "hash", "match": "old:*"},
    {"type": "set", "match": "old:*"},
]
EACH_RULE = pytest.mark.parametrize(
    "rule", RULES, ids=lambda rule: f"{rule['type']}-{rule.get('remove_from', 'matching')}"
)
GONE = ELEMENTS - 700
WRITES = {"list": "POP", "zset": "ZREM", "hash": "HDEL", "set": "SREM"}


def asked(rule: dict[str, Any], **more: Any) -> TrimCollectionArguments:
    return TrimCollectionArguments.model_validate({"key": KEY} | rule | more)


def filled(client: "redis.Redis", rule: dict[str, Any], elements: int = ELEMENTS) -> Any:
    """Elements that are no text, too; as they are then."""
    names = [
        (b"old:" if n < elements - 700 else b"new:") + str(n).encode() + b"\xff\r\n"
        for n in range(elements)
    ]
    pipeline: Any = client.pipeline(transaction=False)
    for number, name in enumerate(names):
        match rule["type"]:
            case "list":
                pipeline.rpush(KEY, name)
            case "zset":
                pipeline.zadd(KEY, {name: number / 3})
            case "hash":
                pipeline.hset(KEY, name, name * 2)
            case _:
                pipeline.sadd(KEY, name)
    pipeline.execute()
    return content(client, rule)


def content(client: "redis.Redis", rule: dict[str, Any]) -> Any:
    match rule["type"]:
        case "list":
            return client.lrange(KEY, 0, -1)
        case "zset":
            return client.zrange(KEY, 0, -1, withscores=True)
        case "hash":
            return client.hgetall(KEY)
        case _:
            return client.smembers(KEY)


def survivors(before: Any, rule: dict[str, Any]) -> Any:
    if isinstance(before, list):
        return before[:700] if rule["remove_from"] in ("tail", "highest") else before[-700:]
    if isinstance(before, dict):
        return {name: value for name, value in before.items() if name.startswith(b"new:")}
    return {name for name in before if name.startswith(b"new:")}


@EACH_RULE
async def test_what_the_rule_names_goes_and_comes_back(
    server: Server, connection: LiveConnection, client: "redis.Redis", rule: dict[str, Any]
) -> None:
    before = filled(client, rule)
    client.expire(KEY, 5_000)
    args = asked(rule)
    reader = await open_for_reading(server.url)
    assert failing(await TRIM.preconditions(reader, args)) == []
    preview = await TRIM.preview(reader, args)
    counted = f"About {GONE:,} of 3,000" if "keep" in rule else "At most 3,000 of 3,000"
    assert counted in preview.predicted_effect
    assert "\x1b" not in str(preview)
    captured = await TRIM.capture(connection, args)
    assert await TRIM.settle(connection, args, captured) == "not_applied"
    notes = Notes()
    done = await TRIM.apply(connection, args, captured, notes.operation)
    assert done["elements_removed"] == GONE
    assert done["stopped_because"] == ""
    assert content(client, rule) == survivors(before, rule)
    outcome = captured | {"done": done}
    assert (await TRIM.verify(reader, args, outcome)).helped is True
    assert await TRIM.settle(connection, args, captured) == "applied"
    undone = await TRIM.undo(connection, args, outcome, notes.operation)
    assert undone == {"elements_put_back": GONE}
    assert content(client, rule) == before
    assert 4_900 < client.ttl(KEY) <= 5_000
    assert (await TRIM.verify_undo(reader, args, outcome | {"undone": undone})).helped is True
    again = await TRIM.undo(connection, args, outcome, notes.operation)
    assert again == {"elements_put_back": 0}
    assert content(client, rule) == before
    await reader.close()


@EACH_RULE
async def test_a_run_that_is_cut_off_can_be_undone_completely(
    server: Server, connection: LiveConnection, client: "redis.Redis", rule: dict[str, Any]
) -> None:
    before = filled(client, rule)
    args = asked(rule)
    command = WRITES[rule["type"]]
    if command == "POP":
        command = "RPOP" if rule["remove_from"] == "tail" else "LPOP"
    for after in (False, True):  # of the server's having seen the third page go
        captured = await TRIM.capture(connection, args)
        notes = Notes()
        cut = CutOff(server.url, command, nth=3, after=after)
        with pytest.raises(CommandFailure, match="cut"):
            await TRIM.apply(cut, args, captured, notes.operation)
        gone = len(before) - len(content(client, rule))
        noted = notes.progress["elements_removed"]
        assert gone > noted if after else gone == noted > 0
        outcome = captured | {"done": notes.progress}
        assert await TRIM.settle(connection, args, outcome) == "applied"
        undone = await TRIM.undo(connection, args, outcome, notes.operation)
        assert undone == {"elements_put_back": gone}
        assert content(client, rule) == before


@pytest.mark.parametrize("end", ["head", "tail"])
async def test_an_undo_that_is_cut_off_goes_on_where_it_was(
    server: Server, connection: LiveConnection, client: "redis.Redis", end: str
) -> None:
    rule = {"type": "list", "remove_from": end, "keep": 10}
    before = filled(client, rule)
    args = asked(rule)
    captured = await TRIM.capture(connection, args)
    notes = Notes()
    done = await TRIM.apply(connection, args, captured, notes.operation)
    outcome = captured | {"done": done}
    cut = CutOff(server.url, "RPUSH" if end == "tail" else "LPUSH", nth=2, after=True)
    with pytest.raises(CommandFailure, match="cut"):
        await TRIM.undo(cut, args, outcome, notes.operation)
    assert 10 < client.llen(KEY) < ELEMENTS
    await TRIM.undo(connection, args, outcome, notes.operation)
    assert content(client, rule) == before


async def test_a_list_of_equal_elements_comes_back_as_long_as_it_was(
    server: Server, connection: LiveConnection, client: "redis.Redis"
) -> None:
    """Its end looks the same, whatever has gone."""
    client.rpush(KEY, *[b"same"] * 2_500)
    args = asked({"type": "list", "remove_from": "head", "keep": 5})
    captured = await TRIM.capture(connection, args)
    notes = Notes()
    done = await TRIM.apply(connection, args, captured, notes.operation)
    cut = CutOff(server.url, "LPUSH", nth=2, after=True)
    with pytest.raises(CommandFailure, match="cut"):
        await TRIM.undo(cut, args, captured | {"done": done}, notes.operation)
    await TRIM.undo(connection, args, captured | {"done": done}, notes.operation)
    assert client.llen(KEY) == 2_500


async def test_writers_at_work_meanwhile_lose_nothing(
    server: Server, connection: LiveConnection, client: "redis.Redis"
) -> None:
    """A producer pushes new ones at the head and a field is written again: both are kept."""
    rule = {"type": "list", "remove_from": "tail", "keep": 500}
    before = filled(client, rule, 12_000)
    args = asked(rule)
    captured = await TRIM.capture(connection, args)
    notes, pushed, stop = Notes(), 0, threading.Event()

    def push() -> None:
        nonlocal pushed
        with redis.Redis(port=server.port, protocol=2) as other:
            while not stop.is_set():
                other.lpush(KEY, f"fresh-{pushed}")
                pushed += 1

    worker = threading.Thread(target=push)
    worker.start()
    try:
        done = await TRIM.apply(connection, args, captured, notes.operation)
    finally:
        stop.set()
        await asyncio.to_thread(worker.join)
    assert done["elements_removed"] == 11_500, "as promised, however much is added"
    fresh = [f"fresh-{number}".encode() for number in reversed(range(pushed))]
    assert content(client, rule) == fresh + before[:500]
    await TRIM.undo(connection, args, captured | {"done": done}, notes.operation)
    assert content(client, rule) == fresh + before


async def test_who_takes_from_the_same_end_stops_it_and_all_is_accounted_for(
    server: Server, connection: LiveConnection, client: "redis.Redis"
) -> None:
    rule = {"type": "list", "remove_from": "tail", "keep": 10}
    before = filled(client, rule)
    args = asked(rule)
    captured = await TRIM.capture(connection, args)
    taken: list[Any] = []

    class Thief(Notes):
        """Between the look at a page and its removal."""

        async def add(self) -> None:
            if len(self.shelf.kept["i-1-1-A1"]) == 2:
                taken.extend(client.rpop(KEY, 5) or [])

    notes = Thief()
    original = notes.shelf.open

    async def opened(name: str) -> Any:
        book = await original(name)
        add = book.add

        async def adding(saved: Any) -> None:
            await add(saved)
            await notes.add()

        book.add = adding  # type: ignore[method-assign]
        return book

    notes.shelf.open = opened  # type: ignore[method-assign]
    done = await TRIM.apply(connection, args, captured, notes.operation)
    assert "same end" in done["stopped_because"]
    assert len(taken) == 5
    left = content(client, rule)
    assert len(left) + done["elements_removed"] + 5 == ELEMENTS
    outcome = captured | {"done": done}
    assert (await TRIM.verify(connection, args, outcome)).helped is None, "half done: for people"
    await TRIM.undo(connection, args, outcome, notes.operation)
    expected = [element for element in before if element not in taken]
    assert content(client, rule) == expected, "in order, less what the other one took"


async def test_what_the_application_writes_again_is_not_overwritten_by_the_undo(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    rule = {"type": "hash", "match": "old:*"}
    before = filled(client, rule)
    args = asked(rule)
    captured = await TRIM.capture(connection, args)
    notes = Notes()
    done = await TRIM.apply(connection, args, captured, notes.operation)
    name = next(iter(before))
    client.hset(KEY, name, "newer")
    await TRIM.undo(connection, args, captured | {"done": done}, notes.operation)
    assert content(client, rule) == before | {name: b"newer"}


async def test_fields_with_an_expiry_of_their_own_get_it_back(
    server: Server, connection: LiveConnection, client: "redis.Redis"
) -> None:
    if server.build in ("redis-6.2", "redis-7.0"):
        pytest.skip("fields do not expire on their own here")
    rule = {"type": "hash", "match": "old:*"}
    before = filled(client, rule)
    short = list(before)[:20]
    client.execute_command("HEXPIRE", KEY, 900, "FIELDS", len(short), *short)  # type: ignore[no-untyped-call]
    args = asked(rule)
    captured = await TRIM.capture(connection, args)
    notes = Notes()
    done = await TRIM.apply(connection, args, captured, notes.operation)
    await TRIM.undo(connection, args, captured | {"done": done}, notes.operation)
    assert content(client, rule) == before
    times: Any = client.execute_command("HTTL", KEY, "FIELDS", len(before), *before)  # type: ignore[no-untyped-call]
    assert [0 < ttl <= 900 for ttl in times] == [name in short for name in before]


async def test_a_key_that_goes_with_its_last_element_comes_back_with_its_expiry(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    client.hset(KEY, mapping={f"old:{n}": n for n in range(600)})
    client.expire(KEY, 5_000)
    args = asked({"type": "hash", "match": "*"})
    captured = await TRIM.capture(connection, args)
    notes = Notes()
    done = await TRIM.apply(connection, args, captured, notes.operation)
    assert not client.exists(KEY)
    await TRIM.undo(connection, args, captured | {"done": done}, notes.operation)
    assert client.hlen(KEY) == 600
    assert 4_900 < client.ttl(KEY) <= 5_000


async def test_scores_below_a_bound_go_and_no_more_than_allowed(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    filled(client, {"type": "zset"})
    args = asked({"type": "zset", "remove_from": "lowest", "below_score": 500.0})
    captured = await TRIM.capture(connection, args)
    done = await TRIM.apply(connection, args, captured, Notes().operation)
    assert done["elements_removed"] == 1_500
    assert client.zrange(KEY, 0, 0, withscores=True)[0][1] == 500.0
    few = asked({"type": "zset", "remove_from": "lowest", "keep": 10}, max_elements=120)
    done = await TRIM.apply(connection, few, await TRIM.capture(connection, few), Notes().operation)
    assert done["elements_removed"] == 120


async def test_without_a_backup_nothing_is_removed(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    filled(client, RULES[0])
    args = asked(RULES[0])
    captured = await TRIM.capture(connection, args)
    with pytest.raises(CommandFailure, match="no place for backups"):
        await TRIM.apply(connection, args, captured)
    notes = Notes()
    notes.shelf.refuses = True
    with pytest.raises(CommandFailure, match="No space left"):
        await TRIM.apply(connection, args, captured, notes.operation)
    assert client.llen(KEY) == ELEMENTS
    assert await TRIM.settle(connection, args, captured) == "not_applied"


async def test_it_stops_when_told_to(connection: LiveConnection, client: "redis.Redis") -> None:
    filled(client, RULES[2])
    args = asked(RULES[2])
    captured = await TRIM.capture(connection, args)
    done = await TRIM.apply(connection, args, captured, Notes(stop_after=2).operation)
    assert done["stopped_because"] == "asked to stop"
    assert done["elements_removed"] == ELEMENTS - client.zcard(KEY)
    assert 0 < done["elements_removed"] < GONE


async def test_a_key_of_another_type_or_none_is_refused(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    args = asked(RULES[0])
    assert "The key is a list" in failing(await TRIM.preconditions(connection, args))
    filled(client, RULES[0])
    captured = await TRIM.capture(connection, args)
    client.unlink(KEY)
    client.sadd(KEY, "1")
    assert "The key is a list" in failing(await TRIM.preconditions(connection, args))
    with pytest.raises(CommandFailure, match=r"(?i)wrong"):
        await TRIM.apply(connection, args, captured, Notes().operation)
    assert client.smembers(KEY) == {b"1"}


@pytest.mark.parametrize(
    "rule",
    [
        {"type": "list", "remove_from": "tail"},
        {"type": "list", "remove_from": "lowest", "keep": 1},
        {"type": "list", "match": "*", "remove_from": "tail", "keep": 1},
        {"type": "zset", "keep": 1},
        {"type": "zset", "remove_from": "highest", "below_score": 1},
        {"type": "zset", "remove_from": "lowest", "below_score": float("nan")},
        {"type": "hash"},
        {"type": "hash", "match": "*", "remove_from": "tail"},
        {"type": "set", "keep": 5},
        {"type": "stream", "match": "*"},
    ],
)
def test_without_the_owners_rule_nothing_can_be_asked_for(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        asked(rule)


async def test_what_a_build_does_not_know_is_asked_once(
    server: Server, connection: LiveConnection, client: "redis.Redis"
) -> None:
    """An error on each page looks like harm to whoever watches, and the trim is undone."""
    rule = {"type": "hash", "match": "old:*"}
    filled(client, rule)
    args = asked(rule)
    captured = await TRIM.capture(connection, args)
    client.config_resetstat()
    notes = Notes()
    await TRIM.apply(connection, args, captured, notes.operation)
    errors = client.info("errorstats").get("errorstat_ERR", {})
    assert int(errors.get("count", 0)) <= 2
