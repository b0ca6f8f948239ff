"""A target's metrics from Prometheus, as redis_exporter names them: two bounded range queries."""

import asyncio
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from api.prometheus import ODD, SOURCE, Grid, Unanswered, Values, query, selector_of
from api.sizing_config import PrometheusEntry
from tools.growth import DAY
from tools.metric_history import DATABASE, MOST_DATABASES
from tools.ranges import LARGEST, MOST_SERIES, Range, Ranges, per_second, rounded

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
LINKS: Mapping[str, tuple[str, ...]] = {
    "redis_connected_slave_lag_seconds": ("slave_ip", "slave_port", "slave_state"),
    "redis_master_link_up": ("master_host", "master_port"),
}
"""One series for each replica, or for each primary it ever had: the highest value counts."""
LOOKBACK_SECONDS = 300
"""So long Prometheus shows a series that has ended, where nobody tells it so: the cgroup of a
container that was restarted (--query.lookback-delta)."""


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
        replies = await asyncio.gather(*(query(entry, promql, grid) for grid in grids))
        because: dict[str, None] = {}
        series = [
            one
            for grid, reply in zip(grids, replies, strict=True)
            for one in _ranges(grid, by_name(reply, grid, names, "db", because))
        ]
    except Unanswered as none:
        return Ranges(source=SOURCE, because=str(none))
    if not series and not because:
        because["Prometheus has no series with the target's labels"] = None
    return Ranges(source=SOURCE, series=series, because="; ".join(because)[:500])


def by_name(
    reply: Sequence[Any], grid: Grid, metrics: Container[str], part: str, because: dict[str, None]
) -> Found:
    """The series of a reply by metric and by the value of the label `part`.

    Series that follow each other, as those of a server that moved, are one. Of series side by side
    nobody knows which one is the target's: they are left out, and `because` says so. Whatever was
    not asked for is left out. Raises Unanswered.
    """
    if len(reply) > MOST_SERIES:
        raise Unanswered(f"Prometheus answered with more than {MOST_SERIES} series")
    groups: dict[tuple[str, str], dict[object, list[Values]]] = defaultdict(dict)
    for one in reply:
        try:
            labels, samples = one["metric"], one["values"]
            name, of = labels["__name__"], labels.get(part, "")
            whose = tuple(sorted(labels.items() - _of_links(name, labels)))
        except (KeyError, TypeError, AttributeError):
            raise Unanswered(ODD) from None
        if not (isinstance(name, str) and isinstance(of, str)):
            raise Unanswered(ODD)
        if name in metrics:
            groups[name, of[:200]].setdefault(whose, []).append(grid.values(samples))
    found: Found = {}
    for (name, of), servers in groups.items():
        values = _of_one([_highest(links) for links in servers.values()], grid.step)
        if values is None:
            because[f"{len(servers)} series of {name} have the target's labels: name more"] = None
        elif any(value is not None for value in values):
            found[name, of] = values
    return found


def _of_links(name: str, labels: Mapping[str, object]) -> set[tuple[str, object]]:
    """The labels that tell apart the links of one server."""
    return {(label, labels[label]) for label in LINKS.get(name, ()) if label in labels}


def _highest(links: Sequence[Values]) -> Values:
    columns = zip(*links)  # noqa: B905
    return [max((v for v in column if v is not None), default=None) for column in columns]


def _of_one(series: Sequence[Values], step: int) -> Values | None:
    """The values of series that follow each other; None: they are side by side.

    A series that has ended is shown for a while longer: its successor counts then.
    """
    found: Values = [None] * len(series[0])
    end = -1
    for first, last, values in sorted(run for one in series for run in _runs(one)):
        if first <= end and (last <= end or (end - first) * step >= LOOKBACK_SECONDS):
            return None
        found[first : last + 1] = values
        end = last
    return found


def _runs(values: Values) -> Iterator[tuple[int, int, Values]]:
    """First and last place, and values, of each part without gaps."""
    first = None
    for place, value in enumerate([*values, None]):
        if value is not None and first is None:
            first = place
        elif value is None and first is not None:
            yield first, place - 1, values[first:place]
            first = None


def _ranges(grid: Grid, found: Found) -> list[Range]:
    series, databases = [], {}
    for (name, of), values in found.items():
        if name in COUNTERS:
            series.append(_range(grid, COUNTERS[name], per_second(values, grid.step)))
        elif name != KEYS:
            series.append(_range(grid, GAUGES.get(name, "used_memory_bytes"), values))
        elif DATABASE.fullmatch(of):
            databases[of] = values
    if databases:
        series.append(_range(grid, "keys", [_sum(column) for column in zip(*databases.values())]))  # noqa: B905
    # The exporter reports every database, and most are empty.
    most = sorted((_most(values), of) for of, values in databases.items())[-MOST_DATABASES:]
    return series + [_range(grid, "keys", databases[of], of) for keys, of in most if keys]


def _most(values: Values) -> float:
    return max((value for value in values if value is not None), default=0)


def _sum(column: Sequence[float | None]) -> float | None:
    known = [value for value in column if value is not None]
    return min(sum(known), LARGEST) if known else None


def _range(grid: Grid, metric: str, values: Values, of: str = "") -> Range:
    return Range(metric=metric, of=of, start=grid.start, step=grid.step, values=rounded(values))
