"""A script that blocks everybody is ended, unless it has written."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from threading import Thread

import pytest
import redis

from evals.servers import Server
from tests.tools.load import failing
from tests.tools.looking import client_of
from tools.connection import CommandFailure, LiveConnection
from tools.permissions import READ_WRITE
from tools.remedies.kill_script import KillScript, KillScriptArguments

KILL, ARGS = KillScript(), KillScriptArguments()
ENDLESS = "while true do end"
WRITING = "redis.call('SET', 'k', 'v') local t = redis.call('TIME') " \
    "while redis.call('TIME')[1] - t[1] < 30 do end"  # fmt: skip
LIBRARY = "#!lua name=lib\nredis.register_function('spin', function() while true do end end)"


@pytest.fixture
def server(build: str, start_server: Callable[..., Server]) -> Server:
    limit = "lua-time-limit" if build == "redis-6.2" else "busy-reply-threshold"
    return start_server(build, f"--{limit}", "50")


@contextmanager
def running(server: Server, *command: str) -> Iterator[None]:
    """Somebody calls it, and the server answers BUSY to everybody else."""

    def call() -> None:
        with (
            closing(client_of(server, socket_timeout=40)) as caller,
            suppress(redis.RedisError),
        ):
            caller.execute_command(*command)  # type: ignore[no-untyped-call]

    thread = Thread(target=call)
    thread.start()
    with closing(client_of(server)) as watcher:
        deadline = time.monotonic() + 10
        while True:
            try:
                watcher.ping()
            except redis.ResponseError:
                break
            assert time.monotonic() < deadline, "it did not block the server"
            time.sleep(0.01)
        try:
            yield
        finally:
            with suppress(redis.RedisError):
                watcher.script_kill()
            with suppress(redis.RedisError):
                watcher.function_kill()
            thread.join(20)


async def connected(server: Server) -> LiveConnection:
    connection = LiveConnection(server.url, READ_WRITE, reconnects=0)
    await connection.open()
    return connection


@pytest.mark.parametrize("what", ["script", "function"])
async def test_what_blocks_is_ended_and_the_server_answers(
    build: str, server: Server, what: str
) -> None:
    command = ["EVAL", ENDLESS, "0"]
    if what == "function":
        if build == "redis-6.2":
            pytest.skip("functions came with 7.0")
        with closing(redis.Redis(port=server.port)) as client:
            client.function_load(LIBRARY)
        command = ["FCALL", "spin", "0"]
    with running(server, *command):
        connection = await connected(server)
        assert failing(await KILL.preconditions(connection, ARGS)) == []
        preview = await KILL.preview(connection, ARGS)
        assert preview.commands == [[what.upper(), "KILL"]]
        captured = await KILL.capture(connection, ARGS)
        assert await KILL.settle(connection, ARGS, captured) == "not_applied"
        done = await KILL.apply(connection, ARGS, captured)
        assert done == {"killed": what}
        assert (await KILL.verify(connection, ARGS, captured)).helped is True
        assert await KILL.settle(connection, ARGS, captured) == "applied"
        assert len(failing(await KILL.preconditions(connection, ARGS))) == 1
        await connection.close()


async def test_what_has_written_is_not_ended_and_that_is_said(server: Server) -> None:
    with running(server, "EVAL", WRITING, "0"):
        connection = await connected(server)
        captured = await KILL.capture(connection, ARGS)
        with pytest.raises(CommandFailure, match="UNKILLABLE"):
            await KILL.apply(connection, ARGS, captured)
        assert await KILL.settle(connection, ARGS, captured) == "not_applied"
        await connection.close()
        with (
            closing(client_of(server)) as client,
            pytest.raises(redis.ResponseError, match="BUSY"),
        ):
            client.get("k")
        os.kill(server.pid, signal.SIGKILL)  # nothing else ends it before its time


async def test_a_caller_that_repeats_it_is_not_taken_for_a_cure(server: Server) -> None:
    connection = await connected(server)
    captured = {"blocked_by": "SCRIPT"}
    with running(server, "EVAL", ENDLESS, "0"):
        verification = await KILL.verify(connection, ARGS, captured)
    assert verification.helped is False
    assert "repeats" in verification.because
    await asyncio.sleep(0)
    await connection.close()
