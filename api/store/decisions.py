"""What people decide about an action: approve, reject, or let it expire."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import Action
from api.store import audit, incidents
from api.store.audit import Person
from api.store.events import publish
from api.store.tables import ActionRow, DecisionRow, IncidentRow

Enough = Callable[[Action], bool]
"""Do the approvals of this action suffice?"""


class NoSuchAction(LookupError):
    """The incident's plan has no action with that id."""


class Stale(Exception):
    """What was decided upon is not what the plan holds now, or is decided already."""


async def find(session: AsyncSession, row: IncidentRow, action_id: str) -> tuple[ActionRow, Action]:
    """The action of the current plan. Raises NoSuchAction."""
    kept = await session.get(ActionRow, (row.id, row.attempt, action_id), with_for_update=True)
    if kept is None:
        raise NoSuchAction(action_id)
    actions = (await incidents.load_actions(session, [row.id]))[row.id, row.attempt]
    return kept, next(action for action in actions if action.id == action_id)


async def decide(
    session: AsyncSession,
    row: IncidentRow,
    action_id: str,
    who: Person,
    *,
    approves: bool,
    fingerprint: str,
    comment: str,
    enough: Enough,
) -> Action:
    """Keep one person's decision. The same again changes nothing; another one is Stale."""
    kept, action = await find(session, row, action_id)
    if fingerprint != kept.fingerprint:
        raise Stale("the fingerprint is not that of the action in the current plan")
    mine = await session.get(DecisionRow, (row.id, row.attempt, action_id, who.name))
    if mine is not None:
        if mine.approves == approves:
            return action
        raise Stale(f"you have already {'approved' if mine.approves else 'rejected'} it")
    _must_be_open(kept, incidents.now())
    session.add(
        DecisionRow(
            incident_id=row.id,
            attempt=row.attempt,
            action_id=action_id,
            by=who.name,
            fingerprint=fingerprint,
            role=who.role,
            approves=approves,
            comment=comment,
            at=incidents.now(),
        )
    )
    await session.flush()
    _, action = await find(session, row, action_id)
    if not approves:
        _set(kept, "rejected", comment)
    elif enough(action):
        _set(kept, "approved", "")
    _, action = await find(session, row, action_id)
    incidents.touch(row)
    await publish(session, row, "action", action.model_dump(mode="json"))
    await audit.note(session, who, "approve" if approves else "reject", row.id, action=action_id,
                     fingerprint=fingerprint, comment=comment)  # fmt: skip
    return action


def _must_be_open(kept: ActionRow, at: datetime) -> None:
    if not kept.executable:
        raise Stale("it is advice: a person carries it out, nothing here is approved")
    if kept.status != "proposed":
        raise Stale(f"it is already {kept.status}")
    if kept.expires_at is not None and kept.expires_at <= at:
        raise Stale(f"the time to approve it ended at {kept.expires_at.isoformat()}")


def _set(kept: ActionRow, status: str, comment: str) -> None:
    kept.status = status
    kept.body = {**kept.body, "status": status, "comment": comment}


async def expire(session: AsyncSession, limit: int = 100) -> list[str]:
    """Lapse the actions whose time to approve has passed; the incidents they belong to."""
    due = (
        await session.execute(
            select(ActionRow.incident_id, ActionRow.attempt, ActionRow.id)
            .where(ActionRow.status == "proposed", ActionRow.expires_at <= incidents.now())
            .order_by(ActionRow.incident_id, ActionRow.position)
            .limit(limit)
        )
    ).all()
    for incident_id, attempt, action_id in due:
        row = await incidents.lock(session, incident_id)
        await _lapse(session, row, attempt, action_id, "nobody approved it in time")
    return sorted({incident_id for incident_id, _, _ in due})


async def give_up(session: AsyncSession, row: IncidentRow, because: str) -> None:
    """Nothing of the current plan goes on: it lapses, or its outcome is unknown."""
    await lapse_all(session, row, because)
    for action_id in await _ids(session, row, ("applying", "applied", "rolling_back")):
        kept = await session.get_one(ActionRow, (row.id, row.attempt, action_id))
        _set(kept, "outcome_unknown", because)
        await publish(session, row, "action", kept.body)


async def lapse_all(session: AsyncSession, row: IncidentRow, because: str) -> None:
    """Nothing of the current plan may be applied any more, unless it already is."""
    for action_id in await _ids(session, row, ("proposed", "approved")):
        await _lapse(session, row, row.attempt, action_id, because)


async def at_work(session: AsyncSession, row: IncidentRow) -> bool:
    """Is an approved action being carried out?"""
    return bool(await _ids(session, row, incidents.AT_WORK))


async def _ids(session: AsyncSession, row: IncidentRow, statuses: tuple[str, ...]) -> list[str]:
    return list(
        await session.scalars(
            select(ActionRow.id).where(
                ActionRow.incident_id == row.id,
                ActionRow.attempt == row.attempt,
                ActionRow.executable.is_(True),
                ActionRow.status.in_(statuses),
            )
        )
    )


async def _lapse(
    session: AsyncSession, row: IncidentRow, attempt: int, action_id: str, because: str
) -> None:
    kept = await session.get_one(ActionRow, (row.id, attempt, action_id), with_for_update=True)
    if kept.status not in ("proposed", "approved"):
        return
    _set(kept, "lapsed", because)
    incidents.touch(row)
    if attempt == row.attempt:
        await publish(session, row, "action", kept.body)
