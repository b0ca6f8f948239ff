"""What an applied action changed, as it was measured: numbers to show and curves to draw. Pure.

Everything is read from `Action.outcome`; what is missing there is not drawn, and never made up.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeGuard

from agent.incident import Action
from agent.watched_metrics import METRICS, Metric, metric_of, shown

MOST_CURVES = 6
MOST_ROWS = 24
MOST_POINTS = 60
BLOCKS = "▁▂▃▄▅▆▇█"
_GAP = "·"
_CALM = 0.25
"""Of the largest value: a range that is smaller does not fill the height."""
WIDTH, HEIGHT = 300.0, 72.0
"""Of a curve, in its own units; the page scales it."""
_PAD = 4.0


@dataclass(frozen=True)
class Curve:
    """One metric over time; seconds count from the last look before the first write."""

    seconds: tuple[float, ...]
    values: tuple[float | None, ...]
    low: str
    high: str

    @property
    def sparkline(self) -> str:
        """The curve in one line of text; `|` is the moment of the write, `·` was not measured."""
        marks, written = "", False
        for second, value in zip(self.seconds, self.values, strict=True):
            if second > 0 and not written and marks:
                marks, written = marks + "|", True
            marks += _GAP if value is None else BLOCKS[round(self._share(value) * 7)]
        return marks

    @property
    def paths(self) -> list[str]:
        """SVG points of each stretch that was measured without a gap."""
        stretches: list[list[str]] = [[]]
        for second, value in zip(self.seconds, self.values, strict=True):
            if value is None:
                stretches.append([])
            else:
                stretches[-1].append(f"{self._x(second):.1f},{self._y(value):.1f}")
        # A single look is a point: a line of no length would not be drawn.
        return [" ".join(one if len(one) > 1 else one * 2) for one in stretches if one]

    @property
    def write_at(self) -> float | None:
        """Where the write is, from the left; None: all looks are from one side of it."""
        return self._x(0.0) if self.seconds[0] <= 0 < self.seconds[-1] else None

    def _x(self, second: float) -> float:
        first, last = self.seconds[0], self.seconds[-1]
        return _PAD + (second - first) / ((last - first) or 1) * (WIDTH - 2 * _PAD)

    def _y(self, value: float) -> float:
        return HEIGHT - _PAD - self._share(value) * (HEIGHT - 2 * _PAD)

    def _share(self, value: float) -> float:
        """How far up it is drawn: a little noise must not look like a change."""
        known = [one for one in self.values if one is not None]
        low, high = min(known), max(known)
        span = max(high - low, _CALM * max(abs(low), abs(high)))
        return 0.5 + (value - (low + high) / 2) / span if span else 0.5


@dataclass(frozen=True)
class Measured:
    """One metric before and after; `after` None: not measured."""

    name: str
    title: str
    before: str
    after: str
    verdict: str
    """`worse`: a regression, with its reason; empty: no judgement."""
    because: str
    curve: Curve | None


@dataclass(frozen=True)
class Effect:
    """What one action changed."""

    action: Action
    held_seconds: float | None
    measured: Sequence[Measured]
    more: int
    """Metrics that stayed as they were, and are left out."""
    cleared: Sequence[str]
    still: Sequence[str]
    not_measured: Sequence[str]


def effects(actions: Sequence[Action]) -> list[Effect]:
    """Of the actions that were watched, in their order."""
    return [found for action in actions if (found := _effect(action)) is not None]


def _effect(action: Action) -> Effect | None:
    outcome = action.outcome
    before, after = _mapping(outcome.get("baseline")), _mapping(outcome.get("after"))
    signals = _mapping(outcome.get("signals"))
    if not before and not signals:
        return None
    worse = {
        str(one.get("metric")): str(one.get("because", ""))
        for one in _list(outcome.get("regressions"))
        if isinstance(one, Mapping)
    }
    curves = dict(_curves(_mapping(outcome.get("series"))))
    changed = [name for name in before if name in worse or _differs(before, after, name)]
    changed.sort(key=lambda name: (name not in worse, -_change(before, after, name)))
    drawn = [name for name in changed if name in curves][:MOST_CURVES]
    rows = [
        _measured(name, before, after, worse, curves.get(name) if name in drawn else None)
        for name in changed[:MOST_ROWS]
    ]
    held = outcome.get("held_seconds")
    return Effect(
        action=action,
        held_seconds=float(held) if isinstance(held, int | float) else None,
        measured=rows,
        more=len(before) - len(rows),
        **{name: _signals(signals.get(name)) for name in ("cleared", "still", "not_measured")},
    )


def _measured(
    name: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    worse: Mapping[str, str],
    curve: Curve | None,
) -> Measured:
    metric = _metric(name)
    return Measured(
        name=name,
        title=_title(name, metric),
        before=_shown(before.get(name), metric),
        after=_shown(after.get(name), metric),
        verdict="worse" if name in worse else "",
        because=worse.get(name, ""),
        curve=curve,
    )


def _title(name: str, metric: Metric | None) -> str:
    kind = name.partition(".")[2]
    if kind and metric is METRICS["errors.*"]:
        return f"error replies {kind}"
    return metric.title if metric else name


def _shown(value: Any, metric: Metric | None) -> str:
    if not _is_number(value):
        return "not measured"
    return shown(value, metric) if metric else f"{value:,.6g}"


def _metric(name: str) -> Metric | None:
    """Also of the errors that are judged together, as refused writes: they are shown apart."""
    return METRICS["errors.*"] if name.startswith("errors.") else metric_of(name)


def _signals(entries: Any) -> list[str]:
    """Each once: the same figure may have crossed two thresholds."""
    found = [_signal(one) for one in _list(entries) if isinstance(one, Mapping)]
    return list(dict.fromkeys(found))


def _signal(one: Mapping[str, Any]) -> str:
    name, because = str(one.get("name", "")), str(one.get("because", ""))
    if not because:
        return name
    # A threshold's reason begins with its figure.
    return because if because.startswith(name.rpartition(" ")[2]) else f"{name}: {because}"


def _differs(before: Mapping[str, Any], after: Mapping[str, Any], name: str) -> bool:
    metric = _metric(name)
    return _shown(before.get(name), metric) != _shown(after.get(name), metric)


def _change(before: Mapping[str, Any], after: Mapping[str, Any], name: str) -> float:
    """How far apart both are, as a share of the larger; not measured: last."""
    was, now = before.get(name), after.get(name)
    if not (_is_number(was) and _is_number(now)):
        return -1.0
    return float(abs(now - was) / (max(abs(was), abs(now)) or 1))


def _curves(series: Mapping[str, Any]) -> Iterator[tuple[str, Curve]]:
    columns = _list(series.get("columns"))
    rows = [row for row in _list(series.get("rows")) if isinstance(row, list)][-MOST_POINTS:]
    rows = [row for row in rows if len(row) == len(columns) > 0 and _is_number(row[0])]
    seconds = tuple(float(row[0]) for row in rows)
    if len(rows) < 2 or columns[0] != "seconds" or any(b < a for a, b in pairwise(seconds)):
        return
    for number, name in enumerate(columns):
        values = tuple(float(row[number]) if _is_number(row[number]) else None for row in rows)
        known = [value for value in values if value is not None]
        if number and len(known) > 1:
            metric = _metric(str(name))
            low, high = _shown(min(known), metric), _shown(max(known), metric)
            yield str(name), Curve(seconds, values, low, high)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
