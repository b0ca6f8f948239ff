"""What the server's host and container tell of themselves, as their exporters have it."""

from datetime import UTC, datetime

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from tools.catalogue import Arguments
from tools.connection import Connection
from tools.ranges import Range, Ranges
from tools.reading import Measured, NotMeasured, Reading

STALE_SECONDS = 900
"""Older facts are of another time than the incident."""
UNLIMITED = 1 << 60
"""Kernels write a limit that is none as a huge number, cAdvisor as zero."""
RECENT = 15
"""Samples, a minute apart, over which rates are averaged."""


class HostFacts(Reading):
    """What the installation found out about the last hour, sample by sample; None: not asked."""

    host: Ranges | None = None
    """From node_exporter: rates and gauges by the names of `Host`'s fields."""
    container: Ranges | None = None
    """From cAdvisor."""


class Host(Reading):
    """The machine and the container of a server, over the last hour."""

    source: str
    until: datetime
    """The newest sample."""
    memory_total_bytes: Measured[float]
    memory_available_bytes: Measured[float]
    """What can be had without swapping (MemAvailable)."""
    swap_total_bytes: Measured[float]
    swap_used_bytes: Measured[float]
    swapped_in_pages_per_second: Measured[float]
    """By the whole machine, over the last quarter of an hour."""
    swapped_out_pages_per_second: Measured[float]
    huge_pages_bytes: Measured[float]
    """Transparent huge pages of all processes (AnonHugePages)."""
    huge_pages_always: NotMeasured
    """Whether they are given unasked: no collector of node_exporter reads that."""
    oom_kills: Measured[float]
    """Processes of the machine that were killed for want of memory within the hour."""
    data_disk_bytes: Measured[float]
    data_disk_available_bytes: Measured[float]
    container_limit_bytes: Measured[float]
    container_working_set_bytes: Measured[float]
    """What the limit is held against: all but page cache that can be dropped."""
    container_swap_bytes: Measured[float]
    container_oom_kills: Measured[float]
    cpu_periods: Measured[float]
    """Scheduler periods within the hour in which the container ran."""
    cpu_throttled_share: Measured[float]
    """Of those, how many it spent waiting because its CPU limit was used up."""


class HostArguments(Arguments):
    """Nothing to choose."""

    facts: SkipJsonSchema[HostFacts | None] = Field(default=None, exclude=True, repr=False)
    """Handed over by whoever knows where to ask, never kept in evidence."""


async def host(connection: Connection, args: HostArguments) -> Host | NotMeasured:
    """Swap, huge pages, memory, data disk, OOM kills, the container's limits, in bytes.

    No server knows these of its host. Huge pages and swap rates are those of the whole machine.
    Source: node_exporter's and cAdvisor's metrics in Prometheus, where they are configured.
    """
    return told(args.facts or HostFacts(), connection.now())


