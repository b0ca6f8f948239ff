"""Ways to walk over a keyspace: each sees the same, or says what it has not seen."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import redis

from evals.bench.mixed_keys import mixed_keys
from evals.pouring import pour
from evals.servers import Server
from tests.deployments import AT_ONCE
from tests.tools.looking import ask, client_of, until
from tools import survey
from tools.bigkeys import BigKeysArguments, bigkeys
from tools.census import Census
from tools.connection import LiveConnection
from tools.keysizes import not_met, parsed
from tools.keyspace import BigKeys, EveryKeyCounts, KeyRow, SampledShares, SizeBin
from tools.reading import NotMeasured
from tools.scanner import Walk
from tools.summaries import summarize

KEYS = 6_000


@pytest.fixture
def admin(server: Server) -> "redis.Redis":
    pour(server.port, mixed_keys(KEYS))
    return client_of(server)


async def walked(connection: LiveConnection, **how: Any) -> BigKeys:
    reading = await bigkeys(connection, BigKeysArguments(seconds=60, **how))
    assert isinstance(reading, BigKeys), reading
    return reading


def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written a moment ago does not count as traffic."""
    monkeypatch.setattr(survey, "SPARE", float("inf"))


async def test_every_way_sees_the_same(
    connection: LiveConnection, admin: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    idle(monkeypatch)
    keys = [key for key in admin.scan_iter(count=1_000)]
    pipe = admin.pipeline(transaction=False)
    for key in keys:
        pipe.memory_usage(key)
    sizes: dict[Any, int] = dict(zip(keys, pipe.execute(), strict=True))
    ways: tuple[dict[str, Any], ...] = ({}, {"pace": "fast"}, {"pace": "fast", "every_key": True})
    for how in ways:
        found = await walked(connection, **how)
        assert found.complete, found.stopped_because
        assert (found.keys_seen, found.bytes_seen) == (len(keys), sum(sizes.values()))
        assert found.pace == how.get("pace", "gentle")
        assert found.resume == ""
        assert found.top_by_bytes[0].key == max(sizes, key=lambda key: sizes[key])
        assert 0 < found.server_seconds <= found.seconds + 0.001


async def test_type_length_and_ttl_of_every_key(
    connection: LiveConnection, admin: "redis.Redis", build: str
) -> None:
    keys = list(admin.scan_iter(count=1_000))
    pipe = admin.pipeline(transaction=False)
    for key in keys:
        pipe.type(key)
    kinds: dict[str, str] = dict(zip(keys, pipe.execute(), strict=True))
    length_of: dict[str, Callable[[str], Any]] = {
        "string": pipe.strlen, "hash": pipe.hlen, "list": pipe.llen, "set": pipe.scard,
        "zset": pipe.zcard, "stream": pipe.xlen,
    }  # fmt: skip
    for key, kind in kinds.items():
        length_of[kind](key)
    lengths = Counter[str]()
    for kind, length in zip(kinds.values(), pipe.execute(), strict=True):
        lengths[kind] += length
    for key in keys:
        pipe.ttl(key)
    never = pipe.execute().count(-1)
    await asyncio.sleep(1.1)  # not in use any more: before 7.2 no length is read twice
    found = await walked(connection, every_key=True)
    counts = found.every_key
    assert isinstance(counts, EveryKeyCounts)
    assert {row.type: row.keys for row in counts.types} == Counter(kinds.values())
    assert {row.type: row.elements for row in counts.types} == lengths
    assert sum(row.bytes for row in counts.types) == found.bytes_seen
    assert [row.model_dump() for row in found.types] == [
        row.model_dump(exclude={"elements"}) | {"share_of_bytes": row.bytes / found.bytes_seen}
        for row in counts.types
    ]
    assert sum(row.keys for row in counts.ttl) == len(kinds)
    assert [row.keys for row in counts.ttl if row.never] == [never]
    assert isinstance(counts.idle, list)
    assert [row.keys for row in counts.idle if row.keys] == [len(kinds)], "within a minute"
    assert found.top_by_elements[0].key.startswith("big:")
    assert found.lookups > 3 * len(kinds)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "noeviction"])
