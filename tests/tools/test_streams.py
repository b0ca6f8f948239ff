"""stream_info on real servers: growth, groups, what is pending; and what is left alone."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from evals.servers import Server
from tools.opening import open_for_reading
from tools.reading import NotMeasured, printable
from tools.streams import StreamInfoArguments, Streams, stream_info

OLD = ("redis-6.2", "redis-7.0")
"""Builds without CLIENT NO-TOUCH."""


@pytest.fixture
async def connection(server: Server) -> AsyncIterator[Any]:
    opened = await open_for_reading(server.url)
    yield opened
    await opened.close()


@pytest.fixture
def admin(server: Server) -> redis.Redis:
    return redis.Redis(port=server.port)


def produce(admin: redis.Redis, key: str, count: int) -> None:
    pipe = admin.pipeline(transaction=False)
    for i in range(count):
        pipe.xadd(key, {"field": f"secret value {i}"})
    pipe.execute()


async def look(
    connection: Any, admin: redis.Redis, in_use: list[str], **args: Any
) -> Streams | NotMeasured:
    """Look while a producer appends, as in an incident: idle times are 0."""
    working = True

    async def producer() -> None:
        while working:
            for key in in_use:
                admin.xadd(key, {"field": "one more"})
            await asyncio.sleep(0.02)

    busy = asyncio.create_task(producer())
    try:
        deadline = time.monotonic() + 10
        while True:
            reading = await stream_info(connection, StreamInfoArguments(**args))
            # The idle clock ticks once a second; a look may fall between tick and append.
            whole = isinstance(reading, Streams) and not reading.unread
            if whole or time.monotonic() > deadline:
                return reading
    finally:
        working = False
        await busy


def rows_of(reading: Streams | NotMeasured) -> dict[str, Any]:
    assert isinstance(reading, Streams), reading
    return {row.key: row for row in reading.streams}


async def test_a_growing_stream_and_its_groups(
    connection: Any, admin: redis.Redis, build: str
) -> None:
    produce(admin, "orders", 5_000)
    admin.xgroup_create("orders", "billing", "0")
    admin.xreadgroup("billing", "b1", {"orders": ">"}, count=1_000)
    produce(admin, "audit", 100)
    admin.set("noise", "v" * 100_000)

    reading = await look(connection, admin, ["orders", "audit"], seconds=1)
    rows = rows_of(reading)
    assert list(rows) == ["orders", "audit"]
    orders = rows["orders"]
    assert orders.length >= 5_000
    assert orders.length_per_second > 1
    assert orders.pending == 1_000
    assert orders.pending_share == pytest.approx(1_000 / orders.length)
    (group,) = orders.groups
    assert (group.name, group.consumers, group.pending) == ("billing", 1, 1_000)
    assert 0 <= group.longest_idle_seconds < 60
    if build == "redis-6.2":
        assert isinstance(group.lag, NotMeasured)
    else:
        assert group.lag >= 4_000
    assert rows["audit"].groups == []
    assert isinstance(orders.bytes, int)
    assert 0.1 < orders.share_of_dataset <= 1
    assert "secret value" not in reading.model_dump_json()


async def test_pending_entries_outlive_a_trimmed_stream(
    connection: Any, admin: redis.Redis
) -> None:
    """FAILURE_MODES 6: everything delivered, nothing acknowledged, the stream trimmed to little."""
    produce(admin, "jobs", 2_000)
    admin.xgroup_create("jobs", "workers", "0")
    admin.xreadgroup("workers", "dead", {"jobs": ">"}, count=2_000)
    admin.xtrim("jobs", maxlen=10, approximate=False)
    (row,) = rows_of(await look(connection, admin, ["jobs"], keys=["jobs"], seconds=0)).values()
    assert row.pending == 2_000
    assert row.pending_share > 1
    assert isinstance(row.length_per_second, NotMeasured)


async def test_an_idle_stream_is_left_alone_where_a_look_would_show(
    connection: Any, admin: redis.Redis, build: str
) -> None:
    produce(admin, "quiet", 50)
    dump = admin.dump("quiet")
    admin.execute_command("RESTORE", "quiet", 0, dump, "REPLACE", "IDLETIME", 500)  # type: ignore[no-untyped-call]
    reading = await stream_info(connection, StreamInfoArguments(seconds=0))
    if build in OLD:
        assert isinstance(reading, NotMeasured)
        assert "OBJECT IDLETIME" in reading.because
        mixed = await look_once_with_one_in_use(connection, admin)
        assert [row.key for row in mixed.unread] == ["quiet"]
        assert isinstance(mixed.unread[0].bytes, int)
    else:
        assert rows_of(reading)["quiet"].length == 50
    idle = admin.object("idletime", "quiet")
    assert idle >= 500


@pytest.mark.parametrize("build", OLD)
async def test_a_refused_size_is_told_when_no_stream_may_be_looked_into(
    server: Server, admin: redis.Redis
) -> None:
    produce(admin, "quiet", 50)
    admin.execute_command("RESTORE", "quiet", 0, admin.dump("quiet"), "REPLACE", "IDLETIME", 500)  # type: ignore[no-untyped-call]
    admin.acl_setuser(
        "u", enabled=True, passwords=["+p"], keys=["*"], commands=["+@all", "-memory"]
    )
    connection = await open_for_reading(server.url.replace("//", "//u:p@"))
    try:
        reading = await stream_info(connection, StreamInfoArguments(keys=["quiet"], seconds=0))
    finally:
        await connection.close()
    assert isinstance(reading, NotMeasured)
    assert "permission" in reading.because
    assert "OBJECT IDLETIME" in reading.because


async def look_once_with_one_in_use(connection: Any, admin: redis.Redis) -> Streams:
    for _ in range(20):
        admin.xadd("busy", {"a": "1"})
        reading = await stream_info(connection, StreamInfoArguments(seconds=0))
        if isinstance(reading, Streams):
            assert [row.key for row in reading.streams] == ["busy"]
            return reading
    raise AssertionError("the busy stream was never read")


async def test_names_that_cannot_be_asked_for_are_not_measured(
    connection: Any, admin: redis.Redis
) -> None:
    """A cut or escaped name is not the key's name; a missing one is no stream."""
    long, escaped = "s" * 500, "evil\x1b[31m\r\nstream"
    produce(admin, long, 5)
    produce(admin, escaped, 5)
    for name, word in (
        (printable(long), "cut"),
        (printable(escaped), "escaped"),
        ("nothing", "no such key"),
    ):
        reading = await stream_info(connection, StreamInfoArguments(keys=[name], seconds=0))
        assert isinstance(reading, NotMeasured), name
        assert word in reading.because
        assert reading.not_measured.isprintable()
    misses = admin.info("stats")["keyspace_misses"]
    assert misses == 0

    both = await look(connection, admin, [escaped], keys=[escaped], seconds=0)
    (row,) = rows_of(both).values()
    assert row.key == printable(escaped)


