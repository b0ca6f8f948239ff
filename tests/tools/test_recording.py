"""A recording answers what the server answered, and holds nothing that it should not."""

import asyncio
import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
import redis

from evals.servers import Server
from tools import recording_file
from tools.capture import capture
from tools.catalogue import Tool
from tools.connection import CommandFailure, LiveConnection
from tools.opening import UnreachableConnection, open_for_reading
from tools.permissions import CONFIG_PARAMETERS, READ_ONLY
from tools.reading import NotMeasured
from tools.reads import READS
from tools.recording import RecordedConnection, RecordingConnection, RecordingUnreadable
from tools.recording_answers import ASKED_OF_KEYS, cell_of, matches, normalised
from tools.recording_file import Header, KeyTable, Recording
from tools.recording_privacy import Pseudonyms, command_and_key, tidy

HEADER = Header("2026-01-01T00:00:00+00:00", "redis 7.0.15", "127.0.0.1:6379 (master)")
SECRET = "hunter2-S3cr3t"
# What depends on the clock of the machine rather than on the server's answers.
CLOCKS = {"seconds", "round_trip_seconds", "stopped_because", "sample_stopped_because", "how"}
EXTRAPOLATED = "instance_resize."


def fill(port: int) -> redis.Redis:
    """A few families, a stream with a group, and names nobody asked for."""
    client = redis.Redis(port=port, protocol=2)
    pipe = client.pipeline(transaction=False)
    for n in range(300):
        pipe.set(f"page:{n}", f"{SECRET} value {n}" * (n % 30 + 1))
        pipe.hset(f"member:{n}", mapping={"name": SECRET, "n": n})
    for n in range(100):
        pipe.set(f"cache:{n}", n, ex=10_000 + n)
    for n in range(50):
        pipe.xadd("orders:events", {"body": SECRET, "n": n})
    pipe.execute()
    client.xgroup_create("orders:events", "billing", id="0")
    client.xreadgroup("billing", "worker-1", {"orders:events": ">"}, count=20)
    client.config_resetstat()
    return client


class Impatient(LiveConnection):
    """Waits a hundredth of the time: what passes on the recording's clock stays the same."""

    async def wait(self, seconds: float) -> None:
        await super().wait(seconds / 100)


async def impatient(url: str) -> Impatient:
    connection = Impatient(url)
    await connection.open()
    return connection


def same(live: Any, replayed: Any, path: str = "") -> None:
    """Equal, but for clocks; rates may differ by what a sleep overslept."""
    if isinstance(live, dict):
        assert live.keys() == replayed.keys(), path
        for name in live.keys() - CLOCKS:
            same(live[name], replayed[name], f"{path}.{name}")
    elif isinstance(live, list):
        assert len(live) == len(replayed), path
        for place, (left, right) in enumerate(zip(live, replayed, strict=True)):
            same(left, right, f"{path}.{place}")
    elif isinstance(live, float) or (path.startswith(EXTRAPOLATED) and isinstance(live, int)):
        assert math.isclose(live, replayed, rel_tol=0.05, abs_tol=1.0), (path, live, replayed)
    else:
        assert live == replayed, path


async def test_a_replay_gives_the_readings_that_were_taken(server: Server, tmp_path: Path) -> None:
    """Every tool, on every build: the recording stands in for the server."""
    fill(server.port).close()
    live = await open_for_reading(server.url)

    async def look(tool: Tool) -> tuple[dict[str, Any], dict[str, Any]]:
        path = tmp_path / f"{tool.name}.jsonl.gz"
        recorder = RecordingConnection(live, path)
        taken = await tool.call(recorder, {})
        recorder.save(path)
        replayed = await tool.call(RecordedConnection(path), {})
        return taken.model_dump(mode="json"), replayed.model_dump(mode="json")

    pairs = await asyncio.gather(*(look(tool) for tool in READS.values()))
    await live.close()
    for name, (taken, replayed) in zip(READS, pairs, strict=True):
        same(taken, replayed, name)


async def test_one_capture_answers_every_tool(server: Server, tmp_path: Path) -> None:
    """All tools at once, on one file, twice the same; nothing was missing."""
    fill(server.port).close()
    live = await impatient(server.url)
    path = tmp_path / "server.jsonl.gz"
    await capture(live, path)
    await live.close()
    assert path.stat().st_size <= 60_000

    async def replay() -> tuple[RecordedConnection, list[dict[str, Any]]]:
        connection = RecordedConnection(path)
        readings = await asyncio.gather(*(t.call(connection, {}) for t in READS.values()))
        return connection, [reading.model_dump(mode="json") for reading in readings]

    first, second = await replay(), await replay()
    same(first[1], second[1])
    by_tool = dict(zip(READS, first[1], strict=True))
    assert by_tool["bigkeys"]["complete"]
    assert by_tool["bigkeys"]["keys_seen"] == 701
    assert by_tool["stats"]["seconds"] == pytest.approx(5)
    assert not first[0].missing, first[0].missing
    assert first[0].header.flavour.split()[1][:3] == server.build[-3:]


