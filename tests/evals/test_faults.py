"""Each fault really causes its tells, on every build that can have it."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from evals import servers
from evals.faults import FAULTS, fault

SCALE = 0.1
PATIENCE = 5.0
"""Seconds in which the traffic has to bring the tells out."""
Seen = dict[str, Any]
MIB = 1024 * 1024


def look(port: int) -> Seen:
    """What the tells are read from; all through a client that leaves again."""
    client = redis.Redis(port=port, protocol=2)
    try:
        info = client.info("everything")
        counted = info["used_memory"] - info["mem_not_counted_for_evict"]
        return {
            **info,
            "L": counted / (info["maxmemory"] or 1),
            "keys": client.dbsize(),
            "clients": client.client_list(),
            "client": client,
            "usage": lambda key: client.memory_usage(key, samples=0),
        }
    except redis.RedisError:
        client.close()
        raise


def shows(name: str, seen: Seen, culprit: str) -> bool:
    """Whether the tells are there; what is counted appears only once it happened."""
    try:
        return bool(TELLS[name](seen, culprit))
    except KeyError:
        return False
    finally:
        seen["client"].close()


def prefix_share(seen: Seen, prefix: str) -> float:
    client = seen["client"]
    total = share = 0
    for key in client.scan_iter(count=1_000):
        size = client.memory_usage(key)
        total += size
        share += size if key.startswith(prefix.encode()) else 0
    return share / total


def output(seen: Seen, name: str) -> int:
    return sum(int(c["omem"]) for c in seen["clients"] if c["name"] == name)


def query(seen: Seen, name: str) -> int:
    return sum(int(c["qbuf"]) + int(c["argv-mem"]) for c in seen["clients"] if c["name"] == name)


def flags(seen: Seen, name: str) -> str:
    return "".join(c["flags"] for c in seen["clients"] if c["name"] == name)


def groups(seen: Seen, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = seen["client"].xinfo_groups(key)
    return found


def stream_share(seen: Seen, key: str) -> float:
    return float(seen["usage"](key) / seen["used_memory"])


TELLS: dict[str, Callable[[Seen, str], object]] = {
    "missing-ttl-prefix-leak": lambda s, name: (
        prefix_share(s, name) > 0.5
        and s["db0"]["expires"] / s["keys"] < 0.6
        and s["L"] > 0.97
        and s["errorstat_OOM"]["count"] > 0
    ),
    "single-bigkey": lambda s, key: s["usage"](key) > 0.3 * s["used_memory_dataset"],
    "stream-unbounded": lambda s, key: (
        stream_share(s, key) > 0.3 and all(g["pending"] < 500 for g in groups(s, key))
    ),
    "stream-pel-growth": lambda s, key: groups(s, key)[0]["pending"] >= 20_000,
    "small-string-overhead": lambda s, _: (
        s["used_memory_overhead"] / s["keys"] > 50 and s["L"] > 0.8
    ),
    "slow-pubsub-cob": lambda s, name: (
        output(s, name) > 0.5 * s["used_memory"] and "P" in flags(s, name)
    ),
    "unread-reply-cob": lambda s, name: output(s, name) > 0.5 * s["used_memory"],
    "query-buffer-bloat": lambda s, name: query(s, name) > 0.4 * s["used_memory"],
    "monitor-left-on": lambda s, name: output(s, name) > MIB and "O" in flags(s, name),
    "noeviction-oom": lambda s, _: s["errorstat_OOM"]["count"] > 0 and s["L"] > 0.97,
    "volatile-policy-no-ttl": lambda s, _: (
        s["errorstat_OOM"]["count"] > 0
        and s["maxmemory_policy"].startswith("volatile-")
        and s.get("db0", {}).get("expires", 0) == 0
        and s["evicted_keys"] == 0
    ),
    "eviction-thrash": lambda s, _: (
        s["evicted_keys"] > 20 and s["keyspace_misses"] > s["keyspace_hits"] / 2
    ),
    "cache-full-by-design": lambda s, _: (
        s["L"] > 0.95 and s["keyspace_hits"] > 4 * s["keyspace_misses"]
    ),
    "healthy": lambda s, _: s["L"] < 0.7 and "errorstat_OOM" not in s,
    "fragmentation-after-deletes": lambda s, _: s["allocator_frag_ratio"] > 1.5,
    "oversized-backlog": lambda s, _: s["mem_replication_backlog"] > 0.3 * s["maxmemory"],
}
CASES = [(name, build) for name, one in FAULTS.items() for build in one.builds]


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault, "WARM_UP_SECONDS", 0.25)


def test_every_fault_has_its_tells() -> None:
    assert TELLS.keys() == FAULTS.keys()


@pytest.mark.parametrize(("name", "build"), CASES)
def test_a_fault_causes_its_tells(
    name: str, build: str, start_server: Callable[..., servers.Server]
) -> None:
    one = FAULTS[name]
    server = start_server(build, *one.arguments)
    with one.prepare(server, seed=1, scale=SCALE) as expected:
        culprit = sorted(expected.culprit)[0][1]
        deadline = time.monotonic() + PATIENCE
        while not shows(name, seen := look(server.port), culprit):
            assert time.monotonic() < deadline, {k: seen[k] for k in ("L", "used_memory", "keys")}
            time.sleep(0.1)
        assert len([c for c in seen["clients"] if c["name"]]) >= 5
        assert "cmdstat_restore" not in seen
    assert name in expected.root_cause or name == "healthy"
    assert expected.is_incident == (name not in ("healthy", "cache-full-by-design"))
    assert expected.alert["name"] in one.alerts


def test_a_fault_leaves_no_thread_and_no_client(
    start_server: Callable[..., servers.Server],
) -> None:
    server = start_server("valkey-9.1")
    with FAULTS["slow-pubsub-cob"].prepare(server, seed=2, scale=SCALE):
        assert any(thread.name == "traffic" for thread in threading.enumerate())
    assert not any(thread.name == "traffic" for thread in threading.enumerate())
    client = redis.Redis(port=server.port)
    assert len(client.client_list()) == 1
    client.close()


def test_the_same_seed_tells_the_same_story(start_server: Callable[..., servers.Server]) -> None:
    one = FAULTS["missing-ttl-prefix-leak"]
    stories = []
    for seed in (4, 4, 5):
        with one.prepare(start_server("valkey-9.1"), seed, SCALE) as expected:
            stories.append(expected)
    assert stories[0] == stories[1] != stories[2]
