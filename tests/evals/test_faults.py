"""Each fault really causes its tells, on every build that can have it."""

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from agent.causes import NOT_INCIDENTS
from evals import servers
from evals.faults import FAULTS, Fault, fault, latency
from tests.evals import tells_composition, tells_disk, tells_links, tells_memory, tells_mixes
from tests.evals.tells_memory import Tell

SCALE = 0.1
PATIENCE = 60.0
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


TELLS: dict[str, Tell] = {
    **tells_memory.TELLS,
    **tells_composition.TELLS,
    **tells_disk.TELLS,
    **tells_links.TELLS,
    **tells_mixes.TELLS,
}
UNREACHABLE = frozenset({"frozen", "busy-script"})
"""Nobody can look at these; they have a test of their own."""


def builds_of(one: Fault, place: int) -> set[str]:
    """Two builds of a single fault, in turn; of a mix, whose parts are tested themselves, one.

    The recordings cover the other builds; all of them here took longer than anybody waits.
    """
    count = 2 if one.kind == "single" else 1
    return {one.builds[(place + n) % len(one.builds)] for n in range(count)}


CASES = [
    (name, build)
    for place, (name, one) in enumerate(FAULTS.items())
    if name not in UNREACHABLE
    for build in sorted(builds_of(one, place))
]


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault, "WARM_UP_SECONDS", 0.25)
    # A stall that shows for good needs more on a fast machine; its tells do not.
    monkeypatch.setattr(latency, "_TRIALS", 1)
    monkeypatch.setattr(latency, "_MOST_TIMES", 1.0)


def named(seen: dict[str, Any]) -> int:
    """Applications that are connected."""
    return len([client for client in seen["clients"] if client["name"]])


def test_every_fault_has_its_tells() -> None:
    assert TELLS.keys() | UNREACHABLE == FAULTS.keys() | UNREACHABLE


@pytest.mark.parametrize(("name", "build"), CASES)
def test_a_fault_causes_its_tells(
    name: str, build: str, start_server: Callable[..., servers.Server]
) -> None:
    one = FAULTS[name]
    if one.root_only and os.geteuid() != 0:
        pytest.skip(f"{name} needs root: it mounts a small disk")
    server = start_server(build, *one.arguments_for(build))
    with one.prepare(server, seed=1, scale=SCALE) as expected:
        culprit = sorted(expected.culprit)[0][1]
        deadline = time.monotonic() + PATIENCE
        while not shows(name, seen := look(server.port), culprit) or named(seen) < 5:
            told = {k: seen[k] for k in ("L", "used_memory", "keys")}
            assert time.monotonic() < deadline, f"{named(seen)} clients, {told}"
            time.sleep(0.1)
        assert "cmdstat_restore" not in seen
    assert name in expected.root_cause or one.kind != "single" or name == "healthy"
    assert expected.is_incident == expected.root_cause.isdisjoint(NOT_INCIDENTS | {"no-incident"})
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


def test_a_frozen_server_accepts_and_does_not_answer(
    start_server: Callable[..., servers.Server],
) -> None:
    server = start_server("valkey-9.1")
    client = redis.Redis(port=server.port, socket_timeout=0.3, retry=Retry(NoBackoff(), 0))
    with FAULTS["frozen"].prepare(server, 1, SCALE), pytest.raises(redis.TimeoutError):
        client.ping()
    client.close()
    client = redis.Redis(port=server.port, socket_timeout=5)
    assert client.ping()
    client.close()


def test_a_busy_server_refuses_everybody_until_its_script_is_killed(
    build: str, start_server: Callable[..., servers.Server]
) -> None:
    server = start_server(build)
    client = redis.Redis(port=server.port, protocol=2)
    client.ping()
    with FAULTS["busy-script"].prepare(server, 1, SCALE):
        deadline = time.monotonic() + PATIENCE
        while not is_busy(client):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert client.ping()
    client.close()


def is_busy(client: "redis.Redis") -> bool:
    try:
        client.info("memory")
    except redis.ResponseError as error:
        return "busy" in str(error).lower()
    return False
