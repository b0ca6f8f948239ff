"""A target's host and container in Prometheus: node_exporter and cAdvisor, one query each."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from api.config import TargetEntry
from api.prometheus import ODD, SOURCE, Grid, Unanswered, query, selector_of
from api.prometheus_ranges import Found, by_name
from api.sizing_config import PrometheusEntry
from tools.host import HostFacts
from tools.ranges import Range, Ranges, per_second, rounded

SECONDS, STEP_SECONDS = 3_600, 60
NODE: Mapping[str, str] = {
    "node_memory_MemTotal_bytes": "memory_total_bytes",
    "node_memory_MemAvailable_bytes": "memory_available_bytes",
    "node_memory_SwapTotal_bytes": "swap_total_bytes",
    "node_memory_SwapFree_bytes": "swap_free_bytes",
    "node_memory_AnonHugePages_bytes": "huge_pages_bytes",
    "node_vmstat_pswpin": "swapped_in_pages",
    "node_vmstat_pswpout": "swapped_out_pages",
    "node_vmstat_oom_kill": "oom_kills",
    "node_filesystem_size_bytes": "data_disk_bytes",
    "node_filesystem_avail_bytes": "data_disk_available_bytes",
}
"""Of node_exporter's default collectors (1.5.0): its vmstat shows only fields like these, and
`thp_*` only with --collector.vmstat.fields."""
CONTAINER: Mapping[str, str] = {
    "container_spec_memory_limit_bytes": "container_limit_bytes",
    "container_memory_working_set_bytes": "container_working_set_bytes",
    "container_memory_swap": "container_swap_bytes",
    "container_oom_events_total": "container_oom_kills",
    "container_cpu_cfs_periods_total": "cpu_periods",
    "container_cpu_cfs_throttled_periods_total": "cpu_throttled_periods",
}
"""Of cAdvisor (docs/storage/prometheus.md), as the kubelet has them too."""
COUNTERS = frozenset(
    {
        "node_vmstat_pswpin", "node_vmstat_pswpout", "node_vmstat_oom_kill",
        "container_oom_events_total", "container_cpu_cfs_periods_total",
        "container_cpu_cfs_throttled_periods_total",
    }
)  # fmt: skip
DISKS = frozenset({"node_filesystem_size_bytes", "node_filesystem_avail_bytes"})
NO_DISKS = frozenset({"tmpfs", "ramfs", "squashfs", "overlay", "iso9660"})
"""File systems that hold no data folder, or show another one's space."""


async def facts(
    entry: PrometheusEntry | None, target: TargetEntry | None, now: datetime | None = None
) -> HostFacts:
    """What is known of the target's host; parts that are not configured are None."""
    if entry is None or target is None:
        return HostFacts()
    until = now or datetime.now(UTC)
    node, container = await asyncio.gather(
        _ranges(entry, NODE, target.host_series, until, target.data_mount),
        _ranges(entry, CONTAINER, target.container_series, until),
    )
    return HostFacts(host=node, container=container)


async def _ranges(
    entry: PrometheusEntry,
    metrics: Mapping[str, str],
    labels: Mapping[str, str],
    now: datetime,
    mount: str | None = None,
) -> Ranges | None:
    if not labels:
        return None
    grid = Grid.ending(now, SECONDS, STEP_SECONDS)
    because: dict[str, None] = {}
    try:
        reply = await query(entry, selector_of(metrics, labels), grid)
        found = by_name(_on_disks(reply), grid, metrics, "mountpoint", because)
    except Unanswered as none:
        return Ranges(source=SOURCE, because=str(none))
    series = [
        _range(grid, metrics[name], name, values)
        for (name, _), values in _of_one_disk(found, mount, because).items()
    ]
    if not series and not because:
        because["Prometheus has no series with the labels of the target's host or container"] = None
    return Ranges(source=SOURCE, series=series, because="; ".join(because)[:500])


def _on_disks(reply: Sequence[Any]) -> list[Any]:
    try:
        return [one for one in reply if one["metric"].get("fstype") not in NO_DISKS]
    except (KeyError, TypeError, AttributeError):
        raise Unanswered(ODD) from None


def _of_one_disk(found: Found, mount: str | None, because: dict[str, None]) -> Found:
    """Without the disks that do not hold the data: which one does, Redis tells us nothing of."""
    mounts = {of for name, of in found if name in DISKS}
    if mount is None and len(mounts) > 1:
        because[f"{len(mounts)} disks: name the one with the data (`data_mount`)"] = None
    elif mount is not None and mounts and mount not in mounts:
        because["no disk is mounted where `data_mount` says"] = None
    chosen = mount if mount is not None or len(mounts) != 1 else next(iter(mounts))
    return {key: values for key, values in found.items() if key[0] not in DISKS or key[1] == chosen}


def _range(grid: Grid, metric: str, name: str, values: list[float | None]) -> Range:
    rates = per_second(values, grid.step) if name in COUNTERS else values
    return Range(metric=metric, start=grid.start, step=grid.step, values=rounded(rates))
