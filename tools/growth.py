"""How a server's memory grows: a slope over whole days, with its uncertainty. Pure.

Memory breathes with the day and the week, and no part of a breath is growth. So only hours that lie
whole days apart are compared, from two weeks on only whole weeks: the seasonal slope of Hirsch and
Slack (1982). Every pair of days gives one slope, the median over its hours; the estimate is their
median, as by Theil and Sen, so that single steps and outliers do not move it. Its interval is Sen's
(1968), by ranks, with days as what is counted: the minutes of a day are not independent.

Nothing is compared across a break, an hour in which memory changed by a third or more: after a
flush, a restart without data or a deploy it is another story. Breaks on every other day are none,
but how the server lives.
"""

import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from tools.reading import NotMeasured, Reading

HOUR, DAY = 3_600, 86_400
CONFIDENCE, Z = 0.90, 1.645
"""Of the interval, and its two-sided quantile of the normal distribution."""
LEAST_DAYS = 5
"""Fewer give no interval at that confidence."""
WEEKS_FROM_DAYS = 14
LEAST_HOURS = 6
"""Two days with fewer hours in common are not compared."""
BREAK, LEAST_BREAK = 1.3, 1 << 20
"""Times, and bytes, from one hour to the next."""
BREAK_HOURS = 6
"""A rise over a longer gap in the samples may have been growth."""
STALE_SECONDS = DAY
LONGEST_DAYS = 10 * 365
"""A limit that is further away than this is not going to be met."""
MOST_SAMPLES = 50_000


class MemorySample(Reading):
    """used_memory in bytes at one time."""

    at: datetime
    used_bytes: int = Field(ge=0)


class History(Reading):
    """What a server's memory was, oldest first, as somebody kept it; or why nobody did."""

    source: str = "nobody"
    """Who kept it: `watch` or `Prometheus`."""
    samples: list[MemorySample] = Field(default_factory=list, max_length=MOST_SAMPLES)
    because: str = "no samples are kept for this target"
    """Why there are none, or not more."""


class Trend(Reading):
    """Growth of used_memory in bytes a day, with its 90 % interval."""

    source: str
    samples: int
    days: float
    """Covered, from the first sample to the last."""
    bytes_per_day: float
    low_bytes_per_day: float
    high_bytes_per_day: float
    breaks: int
    """Hours across which nothing is compared: flushes, restarts, deploys."""
    season: Literal["day", "week"]
    """The longest cycle that cannot pass for growth."""
    level_bytes: float
    """The highest hour of the last day: what the limit has to hold now."""

    @property
    def grows(self) -> bool:
        """The whole interval is above zero."""
        return self.low_bytes_per_day > 0


Hours = dict[int, float]
"""Median of used_memory by hours before the last sample (0: the last hour)."""


