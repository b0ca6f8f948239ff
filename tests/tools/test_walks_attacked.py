"""Walks over keyspaces that do their worst: what was seen is told, and nothing else."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis

from evals import servers
from evals.pouring import pour
from evals.servers import Server
from tests.tools.looking import ask, client_of, opened, read
from tools import survey
from tools.bigkeys import BigKeysArguments, bigkeys
from tools.connection import Connection
from tools.encodings import Encodings, EncodingsArguments, encodings
from tools.hotkeys import HotKeys, HotKeysArguments, KeysInUse, hot_keys
from tools.keyspace import BigKeys, EveryKeyCounts
from tools.progress import Progress, Watch, watched
from tools.reading import NotMeasured
from tools.scanner import visited_share
from tools.summaries import summarize

KEYS = 5_000
PACES = pytest.mark.parametrize("pace", ["gentle", "fast"])


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written a moment ago does not count as traffic."""
    monkeypatch.setattr(survey, "SPARE", float("inf"))


def fill(server: Server, number: int = KEYS) -> None:
    pour(server.port, (("SET", f"user:{n}", "x" * 40) for n in range(number)))


async def walked(connection: Connection, **how: Any) -> BigKeys:
    reading = await bigkeys(connection, BigKeysArguments(seconds=30, **how))
    assert isinstance(reading, BigKeys), reading
    return reading


class Once:
    """Does something when a walk is a third over."""

    def __init__(self, deed: Callable[[], object]) -> None:
        self.deed = deed
        self.done = False

    def __call__(self, progress: Progress) -> None:
        if progress.coverage > 0.3 and not self.done:
            self.done = True
            self.deed()


@PACES
async def test_a_server_that_vanishes(server: Server, pace: str) -> None:
    fill(server)
    gone = Once(lambda: os.kill(server.pid, signal.SIGKILL))
    async with opened(server.url) as connection:
        with watched(Watch(gone)):
            found = await walked(connection, pace=pace, every_key=True)
    assert gone.done
    assert not found.complete
    assert 0.3 * KEYS < found.keys_seen < KEYS
    assert "127.0.0.1" in found.stopped_because
    assert found.top_by_bytes, "what was seen is kept"
    assert isinstance(found.top_by_bytes[0].idle_seconds, NotMeasured)


@PACES
async def test_a_server_that_is_started_again_meanwhile(
    start_server: Callable[..., Server], build: str, pace: str
) -> None:
    """Its cursors mean nothing to the next one, which answers them all the same."""
    server = start_server(build)
    fill(server)
    path = servers.binary(build)
    assert path is not None
    second = server.directory.with_suffix(".second")
    second.mkdir()
    started: list[subprocess.Popen[bytes]] = []

    def again() -> None:
        client_of(server).save()
        shutil.copy(server.directory / "dump.rdb", second)
        servers.stop(server)
        name = "/usr/bin/valkey-server" if "valkey" in build else "/usr/bin/redis-server"
        command = [name, "--port", str(server.port), "--dir", str(second), "--save", ""]
        started.append(subprocess.Popen(command, executable=path, stdout=subprocess.DEVNULL))
        while True:
            with contextlib.suppress(redis.ConnectionError, redis.BusyLoadingError):
                client_of(server).ping()
                return
            time.sleep(0.02)

    restarted = Once(again)
    try:
        async with opened(server.url) as connection:
            with watched(Watch(restarted)):
                found = await walked(connection, pace=pace)
    finally:
        for process in started:
            process.kill()
            process.wait()
        shutil.rmtree(second)
    assert restarted.done
    assert found.keys_seen > 0.5 * KEYS, "the next one goes on answering"
    assert not found.complete
    assert found.resume == ""
    assert "started again" in found.stopped_because, found.stopped_because


@PACES
async def test_scan_that_is_refused_after_some_pages(server: Server, pace: str) -> None:
    fill(server)
    admin = client_of(server)
    ask(admin, "ACL SETUSER u reset on >p ~* &* +@all")
    refused = Once(lambda: ask(admin, "ACL SETUSER u -scan"))
    async with opened(server.url.replace("//", "//u:p@")) as connection:
        with watched(Watch(refused)):
            found = await walked(connection, pace=pace)
        assert not found.complete
        assert 0.3 * KEYS < found.keys_seen < KEYS
        assert "permission" in found.stopped_because
        ask(admin, "ACL SETUSER u +scan")
        rest = await walked(connection, resume=found.resume)
    assert found.resume
    assert found.keys_seen + rest.keys_seen >= KEYS


async def test_a_place_tells_how_much_is_left(server: Server) -> None:
    fill(server)
    told: list[Progress] = []
    async with opened(server.url) as connection:
        for keys in (500, 2_500, 4_000):
            part = await walked(connection, keys=keys)
            cursor = int(part.resume.split(":")[1])
            assert visited_share(cursor) == pytest.approx(part.keys_seen / KEYS, abs=0.05)
        with watched(Watch(told.append)):
            await walked(connection, resume=part.resume)
    assert told[0].expected == pytest.approx(KEYS - part.keys_seen, abs=0.05 * KEYS)
    assert visited_share(0) == 0.0


