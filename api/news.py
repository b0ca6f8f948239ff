"""What becomes of an incident that people should hear of. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from api.notifications_config import Kind
from api.store.tables import ActionRow, IncidentRow

PAGE, URGENT, USUAL = 0, 1, 2
"""Ranks: what goes first."""
PATIENCE: dict[Kind, timedelta] = {
    "opened": timedelta(seconds=20),
    "diagnosis": timedelta(seconds=5),
    "verified": timedelta(seconds=5),
}
"""How long it waits for what belongs to it, so that a phone rings once and not three times: a look
at a server takes 5 s at least, and its plan and its end follow at once."""
LITTLE_PATIENCE = timedelta(seconds=2)
_LOOKED_AT = ("queued", "investigating")
_OVER = ("resolved", "closed", "failed")
_OF_ACTIONS: dict[str, Kind] = {
    "lapsed": "lapsed",
    "verified": "verified",
    "rolled_back": "rolled_back",
    "rollback_failed": "went_wrong",
    "outcome_unknown": "went_wrong",
    "failed": "went_wrong",
}


@dataclass(frozen=True)
class News:
    """One thing to tell; what it says is read when it is sent."""

    kind: Kind
    facts: dict[str, Any]


def of_incident(row: IncidentRow, before: str, after: str) -> Iterator[News]:
    """What its new status means. `before` is empty: it was opened just now.

    What is silenced is over from its beginning, and nobody is told before somebody looks at it.
    """
    facts = {"attempt": row.attempt, "because": row.ended_because}
    if (not before and after not in _OVER) or (after == "queued" and before in _OVER):
        yield News("opened", facts)
    comes_of_a_look = before in _LOOKED_AT and after not in _LOOKED_AT
    if comes_of_a_look and row.diagnosis:
        yield News("diagnosis", facts)
    if comes_of_a_look and after == "awaiting_approval":  # what waits on was told of already
        yield News("approval", facts)
    if after == "needs_human":
        yield News("needs_human", facts)
    elif after in _OVER and before:
        yield News("over", facts | {"status": after})


def of_worse(row: IncidentRow, before: str) -> Iterator[News]:
    """For those who are told of its new severity and were not of the one before: how it stands."""
    facts = {"attempt": row.attempt, "because": row.ended_because, "was": before}
    if row.status not in _OVER:
        yield News("opened", facts)
    if row.status == "awaiting_approval":
        yield News("approval", facts)
    if row.status == "needs_human":
        yield News("needs_human", facts)


def of_action(row: ActionRow, after: str) -> Iterator[News]:
    """What its new status means."""
    if kind := _OF_ACTIONS.get(after):
        facts = {"action": row.id, "attempt": row.attempt, "status": after}
        yield News(kind, facts | {"because": str(row.body.get("comment", ""))})


def rank_of(kind: Kind, *, in_production: bool) -> int:
    """What somebody has to decide, and what was undone in production, comes before the rest."""
    urgent = kind == "approval" or (in_production and kind in ("rolled_back", "went_wrong"))
    return URGENT if urgent else USUAL