def fit(history: History, now: datetime) -> Trend | NotMeasured:
    """The trend of a server's memory, or why it is unknown."""
    if not history.samples:
        return _unknown(history.because)
    times = [sample.at.astimezone(UTC).timestamp() for sample in history.samples]
    first, last = min(times), max(times)
    if now.timestamp() - last > STALE_SECONDS:
        return _unknown(f"the newest sample is of {datetime.fromtimestamp(last, UTC):%Y-%m-%d}")
    hours = _hours(history.samples, last)
    days = len({hour // 24 for hour in hours})
    if days < LEAST_DAYS:
        return _unknown(
            f"samples of {(last - first) / DAY:.1f} days from {history.source}: {LEAST_DAYS} are "
            "needed to tell growth from a daily cycle"
        )
    breaks = _breaks(hours, days)
    seasons: list[tuple[Literal["day", "week"], int]] = [("day", 1)]
    if days >= WEEKS_FROM_DAYS:
        seasons.insert(0, ("week", 7))
    for season, cycle in seasons:
        if (found := _sen(hours, breaks, cycle)) is not None:
            slope, low, high = found
            return Trend(
                source=history.source,
                samples=len(history.samples),
                days=(last - first) / DAY,
                bytes_per_day=slope,
                low_bytes_per_day=low,
                high_bytes_per_day=high,
                breaks=len(breaks),
                season=season,
                level_bytes=max(level for hour, level in hours.items() if hour < 24),
            )
    return _unknown(
        f"{len(breaks)} flushes, restarts or steps and the gaps in {days} days of samples leave "
        f"too few days to compare"
    )


def hourly(history: History) -> History:
    """One sample for each hour before the last, its median: `fit` says the same, in less room."""
    hours: dict[int, list[MemorySample]] = defaultdict(list)
    last = max((sample.at for sample in history.samples), default=None)
    if last is None:
        return history
    for sample in history.samples:
        hours[int((last - sample.at).total_seconds() // HOUR)].append(sample)
    kept = []
    for hour in sorted(hours, reverse=True):
        within = sorted(hours[hour], key=lambda sample: sample.at)
        level = round(statistics.median(sample.used_bytes for sample in within))
        kept.append(MemorySample(at=within[-1].at, used_bytes=level))
    return History.model_construct(source=history.source, samples=kept, because=history.because)


def seconds_until(limit: float, level: float, per_day: float) -> float | None:
    """Until a level that grows meets a limit; None if it never will, or in ten years."""
    left = max(limit - level, 0.0)
    if per_day <= 0 or left / per_day > LONGEST_DAYS:
        return None
    return left / per_day * DAY


def _unknown(because: str) -> NotMeasured:
    return NotMeasured(not_measured="trend of used_memory", because=because)


def _hours(samples: Iterable[MemorySample], last: float) -> Hours:
    within: dict[int, list[int]] = defaultdict(list)
    for sample in samples:
        within[int((last - sample.at.astimezone(UTC).timestamp()) // HOUR)].append(
            sample.used_bytes
        )
    return {hour: statistics.median(levels) for hour, levels in within.items()}


def _breaks(hours: Hours, days: int) -> list[int]:
    """Hours (before the last) that begin a new story."""
    known = sorted(hours, reverse=True)  # oldest first
    found = []
    for earlier, later in itertools.pairwise(known):
        before, after = hours[earlier], hours[later]
        large = abs(after - before) >= LEAST_BREAK
        fell = before >= BREAK * after
        rose = after >= BREAK * before and earlier - later <= BREAK_HOURS
        if large and (fell or rose):
            found.append(later)
    often = len({hour // 24 for hour in found}) * 2 >= days
    return [] if often else found


def _sen(hours: Hours, breaks: list[int], cycle: int) -> tuple[float, float, float] | None:
    """Median slope and its interval in bytes a day; None if the days are too few for one."""
    story = {hour: sum(hour > later for later in breaks) for hour in hours}
    days = sorted({hour // 24 for hour in hours})
    slopes: list[float] = []
    compared: dict[tuple[int, int], set[int]] = defaultdict(set)
    for place, newer in enumerate(days):
        for older in days[place + 1 :]:
            if (older - newer) % cycle:
                continue
            for number, rises in _rises(hours, story, newer, older).items():
                if len(rises) >= LEAST_HOURS:
                    slopes.append(statistics.median(rises) / (older - newer))
                    compared[number, newer % cycle] |= {newer, older}
    variance = sum(n * (n - 1) * (2 * n + 5) / 18 for n in map(len, compared.values()))
    spread = Z * math.sqrt(variance)
    if len(slopes) - spread < 2:
        return None
    slopes.sort()
    low = slopes[math.floor((len(slopes) - spread) / 2) - 1]
    high = slopes[min(math.ceil((len(slopes) + spread) / 2) + 1, len(slopes)) - 1]
    return statistics.median(slopes), low, high


def _rises(hours: Hours, story: dict[int, int], newer: int, older: int) -> dict[int, list[float]]:
    """From the older day to the newer, hour by hour, by the story that both hours belong to."""
    rises: dict[int, list[float]] = defaultdict(list)
    for slot in range(24):
        late, early = newer * 24 + slot, older * 24 + slot
        if late in hours and early in hours and story[late] == story[early]:
            rises[story[late]].append(hours[late] - hours[early])
    return rises