async def test_values_and_secrets_never_reach_the_file(server: Server, tmp_path: Path) -> None:
    """Slow commands, stream entries, scripts, CONFIG and URLs in names may all hold them."""
    client = fill(server.port)
    client.config_set("slowlog-log-slower-than", 0)
    client.set("page:1", SECRET)
    client.eval(f"return '{SECRET}'", 0, SECRET)
    client.set(f"proxy:redis://app:{SECRET}@host/0", 1)
    client.set(b"\xff\x1b[31m\r\n<script>", 1)
    client.config_set("requirepass", SECRET)
    client.close()
    live = await impatient(f"redis://:{SECRET}@127.0.0.1:{server.port}")
    path = tmp_path / "server.jsonl"
    await capture(live, path)
    await live.close()
    text = path.read_text("utf-8")
    assert SECRET not in text
    assert "page:1" in text
    assert "orders:events" in text
    assert "\x1b" not in text
    connection = RecordedConnection(path)
    assert await connection.execute("TYPE", b"\xff\x1b[31m\r\n<script>") == b"string"
    with pytest.raises(CommandFailure) as refused:
        await connection.execute("CONFIG", "GET", "requirepass")
    assert refused.value.kind == "not_allowed"


async def test_hashed_names_keep_their_structure(server: Server, tmp_path: Path) -> None:
    """Prefixes can still be told apart; no name and no address is left."""
    client = fill(server.port)
    client.client_setname("checkout-7f9c")
    live = await impatient(server.url)
    plain, hashed = tmp_path / "plain.jsonl.gz", tmp_path / "hashed.jsonl.gz"
    await capture(live, plain)
    await capture(live, hashed, hash_names=True)
    await live.close()
    client.close()
    text = gzip.decompress(hashed.read_bytes()).decode()
    for name in ("page:", "member:", "orders", "billing", "worker", "checkout", "127.0.0.1"):
        assert name not in text
    readings = []
    for path in (plain, hashed):
        connection = RecordedConnection(path)
        big = await READS["bigkeys"].call(connection, {})
        streams = await READS["stream_info"].call(connection, {})
        rows = big.model_dump()["prefixes"]
        shape = sorted((row["keys"], row["bytes"], row["types"]) for row in rows)
        assert all(row["prefix"].endswith(":") for row in rows)
        readings.append(shape)
        if isinstance(streams, NotMeasured):  # a look would reset idle times there
            assert server.build in ("redis-6.2", "redis-7.0")
            continue
        (stream,) = streams.model_dump()["streams"]
        (group,) = stream["groups"]
        assert (stream["length"], stream["pending"], group["consumers"]) == (50, 20, 1)
        assert (group["name"] == "billing") is (path == plain)
    assert readings[0] == readings[1]


async def test_a_table_that_was_cut_never_claims_to_be_whole(tmp_path: Path) -> None:
    """The scan ends in "not recorded"; a large key and a filtered scan stay as they were."""
    keys: dict[bytes, dict[str, Any]] = {
        b"page:%d" % n: {"MEMORY USAGE": 100, "TYPE": b"string", "PTTL": -1} for n in range(5_000)
    }
    keys[b"huge:all"] = {"MEMORY USAGE": 10**7, "TYPE": b"hash", "PTTL": -1}
    whole = Recording(HEADER, table=KeyTable(keys, set(keys), {"", "stream"}))
    whole.add((b"INFO", b"everything"), 0, b"# Keyspace\r\ndb0:keys=5001,expires=0\r\n")
    path = tmp_path / "cut.jsonl.gz"
    recording_file.write(path, whole, limit=9_000)
    assert path.stat().st_size <= 9_000
    connection = RecordedConnection(path)
    seen: set[bytes] = set()
    cursor: Any = b"0"

    async def scan() -> None:
        nonlocal cursor
        for _ in range(100):
            page: Any = await connection.execute("SCAN", cursor, "COUNT", 100)
            cursor = page[0]
            assert cursor != b"0"
            seen.update(page[1])

    with pytest.raises(CommandFailure) as end:
        await scan()
    assert end.value.kind == "not_recorded"
    assert connection.missing == {"scan": 1}
    assert 100 < len(seen) < 5_000
    assert b"huge:all" in seen
    assert await connection.execute("DBSIZE") == 5_001
    reading = await READS["bigkeys"].call(RecordedConnection(path), {})
    assert not isinstance(reading, NotMeasured)
    assert reading.model_dump()["complete"] is False
    assert await connection.execute("SCAN", "0", "TYPE", "stream", "COUNT", 9_999) == [b"0", []]


