"""How big the instance should be: sizing with its arithmetic shown. Never executed."""

import asyncio
import math
from datetime import datetime
from typing import Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from tools.catalogue import Arguments
from tools.connection import Connection
from tools.growth import DAY, LONGEST_DAYS, History, Trend, fit, seconds_until
from tools.memory import MemoryInfo, memory_info_of
from tools.reading import Measured, NotMeasured, Reading, number
from tools.samples import Samples, growth_noise, take_samples
from tools.scaling import Way, compare
from tools.size_artefacts import MIB, how_to_order, worded
from tools.sizes import Catalogue, InstanceSize, read_catalogue

TARGET = 0.70
"""Of the instance; between 65 and 75 %, where the alerts begin."""
GROWTH_CAP = 1.0
"""An extrapolation from seconds to days is worth little: at most the peak once more."""
COPY_ON_WRITE = 0.25
"""Reserve while a child saves, as a share of peak; ElastiCache reserves 25 % by default."""
LARGEST_FRAGMENTATION = 1.5
"""More is repaired (active defragmentation, restart), not bought memory for."""
SMALL = 64 * MIB
"""Below this the fragmentation ratio says nothing (a ratio needs a byte floor)."""
SECTIONS = ("memory", "persistence", "cpu", "clients", "replication", "keyspace", "cluster")


class SizingStep(Reading):
    """One line of the arithmetic, e.g. `copy-on-write reserve = 25 % of peak`."""

    name: str
    bytes: int
    how: str


class InstanceResize(Reading):
    """The smallest instances that fit this server's peak, growth and reserves."""

    peak_bytes: int
    growth_bytes_per_day: Measured[float]
    """The trend's, else the two samples'; NotMeasured if both are unknown or noise."""
    growth_from: Literal["trend", "two samples", "nothing"]
    """`two samples`: seconds were extrapolated to days, for want of anything better."""
    trend: Measured[Trend]
    """Of the samples kept over days."""
    seconds_to_full: Measured[float]
    """Until the limit is met at that growth."""
    seconds_to_full_soonest: Measured[float]
    """At the upper end of the trend's 90 % interval."""
    seconds_to_full_latest: Measured[float]
    """At its lower end."""
    steps: list[SizingStep]
    needed_bytes: int
    """Instance memory needed."""
    target_utilization: float
    recommended_maxmemory: int
    current_limit: Measured[int]
    limit_source: str
    fits: list[InstanceSize]
    """Smallest that fits, one per provider; empty if none does: shard."""
    ways: list[Way]
    """Scale up and shard out compared, the better one first."""
    artefact: str
    """What a person can use: the provider commands with a placeholder for the instance's name."""
    grows: bool
    """needed_bytes exceeds the current limit."""


class InstanceResizeArguments(Arguments):
    """What the server cannot know, and how far to look ahead."""

    memory_limit: int | None = Field(default=None, gt=0)
    """Bytes it may use when maxmemory is 0: the limit of its container or machine."""
    horizon_days: float = Field(default=30.0, ge=0, le=365)
    """How far growth is extrapolated, in days."""
    seconds: float = Field(default=5.0, ge=1.0, le=60.0)
    """Between the two samples."""
    catalogue: str | None = Field(default=None, max_length=1_000)
    """Path of a YAML file of sizes that replaces `tools/instance_sizes.yaml`."""
    history: SkipJsonSchema[History | None] = Field(default=None, exclude=True, repr=False)
    """What its memory was over days: handed over by whoever keeps it, never kept in evidence."""


async def instance_resize(
    connection: Connection, args: InstanceResizeArguments
) -> InstanceResize | NotMeasured:
    """How much memory the instance needs, in bytes, step by step; the smallest sizes that fit.

    A proposal for a person, never executed. Growth is fitted from samples over days, where they
    are kept; without, it is extrapolated from two samples and capped.
    Source: INFO twice, kept samples, tools/instance_sizes.yaml.
    """
    samples = await take_samples(connection, args.seconds, *SECTIONS)
    catalogue = await asyncio.to_thread(read_catalogue, args.catalogue)
    return await asyncio.to_thread(size_up, samples, args, catalogue, connection.now())