def told(facts: HostFacts, now: datetime) -> Host | NotMeasured:
    """What the facts say, or why there are none. Pure."""
    both = [ranges for ranges in (facts.host, facts.container) if ranges is not None]
    if not both:
        return _not_configured("host", "host_series` and `container_series")
    newest = [point[0] for ranges in both for one in ranges.series for point in one.points()[-1:]]
    if not newest or now.timestamp() - max(newest) > STALE_SECONDS:
        reasons = dict.fromkeys(ranges.because for ranges in both if ranges.because)
        because = "; ".join(reasons) or "the newest samples of its host are too old"
        return NotMeasured(not_measured="host", because=because[:500])
    node = _Part(facts.host, "host_series", now)
    pod = _Part(facts.container, "container_series", now)
    limit = pod.last("container_limit_bytes")
    periods, throttled = pod.total("cpu_periods"), pod.total("cpu_throttled_periods")
    return Host(
        source=both[0].source,
        until=datetime.fromtimestamp(max(newest), UTC),
        memory_total_bytes=node.last("memory_total_bytes"),
        memory_available_bytes=node.last("memory_available_bytes"),
        swap_total_bytes=node.last("swap_total_bytes"),
        swap_used_bytes=_difference(node.last("swap_total_bytes"), node.last("swap_free_bytes")),
        swapped_in_pages_per_second=node.rate("swapped_in_pages"),
        swapped_out_pages_per_second=node.rate("swapped_out_pages"),
        huge_pages_bytes=node.last("huge_pages_bytes"),
        huge_pages_always=NotMeasured(
            not_measured="transparent huge pages, always or not",
            because="no collector of node_exporter reads it",
            remedy="cat /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        oom_kills=node.total("oom_kills"),
        data_disk_bytes=node.last("data_disk_bytes"),
        data_disk_available_bytes=node.last("data_disk_available_bytes"),
        container_limit_bytes=_limited(limit),
        container_working_set_bytes=pod.last("container_working_set_bytes"),
        container_swap_bytes=pod.last("container_swap_bytes"),
        container_oom_kills=pod.total("container_oom_kills"),
        cpu_periods=periods,
        cpu_throttled_share=_share(throttled, periods),
    )


class _Part:
    """The newest of each metric, or why it is not known."""

    def __init__(self, ranges: Ranges | None, setting: str, now: datetime) -> None:
        self._series = {one.metric: one for one in ranges.series} if ranges else {}
        self._ranges, self._setting, self._now = ranges, setting, now

    def last(self, metric: str) -> Measured[float]:
        """A gauge."""
        found = self._found(metric)
        return found if isinstance(found, NotMeasured) else found.points()[-1][1]

    def rate(self, metric: str) -> Measured[float]:
        """Of rates a second, the average of the last ones."""
        found = self._found(metric)
        if isinstance(found, NotMeasured):
            return found
        last = [value for value in found.values[-RECENT:] if value is not None]
        return sum(last) / len(last) if last else self._missing(metric)

    def total(self, metric: str) -> Measured[float]:
        """Of rates a second, what they add up to."""
        found = self._found(metric)
        if isinstance(found, NotMeasured):
            return found
        points = found.points()
        # The first rate is over the step before it; gaps are averaged over.
        covered = (points[-1][0] - points[0][0]) + found.step
        return float(round(covered * sum(value for _, value in points) / len(points)))

    def _found(self, metric: str) -> Measured[Range]:
        found = self._series.get(metric)
        if found is None or not found.points():
            return self._missing(metric)
        if self._now.timestamp() - found.points()[-1][0] > STALE_SECONDS:
            return NotMeasured(not_measured=metric, because="its newest sample is too old")
        return found

    def _missing(self, metric: str) -> NotMeasured:
        if self._ranges is None:
            return _not_configured(metric, self._setting)
        because = self._ranges.because or f"{self._ranges.source} does not have it"
        if metric in self._series:
            because = "there are fewer than two samples of it within the hour"
        return NotMeasured(not_measured=metric, because=because)


def _not_configured(what: str, settings: str) -> NotMeasured:
    return NotMeasured(
        not_measured=what,
        because=f"`{settings}` of the target are not configured, so its host is not known",
        failure="not_configured",
        remedy="configure `prometheus` and the labels of the target's host and container",
    )


def _difference(whole: Measured[float], rest: Measured[float]) -> Measured[float]:
    if isinstance(whole, NotMeasured):
        return whole
    return rest if isinstance(rest, NotMeasured) else max(whole - rest, 0.0)


def _limited(limit: Measured[float]) -> Measured[float]:
    if isinstance(limit, NotMeasured) or 0 < limit < UNLIMITED:
        return limit
    return NotMeasured(not_measured="container_limit_bytes", because="the container has no limit")


def _share(part: Measured[float], whole: Measured[float]) -> Measured[float]:
    if isinstance(part, NotMeasured):
        return part
    if isinstance(whole, NotMeasured):
        return whole
    if whole > 0:
        return min(part / whole, 1.0)
    because = "the container has no CPU limit, or did not run"
    return NotMeasured(not_measured="cpu_throttled_share", because=because)
