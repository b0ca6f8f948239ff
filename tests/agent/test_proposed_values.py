"""Which value is proposed: by what the server holds and does, and by the cause."""

from typing import Any

import pytest

from agent.proposed_values import propose_value
from tools.remedies.vitals import MIB, Vitals

HOST = 8 * 1024 * MIB


class Answers:
    """A server that knows one parameter."""

    def __init__(self, value: str) -> None:
        self.value = value.encode()

    async def execute(self, *command: Any) -> Any:
        return [command[2].encode(), self.value]


def vitals(**fields: int) -> Vitals:
    usual = {"used_memory": 95 * MIB, "used_memory_rss": 100 * MIB, "total_system_memory": HOST}
    known = {name: str(value) for name, value in (usual | fields).items()}
    return Vitals(known | {"db0": "keys=10000,expires=0"})


async def proposed(
    parameter: str,
    now: str,
    cause: str = "",
    written: float | None = None,
    evicted: float | None = None,
    limit: int | None = None,
    **fields: int,
) -> str | None:
    return await propose_value(
        parameter,
        Answers(now),  # type: ignore[arg-type]
        vitals(**fields),
        memory_limit=limit,
        written_per_second=written,
        evicted_per_second=evicted,
        cause=cause,
    )


@pytest.mark.parametrize(
    ("written", "megabytes"),
    [
        (None, 127),  # back below the pressure where the alert begins
        (1_000.0, 127),  # writes that last longer than a quarter of an hour anyway
        (80_000.0, 164),  # a quarter of an hour of writes
        (10_000_000.0, 201),  # never more than twice what it is
    ],
)
async def test_a_raised_limit_lasts_a_while_and_at_most_doubles(
    written: float | None, megabytes: int
) -> None:
    value = await proposed("maxmemory", str(100 * MIB), "noeviction-oom", written)
    assert value is not None
    assert int(value) // MIB == pytest.approx(megabytes, abs=1)


async def test_a_thrashing_cache_gets_room_for_minutes_of_what_it_evicts() -> None:
    """10,000 keys are 95 MiB; 100 evictions a second for five minutes are 285 MiB more."""
    value = await proposed("maxmemory", str(100 * MIB), "eviction-thrash", None, 100.0)
    assert int(value or 0) // MIB == pytest.approx(381, abs=1)
    assert await proposed("maxmemory", str(100 * MIB), "noeviction-oom", None, 100.0) != value
    small = await proposed("maxmemory", str(100 * MIB), "eviction-thrash", None, 100.0, 200 * MIB)
    assert int(small or 0) < 200 * MIB


@pytest.mark.parametrize(
    ("cause", "now", "value"),
    [
        ("oversized-backlog", 500 * MIB, 60 * MIB),
        ("oversized-backlog", MIB, None),
        ("backlog-too-small", MIB, 60 * MIB),
        ("backlog-too-small", 500 * MIB, None),
    ],
)
async def test_a_backlog_is_made_to_last_a_minute_and_never_the_wrong_way(
    cause: str, now: int, value: int | None
) -> None:
    found = await proposed("repl-backlog-size", str(now), cause, float(MIB))
    assert found == (None if value is None else str(value))


BUFFERS = "normal 0 0 0 slave {} 0 60 pubsub 0 0 0"


@pytest.mark.parametrize(
    ("cause", "hard", "proposes"),
    [
        ("full-sync-loop", MIB, True),
        ("full-sync-loop", 2**30, False),
        ("replica-output-buffer", MIB, False),
        ("replica-output-buffer", 0, True),
        ("slow-pubsub-cob", MIB, True),
        ("noeviction-oom", 0, False),
    ],
)
async def test_a_replicas_buffer_grows_where_it_is_cut_off_and_shrinks_where_it_hoards(
    cause: str, hard: int, proposes: bool
) -> None:
    found = await proposed("client-output-buffer-limit", BUFFERS.format(hard), cause)
    assert (found is not None) is proposes


@pytest.mark.parametrize(
    ("cause", "now", "lost", "value"),
    [
        ("fragmentation-after-deletes", 100 * MIB, 60 * MIB, 15 * MIB),
        ("fragmentation-after-deletes", 100 * MIB, 900 * MIB, None),  # it begins anyway
        ("fragmentation-after-deletes", 100 * MIB, 5 * MIB, None),  # not worth a CPU
        ("defrag-cpu-burn", MIB, 5 * MIB, 100 * MIB),
        ("defrag-cpu-burn", 100 * MIB, 5 * MIB, None),
    ],
)
async def test_defragmentation_begins_where_it_has_something_to_do(
    cause: str, now: int, lost: int, value: int | None
) -> None:
    found = await proposed("active-defrag-ignore-bytes", str(now), cause, allocator_frag_bytes=lost)
    assert found == (None if value is None else str(value))


async def test_forgotten_connections_are_closed_where_nothing_does_that() -> None:
    assert await proposed("timeout", "0", "maxclients-leak") == "600"
    assert await proposed("timeout", "60", "maxclients-leak") is None
