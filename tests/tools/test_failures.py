"""Each expected refusal, caused for real, comes out of a tool as a worded NotMeasured."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from evals.servers import Server
from tests.tools.looking import (
    SAMPLING,
    StartServer,
    client_of,
    look,
    look_and_fail,
    opened,
    until,
)
from tools.connection import CommandFailure, LiveConnection
from tools.opening import open_for_reading
from tools.permissions import READ_COMMANDS, Permission
from tools.reading import NotMeasured, printable
from tools.reads import READS
from tools.slowlog import Slowlog

SECRET = "hunter2-s3cret"


async def test_a_user_who_may_run_nothing_but_info_still_learns_what_info_says(
    server: Server,
) -> None:
    client_of(server).acl_setuser(
        "only-info", enabled=True, passwords=[f"+{SECRET}"], commands=["+info"]
    )
    url = f"redis://only-info:{SECRET}@127.0.0.1:{server.port}"
    async with opened(url) as connection:
        readings = {name: await look(connection, name) for name in READS if name not in SAMPLING}
    measured = {name for name, r in readings.items() if not isinstance(r, NotMeasured)}
    assert measured >= {"server_info", "memory_info", "persistence", "replication", "scripts"}
    refused = readings["config_get"]
    assert isinstance(refused, NotMeasured)
    assert refused.failure == "refused"
    assert "CONFIG GET" in refused.not_measured
    assert "only-info" in refused.not_measured
    assert "redis-oncall acl" in refused.remedy
    for name in ("slowlog", "memory_stats", "memory_doctor", "latency_latest", "acl_log"):
        reading = readings[name]
        assert isinstance(reading, NotMeasured), name
        assert reading.failure == "refused", name
    assert SECRET not in repr(readings)


async def test_without_config_get_the_slow_log_is_still_read(server: Server) -> None:
    admin = client_of(server)
    admin.config_set("slowlog-log-slower-than", 0)
    admin.acl_setuser(
        "no-config", enabled=True, nopass=True, categories=["+@all"], commands=["-config"]
    )
    async with opened(f"redis://no-config:x@127.0.0.1:{server.port}") as connection:
        reading = await look(connection, "slowlog")
    assert isinstance(reading, Slowlog)
    assert reading.entries
    assert isinstance(reading.threshold_microseconds, NotMeasured)
    assert reading.threshold_microseconds.failure == "refused"


async def test_unknown_command_is_not_a_healthy_one(start_server: StartServer, build: str) -> None:
    server = start_server(build, "--rename-command", "MEMORY", "")
    async with opened(server.url) as connection:
        failure = await look_and_fail(connection, "memory_stats")
    assert failure.failure == "unknown_command"
    assert "MEMORY STATS" in failure.not_measured


async def test_misconf_stops_pings_but_not_the_diagnosis(
    start_server: StartServer, build: str
) -> None:
    """A snapshot failed: writes and PING are refused, and the tools say why."""
    server = start_server(build)
    admin = client_of(server)
    admin.config_set("save", "3600 1")
    admin.set("a", 1)
    # A directory in the place of the snapshot: the rename fails, also for root.
    (server.directory / "dump.rdb").mkdir()
    admin.bgsave()

    async def has_failed() -> bool:
        return bool(admin.info("persistence")["rdb_last_bgsave_status"] == "err")

    await until(has_failed)
    async with opened(server.url) as connection:
        with pytest.raises(CommandFailure) as caught:
            await connection.execute("PING")
        assert caught.value.kind == "misconf"
        assert "MISCONF" in caught.value.failed
        assert "disk" in caught.value.remedy
        persistence = (await look(connection, "persistence")).model_dump()
        assert persistence["rdb_last_bgsave_status"] == "err"
        server_info = (await look(connection, "server_info")).model_dump()
        assert 0 < server_info["round_trip_seconds"] < 5, "an error reply travelled, too"
    admin.config_set("save", "")  # or the server would not end before it has saved


async def test_oom_is_told_from_other_errors(server: Server) -> None:
    """Reads are served at maxmemory; a write that needs memory is refused as `oom`."""
    client_of(server).config_set("maxmemory", 1)
    writer = Permission("test", READ_COMMANDS | {"set"})  # no remedy of ours needs memory
    async with opened(server.url, permission=writer, reconnects=0) as connection:
        with pytest.raises(CommandFailure) as caught:
            await connection.execute("SET", "a", "x")
        assert caught.value.kind == "oom"
        assert not isinstance(await look(connection, "memory_info"), NotMeasured)


@pytest.fixture
def busy(start_server: StartServer, build: str) -> Iterator[Server]:
    """A server that answers BUSY, until its script is killed."""
    server = start_server(build, "--lua-time-limit", "50")
    script = client_of(server).connection_pool.get_connection()
    script.send_command("EVAL", "while true do end", 0)  # type: ignore[no-untyped-call]
    yield server
    with contextlib.suppress(redis.RedisError):
        client_of(server).script_kill()
    script.disconnect()  # type: ignore[no-untyped-call]


async def test_busy_script_is_named_and_outlived(busy: Server) -> None:
    async with opened(busy.url) as connection:

        async def answers_busy() -> bool:
            reading = await look(connection, "memory_info")
            return isinstance(reading, NotMeasured) and reading.failure == "busy"

        await until(answers_busy)
        failure = await look_and_fail(connection, "memory_info")
        assert failure.failure == "busy"
        assert "SCRIPT KILL" in failure.remedy
        client_of(busy).script_kill()

        async def answers_again() -> bool:
            return not isinstance(await look(connection, "memory_info"), NotMeasured)

        await until(answers_again)


async def test_a_connection_can_be_opened_while_a_script_runs(busy: Server) -> None:
    async def answers_busy() -> bool:
        with contextlib.suppress(redis.RedisError, OSError):
            client_of(busy).ping()
            return False
        return True

    await until(answers_busy)
    connection = await open_for_reading(busy.url)
    assert isinstance(connection, LiveConnection)
    assert (await look_and_fail(connection, "memory_info")).failure == "busy"
    await connection.close()


async def test_loading_keeps_the_connection(
    start_server: StartServer, build: str, tmp_path: Path
) -> None:
    """LOADING is an answer, not a lost link: INFO keeps working on the same connection."""
    saved = start_server(build, "--dir", str(tmp_path))
    # Events are processed every 2 MB of the file: 20 times in all, 0.1 s apart.
    client_of(saved).mset({f"key:{i}": os.urandom(1_000_000) for i in range(40)})
    client_of(saved).save()
    loading = start_server(build, "--dir", str(tmp_path), "--key-load-delay", "50000")
    async with opened(loading.url) as connection:
        before = connection.client_id
        failure = await look_and_fail(connection, "memory_stats")
        assert failure.failure == "loading"
        persistence = (await look(connection, "persistence")).model_dump()
        assert persistence["loading"] == 1
        for _ in range(3):
            assert (await look_and_fail(connection, "memory_stats")).failure == "loading"
        assert connection.client_id == before, "no reconnect was spent"


# Names are hostile text.

HOSTILE = b"\x1b[31mred\x00\xe2\x80\xaelive\xff<b>"


async def test_hostile_names_come_out_printable(server: Server) -> None:
    admin = client_of(server)
    admin.config_set("slowlog-log-slower-than", 0)
    admin.set(HOSTILE, "a value that is nobody's business")
    with pytest.raises(redis.AuthenticationError):
        client_of(server, username=HOSTILE.decode("utf-8", "replace"), password="x").ping()
    admin.config_set("slowlog-log-slower-than", 10_000)
    async with opened(server.url) as connection:
        readings = [await look(connection, name) for name in ("slowlog", "acl_log")]
    shown = repr([reading.model_dump() for reading in readings])
    assert "nobody's business" not in shown
    slowlog = readings[0]
    assert isinstance(slowlog, Slowlog)
    keys = [entry.key for entry in slowlog.entries if entry.command == "SET"]
    assert keys == [printable(HOSTILE)]
    for reading in readings:
        for text in strings_in(reading.model_dump()):
            assert text.isprintable(), repr(text)


def strings_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from strings_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings_in(inner)
