"""`bench intake`, small: the storm, what sends it, and what counts what came of it."""

import asyncio
import sqlite3
from collections import deque
from pathlib import Path
from typing import Any, Literal

import pytest

from evals import postgresql, servers
from evals.bench.intake import bench_intake
from evals.bench.options import Options
from evals.bench.senders import Senders, wire
from evals.bench.tally import Tally


@pytest.mark.soak
@pytest.mark.long
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_a_small_storm_loses_nothing(database: Literal["sqlite", "postgresql"]) -> None:
    """One process, and four of them: every alert in one incident, every incident diagnosed."""
    if database == "postgresql" and postgresql.binaries() is None:
        pytest.skip("no PostgreSQL server is installed here (Debian package postgresql)")
    if database == "postgresql" and servers.binary("valkey-9.1") is None:
        pytest.skip("valkey-9.1 is not installed here")
    told: list[str] = []
    options = Options(requests=24, targets=3, seconds=1.0, concurrency=4, database=database)
    document = await bench_intake(options, told.append)
    (run,) = document["runs"]
    assert (run["accepted"], run["lost"], run["incidents"]) == (24, 0, 3)
    assert (run["most_of_a_target"], run["diagnosed"]) == (1, 3)
    assert len(run["rss_mb_by_process"]) == (1 if database == "sqlite" else 4)
    assert 0 < run["p99_ms"] <= run["worst_ms"]
    assert run["rss_mb"] > 50
    assert run["drain_s"] >= 0
    assert all(ratio > 0 for ratio in document["ratios"].values())
    assert told


class Service:
    """Answers in turn with what it was told; `lost` ends the connection."""

    def __init__(self, *answers: str) -> None:
        self.answers = deque(answers)
        self.bodies: list[bytes] = []
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            self.bodies.append(await reader.readexactly(length))
            answer = self.answers.popleft() if self.answers else "202"
            if answer == "lost":
                break
            pieces = f"HTTP/1.1 {answer} X\r\nRetry-After: 0.05\r\nContent-Length: 2\r\n\r\n", "{}"
            for piece in pieces:  # a head may come without its body
                writer.write(piece.encode())
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()
        self.open -= 1


async def sent(number: int, *answers: str) -> tuple[Any, Service]:
    service = Service(*answers)
    async with await asyncio.start_server(service.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        requests = [wire(b"%d" % n, "t") for n in range(number)]
        found = await Senders([port], requests, 0.2).run()
        async with asyncio.timeout(10):
            while service.open:
                await asyncio.sleep(0.01)
        return found, service


async def test_what_is_refused_or_cut_off_is_sent_again() -> None:
    answers, service = await sent(10, "503", "202", "lost", "503")
    assert answers.accepted == set(range(10))
    assert answers.codes == {202: 10, 503: 2, 0: 1}
    assert len(service.bodies) == 13
    assert {int(body) for body in service.bodies} == set(range(10))


async def test_what_is_answered_otherwise_is_not_accepted() -> None:
    answers, _ = await sent(5, "422", "500")
    assert len(answers.accepted) == 3
    assert answers.codes == {202: 3, 422: 1, 500: 1}
    assert len(answers.milliseconds) == 3


@pytest.mark.parametrize(
    ("rows", "lost"),
    [([("a", "i1"), ("b", "i2")], 0), ([("a", "i1")], 1), ([("a", "i1"), ("b", "gone")], 1),
     ([("a", "i1"), ("b", "i1"), ("b", "i2")], 1)],
    ids=["all there", "one missing", "one of no incident", "one in two incidents"],
)  # fmt: skip
def test_an_alert_is_lost_unless_it_is_in_exactly_one_incident(
    tmp_path: Path, rows: list[tuple[str, str]], lost: int
) -> None:
    path = tmp_path / "oncall.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE alerts (fingerprint, incident_id)")
        database.execute("CREATE TABLE incidents (id, target, status, diagnosis)")
        database.executemany("INSERT INTO alerts VALUES (?, ?)", rows)
        database.execute("INSERT INTO incidents VALUES ('i1', 'x', 'queued', NULL)")
        database.execute("INSERT INTO incidents VALUES ('i2', 'x', 'needs_human', '{}')")
    database.close()
    tally = Tally.of(f"sqlite:///{path}", {"a", "b"})
    assert tally == Tally(lost=lost, incidents=2, most_of_a_target=2, diagnosed=1)
