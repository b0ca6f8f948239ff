"""Every change of an action's or incident's status is on record, whoever makes it.

What people decide is noted by name where they decide. This is beside it: it watches the column
itself, so that no way to a new status, present or future, leaves the trail out.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import event, inspect, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from agent.incident import Action
from api.store import audit
from api.store.chain import plain
from api.store.tables import ActionRow, DecisionRow, IncidentRow

LONGEST_VALUE = 1_500
"""Characters of the previous or the new values of one change, as JSON."""
_CHANGES = "changes"
_PART = "part"


def by(session: AsyncSession, part: str) -> None:
    """What this transaction changes is the doing of that part of the service."""
    session.info[_PART] = part


def _watch(column: InstrumentedAttribute[str]) -> None:
    @event.listens_for(column, "set", active_history=True)
    def changed(row: Any, value: str, before: Any, _: Any) -> None:
        session = inspect(row).session
        if session is not None and value != before:
            session.info.setdefault(_CHANGES, []).append((row, before, value))


_watch(ActionRow.status)
_watch(IncidentRow.status)


def changes(session: AsyncSession) -> Sequence[tuple[ActionRow | IncidentRow, str, str]]:
    """What changed so far in this transaction: the row, the status it had, the one it got."""
    found: Sequence[tuple[ActionRow | IncidentRow, str, str]] = session.info.get(_CHANGES, ())
    return found


async def note_changes(session: AsyncSession) -> None:
    """Note what changed in this transaction. Called at its end, when outcomes are in place."""
    changes = session.info.pop(_CHANGES, ())
    who = audit.service(session.info.get(_PART, "service"))
    for row, before, after in changes:
        if isinstance(row, IncidentRow):
            detail = {"from": before, "to": after, "because": row.ended_because}
            await audit.note(session, who, "status", row.id, **detail)
        else:
            values = _values(row.body, after)
            await audit.note(
                session,
                who,
                after,
                row.incident_id,
                **await _about(session, row),
                was=before,
                **values,
            )


async def _about(session: AsyncSession, row: ActionRow) -> dict[str, Any]:
    """Which action, and whose word it rests on."""
    chosen = select(DecisionRow.by).where(
        DecisionRow.incident_id == row.incident_id,
        DecisionRow.attempt == row.attempt,
        DecisionRow.action_id == row.id,
        DecisionRow.approves.is_(True),
    )
    return {
        "action": row.id,
        "attempt": row.attempt,
        "kind": row.body.get("kind"),
        "fingerprint": row.fingerprint,
        "approved_by": list(await session.scalars(chosen.order_by(DecisionRow.at).limit(10))),
    }


async def note_intent(session: AsyncSession, row: ActionRow, intent: dict[str, Any]) -> None:
    """What is about to be written, over what: an undo puts back what was there before."""
    undoes = intent.get("phase") == "undo"
    outcome = row.body.get("outcome") or {}
    previous, new = (
        (outcome.get("done"), outcome.get("before"))
        if undoes
        else (intent.get("captured"), row.body.get("arguments"))
    )
    detail = await _about(session, row) | {
        "phase": "undo" if undoes else "apply",
        "previous": _short(previous),
        "new": _short(new),
        "client_id": intent.get("client_id"),
    }
    await audit.note(session, audit.service("executor"), "intent", row.incident_id, **detail)


async def note_plan(session: AsyncSession, row: IncidentRow, actions: list[Action]) -> None:
    """What is proposed: the fingerprints that people will say yes or no to."""
    proposed = [
        action.model_dump(mode="json", include={"id", "kind", "risk", "fingerprint"})
        for action in actions
        if action.executable
    ]
    await audit.note(session, audit.service("executor"), "propose", row.id, actions=proposed)


_OUTCOMES = {
    "applied": ("before", "done"),
    "verified": ("baseline", "after"),
    "rolling_back": ("baseline", "after"),
    "rolled_back": ("done", "undone"),
    "rollback_failed": ("done", "undone"),
}
"""Which parts of the outcome are the previous and the new values of a status."""


def _values(body: dict[str, Any], status: str) -> dict[str, Any]:
    outcome = body.get("outcome") or {}
    found: dict[str, Any] = {"because": str(body.get("comment", ""))[:LONGEST_VALUE]}
    if status in _OUTCOMES:
        previous, new = _OUTCOMES[status]
        found |= {"previous": _short(outcome.get(previous)), "new": _short(outcome.get(new))}
    if status in ("verified", "rolling_back"):
        found["regressions"] = [str(one)[:200] for one in outcome.get("regressions") or ()][:10]
    return found


def _short(value: Any) -> Any:
    return plain(value, LONGEST_VALUE) if isinstance(value, dict) else None
