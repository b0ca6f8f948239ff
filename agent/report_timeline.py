"""What happened when: of the incident, and of its events where they are at hand."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from agent.incident import Incident

Happened = Sequence[tuple[datetime, str, dict[str, Any]]]
"""Events as they were published: time, kind, data; oldest first."""
_STATUSES = {
    "proposed": "proposed", "approved": "approved: may be applied", "applying": "being applied",
    "rolling_back": "being undone", "rolled_back": "undone", "rollback_failed": "UNDO FAILED",
    "outcome_unknown": "OUTCOME UNKNOWN",
}  # fmt: skip


def moments(
    incident: Incident, shown: Callable[[str], str], events: Happened = ()
) -> Iterator[tuple[datetime, str]]:
    """Every moment, unsorted. `shown`: how untrusted text is made harmless."""
    yield incident.opened_at, "incident opened"
    for alert in incident.alerts:
        about = f" on {shown(alert.target)}" if alert.target not in ("", incident.target) else ""
        told = f"alert {shown(alert.name)}{about} from {shown(alert.source)} began"
        yield alert.starts_at, told + (f", {alert.flaps + 1} times in an hour" * bool(alert.flaps))
        if alert.ends_at is not None:
            yield alert.ends_at, f"alert {shown(alert.name)} ended"
    taken = sorted(piece.taken_at for piece in incident.evidence)
    if taken:
        yield taken[0], "first look at the target"
        if len(taken) > 1:
            yield taken[-1], f"last of {len(taken)} looks"
    for action in incident.plan.actions:
        for approval in action.approvals:
            glass = ", breaking the glass" if approval.break_glass else ""
            yield approval.at, f"{shown(action.id)} approved by {shown(approval.by)}{glass}"
    yield from _events(incident, shown, events)
    if not events:
        because = f": {shown(incident.ended_because)}" if incident.ended_because else ""
        yield incident.updated_at, f"{incident.status}{because}"


def _events(
    incident: Incident, shown: Callable[[str], str], events: Happened
) -> Iterator[tuple[datetime, str]]:
    known: dict[str, str] = {}
    diagnosed = False
    for at, kind, data in events:
        if kind == "claim" and not diagnosed and incident.diagnosis is not None:
            diagnosed = True
            yield at, f"diagnosed: {shown(incident.diagnosis.title)}"
        elif kind == "plan":
            number = len(data.get("actions") or ())
            yield at, f"plan of {number} action{'' if number == 1 else 's'}"
        elif kind in _TOLD and (text := _TOLD[kind](data, shown, known)):
            yield at, text


def words_of(kind: str, data: dict[str, Any], known: dict[str, str]) -> str:
    """What a `status` or an `action` event says, as it came; empty: nothing new.

    `known`: what the events before it said, which is kept there.
    """
    return _TOLD[kind](data, str, known) if kind in _TOLD else ""


def _action(data: dict[str, Any], shown: Callable[[str], str], known: dict[str, str]) -> str:
    action, status = str(data.get("id", "")), str(data.get("status", ""))
    if known.get(action, "proposed") == status:
        return ""
    known[action] = status
    comment = str(data.get("comment") or "")
    told = _STATUSES.get(status, status.replace("_", " "))
    return f"{shown(action)} {shown(told)}" + (f": {shown(comment)}" if comment else "")


def _status(data: dict[str, Any], shown: Callable[[str], str], known: dict[str, str]) -> str:
    if data.get("page"):
        return f"people were called: {shown(str(data['page']))}"
    if data.get("verdict"):
        by, said = shown(str(data.get("by", ""))), shown(str(data["verdict"]))
        return f"{by} said that it was {said}"
    if data.get("silenced"):
        return f"alert {shown(str(data.get('alert', '')))} was {shown(str(data['silenced']))}"
    status = str(data.get("status", ""))
    if not status or known.get("") == status:
        return ""
    known[""] = status
    because = str(data.get("ended_because") or "")
    return shown(status.replace("_", " ")) + (f": {shown(because)}" if because else "")


_TOLD = {"action": _action, "status": _status}
