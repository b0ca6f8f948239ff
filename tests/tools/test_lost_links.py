"""No connection, or one that is lost: worded, bounded, and no secret in it."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from evals.servers import Server, free_port
from tests.answering import answering
from tests.tools.looking import (
    StartServer,
    client_of,
    look,
    look_and_fail,
    opened,
)
from tools.connection import CommandFailure, LiveConnection, display_url
from tools.opening import UnreachableConnection, open_for_reading
from tools.permissions import READ_WRITE
from tools.reading import NotMeasured

SECRET = "hunter2-s3cret"


async def test_maxclients_is_said_at_the_door(start_server: StartServer, build: str) -> None:
    server = start_server(build, "--maxclients", "2")
    held = [client_of(server).connection_pool.get_connection() for _ in range(2)]
    try:
        for _ in range(10):
            connection = await open_for_reading(server.url)
            assert isinstance(connection, UnreachableConnection)
            failure = await look_and_fail(connection, "memory_info")
            assert failure.failure == "maxclients", failure
            assert "keep one for diagnosis" in failure.remedy
    finally:
        for each in held:
            each.disconnect()  # type: ignore[no-untyped-call]


async def test_a_stopped_server_is_a_timeout_and_is_measured_again_when_it_goes_on(
    server: Server,
) -> None:
    async with opened(server.url, command_seconds=0.3) as connection:
        assert not isinstance(await look(connection, "memory_info"), NotMeasured)
        os.kill(server.pid, signal.SIGSTOP)
        began = time.monotonic()
        failure = await look_and_fail(connection, "memory_info")
        assert failure.failure == "timeout"
        assert time.monotonic() - began < 5, "bounded"
        os.kill(server.pid, signal.SIGCONT)
        assert not isinstance(await look(connection, "memory_info"), NotMeasured)


@contextlib.asynccontextmanager
async def line_by_line(server: Server, told: list[float]) -> AsyncIterator[str]:
    """URL of the same server behind a link that waits before each line; for the last for ever."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        replies, commands = await asyncio.open_connection("127.0.0.1", server.port)

        async def back() -> None:
            while line := await replies.readline():
                await asyncio.sleep(told.pop(0) if told else 0)
                writer.write(line)
                await writer.drain()

        coming_back = asyncio.create_task(back())
        try:
            while sent := await reader.read(65_536):
                commands.write(sent)
        finally:
            coming_back.cancel()
            commands.close()
            await commands.wait_closed()

    async with answering(relay) as port:
        yield f"redis://127.0.0.1:{port}"


