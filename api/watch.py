"""Looking at every target at intervals: for the trend of its memory, and for the runbooks' alerts.

Each worker process tries; a lease that nobody renews lets one of them look once an interval. A look
for the trend is INFO memory and keyspace on a connection of its own, and nothing else; what
`tools/growth.py` fits is kept. A look for the alerts is that of `api/thresholds.py`.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from agent.context import Target
from agent.reaching import open_target
from api import baselines, metrics
from api.observed_connection import ObservedConnection
from api.settings import Settings
from api.store import incidents, samples
from api.store.database import Database
from api.store.leases import acquire
from api.store.target_tables import SampleRow
from api.thresholds import Thresholds
from tools.connection import CommandFailure, read_info
from tools.remedies.vitals import Vitals
from tools.target_url import deployment_of

LOOK_SECONDS = 10.0
AT_A_TIME = 8
AGAIN_AT_A_TIME = 32
"""Of those that failed last time, which have their own places: most of them only wait."""
BASELINES_AT_A_TIME = 4
FORGET_EVERY = 60
"""Rounds between two deletions of what is too old."""
log = structlog.get_logger(__name__)


@dataclass
class Watch:
    """The looks of one worker process."""

    settings: Settings
    database: Database
    holder: str
    thresholds: Thresholds | None = None
    """None: they raise no alerts."""
    _failed: dict[str, None] = field(default_factory=dict)
    """Targets whose last look failed; the one that was not tried for longest is first."""

    async def forever(self) -> None:
        """Round after round; whatever fails in one is tried again in the next."""
        every = self.settings.config.watch.every.total_seconds()
        rounds, began = 0, time.monotonic()
        async with asyncio.TaskGroup() as beside:
            keeping: asyncio.Task[None] | None = None
            while True:
                await asyncio.sleep(began + every - time.monotonic())
                began = time.monotonic()
                try:
                    await self.round()
                    # No round waits for it: of many targets, walks take longer than an interval.
                    if keeping is None or keeping.done():
                        keeping = beside.create_task(self.keep_baselines())
                    if rounds % FORGET_EVERY == 0:
                        await self.forget()
                except Exception:
                    log.exception("watch_failed")
                rounds += 1

    async def round(self) -> None:
        """Look at every target that no other process looked at within the interval.

        Those that failed last time keep nobody waiting: whichever of them has no turn within the
        seconds of a look is among the first of the next round.
        """
        targets = {target.name: target for target in self.settings.agent_targets()}
        again = [targets.pop(name) for name in self._failed if name in targets]
        await asyncio.gather(
            self._all_of(list(targets.values()), AT_A_TIME, float("inf")),
            self._all_of(again, AGAIN_AT_A_TIME, LOOK_SECONDS),
        )
        metrics.WATCH_ROUNDS.inc()

    async def _all_of(self, targets: Sequence[Target], at_a_time: int, seconds: float) -> None:
        free, until = asyncio.Semaphore(at_a_time), time.monotonic() + seconds

        async def one(target: Target) -> None:
            async with free:
                if time.monotonic() < until:
                    await self._look(target)

        await asyncio.gather(*map(one, targets))

    async def forget(self) -> None:
        """Delete what is older than `watch.keep`."""
        async with self.database.writing() as session:
            await samples.forget(session, incidents.now() - self.settings.config.watch.keep)

    async def _look(self, target: Target) -> None:
        # Clocks tick unevenly: whoever comes a little early in the next round shall not miss it.
        seconds = self.settings.config.watch.every.total_seconds() * 0.9
        # No target's name has a slash: this is the lease of no investigation.
        name = f"watch/{target.name}"
        if await acquire(self.database, name, "", self.holder, seconds) is None:
            return
        outcome = await self._looked(target)
        metrics.WATCH_LOOKS.labels(outcome).inc()
        self._failed.pop(target.name, None)
        if outcome == "failed":
            self._failed[target.name] = None

    async def keep_baselines(self) -> None:
        """What healthy targets look like, where it is time for that; a few at a time."""
        watch = self.settings.config.watch
        if not watch.baselines:
            return
        free, every = asyncio.Semaphore(BASELINES_AT_A_TIME), watch.every.total_seconds()

        async def one(target: Target) -> None:
            async with free:
                if target.name in self._failed:
                    return
                try:
                    await baselines.keep(self.database, target, self.holder, every)
                except Exception:
                    log.exception("baseline_failed", target=target.name)

        await asyncio.gather(*map(one, self.settings.agent_targets()))

    async def _looked(self, target: Target) -> str:
        """Look, and say how that ended. What fails on one target is nothing to the others."""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                row = await sample(target)
                if row is not None:
                    async with self.database.writing() as session:
                        await samples.keep(session, row)
                if self.thresholds is not None:
                    await self.thresholds.judge(target)
        except (CommandFailure, TimeoutError) as failure:
            # That a target cannot be reached is for its alerts to say, once and not every minute.
            log.debug("look_failed", target=target.name, because=type(failure).__name__)
            return "failed"
        except Exception:
            log.exception("look_failed", target=target.name)
            return "failed"
        return "not_measured" if row is None else "measured"


async def sample(target: Target) -> SampleRow | None:
    """One look. None if the server does not say what it uses. Raises CommandFailure.

    None of a cluster, too: the node in trouble is not always the same.
    """
    if deployment_of(target.url).kind == "cluster":
        return None
    opened = await open_target(target)
    connection = ObservedConnection(opened, target.name, "watch")
    try:
        vitals = Vitals(await read_info(connection, "memory", "keyspace"))
    finally:
        await connection.close()
    if (used := _kept(vitals.used)) is None:
        return None
    return SampleRow(
        target=target.name,
        at=incidents.now(),
        used_bytes=used,
        peak_bytes=_kept(vitals.count("used_memory_peak")),
        rss_bytes=_kept(vitals.count("used_memory_rss")),
        limit_bytes=_kept(vitals.count("maxmemory")) or target.memory_limit,
        keys=_kept(vitals.keys),
    )


def _kept(number: int | None) -> int | None:
    """None: no server has so much, and no column of a database either."""
    return number if number is not None and 0 <= number < 2**63 else None
