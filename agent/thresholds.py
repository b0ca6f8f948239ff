"""Whether the alerts that runbooks ask for would fire on this evidence, with numbers. Pure."""

from collections.abc import Sequence
from typing import Literal

from agent.facts import Scalar, dimension
from agent.figures import Unmeasured, look_up, printed
from agent.incident import Severity, Words
from agent.runbook import AlertThreshold, Runbook
from tools.reading import Evidence

RELEASE = 0.05
"""How far beyond a bound, as a share of it, is clearly back: as little as a metric that is watched
around a write has to move to count (`pressure` in `agent/watched_metrics.py`)."""


class Crossing(Words):
    """One threshold, held against the evidence."""

    runbook: str
    when: str
    severity: Severity
    state: Literal["fired", "quiet", "not_measured"]
    because: str
    """E.g. `memory_info.pressure is 92.0 %, above 85.0 %`. One look says nothing about `for`."""
    evidence: list[str]


def crossings(runbooks: Sequence[Runbook], evidence: Sequence[Evidence]) -> list[Crossing]:
    """Every threshold of the runbooks, each once, as declared."""
    return [crossing(books[0].id, t, evidence) for t, books in declared(runbooks).values()]


def declared(runbooks: Sequence[Runbook]) -> dict[str, tuple[AlertThreshold, list[Runbook]]]:
    """Every threshold of the runbooks, each once, and which of them ask for it.

    By a key that says all but for how long it has to be crossed: the first one's word counts.
    """
    found: dict[str, tuple[AlertThreshold, list[Runbook]]] = {}
    for book in runbooks:
        for threshold in book.front.alerts:
            key = threshold.model_dump_json(exclude={"for_"})
            found.setdefault(key, (threshold, []))[1].append(book)
    return found


def crossing(runbook: str, threshold: AlertThreshold, evidence: Sequence[Evidence]) -> Crossing:
    """One threshold of one runbook, held against the evidence."""

    def judged(
        state: Literal["fired", "quiet", "not_measured"], because: str, ids: tuple[str, ...]
    ) -> Crossing:
        return Crossing(
            runbook=runbook,
            when=threshold.when,
            severity=threshold.severity,
            state=state,
            because=because,
            evidence=list(ids),
        )

    try:
        figure = look_up(evidence, threshold.when)
    except Unmeasured as missing:
        return judged("not_measured", str(missing), missing.evidence)
    unit = dimension(threshold.when)
    value, bounds = figure.value, _bounds(threshold, unit)
    fired = _beyond(threshold, value)
    verdict = bounds if fired else f"not {bounds}"
    because = f"{threshold.when} is {printed(value, unit)}, {verdict}"
    return judged("fired" if fired else "quiet", because, figure.evidence)


def is_back(threshold: AlertThreshold, evidence: Sequence[Evidence]) -> bool:
    """Is what had crossed it clearly back? Not while it is near, and not if it is not measured."""
    try:
        value = look_up(evidence, threshold.when).value
    except Unmeasured:
        return False
    if threshold.equals is not None:
        return not _beyond(threshold, value)
    if not isinstance(value, int | float):
        return False
    above, below = threshold.above, threshold.below
    clear_of_above = above is None or value <= above - RELEASE * abs(above)
    return clear_of_above and (below is None or value >= below + RELEASE * abs(below))


def spoken(threshold: AlertThreshold) -> str:
    """`memory_info.pressure above 85.0 %`."""
    return f"{threshold.when} {_bounds(threshold, dimension(threshold.when))}"


def _beyond(threshold: AlertThreshold, value: Scalar) -> bool:
    if threshold.equals is not None:
        return str(value) == threshold.equals
    if not isinstance(value, int | float):
        return False
    above = threshold.above is not None and value > threshold.above
    return above or (threshold.below is not None and value < threshold.below)


def _bounds(threshold: AlertThreshold, unit: str) -> str:
    parts = []
    if threshold.equals is not None:
        parts.append(f"equal to {threshold.equals}")
    if threshold.above is not None:
        parts.append(f"above {printed(threshold.above, unit)}")
    if threshold.below is not None:
        parts.append(f"below {printed(threshold.below, unit)}")
    return " or ".join(parts)