async def test_lengths_are_left_alone_where_keys_are_evicted_by_use(
    connection: LiveConnection, admin: "redis.Redis", build: str, policy: str
) -> None:
    """Unless CLIENT NO-TOUCH (7.2) keeps a look from being a use."""
    admin.config_set("maxmemory-policy", policy)
    found = (await walked(connection, every_key=True)).every_key
    assert isinstance(found, EveryKeyCounts)
    touches = build in ("redis-6.2", "redis-7.0") and policy != "noeviction"
    assert all(isinstance(row.elements, NotMeasured) == touches for row in found.types)
    assert isinstance(found.idle, NotMeasured) == policy.endswith("lfu")


async def test_a_walk_goes_on_where_it_was_stopped(
    connection: LiveConnection, admin: "redis.Redis"
) -> None:
    seen, bytes_seen, resume = 0, 0, ""
    for _ in range(20):
        part = await walked(connection, keys=1_000, resume=resume)
        seen, bytes_seen, resume = seen + part.keys_seen, bytes_seen + part.bytes_seen, part.resume
        if part.complete:
            break
    whole = await walked(connection)
    assert (seen, bytes_seen) == (whole.keys_seen, whole.bytes_seen)
    another = await bigkeys(connection, BigKeysArguments(resume=f"{'0' * 40}:17"))
    assert isinstance(another, NotMeasured)
    assert "started again" in another.because


async def test_time_of_the_server_is_a_budget(
    connection: LiveConnection, admin: "redis.Redis"
) -> None:
    found = await walked(connection, server_seconds=0.001)
    assert "of the server was spent" in found.stopped_because
    assert found.keys_seen < KEYS
    assert found.resume


async def test_a_busy_primary_is_walked_gently_and_its_replica_is_not(
    start_server: Callable[..., Server], build: str
) -> None:
    primary = start_server(build, *AT_ONCE)
    pour(primary.port, mixed_keys(1_000))
    replica = start_server(build, "--replicaof", "127.0.0.1", str(primary.port))
    admin = client_of(primary)
    following = client_of(replica)
    await until(lambda: following.info("replication")["master_link_status"] == "up", 30)
    # It averages over less than two seconds: far more than a hundred a second at any moment.
    pour(primary.port, (("PING",) for _ in range(20_000)))
    await until(lambda: admin.info("stats")["instantaneous_ops_per_sec"] > 1_000)
    paces = []
    for server in (primary, replica):
        connection = LiveConnection(server.url)
        await connection.open()
        found = await walked(connection, pace="fast")
        await connection.close()
        assert found.complete
        paces.append((found.pace, "walked gently" in found.stopped_because))
    assert paces == [("gentle", True), ("fast", False)]


