"""Whether the alerts that runbooks ask for would fire on this evidence, with numbers. Pure."""

from collections.abc import Sequence
from typing import Literal

from agent.facts import Scalar, dimension
from agent.figures import Unmeasured, look_up, printed
from agent.incident import Severity, Words
from agent.runbook import AlertThreshold, Runbook
from tools.reading import Evidence


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
    found: dict[str, Crossing] = {}
    for book in runbooks:
        for threshold in book.front.alerts:
            key = threshold.model_dump_json(exclude={"for_"})
            if key not in found:
                found[key] = _crossing(book.id, threshold, evidence)
    return list(found.values())


def _crossing(runbook: str, threshold: AlertThreshold, evidence: Sequence[Evidence]) -> Crossing:
    def crossing(
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
        return crossing("not_measured", str(missing), missing.evidence)
    unit = dimension(threshold.when)
    value, bounds = figure.value, _bounds(threshold, unit)
    fired = _beyond(threshold, value)
    verdict = bounds if fired else f"not {bounds}"
    because = f"{threshold.when} is {printed(value, unit)}, {verdict}"
    return crossing("fired" if fired else "quiet", because, figure.evidence)


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
