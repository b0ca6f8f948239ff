"""A target's metrics from Prometheus, as redis_exporter names them: two bounded range queries."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from api.prometheus import ODD, SOURCE, Unanswered, Window, query, selector_of
from api.sizing_config import PrometheusEntry
from tools.growth import DAY
from tools.metric_history import DATABASE
from tools.ranges import MOST_SERIES, Range, Ranges, per_second, rounded

Values = list[float | None]
Found = dict[tuple[str, str], Values]
"""Of a metric as Prometheus names it, and of a part of it: the values on the window's grid."""

DAYS = 7
COARSE_SECONDS, FINE_SECONDS = 1_800, 300
"""Over the days, and over the last of them."""
GAUGES: Mapping[str, str] = {
    "redis_memory_used_rss_bytes": "resident_bytes",
    "redis_memory_max_bytes": "limit_bytes",
    "redis_mem_fragmentation_ratio": "fragmentation_ratio",
    "redis_connected_clients": "connected_clients",
    "redis_blocked_clients": "blocked_clients",
    "redis_connected_slaves": "replicas",
    "redis_connected_slave_lag_seconds": "replica_lag_seconds",
    "redis_master_link_up": "primary_link_up",
}
COUNTERS: Mapping[str, str] = {
    "redis_rejected_connections_total": "rejected_connections_per_second",
    "redis_commands_processed_total": "commands_per_second",
    "redis_keyspace_hits_total": "hits_per_second",
    "redis_keyspace_misses_total": "misses_per_second",
    "redis_evicted_keys_total": "evicted_keys_per_second",
    "redis_expired_keys_total": "expired_keys_per_second",
    "redis_net_input_bytes_total": "network_in_bytes_per_second",
    "redis_net_output_bytes_total": "network_out_bytes_per_second",
}
"""Names of redis_exporter 1.45, the same up to 1.7x."""
KEYS = "redis_db_keys"
WORST = frozenset({"redis_connected_slave_lag_seconds", "redis_master_link_up"})
"""One series for each replica, or for each primary it ever had: the highest value counts."""


@dataclass(frozen=True)
class Grid:
    """The times of a window's values."""

    start: float
    step: int
    places: int

    @classmethod
    def ending(cls, now: datetime, seconds: int, step: int) -> "Grid":
        """So many seconds until now."""
        places = seconds // step
        return cls(now.timestamp() - (places - 1) * step, step, places)

    @property
    def window(self) -> Window:
        """As Prometheus is asked for it."""
        since = datetime.fromtimestamp(self.start, UTC)
        return Window(since, since + timedelta(seconds=self.step * (self.places - 1)), self.step)

    def values(self, samples: Sequence[Any]) -> Values:
        """Samples of a reply on the grid; NaN and infinities are none. Raises Unanswered."""
        found: Values = [None] * self.places
        try:
            for at, text in samples:
                place, value = round((at - self.start) / self.step), float(text)
                if 0 <= place < self.places and math.isfinite(value):
                    found[place] = value
        except (ValueError, TypeError, OverflowError):
            raise Unanswered(ODD) from None
        return found


async def ranges(
    entry: PrometheusEntry, labels: Mapping[str, str], now: datetime | None = None
) -> Ranges:
    """The target's metrics over the last days; without any, `because` says why."""
    until = now or datetime.now(UTC)
    days = Grid.ending(until, min(DAYS, entry.days) * DAY, COARSE_SECONDS)
    grids = (days, Grid.ending(until, DAY, FINE_SECONDS))
    names = {entry.metric, *GAUGES, *COUNTERS, KEYS}
    try:
        promql = selector_of(names, labels)
        replies = await asyncio.gather(*(query(entry, promql, grid.window) for grid in grids))
        because: dict[str, None] = {}
        series = [
            one
            for grid, reply in zip(grids, replies, strict=True)
            for one in _ranges(grid, by_name(reply, grid, "db", WORST, because), entry.metric)
        ]
    except Unanswered as none:
        return Ranges(source=SOURCE, because=str(none))
    if not series and not because:
        because["Prometheus has no series with the target's labels"] = None
    return Ranges(source=SOURCE, series=series, because="; ".join(because)[:500])


def by_name(
    reply: Sequence[Any],
    grid: Grid,
    part: str,
    worst: frozenset[str],
    because: dict[str, None],
) -> Found:
    """The series of a reply by metric and by the value of the label `part`.

    Series that follow each other, as those of a server that moved, are one. Of series side by side
    nobody knows which one is the target's: they are left out, and `because` says so, but for those
    of `worst`. Raises Unanswered.
    """
    if len(reply) > MOST_SERIES:
        raise Unanswered(f"Prometheus answered with more than {MOST_SERIES} series")
    groups: dict[tuple[str, str], list[Values]] = defaultdict(list)
    for one in reply:
        try:
            labels, samples = one["metric"], one["values"]
            name, of = labels["__name__"], labels.get(part, "")
        except (KeyError, TypeError, AttributeError):
            raise Unanswered(ODD) from None
        if not (isinstance(name, str) and isinstance(of, str)):
            raise Unanswered(ODD)
        groups[name, of[:200]].append(grid.values(samples))
    found: Found = {}
    for (name, of), series in groups.items():
        columns = [[value for value in column if value is not None] for column in zip(*series)]  # noqa: B905
        if name not in worst and any(len(column) > 1 for column in columns):
            because[f"{len(series)} series of {name} have the target's labels: name more"] = None
            continue
        found[name, of] = [max(column, default=None) for column in columns]
    return found


def _ranges(grid: Grid, found: Found, used_memory: str) -> list[Range]:
    series = []
    for (name, of), values in found.items():
        if name in COUNTERS:
            series.append(_range(grid, COUNTERS[name], per_second(values, grid.step)))
        elif name == KEYS and DATABASE.fullmatch(of):
            series.append(_range(grid, "keys", values, of))
        elif name == used_memory or name in GAUGES:
            series.append(_range(grid, GAUGES.get(name, "used_memory_bytes"), values))
    databases = [
        values for (name, of), values in found.items() if name == KEYS and DATABASE.fullmatch(of)
    ]
    if databases:
        series.append(_range(grid, "keys", [_sum(column) for column in zip(*databases)]))  # noqa: B905
    # The exporter reports all sixteen databases, and most are empty.
    return [one for one in series if not one.of or any(one.values)]


def _sum(column: Sequence[float | None]) -> float | None:
    known = [value for value in column if value is not None]
    return sum(known) if known else None


def _range(grid: Grid, metric: str, values: Values, of: str = "") -> Range:
    return Range(metric=metric, of=of, start=grid.start, step=grid.step, values=rounded(values))
