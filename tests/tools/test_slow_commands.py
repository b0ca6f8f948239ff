"""Slow commands and latency: what is shown, and what never is."""

from collections.abc import Callable

import pytest
import redis

from evals.servers import Server
from tests.tools.looking import (
    StartServer,
    client_of,
    not_measured,
    read,
)
from tools.connection import LiveConnection, Reply
from tools.latency import LatencyDoctor, LatencyEvents, LatencyHistogram
from tools.slowlog import Slowlog, command_and_key


def log_everything(admin: "redis.Redis", work: Callable[[], object]) -> None:
    admin.config_set("slowlog-log-slower-than", 0)
    work()
    admin.config_set("slowlog-log-slower-than", 10_000)


def revealing_work(admin: "redis.Redis") -> Callable[[], None]:
    def work() -> None:
        admin.set("user:1", "SECRETVALUE")
        admin.eval("return 'SECRETSCRIPT'", 1, "user:1", "SECRETARGUMENT")
        admin.publish("channel", "SECRETMESSAGE")
        admin.object("ENCODING", "user:1")
        admin.rpush("list", *["SECRETELEMENT"] * 99)
        admin.echo("SECRETECHO")
        admin.config_set("masterauth", "SECRETPASSWORD")

    return work


SHOWN = {
    "SET": ("user:1", 2),
    "EVAL": ("", 4),
    "PUBLISH": ("", 2),
    "OBJECT ENCODING": ("user:1", 2),
    "RPUSH": ("list", 100),
    "ECHO": ("", 1),
}


async def test_slowlog_shows_commands_and_keys_and_never_a_value(
    server: Server, connection: LiveConnection
) -> None:
    admin = client_of(server)
    log_everything(admin, revealing_work(admin))
    reading = await read(connection, "slowlog", Slowlog)
    assert "SECRET" not in reading.model_dump_json()
    shown = {e.command: (e.key, e.argument_count) for e in reading.entries}
    assert {command: shown[command] for command in SHOWN} == SHOWN
    assert "CONFIG SET" in shown
    independent = admin.slowlog_get(128)
    assert [e.id for e in reading.entries] == [entry["id"] for entry in independent]
    assert [e.microseconds for e in reading.entries] == [e["duration"] for e in independent]
    assert reading.total == len(independent)
    assert reading.threshold_microseconds == 10_000
    assert sum(group.count for group in reading.groups) == len(reading.entries)
    assert all(0 <= group.newest_age_seconds < 20 for group in reading.groups)
    totals = [group.total_microseconds for group in reading.groups]
    assert totals == sorted(totals, reverse=True)


async def test_where_there_is_only_a_command_log_it_is_read(start_server: StartServer) -> None:
    server = start_server("valkey-9.1", "--rename-command", "SLOWLOG", "")
    admin = client_of(server)
    log_everything(admin, revealing_work(admin))
    connection = LiveConnection(server.url)
    await connection.open()
    reading = await read(connection, "slowlog", Slowlog)
    await connection.close()
    assert "SECRET" not in reading.model_dump_json()
    assert {entry.command for entry in reading.entries} >= set(SHOWN)
    assert reading.total == len(reading.entries)


@pytest.mark.parametrize(
    ("name", "value"), [("slowlog-log-slower-than", -1), ("slowlog-max-len", 0)]
)
async def test_a_slow_log_that_is_off_is_not_an_empty_one(
    server: Server, connection: LiveConnection, name: str, value: int
) -> None:
    client_of(server).config_set(name, value)
    failure = await not_measured(connection, "slowlog")
    assert failure.failure == "disabled"
    assert name in failure.because


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ([b"get", b"k"], ("GET", "k")),
        ([b"EVALSHA", b"abc", b"1", b"k"], ("EVALSHA", "")),
        ([b"auth", b"pw"], ("AUTH", "")),
        ([b"hello", b"3", b"auth", b"u", b"pw"], ("HELLO", "")),
        ([b"migrate", b"host", b"1", b"k"], ("MIGRATE", "")),
        ([b"xgroup", b"create", b"stream", b"g", b"$"], ("XGROUP CREATE", "stream")),
        ([b"memory", b"usage", b"k"], ("MEMORY USAGE", "k")),
        ([b"client", b"kill", b"k"], ("CLIENT KILL", "")),
        ([b"ft.search", b"idx", b"secret"], ("FT.SEARCH", "")),
        ([b"acl", b"setuser", b"u", b">pw"], ("ACL SETUSER", "")),
        ([b"dbsize"], ("DBSIZE", "")),
    ],
)
def test_a_key_is_shown_only_where_it_is_known_to_be_one(
    arguments: list[Reply], shown: tuple[str, str]
) -> None:
    assert command_and_key(arguments) == shown


async def test_latency_events_of_a_stall(server: Server, connection: LiveConnection) -> None:
    admin = client_of(server)
    admin.config_set("latency-monitor-threshold", 5)
    admin.eval("for i = 1, 3000000 do local x = i * i end", 0)
    reading = await read(connection, "latency_latest", LatencyEvents)
    assert reading.threshold_milliseconds == 5
    independent = {event[0]: event for event in admin.latency_latest()}
    assert independent, "the stall was noticed"
    assert {event.event for event in reading.events} == set(independent)
    for event in reading.events:
        assert event.longest_milliseconds == independent[event.event][3]
        assert event.longest_milliseconds >= 5
        assert 0 <= event.age_seconds < 20
    assert (await read(connection, "latency_doctor", LatencyDoctor)).text


@pytest.mark.parametrize("name", ["latency_latest", "latency_doctor"])
async def test_a_monitor_that_is_off_is_not_a_quiet_server(
    name: str, connection: LiveConnection
) -> None:
    failure = await not_measured(connection, name)
    assert failure.failure == "disabled"
    assert "latency-monitor-threshold" in failure.because


async def test_latency_histogram(server: Server, build: str, connection: LiveConnection) -> None:
    admin = client_of(server)
    for _ in range(20):
        admin.set("k", 1)
    admin.eval("for i = 1, 3000000 do local x = i * i end", 0)
    errors = admin.info("stats")["total_error_replies"]
    if build == "redis-6.2":
        assert (await not_measured(connection, "latency_histogram")).failure == "unknown_command"
        assert admin.info("stats")["total_error_replies"] == errors, "we add none of our own"
        return
    reading = await read(connection, "latency_histogram", LatencyHistogram)
    slowest = reading.commands[0]
    assert (slowest.command, slowest.calls) == ("eval", 1)
    assert slowest.p50_microseconds == slowest.p99_microseconds == slowest.longest_microseconds
    assert slowest.longest_microseconds > 1000
    fast = next(row for row in reading.commands if row.command == "set")
    assert fast.calls == 20
    assert 0 < fast.p50_microseconds <= fast.p99_microseconds <= fast.longest_microseconds


async def test_histograms_that_are_off_are_said_to_be(
    server: Server, build: str, connection: LiveConnection
) -> None:
    if build == "redis-6.2":
        pytest.skip("has none")
    admin = client_of(server)
    admin.config_set("latency-tracking", "no")
    admin.config_resetstat()
    assert (await not_measured(connection, "latency_histogram")).failure == "disabled"
