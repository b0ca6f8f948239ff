"""When a series stepped from one level to another. Pure.

At each point a line is fitted to what was just before and another to what came just after; the step
is where they miss each other: the difference of one-sided local linear fits (Müller, 1992, Annals
of Statistics 20; Loader, 1996, Annals of Statistics 24), with the lines of Theil and Sen, so that
single spikes move nothing. A slope or a daily cycle continues from one line into the other, and is
no step. A step counts if it is far beyond the noise around it, far beyond what this series does at
other times (so noise that wanders does not pass for steps), and large in itself.

What only begins to grow has no step: that is `tools/growth.py`'s to say.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tools.growth import BREAK

WINDOW = 12
"""Samples on each side."""
LEAST_BEFORE = 6
LEAST_AFTER = 3
"""So many show what has just begun; a line takes LEAST_BEFORE."""
LONGEST_SPAN = 4 * WINDOW
"""Steps on one side: over a longer gap in the samples nothing is compared."""
BEYOND_NOISE = 6.0
"""Standard errors of the difference; measured in tests/tools/test_change_points.py."""
BEYOND_USUAL = 6.0
"""Times what is usual in this series."""
AROUND = 4
"""Samples: the lines miss each other nearly as far just beside the step."""
MOST = 5
"""Changes of one series, the clearest ones."""
NORMAL = 1.4826
"""Of a normal distribution: standard deviation over median absolute deviation."""

Point = tuple[int, float]
"""A sample by its place on the grid."""


@dataclass(frozen=True)
class Change:
    """A step: the first place with the new level, and the levels on both sides of it."""

    place: int
    before: float
    after: float


@dataclass(frozen=True)
class _Miss:
    """How far the two lines miss each other at a point."""

    score: float
    """In standard errors of what one sample's noise of 1 would make."""
    noise: float
    """Standard deviation of one sample; infinite where the two sides overlap."""
    change: Change


@dataclass(frozen=True)
class _Side:
    level: float
    """Of its line, at the step."""
    residuals: list[float]
    variance: float
    """Of `level`, in variances of a sample."""


def changes(values: Sequence[float | None], least: float) -> list[Change]:
    """Steps of at least `least` and a third of the level, oldest first.

    `values`: at equal intervals; None where nothing was sampled.
    """
    points = [(place, value) for place, value in enumerate(values) if value is not None]
    if len(points) < LEAST_BEFORE + LEAST_AFTER or not _may_step(points, least):
        return []
    found = {at: one for at in range(LEAST_BEFORE, len(points)) if (one := _step(points, at))}
    usual = NORMAL * statistics.median([abs(one.score) for one in found.values()] or [0.0])
    kept: list[Change] = []
    for at, one in sorted(found.items(), key=lambda item: -abs(item[1].score)):
        clear = abs(one.score) > max(BEYOND_NOISE * one.noise, BEYOND_USUAL * usual)
        if not clear or not _is_large(one.change, least):
            continue
        change = found.get(_exactly(points, at, one.change), one).change
        if all(abs(change.place - other.place) >= WINDOW for other in kept):
            kept.append(change)
    return sorted(kept[:MOST], key=lambda change: change.place)


def _exactly(points: Sequence[Point], at: int, change: Change) -> int:
    """Where, around a clear step, one sample differs most from the one before."""
    sign = math.copysign(1, change.after - change.before)
    near = range(max(1, at - AROUND), min(len(points), at + AROUND + 1))
    return max(near, key=lambda n: sign * (points[n][1] - points[n - 1][1]))


def _may_step(points: Sequence[Point], least: float) -> bool:
    """Most series never leave their level: no need to look closer."""
    levels = [value for _, value in points]
    return _is_large(Change(0, min(levels), max(levels)), least)


def _is_large(change: Change, least: float) -> bool:
    low, high = sorted((abs(change.before), abs(change.after)))
    return high - low >= least and high >= BREAK * low


def _step(points: Sequence[Point], at: int) -> _Miss | None:
    """At one point; None where too little is around it."""
    place = points[at][0]
    before = [p for p in points[max(0, at - WINDOW) : at] if place - p[0] <= LONGEST_SPAN]
    after = [p for p in points[at : at + WINDOW] if p[0] - place < LONGEST_SPAN]
    if len(before) < LEAST_BEFORE or len(after) < LEAST_AFTER:
        return None
    left, right = _side(before, place), _side(after, place)
    # Of the noisier side: where noise only begins or ends, the quiet one must not hide it.
    noise = NORMAL * max(statistics.median(map(abs, s.residuals)) for s in (left, right))
    if _overlap(before, after, upwards=right.level > left.level):
        noise = math.inf
    score = (right.level - left.level) / math.sqrt(left.variance + right.variance)
    return _Miss(score, noise, Change(place, left.level, right.level))


def _overlap(before: Sequence[Point], after: Sequence[Point], *, upwards: bool) -> bool:
    """Most of one side is not on the other side of most of the other: a few spikes make no step."""
    low, high = (before, after) if upwards else (after, before)
    below, above = (sorted(value for _, value in side) for side in (low, high))
    return above[len(above) // 4] <= below[len(below) - 1 - len(below) // 4]


def _side(points: Sequence[Point], place: int) -> _Side:
    if len(points) < LEAST_BEFORE:
        level = statistics.median(value for _, value in points)
        return _Side(level, [value - level for _, value in points], 1 / len(points))
    slope = statistics.median(
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for number, earlier in enumerate(points)
        for later in points[number + 1 :]
    )
    start = statistics.median(value - slope * (at - place) for at, value in points)
    mean = statistics.fmean(at for at, _ in points)
    spread = sum((at - mean) ** 2 for at, _ in points)
    return _Side(
        start,
        [value - start - slope * (at - place) for at, value in points],
        1 / len(points) + (place - mean) ** 2 / spread,
    )
