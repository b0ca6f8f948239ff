"""Facts computed anew from readings, by other code than the agent's. Pure."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.incident import Fact


@dataclass(frozen=True)
class Checked:
    """One fact of a claim, recomputed from the recording."""

    name: str
    exists: bool
    """Its evidence and its paths are there."""
    recomputes: bool
    """Looking again gives the same value."""


def recomputed(fact: Fact, readings: Mapping[str, dict[str, Any]]) -> Checked:
    """The fact computed anew from readings by evidence id."""
    leaves = []
    for path in fact.of:
        name, separator, rest = path.partition(":")
        other = bool(separator) and name in readings
        found = leaf(readings.get(name if other else fact.evidence), rest if other else path)
        if found is None:
            return Checked(fact.name, exists=False, recomputes=False)
        leaves.append(found)
    return Checked(
        fact.name, exists=True, recomputes=_same(calculated(fact.op, leaves), fact.value)
    )


def leaf(reading: object, path: str) -> Any:
    """What a dotted path points at: a single value, or None."""
    at: Any = reading
    for step in path.split("."):
        if isinstance(at, dict):
            at = at.get(step)
        elif isinstance(at, list) and step.isdigit() and int(step) < len(at):
            at = at[int(step)]
        else:
            return None
    return None if isinstance(at, dict | list) else at


def calculated(op: str, leaves: list[Any]) -> Any:
    """The operation of a fact over its leaves; None where it cannot be done."""
    if op == "value":
        return leaves[0]
    try:
        numbers = [float(one) for one in leaves]
        return _OPERATIONS[op](numbers)
    except (TypeError, ValueError, ZeroDivisionError, IndexError):
        return None


_OPERATIONS: dict[str, Callable[[list[float]], float]] = {
    "ratio": lambda n: n[0] / n[1],
    "difference": lambda n: n[0] - n[1],
    "sum": sum,
    "rate": lambda n: (n[0] - n[1]) / n[2],
}


def _same(left: Any, right: Any) -> bool:
    try:
        return math.isclose(float(left), float(right), rel_tol=1e-6, abs_tol=1e-9)
    except (TypeError, ValueError):
        return str(left) == str(right)