async def test_each_reply_has_its_own_time_however_many_are_asked_for(server: Server) -> None:
    """A slow server that answers is measured; one that falls silent half-way is not."""
    told: list[float] = []
    async with (
        line_by_line(server, told) as url,
        opened(url, command_seconds=0.5, reconnects=1, permission=READ_WRITE) as connection,
    ):
        told += 8 * [0.15]
        began = time.monotonic()
        assert await connection.execute_many(8 * [("DBSIZE",)]) == 8 * [0]
        assert time.monotonic() - began > 1.0
        told += [0.15, 0.15, 60.0]
        commands = [("DBSIZE",), ("TTL", "a"), ("TTL", "b"), ("TTL", "c")]
        began = time.monotonic()
        with pytest.raises(CommandFailure, match=r"TTL b on .*: Timeout: no answer in 0.5 s") as at:
            await connection.execute_many(commands)
        assert (at.value.kind, time.monotonic() - began < 3) == ("timeout", True)
        # Over a new link: what the old one still owes answers nobody.
        assert await connection.execute("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"0"]


async def test_reconnects_are_bounded_and_the_reason_is_remembered(server: Server) -> None:
    async with opened(server.url, command_seconds=0.1, reconnects=1) as connection:
        os.kill(server.pid, signal.SIGSTOP)
        failures = [(await look_and_fail(connection, "memory_info")) for _ in range(3)]
        assert [f.failure for f in failures] == ["timeout"] * 3
        assert "not connected again" in failures[2].because


async def test_a_killed_client_reads_on(server: Server) -> None:
    async with opened(server.url) as connection:
        first = connection.client_id
        assert first is not None
        assert client_of(server).client_kill_filter(_id=str(first)) == 1
        assert not isinstance(await look(connection, "memory_info"), NotMeasured)
        assert connection.client_id not in (None, first)


async def test_an_executor_never_sends_twice(server: Server) -> None:
    async with opened(server.url, permission=READ_WRITE, reconnects=0) as connection:
        client_of(server).client_kill_filter(_id=str(connection.client_id))
        failure = await look_and_fail(connection, "memory_info")
        assert failure.failure == "connection_lost"
        assert (await look_and_fail(connection, "memory_info")).failure == "connection_lost"


async def test_a_server_that_died_is_worded(start_server: StartServer, build: str) -> None:
    server = start_server(build)
    async with opened(server.url) as connection:
        os.kill(server.pid, signal.SIGKILL)
        os.waitpid(server.pid, 0)
        failure = await look_and_fail(connection, "memory_info")
        assert failure.failure in ("connection_lost", "unreachable")
        assert (await look_and_fail(connection, "memory_info")).failure == "unreachable"


async def test_a_cancelled_look_leaves_no_reply_for_the_next_one(server: Server) -> None:
    """A late reply must not be taken for the answer to another command."""
    async with opened(server.url) as connection:
        os.kill(server.pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.execute("DBSIZE"), 0.2)
        os.kill(server.pid, signal.SIGCONT)
        assert await connection.execute("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"0"]


@pytest.mark.parametrize(
    "credentials", [f":{SECRET}@", f"default:{SECRET}@", f"nobody:{SECRET}@", f"{SECRET}@"]
)
async def test_a_wrong_password_appears_nowhere(server: Server, credentials: str) -> None:
    client_of(server).config_set("requirepass", "another")
    connection = await open_for_reading(f"redis://{credentials}127.0.0.1:{server.port}")
    failure = await look_and_fail(connection, "memory_info")
    assert failure.failure == "auth"
    assert "password" in failure.remedy
    assert SECRET not in failure.model_dump_json()
    assert SECRET not in connection.node


async def test_no_password_where_one_is_needed(server: Server) -> None:
    client_of(server).config_set("requirepass", SECRET)
    failure = await look_and_fail(await open_for_reading(server.url), "memory_info")
    assert failure.failure == "auth"


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{SECRET}/x@127.0.0.1:6379",
        f"redis://user:{SECRET}?x@127.0.0.1:6379",
        f"redis://user:{SECRET}#x@127.0.0.1:6379",
        f"redis://user:{SECRET}@127.0.0.1:port",
        f"redis://user:{SECRET}@[::1",
        f"http://user:{SECRET}@127.0.0.1",
        f"unix://user:{SECRET}@/nowhere/redis.sock",
        f"unix:///nowhere/redis.sock?password={SECRET}",
        "",
        "redis",
    ],
)
async def test_a_malformed_url_is_worded_and_keeps_its_secret(url: str) -> None:
    connection = await open_for_reading(url)
    failure = await look_and_fail(connection, "memory_info")
    assert SECRET not in failure.model_dump_json() + connection.node + display_url(url)


async def test_options_in_the_url_do_not_change_the_replies(server: Server) -> None:
    async with opened(f"{server.url}/1?protocol=3&decode_responses=true&foo=1") as connection:
        assert await connection.execute("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"0"]
        listed = await connection.execute("CLIENT", "LIST", "ID", connection.client_id or 0)
        assert isinstance(listed, bytes)
        assert b" db=1 " in listed


async def test_an_unresolvable_host() -> None:
    connection = await open_for_reading("redis://no-such-host.invalid:6379")
    failure = await look_and_fail(connection, "memory_info")
    assert failure.failure == "unresolvable", failure
    assert "host name" in failure.remedy


async def test_a_port_nobody_listens_on() -> None:
    failure = await look_and_fail(
        await open_for_reading(f"redis://127.0.0.1:{free_port()}"), "memory_info"
    )
    assert failure.failure == "unreachable"


async def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    failure = await look_and_fail(
        await open_for_reading(f"unix://{tmp_path}/no.sock"), "memory_info"
    )
    assert failure.failure == "unreachable"


async def test_a_unix_socket(start_server: StartServer, build: str, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    start_server(build, "--unixsocket", str(path))
    async with opened(f"unix://{path}") as connection:
        assert connection.node == f"{path} (master)"
        assert not isinstance(await look(connection, "memory_info"), NotMeasured)


async def test_something_that_is_not_redis() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n\x1b[31m")
        await writer.drain()

    async with answering(greet) as port:
        failure = await look_and_fail(
            await open_for_reading(f"redis://127.0.0.1:{port}"), "memory_info"
        )
    assert failure.failure in ("error", "connection_lost")
    assert failure.because.isprintable()


async def test_a_cancellation_is_never_forgotten(start_server: StartServer) -> None:
    """Whoever lost the lease is cancelled, once, wherever it is: it must not go on writing."""
    connection = LiveConnection(start_server("valkey-9.1").url, reconnects=1_000)
    await connection.open()
    went_on = []

    async def work() -> None:
        await connection.execute("TIME")
        await asyncio.sleep(0.2)
        went_on.append(turns)

    for turns in 20 * list(range(8)):
        task = asyncio.create_task(work())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await connection.close()
    assert went_on == []