async def test_each_task_has_its_own_time() -> None:
    """Two tools side by side both see their first and their second sample."""
    recording = Recording(HEADER)
    for at, value in ((0.0, b"first"), (5.0, b"second"), (30.0, b"late")):
        recording.add((b"INFO", b"stats"), at, value)
    connection = RecordedConnection(recording)

    async def look(pause: float) -> list[Any]:
        seen = [await connection.execute("INFO", "stats")]
        started = connection.now()
        await connection.wait(pause)
        seen.append(await connection.execute("info", "STATS"))
        return [*seen, (connection.now() - started).total_seconds()]

    results = await asyncio.gather(look(5), look(5), look(4.9), look(100))
    assert list(results) == [
        [b"first", b"second", 5.0],
        [b"first", b"second", 5.0],
        [b"first", b"first", 4.9],
        [b"first", b"late", 100.0],
    ]


async def test_what_follows_from_what_was_recorded() -> None:
    """Sections, parameters, fewer entries, one client, better sizes; the rest is counted."""
    recording = Recording(HEADER)
    info = b"# Server\r\nrun_id:x\r\n\r\n# Memory\r\nused_memory:7\r\n\r\n# Commandstats\r\nx:1\r\n"
    recording.add((b"INFO", b"everything"), 0, info)
    recording.add((b"CONFIG", b"GET", b"maxmemory"), 0, [b"maxmemory", b"100"])
    recording.add((b"CONFIG", b"GET", b"hz"), 0, [b"hz", b"10"])
    recording.add((b"CONFIG", b"GET", b"maxmemory-clients"), 0, [])
    recording.add((b"SLOWLOG", b"GET", b"128"), 0, [[3], [2], [1]])
    recording.add((b"CLIENT", b"LIST"), 0, b"id=1 flags=N\nid=12 flags=P\n")
    recording.table.keys[b"k"] = {"MEMORY USAGE": 50, "MEMORY USAGE SAMPLES 0": 99, "HLEN": 3}
    recording.table.keys[b"k"]["PTTL"] = 1_600
    connection = RecordedConnection(recording)
    assert await connection.execute("INFO", "memory") == b"# Memory\r\nused_memory:7\r\n"
    default = await connection.execute("INFO")
    assert isinstance(default, bytes)
    assert b"used_memory" in default
    assert b"Commandstats" not in default
    asked = ("CONFIG", "GET", "hz", "maxmemory", "maxmemory-clients")
    assert await connection.execute(*asked) == [b"hz", b"10", b"maxmemory", b"100"]
    assert await connection.execute("SLOWLOG", "GET", 2) == [[3], [2]]
    assert await connection.execute("CLIENT", "LIST", "ID", 12) == b"id=12 flags=P\n"
    assert await connection.execute("CLIENT", "LIST", "TYPE", "pubsub") == b"id=12 flags=P\n"
    assert await connection.execute("MEMORY", "USAGE", "k") == 50
    assert await connection.execute("MEMORY", "USAGE", "k", "SAMPLES", 1_000) == 99
    assert await connection.execute("TTL", "k") == 2
    assert connection.not_recorded == 0
    for command in (("CONFIG", "GET", "timeout"), ("TYPE", "other"), ("ROLE",), ("XLEN", "k")):
        with pytest.raises(CommandFailure, match="recording"):
            await connection.execute(*command)
    assert connection.missing == {"config|get": 1, "type": 1, "role": 1, "xlen": 1}


def test_what_is_answered_at_once_may_be_asked() -> None:
    for words, column in ASKED_OF_KEYS.items():
        assert READ_ONLY.refusal((*words, b"k")) is None
        assert cell_of(normalised((*words, b"k"))) == (column, b"k")


