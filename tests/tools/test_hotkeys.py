"""The keys used most, where the server counts it; and a server that a script blocks."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from evals.pouring import pour
from evals.servers import Server
from tests.deployments import AT_ONCE
from tests.tools.looking import client_of, not_measured, opened, read, until
from tools.connection import Command, CommandFailure, LiveConnection, Reply
from tools.hotkeys import HotKeys, KeysInUse
from tools.hotkeys_command import CountedKey, read_rows
from tools.keyspace import BigKeys, EveryKeyCounts
from tools.permissions import READ_WRITE
from tools.reading import NotMeasured
from tools.reads import READS
from tools.recording import RecordedConnection, RecordingConnection
from tools.scripts import Scripts
from tools.summaries import summarize


async def test_the_hot_key_leads_under_an_lfu_policy(server: Server) -> None:
    admin = client_of(server)
    admin.config_set("maxmemory-policy", "allkeys-lfu")
    for number in range(300):
        admin.set(f"cold:{number}", "x")
    admin.set("hot", "x")
    for _ in range(20):
        pipe = admin.pipeline(transaction=False)
        for _ in range(500):
            pipe.get("hot")
        pipe.execute()
    async with opened(server.url) as connection:
        seen = await read(connection, "hot_keys", HotKeys)
    assert (seen.keys_seen, seen.complete, seen.lookups) == (301, True, 301)
    assert isinstance(seen.hottest, list)
    assert isinstance(seen.in_use, NotMeasured)
    assert seen.hottest[0].key == "hot"
    assert seen.hottest[0].frequency > 2 * seen.hottest[1].frequency
    assert len(seen.hottest) == 10


async def test_without_an_lfu_policy_nobody_counts(server: Server) -> None:
    async with opened(server.url) as connection:
        seen = await not_measured(connection, "hot_keys")
    assert seen.failure == "disabled"
    assert "noeviction" in seen.because
    assert "no HOTKEYS command" in seen.because
    assert "`in_use`" in seen.remedy


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
async def test_without_an_lfu_policy_keys_in_use_are_told_and_not_their_rate(
    server: Server, policy: str
) -> None:
    admin = client_of(server)
    admin.config_set("maxmemory-policy", policy)
    long_unused(server, "hot", "warm", *(f"cold:{n}" for n in range(3_000)))
    async with load(server, "hot"), opened(server.url) as connection:
        admin.get("warm")  # once: in use at the first look only
        seen = await read(connection, "hot_keys", HotKeys, in_use=True)
    assert seen.complete
    assert isinstance(seen.hottest, NotMeasured)
    assert policy in seen.hottest.because
    used = seen.in_use
    assert isinstance(used, KeysInUse), used
    assert (used.keys, used.each_time) == (["hot"], 1)
    assert 2 <= used.watched < 1_000
    assert summarize(seen).endswith("1 in use at each of 4 looks: hot")
    assert isinstance(seen.counted, NotMeasured)
    assert seen.counted.failure == "unknown_command"


def long_unused(server: Server, *keys: str) -> None:
    """Keys that nobody has used for a minute."""
    admin = client_of(server, decode_responses=False)
    admin.set("one", "x")
    dump = admin.dump("one")
    admin.delete("one")
    assert dump is not None
    assert pour(server.port, (("RESTORE", key, 0, dump, "IDLETIME", 60) for key in keys)) == 0


@contextlib.asynccontextmanager
async def load(server: Server, key: str) -> AsyncIterator[None]:
    """Somebody reads this key all the time, from before this begins."""
    begun, over = threading.Event(), threading.Event()

    def reading() -> None:
        with contextlib.closing(client_of(server)) as client:
            while not over.is_set():
                client.get(key)
                begun.set()
                time.sleep(0.01)

    reader = asyncio.create_task(asyncio.to_thread(reading))
    try:
        await until(begun.is_set)
        yield
    finally:
        over.set()
        await reader


async def test_on_a_replica_it_says_whose_counts_these_are(
    monkeypatch: pytest.MonkeyPatch, start_server: Callable[..., Server], build: str
) -> None:
    monkeypatch.setattr("tools.hotkeys.PAUSE", 0.01)  # whatever is found: it is said whose it is
    primary = start_server(build, *AT_ONCE)
    client_of(primary).set("hot", "x")
    replica = start_server(build, "--replicaof", "127.0.0.1", str(primary.port))
    following = client_of(replica)
    await until(lambda: following.info("replication")["master_link_status"] == "up", 30)
    async with load(primary, "hot"), opened(replica.url) as connection:
        seen = await read(connection, "hot_keys", HotKeys, in_use=True)
    assert "the replica's own counts" in seen.stopped_because


async def test_idle_times_that_do_not_move_say_nothing(
    server: Server,
) -> None:
    long_unused(server, *(f"cold:{n}" for n in range(100)))
    async with load(server, "cold:7"), opened(server.url) as connection:
        recorder = RecordingConnection(connection)
        await READS["hot_keys"].call(recorder, {"in_use": True})
    seen = await READS["hot_keys"].call(RecordedConnection(recorder.finished()), {"in_use": True})
    assert isinstance(seen, NotMeasured), seen
    assert "do not move" in seen.because
    assert "noeviction" in seen.because
    assert client_of(server).dbsize() == 100


async def test_frequencies_are_part_of_every_key_and_no_idle_time_is_asked_for(
    server: Server,
) -> None:
    admin = client_of(server)
    admin.config_set("maxmemory-policy", "allkeys-lfu")
    pour(server.port, ((("SET", f"cold:{n}", "x")) for n in range(500)))
    pour(server.port, ((("GET", "cold:7")) for _ in range(20_000)))
    async with opened(server.url) as connection:
        found = await read(connection, "bigkeys", BigKeys, every_key=True)
    counts = found.every_key
    assert isinstance(counts, EveryKeyCounts)
    assert isinstance(counts.idle, NotMeasured)
    assert isinstance(counts.hottest, list)
    assert isinstance(counts.frequency, list)
    assert counts.hottest[0].key == "cold:7"
    assert counts.hottest[0].frequency > 20
    assert len(counts.hottest) == 10
    assert sum(row.keys for row in counts.frequency) == 500
    assert next(row.frequency for row in counts.frequency if row.keys) == 5
    assert isinstance(found.top_by_bytes[0].idle_seconds, NotMeasured)
    assert int(admin.info("stats")["total_error_replies"]) < 20, "none for each key"


VALKEY: list[Any] = [
    [b"key", b"hot\x1b[2J", b"db", 0, b"qps", 4_200], [b"key", b"warm", b"db", 3, b"qps", b"12.5"],
    b"odd", [b"qps", 1], [],
]  # fmt: skip
REDIS: list[Any] = [
    b"tracking-active", 1, b"sample-ratio", 1, b"selected-slots", [], b"by-cpu-time-us",
    [b"hot", 104, b"warm", 98, b"left over"], b"by-net-bytes", [b"hot", 2_000],
]  # fmt: skip


@pytest.mark.parametrize("reply", [REDIS, [REDIS]])
def test_what_redis_counts_is_read_as_documented(reply: Any) -> None:
    assert read_rows(reply) == [
        CountedKey(key="hot", cpu_microseconds=104, net_bytes=2_000),
        CountedKey(key="warm", cpu_microseconds=98),
    ]


def test_what_valkey_counts_is_read_as_documented() -> None:
    assert read_rows(VALKEY) == [
        CountedKey(key="hot\\x1b[2J", db=0, calls_per_second=4_200),
        CountedKey(key="warm", db=3, calls_per_second=12.5),
    ]


@pytest.mark.parametrize("reply", [None, b"OK", 7, [], [[]], [b"by-cpu-time-us"], [[b"key"]]])
def test_a_reply_of_another_shape_tells_nothing(reply: Any) -> None:
    assert read_rows(reply) == []


class Counting(LiveConnection):
    """A server that has HOTKEYS."""

    started = True

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        if list(commands) == [("COMMAND", "INFO", "hotkeys")]:
            return [[[b"hotkeys", -2]]]
        if list(commands) == [("HOTKEYS", "GET")]:
            return [REDIS if self.started else None]
        return await super().execute_many(commands)


async def test_what_somebody_had_counted_is_told_and_counting_is_never_started(
    server: Server,
) -> None:
    connection = Counting(server.url)
    seen = await READS["hot_keys"].call(connection, {})
    assert isinstance(seen, HotKeys)
    assert isinstance(seen.counted, list)
    assert "the server counts hot most" in summarize(seen)
    connection.started = False
    seen = await READS["hot_keys"].call(connection, {})
    assert isinstance(seen, NotMeasured)
    assert "HOTKEYS START METRICS 1 CPU" in seen.because
    assert READ_WRITE.refusal(("HOTKEYS", "START", "METRICS", "1", "CPU")) is not None
    await connection.close()


async def test_a_busy_server_says_so(build: str, server: Server) -> None:
    limit = "lua-time-limit" if build == "redis-6.2" else "busy-reply-threshold"
    client_of(server).config_set(limit, 50)
    link = socket.create_connection(("127.0.0.1", server.port), 5)
    link.sendall(b"EVAL 'while true do end' 0\r\n")
    killer = client_of(server)
    try:
        await asyncio.sleep(0.3)
        async with opened(server.url) as connection:
            seen = await read(connection, "scripts", Scripts)
        assert seen.blocked_by == "BUSY"
        assert isinstance(seen.running_script, NotMeasured)  # FUNCTION STATS tells functions only
    finally:
        killer.script_kill()
        link.close()
