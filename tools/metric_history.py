"""What a server's metrics were over days: from where to where, how they grow, what changed when."""

import asyncio
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import cast

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from tools.catalogue import Arguments
from tools.change_points import WINDOW, changes
from tools.connection import Connection
from tools.growth import (
    DAY,
    LEAST_BREAK,
    LONGEST_DAYS,
    History,
    MemorySample,
    Trend,
    fit,
    seconds_until,
)
from tools.ranges import Range, Ranges
from tools.reading import Measured, NotMeasured, Reading
from tools.size_artefacts import worded

METRICS: dict[str, float] = {
    "used_memory_bytes": LEAST_BREAK,
    "resident_bytes": LEAST_BREAK,
    "limit_bytes": LEAST_BREAK,
    "fragmentation_ratio": 0.5,
    "connected_clients": 10,
    "blocked_clients": 5,
    "rejected_connections_per_second": 1,
    "commands_per_second": 50,
    "hits_per_second": 50,
    "misses_per_second": 50,
    "evicted_keys_per_second": 10,
    "expired_keys_per_second": 10,
    "network_in_bytes_per_second": 100 * 1024,
    "network_out_bytes_per_second": 100 * 1024,
    "keys": 1_000,
    "replicas": 1,
    "replica_lag_seconds": 10,
    "primary_link_up": 1,
}
"""Everything that is asked for, and the smallest step of it that is told: of less than this nobody
needs to hear on any server, however many times the level it is."""
GROWING = frozenset({"used_memory_bytes", "resident_bytes", "keys"})
"""Of which a slope over days says something."""
MOST_DATABASES = 16
DATABASE = re.compile(r"db\d{1,5}")
ENDED_SECONDS = 3_600
"""Two coarse steps: a metric that ended so long before the others is not told as if it went on."""
HABIT = 0.5
"""A step of which half or more was seen on as many of the other days at that time is no news."""
HABIT_SECONDS = 5_400


class Step(Reading):
    """From one level to another."""

    at: datetime
    """The first sample with the new level; it changed within `interval_seconds` before."""
    interval_seconds: float
    before: float
    after: float


class Slope(Reading):
    """Growth a day with its 90 % interval (tools/growth.py)."""

    per_day: float
    low_per_day: float
    high_per_day: float


class Track(Reading):
    """One metric over the window, in the unit of its name."""

    first: float
    last: float
    least: float
    most: float
    samples: int
    slope: Slope | None = None
    """Where one says something and enough days are known."""
    changes: list[Step] = Field(default_factory=list)
    """Steps of a third or more, oldest first, without those of every day."""


class MetricHistory(Reading):
    """A server's metrics over the last days."""

    source: str
    """Who kept them: `watch` or `Prometheus`."""
    since: datetime
    until: datetime
    """The newest sample."""
    metrics: dict[str, Track]
    """By name; `keys` of all databases, `keys_db0` of one."""
    growth: Measured[Trend]
    """Of used_memory, over as many days as are kept."""
    seconds_to_full: Measured[float]
    """Until maxmemory, or the configured limit, is met at that growth."""
    seconds_to_full_soonest: Measured[float]
    """At the upper end of the growth's interval."""
    missing: NotMeasured | None = None
    """Metrics that were asked for and are not kept, or ended before the others."""


class MetricHistoryArguments(Arguments):
    """Nothing to choose: what is kept of the target is all there is."""

    memory_limit: int | None = Field(default=None, gt=0)
    """Bytes it may use when maxmemory is 0: the limit of its container or machine."""
    ranges: SkipJsonSchema[Ranges | None] = Field(default=None, exclude=True, repr=False)
    """The metrics: handed over by whoever keeps them, never kept in evidence."""
    history: SkipJsonSchema[History | None] = Field(default=None, exclude=True, repr=False)
    """Its memory, further back."""


async def metric_history(
    connection: Connection, args: MetricHistoryArguments
) -> MetricHistory | NotMeasured:
    """Memory, clients, traffic, keys, replication over days: range, growth, what changed when.

    Changes within the last day are told to five minutes, earlier ones to half an hour.
    Source: redis_exporter's metrics in Prometheus, else the samples that `watch` keeps.
    """
    ranges, history = args.ranges or Ranges(), args.history or History()
    return await asyncio.to_thread(history_of, ranges, history, connection.now(), args.memory_limit)


def history_of(
    ranges: Ranges, history: History, now: datetime, memory_limit: int | None = None
) -> MetricHistory | NotMeasured:
    """What the ranges say. Pure. Of a metric with ranges of two steps, the finer one is newer."""
    by_name = _by_name(ranges.series)
    times = [at for parts in by_name.values() for part in parts for at, _ in part.points()]
    if not times:
        return NotMeasured(
            not_measured="metric_history",
            because=ranges.because or "nobody keeps this server's metrics",
            failure="not_configured",
            remedy="configure `prometheus` and the target's `series`, or leave `watch` on",
        )
    growth = fit(history, now)
    missing = [name for name in METRICS if name not in by_name]
    ended = [name for name, parts in by_name.items() if _last(parts) < max(times) - ENDED_SECONDS]
    tracks = {name: _track(name, parts) for name, parts in by_name.items() if name not in ended}
    limit = _limit(tracks, memory_limit)
    return MetricHistory(
        source=ranges.source,
        since=_time(min(times)),
        until=_time(max(times)),
        metrics=tracks,
        growth=growth,
        seconds_to_full=_to_full(growth, limit, "bytes_per_day"),
        seconds_to_full_soonest=_to_full(growth, limit, "high_bytes_per_day"),
        missing=_missing(missing, ended, ranges) if missing or ended else None,
    )