async def test_refusals_are_recorded_as_such(server: Server, tmp_path: Path) -> None:
    """A user that may run nothing but INFO: the replay is refused the same."""
    client = redis.Redis(port=server.port)
    client.acl_setuser("watch", enabled=True, nopass=True, categories=["-@all"], commands=["+info"])
    client.close()
    live = await impatient(f"redis://watch:x@127.0.0.1:{server.port}")
    path = tmp_path / "watched.jsonl.gz"
    await capture(live, path)
    await live.close()
    connection = RecordedConnection(path)
    assert isinstance(await connection.execute("INFO", "memory"), bytes)
    commands = [("CONFIG", "GET", CONFIG_PARAMETERS[3]), ("DBSIZE",), ("CLIENT", "LIST"),
                ("SCAN", 0, "COUNT", 7)]  # fmt: skip
    replies = await connection.execute_many(commands)
    kinds = [reply.kind for reply in replies if isinstance(reply, CommandFailure)]
    assert kinds == ["refused"] * 4


async def test_a_lost_link_is_lost_in_the_replay(tmp_path: Path) -> None:
    """A server that could not be reached: every command of the replay fails as it did."""
    failure = CommandFailure("unreachable", "connect to host:6379", "connection refused")
    recorder = RecordingConnection(
        UnreachableConnection("host:6379", failure), tmp_path / "gone.jsonl"
    )
    with pytest.raises(CommandFailure):
        await recorder.execute("INFO", "memory")
    await recorder.close()
    connection = RecordedConnection(tmp_path / "gone.jsonl")
    with pytest.raises(CommandFailure) as lost:
        await connection.execute_many([("INFO", "memory"), ("DBSIZE",)])
    assert lost.value.kind == "unreachable"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b"hello"),
        ("a.jsonl", b""),
        ("a.jsonl", b"[1]\n"),
        ("a.jsonl", b'{"redis_oncall_recording": 99}\n'),
        ("a.jsonl", json.dumps({**HEADER.__dict__, "captured_at": "soon"}).encode()),
        ("a.jsonl", json.dumps(HEADER.__dict__).encode() + b'\n{"t":0,"c":[1],"r":2}\n'),
        ("a.jsonl", json.dumps(HEADER.__dict__).encode() + b'\n{"t":0,"c":["INFO"],"r":1.5}\n'),
        ("a.jsonl.gz", b"not gzip"),
        ("a.jsonl.gz", gzip.compress(json.dumps(HEADER.__dict__).encode() * 50)[:-20]),
    ],
)
def test_a_file_that_is_no_recording_says_so(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordingUnreadable):
        RecordedConnection(tmp_path / name)


def test_only_the_command_and_its_key_are_kept_of_a_slow_command() -> None:
    more = b"... (90 more arguments)"
    assert command_and_key([b"MSET", b"a", b"1", more]) == [b"MSET", b"a", b"", more]
    assert command_and_key([b"EVAL", b"return 1", b"0", b"x"]) == [b"EVAL", b"", b"", b""]
    assert command_and_key([b"CONFIG", b"SET", b"requirepass", b"x"])[2:] == [b"", b""]  # type: ignore[index]
    assert command_and_key([b"AUTH", b"x"]) == [b"AUTH", b""]
    assert command_and_key([b"xinfo", b"stream", b"s"]) == [b"xinfo", b"stream", b"s"]
    stream: Any = [b"length", 2, b"first-entry", [b"1-0", [b"f", b"v"]], b"last-entry", None]
    assert tidy((b"XINFO", b"STREAM", b"s"), stream)[3] == [b"1-0", []]  # type: ignore[index]


def test_pseudonyms_are_consistent_and_distinct() -> None:
    names = Pseudonyms(b"k" * 32)
    first, again, other = (
        names.name(n) for n in (b"user:12:cart", b"user:12:cart", b"user:13:cart")
    )
    assert first == again != other
    assert first.split(b":")[::2] == other.split(b":")[::2]
    assert len({names.name(b"n:%d" % n) for n in range(20_000)}) == 20_000
    assert names.name(b"user12:x") != names.name(b"user13:x")
    assert names.name(b"") == b""
    assert names.address(b"10.0.0.1:55").endswith(b":55")
    assert names.address(b"10.0.0.1:55")[:-3] == names.address(b"10.0.0.1:66")[:-3]


@pytest.mark.parametrize(
    ("pattern", "key", "fits"),
    [
        (b"user:*", b"user:1", True),
        (b"user:?", b"user:12", False),
        (b"a[^b]c", b"abc", False),
        (b"a[^b]c", b"adc", True),
        (rb"a\*c", b"abc", False),
        (rb"a\*c", b"a*c", True),
        (rb"\^", b"^", True),
        (b"*", b"\xff\n", True),
    ],
)
def test_globs_match_as_in_redis(pattern: bytes, key: bytes, fits: bool) -> None:
    assert matches(key, pattern) is fits
