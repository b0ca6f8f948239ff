"""Did a change make anything worse? Pure: looks from before and after in, what got worse out.

Worse is beyond a ratio, and an absolute floor, and what the looks from before scatter by, and
where they were already heading. A false alarm undoes something that helped.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from agent.pulse_points import Known, Point, cost_of_calls, known, points
from agent.watched_metrics import REFUSALS, Metric, metric_of, shown
from tools.pulse import Pulse

SCATTER = 6.0
"""Median absolute deviations: about four standard deviations, so that none in 10,000 looks at a
quiet server is beyond it by chance."""
POISSON = 5.0
"""Standard deviations of the difference between two counts."""
SAME_PACE = 1.5
"""What was getting worse before may go on half as fast again: few trends are straight lines."""
AGREEING = 0.8
"""Of all pairs of looks before: so many must rise for a trend; of chance, half do."""
CLEARLY = 2.0
"""Beyond every threshold by this: worth an undo before the hold is over."""
CLEAR_LOOKS = 5
"""In a row. A fork or a slow command may take a second or two, and passes."""
FEWEST_POINTS = 2
FEWEST_LOOKS = 3
"""Of a gauge, for a verdict: the median of two is at the mercy of one."""
BASELINE_LASTS = 1_800.0
"""Seconds after which nobody can say that a difference came from the change."""


@dataclass(frozen=True)
class Regression:
    """One metric that got worse."""

    metric: str
    before: float
    after: float
    because: str

    def to_json(self) -> dict[str, Any]:
        """For the outcome."""
        return asdict(self)


def regressions(
    before: Sequence[Pulse],
    after: Sequence[Pulse],
    disturbs: frozenset[str] = frozenset(),
    *,
    clearly: bool = False,
) -> list[Regression]:
    """What got worse; `clearly`: only what need not be waited for.

    `after` is judged from its first look on: the last one from before, if the write itself counts.
    """
    if not before or not after or after[-1].at - before[-1].at > BASELINE_LASTS:
        return []
    usual = cost_of_calls(before)
    was, now = points(before, usual), points(after, usual)
    if len(was) < FEWEST_POINTS or len(now) < FEWEST_POINTS:
        return []
    names = sorted({name for point in now for name in point.values})
    judged = (
        _judge(name, was, now, clearly=clearly, ever=_ever(before[-1], name))
        for name in names
        if not _covers(disturbs, name)
    )
    return [found for found in judged if found is not None]


def _ever(last: Pulse, name: str) -> bool:
    """Had it happened before, since the server's start?"""
    counted = REFUSALS if name == "refused_writes" else (name,)
    return any(last.counters.get(one, 0.0) != 0.0 for one in counted)


def _covers(disturbs: frozenset[str], name: str) -> bool:
    return name in disturbs or name.partition(".")[0] in disturbs


# -- the judgement ----------------------------------------------------------------------------


def _judge(
    name: str, was: Sequence[Point], now: Sequence[Point], *, clearly: bool, ever: bool
) -> Regression | None:
    metric = metric_of(name)
    if metric is None or not metric.worse:
        return None
    before, after = known(name, was), known(name, now)
    if name.startswith("errors."):
        before = before or [(point.at, point.seconds, 0.0) for point in was]
    if len(before) < FEWEST_POINTS or len(after) < FEWEST_POINTS:
        return None
    factor = CLEARLY if clearly else 1.0
    if metric.unit == "per_second":
        found = _counted(metric, before, after, factor, ever=ever)
    else:
        found = _gauged(metric, before, after, factor)
    return None if found is None else _worded(name, metric, *found)


def _gauged(
    metric: Metric, before: Known, after: Known, factor: float
) -> tuple[float, float] | None:
    """The later half of the looks (clearly: each of the last few), against what was to come."""
    sign = 1.0 if metric.worse == "up" else -1.0
    values = [value for _, _, value in before]
    usual = statistics.median(values)
    scatter = statistics.median(abs(value - usual) for value in values)
    fewest = CLEAR_LOOKS if factor > 1 else max(FEWEST_LOOKS, (len(after) + 1) // 2)
    looks = after[-fewest:]
    if len(looks) < fewest:
        return None
    seen = [value for _, _, value in looks]
    found = statistics.median(seen) if factor == 1 else sign * min(sign * value for value in seen)
    ahead = looks[-1][0] - before[len(before) // 2][0]
    expected = usual + sign * SAME_PACE * _pace(before, sign) * ahead
    allowed = max(
        factor * metric.floor,
        abs(metric.ratio - 1) * abs(expected) * (factor if sign > 0 else 1),
        SCATTER * scatter,
    )
    worse = sign * (found - expected)
    return (usual, found) if worse >= allowed and worse > 0 else None


def _counted(
    metric: Metric, before: Known, after: Known, factor: float, *, ever: bool
) -> tuple[float, float] | None:
    """How many more there were than at the pace of before."""
    looks = after if factor == 1 else after[-CLEAR_LOOKS:]
    if factor > 1 and (len(looks) < CLEAR_LOOKS or metric.worse == "down"):
        return None
    watched, seconds = (sum(span for _, span, _ in part) for part in (before, looks))
    usual = sum(span * rate for _, span, rate in before) / watched
    count = sum(span * rate for _, span, rate in looks)
    if metric.worse == "down":
        gone = usual >= metric.floor and statistics.median(r for _, _, r in looks) <= (
            metric.ratio * usual
        )
        return (usual, count / seconds) if gone else None
    ahead = looks[-1][0] - before[len(before) // 2][0]
    rate = usual + SAME_PACE * _pace(before, 1.0) * ahead
    expected = rate * seconds
    more = count - expected
    enough = more >= factor * metric.floor and count >= factor * metric.ratio * expected
    # What has happened before may come again, unevenly: two counts of one pace differ by so much,
    # and the busiest moment of before is no regression. What never happened is new.
    pooled = (usual * watched + count) / (watched + seconds)
    scatter = math.sqrt(pooled * seconds * (1 + seconds / watched)) if ever else 0.0
    busiest = max(rate for _, _, rate in before)
    beyond = more > POISSON * scatter and count / seconds > busiest
    # Clearly: it goes on. What happened once is over, and an undo cannot hurry.
    lasts = factor == 1 or all(rate > 0 for _, _, rate in looks[-2:])
    return (usual, count / seconds) if enough and beyond and lasts else None


def _pace(before: Known, sign: float) -> float:
    """How fast it was already getting worse, per second; 0 where the looks do not agree on it."""
    slopes = [
        sign * (later[2] - earlier[2]) / (later[0] - earlier[0])
        for earlier, later in combinations(before, 2)
        if later[0] > earlier[0]
    ]
    if len(slopes) < 3 or sum(slope > 0 for slope in slopes) < AGREEING * len(slopes):
        return 0.0
    return max(0.0, statistics.median(slopes))


def _worded(name: str, metric: Metric, before: float, after: float) -> Regression:
    kind = f" ({name.partition('.')[2]})" if name.startswith("errors.") else ""
    because = f"{metric.title}{kind}: from {shown(before, metric)} to {shown(after, metric)}"
    return Regression(name, round(before, 4), round(after, 4), because)