def _by_name(series: Iterable[Range]) -> dict[str, list[Range]]:
    """The ranges of each metric, coarse ones first; of databases only what names one."""
    found: dict[str, list[Range]] = {name: [] for name in METRICS}
    for one in sorted(series, key=lambda one: -one.step):
        name = f"keys_{one.of}" if one.of else one.metric
        known = name in METRICS or (one.metric == "keys" and DATABASE.fullmatch(one.of))
        if known and (name in found or len(found) < len(METRICS) + MOST_DATABASES):
            found.setdefault(name, []).append(one)
    return {name: parts for name, parts in found.items() if any(one.points() for one in parts)}


def _last(parts: Sequence[Range]) -> float:
    return max(at for part in parts for at, _ in part.points())


def _track(name: str, parts: Sequence[Range]) -> Track:
    fine = parts[-1].points()
    coarse = [
        point for part in parts[:-1] for point in part.points() if not fine or point[0] < fine[0][0]
    ]
    points = [*coarse, *fine]
    levels = [value for _, value in points]
    return Track(
        first=levels[0],
        last=levels[-1],
        least=min(levels),
        most=max(levels),
        samples=len(levels),
        slope=_slope(points) if name in GROWING or name.startswith("keys_") else None,
        changes=_changes(METRICS.get(name, METRICS["keys"]), parts),
    )


def _changes(least: float, parts: Sequence[Range]) -> list[Step]:
    days = [point for part in parts for point in part.points()]
    found: list[Step] = []
    for part, finer in pairwise([*parts, None]):
        part = cast("Range", part)
        for change in changes(part.values, least):
            at = part.at(change.place)
            # What the finer range sees as well is told by it; near its beginning it sees nothing.
            told = finer is not None and at > finer.start + WINDOW * finer.step
            if not told and not _is_habit(days, at, change.after - change.before):
                found.append(
                    Step(
                        at=_time(at), interval_seconds=part.step, before=change.before,
                        after=change.after,
                    )
                )  # fmt: skip
    return found


def _is_habit(points: Sequence[tuple[float, float]], at: float, rise: float) -> bool:
    """Whether the same happens at this time of most other days."""
    likewise = [
        after - before
        for days in range(-7, 8)
        if days
        and (before := _level(points, at + days * DAY - HABIT_SECONDS, at + days * DAY)) is not None
        and (after := _level(points, at + days * DAY, at + days * DAY + HABIT_SECONDS)) is not None
    ]
    alike = sum(other / rise >= HABIT for other in likewise)
    return bool(likewise) and alike >= HABIT * len(likewise)


def _level(points: Sequence[tuple[float, float]], since: float, until: float) -> float | None:
    within = sorted(value for at, value in points if since <= at < until)
    return within[len(within) // 2] if within else None


def _slope(points: Sequence[tuple[float, float]]) -> Slope | None:
    samples = [MemorySample(at=_time(at), used_bytes=round(value)) for at, value in points]
    trend = fit(History(samples=samples), _time(points[-1][0]))
    if isinstance(trend, NotMeasured):
        return None
    return Slope(
        per_day=trend.bytes_per_day,
        low_per_day=trend.low_bytes_per_day,
        high_per_day=trend.high_bytes_per_day,
    )


def _limit(tracks: dict[str, Track], memory_limit: int | None) -> float | None:
    if (kept := tracks.get("limit_bytes")) is not None and kept.last > 0:
        return kept.last
    return memory_limit


def _to_full(growth: Measured[Trend], limit: float | None, end: str) -> Measured[float]:
    if isinstance(growth, NotMeasured):
        return growth
    if limit is None:
        because = "no limit is known: maxmemory is 0 or not kept"
        return NotMeasured(not_measured="time to full", because=because)
    per_day = getattr(growth, end)
    if (seconds := seconds_until(limit, growth.level_bytes, per_day)) is not None:
        return seconds
    because = f"at {worded(per_day)} a day the limit is not met in {LONGEST_DAYS // 365} years"
    return NotMeasured(not_measured="time to full", because=because)


def _missing(names: Sequence[str], ended: Sequence[str], ranges: Ranges) -> NotMeasured:
    said = (
        ("has none of: ", names), ("has none of the last hour of: ", ended),
    )  # fmt: skip
    because = "; ".join(f"{ranges.source} {what}{', '.join(of)}" for what, of in said if of)
    return NotMeasured(
        not_measured="metric_history",
        because=f"{because}; {ranges.because}" if ranges.because else because,
    )


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
