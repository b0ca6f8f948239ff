"""Where every byte is: parts that add up, on real servers and where little was measured."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent.memory_picture import MemoryPicture, memory_picture
from evals.pouring import pour
from evals.servers import Server
from tools.bigkeys import BigKeysArguments, bigkeys
from tools.connection import LiveConnection
from tools.memory import (
    MemoryInfoArguments,
    MemoryStatsArguments,
    memory_info,
    memory_stats,
)
from tools.reading import Evidence

AT = datetime(2026, 1, 31, 3, tzinfo=UTC)
INFO = {
    "used_memory": 1_000, "used_memory_overhead": 300, "used_memory_startup": 100,
    "mem_clients_normal": 50, "mem_clients_slaves": 0, "mem_replication_backlog": 60,
    "counted_memory": 940, "limit": 2_000, "limit_source": "maxmemory", "used_memory_rss": 900,
}  # fmt: skip
ABSENT = {"not_measured": "x", "because": "this server does not say", "failure": "absent"}


def piece(number: int, tool: str, reading: dict[str, Any], **fields: Any) -> Evidence:
    values = {
        "id": f"E{number}", "tool": tool, "args": {}, "reading": reading, "measured": True,
        "taken_at": AT, "target": "cache", "node": "10.0.0.1:6379 (master)",
    }  # fmt: skip
    return Evidence(**values | fields)


def walk(complete: bool, seen: int, **sizes: int) -> dict[str, Any]:
    rows = [{"prefix": name, "bytes": size, "keys": 1, "types": ["hash"]}
            for name, size in sizes.items()]  # fmt: skip
    return {"complete": complete, "bytes_seen": seen, "keys_seen": 2, "keys_total": 4,
            "prefixes": rows, "types": []}  # fmt: skip


def drawn(*evidence: Evidence) -> MemoryPicture:
    picture = memory_picture(evidence)
    assert picture is not None
    assert sum(part.bytes for part in picture.parts) == picture.used
    assert min(part.bytes for part in picture.parts) > 0
    return picture


def sizes(picture: MemoryPicture) -> dict[str, int]:
    return {part.name: part.bytes for part in picture.parts}


async def test_on_a_real_server_the_parts_are_all_of_used_memory(server: Server) -> None:
    pour(server.port, (("SET", f"blob:{n}", b"x" * 4_000) for n in range(1_000)))
    pour(server.port, (("HSET", f"cart:{n}", "a", b"y" * 50) for n in range(1_000)))
    live = LiveConnection(server.url)
    await live.open()
    try:
        readings = {
            "memory_info": await memory_info(live, MemoryInfoArguments()),
            "memory_stats": await memory_stats(live, MemoryStatsArguments()),
            "bigkeys": await bigkeys(live, BigKeysArguments()),
        }
    finally:
        await live.close()
    picture = drawn(*(
        piece(number, tool, reading.model_dump(mode="json"))
        for number, (tool, reading) in enumerate(readings.items(), 1)
    ))  # fmt: skip
    found = sizes(picture)
    assert found["blob:"] == pytest.approx(1_000 * 4_100, rel=0.3)
    assert 0 < found["cart:"] < found["blob:"] / 5
    assert found["server at start"] > 100_000
    assert found.get("data beyond the keys seen", 0) < picture.used / 5
    assert {one.type for one in picture.types} == {"string", "hash"}


def test_a_walk_over_some_keys_says_shares_and_one_over_all_says_bytes() -> None:
    info = piece(1, "memory_info", INFO)
    of_all = drawn(info, piece(2, "bigkeys", walk(True, 600, a=400, b=200)))
    assert sizes(of_all)["a"] == 400
    assert sizes(of_all)["data beyond the keys seen"] == 100
    assert "all 2 keys" in of_all.basis
    of_some = drawn(info, piece(2, "bigkeys", walk(False, 60, a=40, b=20)))
    assert sizes(of_some)["a"] == 467
    assert "data beyond the keys seen" not in sizes(of_some)
    assert "2 of 4 keys" in of_some.basis


def test_estimates_never_come_to_more_than_there_is() -> None:
    picture = drawn(
        piece(1, "memory_info", INFO),
        piece(2, "memory_stats", {"hashtable_main": 5_000, "lua_caches": 7}),
        piece(3, "bigkeys", walk(True, 2_000, a=1_500, b=500)),
    )
    assert sizes(picture) == {
        "a": 525, "b": 175, "server at start": 100, "tables of keys": 90, "clients": 50,
        "replication backlog": 60,
    }  # fmt: skip


def test_what_was_not_measured_is_one_part_and_no_zero() -> None:
    lonely = drawn(piece(1, "memory_info", {"used_memory": 1_000, "used_memory_overhead": ABSENT}))
    assert sizes(lonely) == {"data, not seen key by key": 1_000}
    assert (lonely.pressure, lonely.not_in_use, lonely.peak) == (None, None, None)
    assert memory_picture([piece(1, "memory_info", {"used_memory": ABSENT})]) is None
    assert memory_picture([piece(1, "memory_info", INFO, measured=False)]) is None
    assert memory_picture([]) is None


def test_the_newest_look_is_drawn_and_no_other_nodes() -> None:
    picture = drawn(
        piece(1, "memory_info", INFO),
        piece(2, "memory_info", {**INFO, "used_memory": 2_000}, node="10.0.0.1:6379 (slave)"),
        piece(3, "bigkeys", walk(True, 700, mine=700)),
        piece(4, "bigkeys", walk(True, 700, other=700), node="10.0.0.2:6379 (master)"),
    )
    assert picture.used == 2_000
    assert "mine" in sizes(picture)
    assert "other" not in sizes(picture)


def test_what_a_server_makes_up_stays_a_picture() -> None:
    strange = walk(True, 600, **{"<script>": 300})
    strange["prefixes"] += [{"prefix": None, "bytes": "much"}, 7, {"bytes": -5}]
    picture = drawn(
        piece(1, "memory_info", {**INFO, "used_memory_startup": -3, "mem_clients_normal": True}),
        piece(2, "bigkeys", strange),
    )
    assert sizes(picture)["<script>"] == 300


def test_keys_that_were_seen_at_another_time_are_said_to_be() -> None:
    """After a remedy memory is looked at again, and the keys are not."""
    seen = piece(1, "bigkeys", walk(True, 400, cart=400))
    at_once = drawn(seen, piece(2, "memory_info", INFO))
    later = drawn(seen, piece(2, "memory_info", INFO, taken_at=AT + timedelta(minutes=2)))
    assert "as they were" not in at_once.basis
    assert "the keys as they were at 2026-01-31 03:00:00 UTC" in later.basis