@pytest.mark.parametrize("said", ["a lot", "", "-1e999"])
async def test_a_server_that_tells_no_traffic_is_walked_gently(
    connection: LiveConnection, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    async def told(*_: object) -> dict[str, str]:
        return {"role": "master", "instantaneous_ops_per_sec": said}

    monkeypatch.setattr(survey, "read_info", told)
    assert (await walked(connection, pace="fast")).pace == "gentle"


async def test_a_place_that_no_server_would_tell_is_none_to_go_on_at(
    connection: LiveConnection, admin: "redis.Redis"
) -> None:
    walk = Walk(connection, BigKeysArguments(), start=b"17\xff")
    stopped = survey.Survey(walk, Census(1))
    assert stopped.resume({"run_id": "0" * 40}) == ""
    walk.cursor = b"17"
    assert stopped.resume({"run_id": "0" * 40}) == f"{'0' * 40}:17"
    assert stopped.resume({"run_id": "anything"}) == stopped.resume({}) == ""


async def test_a_sample_tells_shares_and_what_it_has_not_seen(
    connection: LiveConnection, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "SAMPLED", 10_000)
    monkeypatch.setattr(survey, "SAMPLE_SECONDS", 30.0)  # a busy machine shall not cut it short
    pour(server.port, mixed_keys(40_000))
    found = await walked(connection, mode="sampled")
    shares = found.sampled
    assert isinstance(shares, SampledShares), shares
    assert 10_000 <= shares.keys < 11_000
    assert found.resume == ""
    whole = await walked(connection)
    assert shares.least_body_bytes <= whole.bytes_seen
    rest = whole.bytes_seen - shares.body_bytes - shares.known_bytes
    assert shares.unseen_bytes == pytest.approx(rest, abs=0.2 * whole.bytes_seen)
    assert [row.prefix for row in shares.prefixes][:2] == ["app0:", "app1:"]
    assert {row.type for row in shares.types} == {
        "string", "hash", "list", "set", "zset", "stream"
    }  # fmt: skip
    said = summarize(found)
    assert said.startswith(f"a sample of {shares.keys:,} of 40,001 keys: app0: ")
    assert "unseen" in said
    again = await walked(connection, mode="sampled")
    assert isinstance(again.sampled, SampledShares)
    assert again.bytes_seen != found.bytes_seen, "another sample"
    assert whole.sampled is None


async def test_a_huge_collection_that_no_sample_meets_is_told(
    connection: LiveConnection, server: Server, build: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "SAMPLED", 2_000)
    admin = client_of(server, db=0)
    client_of(server, db=3).rpush("elsewhere", *range(20_000))
    pour(server.port, ((("SET", f"user:{n}", "x" * 40)) for n in range(200_000)))
    pour(server.port, (("HSET", "huge", f"f{n}", "") for n in range(40_000)))
    for _ in range(5):  # one sample in a hundred meets it
        found = await walked(connection, mode="sampled")
        if all(row.key != "huge" for row in found.top_by_bytes):
            break
    shares = found.sampled
    assert isinstance(shares, SampledShares), shares
    assert not shares.hides_large_keys, "in bytes it is not much"
    if build != "redis-8.2":
        assert isinstance(shares.not_met, NotMeasured)
        assert "does not count sizes" in shares.not_met.because
        return
    assert shares.not_met == [SizeBin(type="hash", elements=32_768, keys=1)]
    assert "not met: 1 hash of 32,768 elements or more" in summarize(found)
    admin.delete("huge")
    shares = (await walked(connection, mode="sampled")).sampled
    assert isinstance(shares, SampledShares)
    assert shares.not_met == []


def test_sizes_of_keys_are_read_as_far_as_they_can_be() -> None:
    info = {
        "db0_distrib_lists_items": "0=2,1=1,512=1,64K=3,x=1,2M=,1Z=4,3M=99999999999999999999",
        "db0_distrib_strings_sizes": "2M=1",
        "db1_distrib_lists_items": "1G=1",
        "db0_distrib_graphs_items": "1G=1",
    }
    bins = parsed(info, 0)
    assert [(row.type, row.elements, row.keys) for row in bins] == [
        ("string", 2 << 20, 1), ("list", 0, 2), ("list", 1, 1), ("list", 512, 1),
        ("list", 65_536, 3),
    ]  # fmt: skip
    met = KeyRow(
        key="k", type="list", bytes=1, bytes_are="exact", elements=70_000, ttl_seconds=-1.0,
        encoding="quicklist", idle_seconds=0, share_of_dataset=0.0,
    )  # fmt: skip
    assert [row.type for row in not_met(bins, [met])] == ["string"]
    assert [row.type for row in not_met(bins, [])] == ["string", "list"]
    refused = NotMeasured(not_measured="LLEN", because="no permission", failure="refused")
    unread = met.model_copy(update={"elements": refused})
    assert [row.type for row in not_met(bins, [unread])] == ["string"]


async def test_a_small_keyspace_is_not_sampled(
    connection: LiveConnection, admin: "redis.Redis"
) -> None:
    found = await walked(connection, mode="sampled")
    assert found.complete
    assert found.sampled is None


async def test_in_cluster_mode_a_sample_is_drawn_key_by_key(
    start_server: Callable[..., Server], build: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SCAN goes slot by slot there: one tenant's keys, which share a slot, come all at once."""
    monkeypatch.setattr(survey, "SAMPLED", 3_000)
    server = start_server(build, "--cluster-enabled", "yes")
    admin = client_of(server)
    ask(admin, "CLUSTER ADDSLOTS " + " ".join(map(str, range(16_384))))
    await until(lambda: admin.cluster("INFO")["cluster_state"] == "ok", 30)
    names = (f"{{tenant{number % 2}}}:{number:x}" for number in range(12_000))
    assert pour(server.port, (("SET", name, "v" * 100) for name in names)) == 0
    connection = LiveConnection(server.url)
    await connection.open()
    try:
        found = await walked(connection, mode="sampled")
    finally:
        await connection.close()
    shares = found.sampled
    assert isinstance(shares, SampledShares), shares
    by_tenant = Counter[str]()
    for row in shares.prefixes:
        by_tenant[row.prefix[:9]] += round(100 * row.share)
    assert all(40 <= share <= 60 for share in by_tenant.values()), by_tenant
