"""What came of earlier plans on a target: what was not wanted or did not help; verdicts. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from agent.incident import Action, ActionStatus, Words

TOOL = "earlier_incidents"
"""The name under which they are evidence. Not a read of the server."""
NODE = "redis-oncall's own record"
MOST_NOTES = 3


class Precedent(Words):
    """An action that was not wanted or did not help."""

    incident: str
    kind: str
    arguments: dict[str, Any]
    title: str
    status: ActionStatus
    at: datetime
    by: str = ""
    """Who rejected it."""
    why: str = ""


class PastVerdict(Words):
    """What a person said an earlier incident really was."""

    incident: str
    at: datetime
    by: str
    diagnosed: str
    """What had been found, if anything was."""
    root_cause: str
    comment: str = ""


class CameBack(Words):
    """The incident that was over when its alert fired again."""

    incident: str
    ended: datetime
    status: str
    because: str
    root_cause: str
    """What had been found; empty: nothing."""


class Earlier(Words):
    """The newest first; bounded by whoever looks them up."""

    actions: list[Precedent] = Field(default_factory=list)
    verdicts: list[PastVerdict] = Field(default_factory=list)
    came_back: CameBack | None = None
    """What this incident follows."""

    def __bool__(self) -> bool:
        return bool(self.actions or self.verdicts or self.came_back)

    def summary(self) -> str:
        """One line."""
        parts = [f"{past.title}: {spoken(past)}" for past in self.actions[:MOST_NOTES]]
        parts += [
            f"{past.incident} was {past.root_cause}, said {past.by}"
            for past in self.verdicts[:MOST_NOTES]
        ]
        total = len(self.actions) + len(self.verdicts)
        more = f"; and {total - len(parts)} more" if total > len(parts) else ""
        if (back := self.came_back) is not None:
            was = f"was {back.root_cause}, and " if back.root_cause else ""
            ended = f"{back.status} at {back.ended:%Y-%m-%d %H:%M} UTC: {back.because}"
            parts.insert(0, f"its alert fired before: {back.incident} {was}ended {ended}")
        return "; ".join(parts) + more


def repeated_by(action: Action, earlier: Sequence[Precedent]) -> list[Precedent]:
    """Those that were the same change: numbers aside, which are measured anew each time."""
    wanted = _what(action.kind, action.arguments)
    return [past for past in earlier if _what(past.kind, past.arguments) == wanted]


def notes_on(action: Action, earlier: Earlier) -> list[str]:
    """For whoever decides."""
    return [f"the same was {spoken(past)}" for past in repeated_by(action, earlier.actions)][
        :MOST_NOTES
    ]


def spoken(past: Precedent) -> str:
    """`rejected by ann on 2026-11-27: the app owner raises it instead (inc-…)`."""
    by = f" by {past.by}" if past.by else ""
    why = f": {past.why}" if past.why else ""
    how = past.status.replace("_", " ")
    return f"{how}{by} on {past.at:%Y-%m-%d %H:%M} UTC{why} ({past.incident})"


def _what(kind: str, arguments: dict[str, Any]) -> tuple[str, tuple[tuple[str, str], ...]]:
    said = {name: str(value) for name, value in arguments.items() if not _is_number(value)}
    return kind, tuple(sorted(said.items()))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and value.isdecimal())