def size_up(
    samples: Samples,
    args: InstanceResizeArguments,
    catalogue: Measured[Catalogue],
    now: datetime,
) -> InstanceResize | NotMeasured:
    """The sizing of two samples and what was kept before them. Pure."""
    memory = memory_info_of(samples.last, args.memory_limit)
    peak = memory.used_memory_peak
    if isinstance(peak, NotMeasured):
        return peak
    if isinstance(catalogue, NotMeasured):
        return catalogue
    limit = number(memory.limit)
    trend = fit(args.history or History(), now)
    if not isinstance(trend, NotMeasured):  # the peak of before a restart counts, too
        peak = max(peak, round(trend.level_bytes))
    growth = _Growth.of(trend, samples, limit, peak, args.horizon_days)
    kept = _kept_in_memory(memory, peak, growth)
    around = _around_it(memory, samples.last, peak)
    steps = [*kept, *around]
    # Whoever needs more memory is not helped by a smaller maxmemory than there is.
    present = int(number(memory.maxmemory) or 0)
    maxmemory = max(_sum(kept) * 100 // round(TARGET * 100), present)
    needed = max(math.ceil(_sum(steps) / TARGET), maxmemory + _sum(around))
    steps.append(
        SizingStep(
            name="room to spare",
            bytes=needed - _sum(steps),
            how=f"{worded(_sum(steps))} shall be at most {TARGET:.0%} of the instance, "
            f"and maxmemory not below the present {worded(present)}",
        )
    )
    fits = catalogue.smallest(needed)
    grows = limit is not None and needed > limit
    return InstanceResize(
        peak_bytes=peak,
        growth_bytes_per_day=growth.per_day,
        growth_from=growth.source,
        trend=trend,
        **_time_to_full(growth, trend, memory),
        steps=steps,
        needed_bytes=needed,
        target_utilization=TARGET,
        recommended_maxmemory=maxmemory,
        current_limit=memory.limit,
        limit_source=memory.limit_source,
        fits=fits,
        ways=compare(samples, needed, catalogue),
        artefact=how_to_order(fits, needed, maxmemory, grows=grows or limit is None),
        grows=grows,
    )


class _Growth(Reading):
    per_day: Measured[float]
    source: Literal["trend", "two samples", "nothing"]
    counted: int
    """Bytes over the horizon."""
    how: str

    @classmethod
    def of(
        cls, trend: Measured[Trend], samples: Samples, limit: float | None, peak: int, days: float
    ) -> "_Growth":
        if isinstance(trend, NotMeasured):
            return cls._of_two(trend, samples, limit, peak, days)
        low, high = worded(trend.low_bytes_per_day), worded(trend.high_bytes_per_day)
        between = f"{low} to {high} (90 %), from {trend.days:.0f} days of samples by {trend.source}"
        noise = growth_noise(limit)
        if not trend.grows or trend.bytes_per_day * trend.days < noise:
            how = f"none counted: {between} a day cannot be told from its ups and downs"
            return cls(per_day=trend.bytes_per_day, source="trend", counted=0, how=how)
        how = f"{worded(trend.bytes_per_day)} a day, {between}; the upper end for {days:g} days"
        counted = round(trend.high_bytes_per_day * days)
        return cls(per_day=trend.bytes_per_day, source="trend", counted=counted, how=how)

    @classmethod
    def _of_two(
        cls, unknown: NotMeasured, samples: Samples, limit: float | None, peak: int, days: float
    ) -> "_Growth":
        pace = _pace(samples, limit)
        if isinstance(pace, NotMeasured):
            how = f"none counted: {pace.because}; trend unknown: {unknown.because}"
            return cls(per_day=pace, source="nothing", counted=0, how=how)
        how = (
            f"a guess, extrapolated from two samples {samples.seconds:.0f} s apart: {worded(pace)} "
            f"a day for {days:g} days, at most {GROWTH_CAP:.0%} of peak; trend unknown: "
            f"{unknown.because}"
        )
        counted = round(min(pace * days, peak * GROWTH_CAP))
        return cls(per_day=pace, source="two samples", counted=counted, how=how)


def _pace(samples: Samples, limit: float | None) -> Measured[float]:
    growth = samples.growth("used_memory")
    if isinstance(growth, NotMeasured):
        return growth
    noise = growth_noise(limit)
    if growth * samples.seconds < noise:
        return NotMeasured(
            not_measured="growth of used_memory",
            because=f"none beyond noise ({worded(noise)}) within the {samples.seconds:.0f} s "
            "between the samples",
        )
    return growth * DAY


def _time_to_full(
    growth: _Growth, trend: Measured[Trend], memory: MemoryInfo
) -> dict[str, Measured[float]]:
    used = number(memory.used_memory)
    if isinstance(trend, NotMeasured):
        # Seconds of growth give no interval.
        unknown = NotMeasured(not_measured="interval of the time to full", because=trend.because)
        full = _seconds(memory.limit, used, growth.per_day)
        return {
            "seconds_to_full": full,
            "seconds_to_full_soonest": unknown,
            "seconds_to_full_latest": unknown,
        }
    level = max(used or 0.0, trend.level_bytes)
    grows = growth.counted > 0 or trend.grows
    return {
        "seconds_to_full": _seconds(memory.limit, level, trend.bytes_per_day if grows else 0.0),
        "seconds_to_full_soonest": _seconds(memory.limit, level, trend.high_bytes_per_day),
        "seconds_to_full_latest": _seconds(memory.limit, level, trend.low_bytes_per_day),
    }


def _seconds(
    limit: Measured[int], level: float | None, per_day: Measured[float]
) -> Measured[float]:
    if isinstance(limit, NotMeasured):
        return limit
    if isinstance(per_day, NotMeasured):
        return per_day
    if (seconds := seconds_until(limit, level or 0.0, per_day)) is not None:
        return seconds
    because = f"at {worded(per_day)} a day the limit is not met in {LONGEST_DAYS // 365} years"
    return NotMeasured(not_measured="time to full", because=because)


def _kept_in_memory(memory: MemoryInfo, peak: int, growth: _Growth) -> list[SizingStep]:
    """What maxmemory must hold: peak, growth, buffers."""
    buffers = sum(
        int(number(part) or 0)
        for part in (
            memory.mem_replication_backlog,
            memory.mem_clients_slaves,
            memory.mem_clients_normal,
        )
    )
    reserve = min(buffers, round(peak * COPY_ON_WRITE))
    return [
        SizingStep(name="peak", bytes=peak, how="used_memory_peak, or the last day's highest hour"),
        SizingStep(name="growth", bytes=growth.counted, how=growth.how),
        SizingStep(
            name="replication and client buffers",
            bytes=reserve,
            how=f"room for as much again as they hold now ({worded(buffers)}), "
            f"at most {COPY_ON_WRITE:.0%} of peak",
        ),
    ]


def _around_it(memory: MemoryInfo, info: dict[str, str], peak: int) -> list[SizingStep]:
    """What the machine must hold besides: fragmentation, pages copied while a child saves."""
    used, ratio = number(memory.used_memory), number(memory.mem_fragmentation_ratio)
    if used is None or ratio is None or used < SMALL:
        fragmented, how = 0, f"none counted: below {worded(SMALL)} in use the ratio says nothing"
    else:
        counted = min(max(ratio, 1.0), LARGEST_FRAGMENTATION)
        fragmented = round(peak * (counted - 1))
        how = (
            f"mem_fragmentation_ratio {ratio:.2f}, counted as {counted:.2f} "
            f"(1 to {LARGEST_FRAGMENTATION:g}): (it - 1) x peak"
        )
    copied = max(_field(info, "rdb_last_cow_size"), _field(info, "aof_last_cow_size"))
    reserve = round(min(max(peak * COPY_ON_WRITE, copied), peak))
    return [
        SizingStep(name="fragmentation", bytes=fragmented, how=how),
        SizingStep(
            name="copy-on-write reserve",
            bytes=reserve,
            how=f"{COPY_ON_WRITE:.0%} of peak, or the last save's {worded(copied)} if more",
        ),
    ]


def _sum(steps: list[SizingStep]) -> int:
    return sum(step.bytes for step in steps)


def _field(info: dict[str, str], name: str) -> int:
    value = info.get(name, "")
    return int(value) if value.isdecimal() else 0