async def test_another_database_is_walked_and_its_place_is_its_own(server: Server) -> None:
    fill(server, 1_000)
    admin = client_of(server, db=3)
    pipe = admin.pipeline(transaction=False)
    for number in range(2_000):
        pipe.set(f"cart:{number}", "y")
    pipe.execute()
    async with opened(f"{server.url}/3") as connection, opened(server.url) as first:
        found = await walked(connection, keys=500)
        assert found.keys_total == 2_000
        assert [row.prefix for row in found.prefixes] == ["cart:"]
        assert "1 other databases hold keys" in found.stopped_because
        rest = await walked(connection, resume=found.resume)
        assert found.keys_seen + rest.keys_seen == 2_000
        elsewhere = await bigkeys(first, BigKeysArguments(resume=found.resume))
        assert isinstance(elsewhere, NotMeasured)
        assert "another database" in elsewhere.because
        mine = await walked(first, keys=300)
        elsewhere = await bigkeys(connection, BigKeysArguments(resume=mine.resume))
        assert isinstance(elsewhere, NotMeasured)
        other = await read(connection, "encodings", Encodings)
        assert (other.keys_total, other.rows[0].prefix) == (2_000, "cart:")


@pytest.mark.parametrize(
    "resume", ["x", "0:0", f"{'0' * 40}:-1", f"{'0' * 40}:1:x", f"{'0' * 40}:1\n", "0" * 5_000]
)
def test_a_resume_that_nobody_has_printed(resume: str) -> None:
    with pytest.raises(ValueError, match="not the `resume`"):
        BigKeysArguments(resume=resume)


@pytest.mark.parametrize("mode", ["exact", "sampled"])
async def test_an_empty_database(server: Server, mode: str) -> None:
    async with opened(server.url) as connection:
        found = await walked(connection, mode=mode, every_key=True)
        assert found.complete
        assert (found.keys_seen, found.coverage, found.top_by_bytes) == (0, 1.0, [])
        assert isinstance(found.mean_key_bytes, NotMeasured)
        shapes = await encodings(connection, EncodingsArguments())
        assert isinstance(shapes, Encodings)
        assert (shapes.keys_seen, shapes.rows, shapes.advice) == (0, [], [])
        hot = await hot_keys(connection, HotKeysArguments(in_use=True))
        assert isinstance(hot, HotKeys)
        assert isinstance(hot.in_use, KeysInUse)
        assert hot.in_use.keys == []
        assert all(summarize(each) for each in (found, shapes, hot))


async def test_names_of_any_bytes_and_any_length(server: Server) -> None:
    names: Sequence[bytes] = [
        b"long:" + bytes([65 + n % 26]) * 10_000 + b"%d" % n for n in range(300)
    ]
    pour(server.port, (("SET", name, "v") for name in names))
    odd = [
        b"",
        b"\x00",
        b"\xff\xfe:\r\n",
        b"*3\r\n$3\r\nSET",
        b"::::",
        b"\x1b[2J:x",
        "\u202e:".encode(),
    ]
    pour(server.port, (("SET", name, b"\xff") for name in odd))
    async with opened(server.url) as connection:
        found = await walked(connection, every_key=True)
        shapes = await encodings(connection, EncodingsArguments(lengths=True))
        hot = await hot_keys(connection, HotKeysArguments(in_use=True))
    assert found.complete
    assert found.keys_seen == len(names) + len(odd)
    assert isinstance(found.every_key, EveryKeyCounts)
    assert found.every_key.types[0].elements == found.keys_seen
    assert isinstance(shapes, Encodings)
    assert shapes.keys_seen == found.keys_seen
    for reading in (found, shapes, hot):
        stored = reading.model_dump_json()
        assert len(stored) < 200_000
        assert summarize(reading).isprintable()
        shown = [word for word in stored.split('"') if "\\u001b" in word or "\\r" in word]
        assert shown == []


async def test_one_huge_collection_is_neither_read_nor_counted_element_by_element(
    server: Server,
) -> None:
    pour(server.port, (("ZADD", "board", n, f"player-{n}") for n in range(300_000)))
    admin = client_of(server)
    admin.config_set("slowlog-log-slower-than", 20_000)
    ask(admin, "SLOWLOG RESET")
    async with opened(server.url) as connection:
        found = await walked(connection, every_key=True)
        shapes = await encodings(connection, EncodingsArguments(lengths=True))
    row = found.top_by_bytes[0]
    assert (row.key, row.elements, row.encoding) == ("board", 300_000, "skiplist")
    assert found.top_by_elements[0].key == "board"
    assert isinstance(shapes, Encodings)
    assert shapes.advice == []
    commands = {str(name).partition("|")[0] for name in admin.info("commandstats")}
    assert not commands & {"cmdstat_zrange", "cmdstat_zscan", "cmdstat_dump", "cmdstat_get"}
