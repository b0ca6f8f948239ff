"""Defragmentation with a ceiling: on for as long as it helps, and everything as before after it."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from evals.servers import Server
from tests.tools.load import failing
from tools.connection import LiveConnection
from tools.permissions import READ_WRITE
from tools.remedies import defragment
from tools.remedies.defragment import Defragment, DefragmentArguments
from tools.remedies.operation import Operation
from tools.remedies.probing import accepts
from tools.remedies.vitals import MIB

DEFRAGMENT = Defragment()
ARGS = DefragmentArguments(max_cpu_percent=25, min_gain_bytes=4 * MIB)
STALE_SECONDS = 0.5
"""The server looks at its allocator ten times a second, and tells what it saw last."""
PARAMETERS = ("activedefrag", "active-defrag-cycle-max", "active-defrag-ignore-bytes")


def settings(client: "redis.Redis") -> dict[str, str]:
    return {name: str(client.config_get(name).get(name)) for name in PARAMETERS}


def fragmented(client: "redis.Redis", keys: int = 150_000) -> None:
    for first in range(0, keys, 10_000):
        pipeline = client.pipeline(transaction=False)
        for number in range(first, first + 10_000):
            pipeline.set(str(number), b"x" * 150)
        pipeline.execute()
    for first in range(0, keys, 10_000):
        gone = [str(number) for number in range(first, first + 10_000) if number % 5]
        client.unlink(*gone)
    time.sleep(STALE_SECONDS)


@pytest.fixture
def able(start_server: Callable[..., Server]) -> Iterator[tuple[Server, "redis.Redis"]]:
    """The one build here that can defragment."""
    server = start_server("redis-8.2")
    with closing(redis.Redis(port=server.port, protocol=2, decode_responses=True)) as client:
        yield server, client


@pytest.fixture
async def writer(able: tuple[Server, "redis.Redis"]) -> AsyncIterator[LiveConnection]:
    connection = LiveConnection(able[0].url, READ_WRITE, reconnects=0)
    await connection.open()
    yield connection
    await connection.close()


async def test_it_gives_memory_back_and_leaves_its_parameters_as_they_were(
    able: tuple[Server, "redis.Redis"], writer: LiveConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, client = able
    monkeypatch.setattr(defragment, "LOOK_SECONDS", 0.2)
    fragmented(client)
    before = settings(client)
    assert failing(await DEFRAGMENT.preconditions(writer, ARGS)) == []
    assert settings(client) == before, "asking changed something"
    captured = await DEFRAGMENT.capture(writer, ARGS)
    seen: list[dict[str, Any]] = []

    async def note(done: dict[str, Any]) -> str:
        seen.append(settings(client) | done)
        return ""

    done = await DEFRAGMENT.apply(writer, ARGS, captured, Operation("a", note))
    assert settings(client) == before
    assert seen[0]["activedefrag"] == "yes"
    assert seen[0]["active-defrag-cycle-max"] == "25"
    verification = await DEFRAGMENT.verify(writer, ARGS, captured | {"done": done})
    assert verification.helped is True, verification.because
    assert await DEFRAGMENT.settle(writer, ARGS, captured) == "not_applied"


async def test_stopped_or_cut_off_it_is_switched_off(
    able: tuple[Server, "redis.Redis"], writer: LiveConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, client = able
    monkeypatch.setattr(defragment, "LOOK_SECONDS", 0.05)
    fragmented(client)
    before = settings(client)
    captured = await DEFRAGMENT.capture(writer, ARGS)

    async def stop(done: dict[str, Any]) -> str:
        return "somebody said stop"

    done = await DEFRAGMENT.apply(writer, ARGS, captured, Operation("a", stop))
    assert done["stopped_because"] == "somebody said stop"
    assert settings(client) == before
    for name, value in captured["wanted"].items():  # as a process leaves it that was killed
        client.config_set(name, value)
    assert await DEFRAGMENT.settle(writer, ARGS, captured) == "applied"
    verification = await DEFRAGMENT.verify(writer, ARGS, captured)
    assert verification.helped is False
    client.config_set("active-defrag-cycle-max", 20)  # by somebody who knows better
    await DEFRAGMENT.undo(writer, ARGS, captured)
    assert settings(client) == before | {"active-defrag-cycle-max": "20"}


async def test_a_build_that_cannot_is_asked_before_anything_is_set(
    build: str, connection: LiveConnection, client: "redis.Redis"
) -> None:
    before = settings(client)
    check = await accepts(connection, "activedefrag", "yes")
    assert check is not None
    assert check.holds is (build in ("redis-8.2", "redis-6.2"))
    if check.holds is False:
        assert "efrag" in check.because
    if build != "redis-6.2":
        refused = await accepts(connection, "maxmemory-policy", "allkeys-everything")
        assert refused is not None
        assert refused.holds is False
        taken = await accepts(connection, "hz", "50")
        assert taken is not None
        assert taken.holds is True
    assert settings(client) == before
    assert client.config_get("hz")["hz"] == "10"
