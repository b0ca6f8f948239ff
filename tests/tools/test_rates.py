"""Rates between two samples, and when there are none."""

import asyncio
import contextlib
from typing import Any

import pytest
import redis
from pydantic import ValidationError

from evals.servers import Server
from tests.tools.looking import (
    StartServer,
    client_of,
    during,
    not_measured,
    read,
)
from tools.connection import Argument, Command, CommandFailure, LiveConnection, Reply
from tools.reading import NotMeasured
from tools.reads import READS
from tools.stats import CommandStats, ErrorStats, Stats


async def test_stats_are_rates_between_two_samples(
    server: Server, connection: LiveConnection
) -> None:
    admin = client_of(server)
    admin.set("hit", 1)
    admin.mset({f"old{i}": i for i in range(5)})

    def work() -> None:
        for i in range(300):
            admin.set(f"new{i}", "x" * 2000)
        for _ in range(90):
            admin.get("hit")
        for i in range(10):
            admin.get(f"miss{i}")

    before = admin.info()
    reading = await during(read(connection, "stats", Stats, seconds=1), work)
    after = admin.info()
    assert 1.0 <= reading.seconds < 5
    commands = after["total_commands_processed"] - before["total_commands_processed"]
    # The independent samples enclose ours by a handful of commands.
    assert reading.commands_per_second == pytest.approx(commands / reading.seconds, rel=0.1)
    assert reading.keys_per_second == pytest.approx(300 / reading.seconds)
    assert reading.hit_ratio == pytest.approx(0.9)
    assert isinstance(reading.used_memory_per_second, float)
    assert reading.used_memory_per_second * reading.seconds > 300 * 2000 * 0.8
    assert isinstance(reading.input_bytes_per_second, float)
    assert reading.input_bytes_per_second * reading.seconds > 300 * 2000
    assert reading.evicted_keys == 0
    assert reading.evicted_keys_per_second == 0


async def test_keys_that_vanish_are_a_negative_rate_not_a_reset(
    server: Server, connection: LiveConnection
) -> None:
    admin = client_of(server)
    admin.mset({f"k{i}": i for i in range(100)})
    reading = await during(read(connection, "stats", Stats, seconds=1), admin.flushall)
    assert reading.keys_per_second == pytest.approx(-100 / reading.seconds)
    assert isinstance(reading.commands_per_second, float)


async def test_no_rates_over_a_reset_of_the_counters(
    server: Server, connection: LiveConnection
) -> None:
    admin = client_of(server)
    for _ in range(50):
        admin.get("k")
    reading, commands, errors = await asyncio.gather(
        during(read(connection, "stats", Stats, seconds=1), admin.config_resetstat),
        not_measured(connection, "command_stats", seconds=1),
        not_measured(connection, "error_stats", seconds=1),
    )
    assert isinstance(reading.commands_per_second, NotMeasured)
    for failure in (reading.commands_per_second, reading.hit_ratio, commands, errors):
        assert isinstance(failure, NotMeasured)
        assert "counter was reset" in failure.because
    assert isinstance(reading.used_memory_last, int), "what does not need two samples remains"
    assert isinstance(reading.keys_per_second, float), "gauges are not reset"


class Restarting:
    """Passes on to one server, and from the first wait on to another: a failover in between."""

    def __init__(self, before: LiveConnection, after: LiveConnection) -> None:
        self.node = before.node
        self._now, self._after = before, after

    async def execute(self, *command: Argument) -> Reply:
        return await self._now.execute(*command)

    async def execute_many(self, commands: list[Command]) -> list[Reply | CommandFailure]:
        return await self._now.execute_many(commands)

    async def wait(self, seconds: float) -> None:
        await self._now.wait(seconds)
        self._now = self._after

    def now(self) -> Any:
        return self._now.now()

    async def close(self) -> None:
        """The two are closed by who opened them."""


@pytest.mark.parametrize("name", ["stats", "command_stats", "error_stats"])
async def test_no_rates_over_a_restart(name: str, start_server: StartServer, build: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        two = [LiveConnection(start_server(build).url) for _ in range(2)]
        for each in two:
            await each.open()
            stack.push_async_callback(each.close)
        reading = await READS[name].call(Restarting(*two), {"seconds": 1})  # type: ignore[arg-type]
    failure = reading.commands_per_second if isinstance(reading, Stats) else reading
    assert isinstance(failure, NotMeasured)
    assert "restarted" in failure.because


@pytest.mark.parametrize("seconds", [0, 0.5, 61, -1])
def test_samples_are_neither_close_nor_far(seconds: float) -> None:
    with pytest.raises(ValidationError):
        READS["stats"].args.model_validate({"seconds": seconds})


async def test_command_stats_name_what_loads_the_server(
    server: Server, connection: LiveConnection
) -> None:
    admin = client_of(server)
    admin.set("k", 1)

    def work() -> None:
        for i in range(200):
            admin.hset("h", str(i), i)
        for _ in range(50):
            admin.get("k")

    reading = await during(read(connection, "command_stats", CommandStats, seconds=1), work)
    assert [row.command for row in reading.commands[:2]] == ["hset", "get"]
    hset = reading.commands[0]
    assert hset.calls == admin.info("commandstats")["cmdstat_hset"]["calls"] == 200
    assert hset.calls_per_second == pytest.approx(200 / reading.seconds)
    assert reading.writes_per_second == pytest.approx(200 / reading.seconds)
    assert reading.reads_per_second == pytest.approx(50 / reading.seconds)
    assert 0 < hset.cpu_share <= 1
    assert hset.usec_per_call > 0
    assert {row.command.partition("|")[0] for row in reading.commands} >= {"info", "client"}


async def test_oom_errors_are_counted_and_rated(server: Server, connection: LiveConnection) -> None:
    admin = client_of(server)
    admin.config_set("maxmemory", 1)

    def work() -> None:
        for _ in range(20):
            with contextlib.suppress(redis.OutOfMemoryError):
                admin.set("k", 1)

    commands, reading = await asyncio.gather(
        read(connection, "command_stats", CommandStats, seconds=1),
        during(read(connection, "error_stats", ErrorStats, seconds=1), work),
    )
    assert reading.oom == 20
    assert reading.oom_per_second == pytest.approx(20 / reading.seconds)
    assert reading.errors[0].code == "OOM"
    assert commands.rejected_per_second == pytest.approx(20 / commands.seconds)
