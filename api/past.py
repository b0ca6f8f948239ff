"""What the installation knows of a target that no look at it could tell: its metrics over days."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from api import prometheus
from api.config import TargetEntry
from api.prometheus import Grid
from api.prometheus_host import facts
from api.prometheus_ranges import COARSE_SECONDS, DAYS, ranges
from api.settings import Settings
from api.store import baselines, samples
from api.store.database import Database
from tools.growth import DAY, STALE_SECONDS, History, hourly
from tools.ranges import Range, Ranges, rounded
from tools.reads import READS
from tools.shape import Baselines
from tools.target_url import deployment_of


@dataclass(frozen=True)
class Past:
    """Of one target."""

    settings: Settings
    database: Database
    target: str

    async def known(self, tool: str, node: str = "") -> dict[str, Any]:
        """Arguments of a tool that only the installation can fill; `node`: which is looked at."""
        fields = READS[tool].args.model_fields
        found: dict[str, Any] = {}
        if "history" in fields:
            found["history"] = hourly(await self.history())
        if "ranges" in fields:
            found["ranges"] = await self.ranges()
        if "facts" in fields:
            found["facts"] = await facts(self.settings.config.prometheus, self._entry)
        if "baselines" in fields:
            found["baselines"] = await self.baselines(node)
        if "catalogue" in fields and (sizes := self.settings.config.sizes) is not None:
            found["catalogue"] = str(sizes)
        return found

    async def history(self) -> History:
        """Whichever goes back further: our own samples, or those of Prometheus.

        Not one that ended, as where its exporter is gone, while the other goes on.
        """
        own, other = await asyncio.gather(self._watched(), self._prometheus())
        if other is None:
            return own
        if not own.samples and not other.samples:
            return other.model_copy(update={"because": f"{own.because}; {other.because}"})
        return max(own, other, key=lambda one: (_goes_on(one), _days(one)))

    async def baselines(self, node: str) -> Baselines:
        """What it, or that node of a cluster, looked like when nothing was wrong."""
        entry, watch = self._entry, self.settings.config.watch
        url = "" if entry is None else entry.url.get_secret_value()
        of_one = bool(url) and deployment_of(url).kind == "cluster"
        async with self.database.reading() as session:
            found = await baselines.of(
                session, self.target, node.partition(" ")[0] if of_one else ""
            )
        if found.servers or found.keyspaces:
            return found
        if not (watch.enabled and watch.baselines):
            return Baselines(because="`watch.baselines` is switched off")
        which = "this node" if of_one else "this target"
        return Baselines(because=f"no look at a healthy time is kept of {which} yet")

    async def ranges(self) -> Ranges:
        """What Prometheus has of it where one is configured, else what our own samples have.

        Those, too, where its last ones are of another day.
        """
        entry, target = self.settings.config.prometheus, self._entry
        if entry is None or target is None:
            return await self._own_ranges()
        other = await ranges(entry, target.series or target.match)
        newest = max((point[0] for one in other.series for point in one.points()), default=None)
        if newest is not None and _is_recent(newest):
            return other
        own = await self._own_ranges()
        if newest is not None:
            if not own.series:
                return other
            ended = (
                f"its newest sample in Prometheus is of {datetime.fromtimestamp(newest, UTC):%F}"
            )
            other = other.model_copy(update={"because": ended})
        because = f"{other.because}; {own.because}" if own.because else other.because
        return own.model_copy(update={"because": because[:500]})

    @property
    def _entry(self) -> TargetEntry | None:
        return next((t for t in self.settings.config.targets if t.name == self.target), None)

    async def _watched(self) -> History:
        async with self.database.reading() as session:
            found = await samples.newest(session, self.target)
        because = "" if found else self._no_samples
        return History.model_construct(source="watch", samples=found, because=because)

    @property
    def _no_samples(self) -> str:
        if not self.settings.config.watch.enabled:
            return "`watch` is switched off"
        return "no samples are kept for this target yet"

    async def _own_ranges(self) -> Ranges:
        now = datetime.now(UTC)
        async with self.database.reading() as session:
            found = await samples.recent(session, self.target, now - timedelta(days=DAYS))
        if not found:
            return Ranges(source="watch", because=self._no_samples)
        grids = (
            Grid.ending(now, DAYS * DAY, COARSE_SECONDS),
            Grid.ending(now, DAY, samples.SPAN_SECONDS),
        )
        series = [
            Range(
                metric=metric,
                start=grid.start,
                step=grid.step,
                values=rounded(grid.values([(span.at.timestamp(), value) for span, value in kept])),
            )
            for grid in grids
            for metric in samples.KeptSpan._fields[1:]
            if (kept := [(s, v) for s in found if (v := getattr(s, metric)) is not None])
        ]
        return Ranges(source="watch", series=series)

    async def _prometheus(self) -> History | None:
        entry, target = self.settings.config.prometheus, self._entry
        if entry is None or target is None:
            return None
        return await prometheus.history(entry, target.series or target.match)


def _is_recent(at: float) -> bool:
    return datetime.now(UTC).timestamp() - at <= STALE_SECONDS


def _goes_on(history: History) -> bool:
    return bool(history.samples) and _is_recent(history.samples[-1].at.timestamp())


def _days(history: History) -> float:
    if not history.samples:
        return 0.0
    return (history.samples[-1].at - history.samples[0].at).total_seconds()
