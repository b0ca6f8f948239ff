"""From looks at a server to points of its metrics, for a judgement and for a chart. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from agent.watched_metrics import METRICS, REFUSALS
from tools.pulse import Pulse

LEAST_LOOKUPS = 20.0
"""A second: a share of fewer says nothing."""


@dataclass(frozen=True)
class Point:
    """Between two looks: what was counted, as a rate; everything else as the second found it."""

    at: float
    seconds: float
    values: dict[str, float | None]


Known = list[tuple[float, float, float]]
"""Each: when, over how many seconds, the value."""


def known(name: str, of: Sequence[Point]) -> Known:
    """The values of one metric that were measured."""
    return [
        (point.at, point.seconds, value)
        for point in of
        if (value := point.values.get(name)) is not None
    ]


def cost_of_calls(pulses: Sequence[Pulse]) -> dict[str, float]:
    """Each command's share of the calls, over all these looks."""
    if len(pulses) < 2:
        return {}
    calls = {name: _rise(pulses[0], pulses[-1], name)[0] for name in pulses[-1].commands}
    total = sum(count for count in calls.values() if count > 0)
    return {name: count / total for name, count in calls.items() if count > 0}


def points(pulses: Sequence[Pulse], usual: Mapping[str, float]) -> list[Point]:
    """What happened from look to look. Counters that were reset say nothing."""
    return [
        Point(second.at, second.at - first.at, _values(first, second, usual))
        for first, second in pairwise(pulses)
        if second.at > first.at
    ]


def _values(first: Pulse, second: Pulse, usual: Mapping[str, float]) -> dict[str, float | None]:
    seconds = second.at - first.at
    rises = _rises(first, second)
    values: dict[str, float | None] = {
        name: None if rise is None else rise / seconds
        for name, rise in rises.items()
        if name not in ("hits", "misses")
    }
    refused = [values.get(name) for name in REFUSALS]
    known = [rate for rate in refused if rate is not None]
    values["refused_writes"] = sum(known) if values.get("errors") is not None else None
    values["miss_share"] = _miss_share(rises, seconds)
    calls = [_rise(first, second, name) for name in second.commands]
    values["commands"] = sum(count for count, _ in calls if count > 0) / seconds
    values["microseconds_per_call"] = _weighted(first, second, usual)
    return second.gauges | values


def _rises(first: Pulse, second: Pulse) -> dict[str, float | None]:
    rises: dict[str, float | None] = {}
    for name, last in second.counters.items():
        # A kind of error is listed from its first time on.
        earlier = first.counters.get(name, 0.0 if name.startswith("errors.") else None)
        rises[name] = None if last is None or earlier is None else last - earlier
    reset = any(rise is not None and rise < 0 for rise in rises.values())
    return dict.fromkeys(rises) if reset else rises


def _miss_share(rises: Mapping[str, float | None], seconds: float) -> float | None:
    hits, misses = rises.get("hits"), rises.get("misses")
    if hits is None or misses is None or (hits + misses) / seconds < LEAST_LOOKUPS:
        return None
    return misses / (hits + misses)


def _rise(first: Pulse, second: Pulse, command: str) -> tuple[int, int]:
    calls, spent = second.commands[command]
    # One that was not among the longest before: its earlier calls are not known.
    earlier = first.commands.get(command, [calls, spent])
    return calls - earlier[0], spent - earlier[1]


def _weighted(first: Pulse, second: Pulse, usual: Mapping[str, float]) -> float | None:
    """Microseconds per call if the mix of commands were the usual one."""
    weights = spent = 0.0
    for name, share in usual.items():
        calls, micros = _rise(first, second, name) if name in second.commands else (0, 0)
        if calls > 0:
            weights += share
            spent += share * micros / calls
    return spent / weights if weights >= 0.5 else None


def typical(of: Sequence[Point]) -> dict[str, float | None]:
    """Each metric over these points: counted things as their rate, others as the median."""
    found: dict[str, float | None] = {}
    for name in sorted({name for point in of for name in point.values}):
        seen = known(name, of)
        metric = METRICS.get(name)
        if not seen:
            found[name] = None
        elif metric is None or metric.unit == "per_second":
            spans = sum(span for _, span, _ in seen)
            found[name] = round(sum(span * rate for _, span, rate in seen) / spans, 4)
        else:
            found[name] = round(statistics.median(value for _, _, value in seen), 4)
    return found


def series(before: Sequence[Pulse], after: Sequence[Pulse], most: int = 60) -> dict[str, list[Any]]:
    """`{columns, rows}` for a chart: every metric of METRICS that was ever measured."""
    usual = cost_of_calls(before)
    of = points([*before, *after], usual)
    names = [name for name in METRICS if any(p.values.get(name) is not None for p in of)]
    kept = of if len(of) <= most else [of[i * (len(of) - 1) // (most - 1)] for i in range(most)]
    zero = before[-1].at if before else 0.0
    rows = [
        [round(point.at - zero, 2), *(_rounded(point.values.get(name)) for name in names)]
        for point in kept
    ]
    return {"columns": ["seconds", *names], "rows": rows}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
