"""One line for each reading."""

import pytest

from evals.servers import Server
from tests.tools.looking import (
    client_of,
    read,
)
from tools.connection import LiveConnection
from tools.memory import MemoryInfo
from tools.reading import NotMeasured, Reading
from tools.summaries import LONGEST, count, size, summarize


async def test_summaries_are_in_human_numbers(server: Server, connection: LiveConnection) -> None:
    client_of(server).config_set("maxmemory", 100 * 1024 * 1024)
    line = summarize(await read(connection, "memory_info", MemoryInfo))
    assert "of 100.0 MiB (maxmemory)" in line
    assert "noeviction" in line


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (100_768_154, "96.1 MiB"),
     (1024**3 - 1, "1.0 GiB"), (-2048, "-2.0 KiB"), (None, "?"),
     (NotMeasured(not_measured="x", because="y"), "?")],
)  # fmt: skip
def test_sizes_for_people(value: object, shown: str) -> None:
    assert size(value) == shown


def test_counts_for_people() -> None:
    assert [count(v) for v in (0, 1234567, 0.26, 1234.5)] == ["0", "1,234,567", "0.3", "1,234"]


def test_a_reading_without_a_summary_of_its_own_gets_one() -> None:
    class Lamp(Reading):
        lumens: int
        rows: list[int]

    assert summarize(Lamp(lumens=1200, rows=[1, 2])) == "lumens 1,200, rows (2)"


def test_a_hostile_summary_stays_on_one_line() -> None:
    line = summarize(NotMeasured(not_measured="x", because="a\nb\x1b[2J" * 100))
    assert line.isprintable()
    assert len(line) <= LONGEST