async def test_a_key_of_another_type_says_so(connection: Any, admin: redis.Redis) -> None:
    admin.set("text", "v")
    reading = await stream_info(connection, StreamInfoArguments(keys=["text"], seconds=0))
    assert isinstance(reading, NotMeasured)
    assert (
        "WRONGTYPE" in reading.because
        or "IDLETIME" in reading.because
        or "wrong" in str(reading.because)
    )


async def test_no_stream_is_an_answer(connection: Any, admin: redis.Redis) -> None:
    admin.set("text", "v")
    reading = await stream_info(connection, StreamInfoArguments(seconds=0))
    assert isinstance(reading, Streams)
    assert (reading.streams, reading.found) == ([], 0)
    assert "every key was visited" in reading.stopped_because


@pytest.mark.parametrize("refused", ["xinfo", "xlen", "memory", "xpending"])
async def test_a_refused_command_is_never_a_zero(
    server: Server, admin: redis.Redis, refused: str
) -> None:
    produce(admin, "orders", 20)
    admin.xgroup_create("orders", "g", "0")
    admin.xreadgroup("g", "c", {"orders": ">"}, count=5)
    admin.acl_setuser(
        "u", enabled=True, passwords=["+p"], keys=["*"], commands=["+@all", f"-{refused}"]
    )
    connection = await open_for_reading(server.url.replace("//", "//u:p@"))
    try:
        if refused in ("xinfo", "xlen"):
            admin.xadd("orders", {"a": "1"})
            reading = await stream_info(connection, StreamInfoArguments(keys=["orders"], seconds=0))
            assert isinstance(reading, NotMeasured)
            return
        found = await look(connection, admin, ["orders"], keys=["orders"], seconds=0)
    finally:
        await connection.close()
    (row,) = rows_of(found).values()
    if refused == "memory":
        assert isinstance(row.bytes, NotMeasured)
    else:
        assert isinstance(row.groups[0].longest_idle_seconds, NotMeasured)
        assert row.pending == 5
