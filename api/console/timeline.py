"""What happened to an incident, event by event, in words. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.report_timeline import words_of


@dataclass(frozen=True)
class Moment:
    """One event."""

    number: int
    at: datetime
    kind: str
    text: str
    evidence: str
    """The look it tells of, if it does."""


def moments(events: Sequence[tuple[int, datetime, str, dict[str, Any]]]) -> list[Moment]:
    """Those that say something, in their order."""
    known: dict[str, str] = {}
    found = []
    for number, at, kind, data in events:
        evidence = str(data.get("id", "")) if kind == "evidence" else ""
        text = _words(kind, data, known)
        if text:
            found.append(Moment(number, at, kind, text, evidence))
    return found


def _words(kind: str, data: dict[str, Any], known: dict[str, str]) -> str:
    if kind == "evidence":
        return f"{data.get('tool', '')}: {data.get('summary', '')}"
    if kind == "claim":
        return f"found: {data.get('text', '')}"
    if kind == "plan":
        number = len(data.get("actions") or ())
        return f"plan of {number} action{'' if number == 1 else 's'}"
    return words_of(kind, data, known)
