"""What people decide about actions: approve, reject, stop, or let them expire."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import Action
from agent.policy import spoken_time, waits
from api.store import audit, endings, incidents, pages
from api.store.audit import Person
from api.store.endings import set_status
from api.store.events import publish
from api.store.judge import Judge
from api.store.tables import ActionRow, DecisionRow, IncidentRow


class NoSuchAction(LookupError):
    """The incident's plan has no action with that id."""


class Stale(Exception):
    """What was decided upon is not what the plan holds now, or is decided already."""


@dataclass(frozen=True)
class Choice:
    """Exactly what was shown."""

    action_id: str
    fingerprint: str


async def find(session: AsyncSession, row: IncidentRow, action_id: str) -> tuple[ActionRow, Action]:
    """The action of the current plan. Raises NoSuchAction."""
    kept = await session.get(ActionRow, (row.id, row.attempt, action_id), with_for_update=True)
    if kept is None:
        raise NoSuchAction(action_id)
    return kept, next(action for action in await _plan(session, row) if action.id == action_id)


async def approve(
    session: AsyncSession,
    row: IncidentRow,
    choices: Sequence[Choice],
    who: Person,
    comment: str,
    judge: Judge,
    *,
    break_glass: bool = False,
) -> list[Action]:
    """Keep one person's yes to each, or to none. The same again changes nothing.

    Several belong together: in the order of the plan, and only while all end well. Raises
    NoSuchAction, Stale.
    """
    changed = [
        choice.action_id
        for choice in choices
        if await _say(session, row, choice, who, comment, judge, break_glass=break_glass)
    ]
    if len(choices) > 1:
        await _bind_together(session, row, [choice.action_id for choice in choices])
    await _let_go_on(session, row, {choice.action_id for choice in choices}, judge)
    actions = {action.id: action for action in await _plan(session, row)}
    for action_id in changed:
        action = actions[action_id]
        incidents.touch(row)
        await publish(session, row, "action", action.model_dump(mode="json"))
        what = "break_glass" if break_glass else "approve"
        await audit.note(session, who, what, row.id, action=action_id,
                         fingerprint=action.fingerprint, comment=comment)  # fmt: skip
        if break_glass:
            alone = f"break-glass: {who.name} approved {action_id} ({action.title}) alone"
            await pages.call(session, f"{alone}: {comment}", judge.at, row)
    return [actions[choice.action_id] for choice in choices]


async def reject(
    session: AsyncSession, row: IncidentRow, choice: Choice, who: Person, comment: str, at: datetime
) -> Action:
    """Keep one person's no, also to what is approved for later. Raises NoSuchAction, Stale."""
    kept, action = await _shown(session, row, choice)
    mine = await session.get(DecisionRow, (row.id, row.attempt, action.id, who.name))
    if mine is not None:
        if not mine.approves:
            return action
        raise Stale("you have already approved it")
    _must_be_open(kept, at, or_waiting=True)
    session.add(_decision(row, choice, who, comment, at, approves=False))
    await endings.end(session, row, kept, "rejected", comment)
    incidents.touch(row)
    _, action = await find(session, row, action.id)
    await publish(session, row, "action", action.model_dump(mode="json"))
    await audit.note(session, who, "reject", row.id, action=action.id,
                     fingerprint=choice.fingerprint, comment=comment)  # fmt: skip
    return action


async def stop(
    session: AsyncSession, row: IncidentRow, action_id: str, who: Person, comment: str
) -> Action:
    """Approved and not begun: it lapses. Under way: it ends after its present batch.

    The same again changes nothing. Raises NoSuchAction, Stale.
    """
    kept, action = await find(session, row, action_id)
    if kept.stop_requested:
        return action
    if kept.status not in ("approved", "applying"):
        raise Stale(_NOT_TO_STOP.get(kept.status, f"it is already {kept.status}"))
    kept.stop_requested = f"stopped by {who.name}" + (f": {comment}" if comment else "")
    if kept.status == "approved":
        await endings.end(session, row, kept, "lapsed", kept.stop_requested)
    incidents.touch(row)
    await session.flush()
    _, action = await find(session, row, action_id)
    await publish(session, row, "action", action.model_dump(mode="json"))
    await audit.note(session, who, "stop", row.id, action=action_id, comment=comment)
    return action


_NOT_TO_STOP = {
    "proposed": "nobody approved it yet: reject it instead",
    "applied": "it is applied and being verified; what does not help is undone",
    "rolling_back": "it is being undone, and an undo is not stopped",
}


async def _say(
    session: AsyncSession,
    row: IncidentRow,
    choice: Choice,
    who: Person,
    comment: str,
    judge: Judge,
    *,
    break_glass: bool,
) -> bool:
    """One yes; False: it was said before."""
    kept, action = await _shown(session, row, choice)
    mine = await session.get(DecisionRow, (row.id, row.attempt, action.id, who.name))
    if mine is not None and not mine.approves:
        raise Stale("you have already rejected it")
    if mine is not None and (mine.break_glass or not break_glass):
        return False
    _must_be_open(kept, judge.at, or_waiting=break_glass)
    if not break_glass:
        _must_be_possible_in_time(action, judge)
    if mine is not None:
        mine.break_glass, mine.role, mine.comment, mine.at = True, who.role, comment, judge.at
    else:
        session.add(
            _decision(row, choice, who, comment, judge.at, approves=True, break_glass=break_glass)
        )
    if break_glass and kept.status == "approved":
        set_status(kept, "approved", "")
        kept.not_before = None
    await session.flush()
    return True


async def _shown(
    session: AsyncSession, row: IncidentRow, choice: Choice
) -> tuple[ActionRow, Action]:
    kept, action = await find(session, row, choice.action_id)
    if choice.fingerprint != kept.fingerprint:
        raise Stale("the fingerprint is not that of the action in the current plan")
    return kept, action


def _decision(
    row: IncidentRow,
    choice: Choice,
    who: Person,
    comment: str,
    at: datetime,
    *,
    approves: bool,
    break_glass: bool = False,
) -> DecisionRow:
    return DecisionRow(
        incident_id=row.id,
        attempt=row.attempt,
        action_id=choice.action_id,
        by=who.name,
        fingerprint=choice.fingerprint,
        role=who.role,
        approves=approves,
        break_glass=break_glass,
        cause="",
        comment=comment,
        at=at,
    )


def _must_be_open(kept: ActionRow, at: datetime, *, or_waiting: bool = False) -> None:
    if not kept.executable:
        raise Stale("it is advice: a person carries it out, nothing here is approved")
    if kept.status != "proposed" and not (or_waiting and waits(kept, at)):
        raise Stale(f"it is already {kept.status}")
    if kept.expires_at is not None and kept.expires_at <= at:
        raise Stale(f"the time to approve it ended at {kept.expires_at.isoformat()}")


def _must_be_possible_in_time(action: Action, judge: Judge) -> None:
    hold = judge.hold(action)
    if hold is None or action.expires_at is None:
        return
    if hold.until is None or hold.until >= action.expires_at:
        raise Stale(
            f"{hold.reason}; the approval would expire before, at "
            f"{spoken_time(action.expires_at)}: investigate again then, or an admin breaks the "
            "glass"
        )


async def _bind_together(session: AsyncSession, row: IncidentRow, ids: Sequence[str]) -> None:
    """One batch; of what is already in one, that one."""
    rows = [await session.get_one(ActionRow, (row.id, row.attempt, name)) for name in ids]
    batch = next((kept.batch for kept in rows if kept.batch), secrets.token_hex(4))
    for kept in rows:
        kept.batch = kept.batch or batch
    await session.flush()


async def _let_go_on(
    session: AsyncSession, row: IncidentRow, decided: set[str], judge: Judge
) -> None:
    """Approve what has enough approvals; in a batch, not before those of it that come first."""
    plan = [action for action in await _plan(session, row) if action.executable]
    batches = {action.batch for action in plan if action.id in decided and action.batch}
    blocked: set[str] = set()
    later: dict[str, datetime] = {}
    for action in plan:
        batch = action.batch
        if action.id not in decided and batch not in batches:
            continue
        kept = await session.get_one(ActionRow, (row.id, row.attempt, action.id))
        if kept.status == "proposed":
            if batch in blocked or not judge.enough(action):
                blocked |= {batch} - {""}
                continue
            hold = judge.hold(action)
            set_status(kept, "approved", f"waits: {hold.reason}" if hold else "")
            kept.not_before = hold.until if hold else None
            if batch in later:
                kept.not_before = max(later[batch], kept.not_before or later[batch])
        if batch and kept.status == "approved" and kept.not_before is not None:
            later[batch] = kept.not_before
    await session.flush()


async def expire(session: AsyncSession, limit: int = 100) -> list[str]:
    """Lapse the actions whose time has passed; the incidents they belong to."""
    now = incidents.now()
    due = (
        await session.execute(
            select(ActionRow.incident_id, ActionRow.attempt, ActionRow.id, ActionRow.status)
            .where(ActionRow.status.in_(("proposed", "approved")), ActionRow.expires_at <= now)
            .order_by(ActionRow.incident_id, ActionRow.position)
            .limit(limit)
        )
    ).all()
    for incident_id, attempt, action_id, status in due:
        row = await incidents.lock(session, incident_id)
        because = "nobody approved it in time"
        if status == "approved":
            because = "it was approved, and could not be applied in time"
        await _lapse(session, row, attempt, action_id, because)
        if row.severity == "critical" and attempt == row.attempt:
            said = "critical, and what was proposed lapsed: " + because
            await pages.call(session, said, now, row)
    return sorted({incident_id for incident_id, *_ in due})


async def give_up(session: AsyncSession, row: IncidentRow, because: str) -> None:
    """Nothing of the current plan goes on: it lapses, or its outcome is unknown."""
    await lapse_all(session, row, because)
    for action_id in await _ids(session, row, ("applying", "applied", "rolling_back")):
        kept = await session.get_one(ActionRow, (row.id, row.attempt, action_id))
        await endings.end(session, row, kept, "outcome_unknown", because)
        await publish(session, row, "action", kept.body)


async def lapse_all(session: AsyncSession, row: IncidentRow, because: str) -> None:
    """Nothing of the current plan may be applied any more, unless it already is."""
    for action_id in await _ids(session, row, ("proposed", "approved")):
        await _lapse(session, row, row.attempt, action_id, because)


async def untouched(session: AsyncSession, row: IncidentRow) -> bool:
    """Has nobody decided upon anything of the current plan, not even in part?"""
    return all(
        action.status in ("proposed", "lapsed") and not action.approvals
        for action in await _plan(session, row)
        if action.executable
    )


async def at_work(session: AsyncSession, row: IncidentRow) -> bool:
    """Is an approved action being carried out? One that waits for its time is not."""
    now = incidents.now()
    return any(
        action.status in incidents.AT_WORK
        for action in await _plan(session, row)
        if action.executable and not waits(action, now)
    )


async def _plan(session: AsyncSession, row: IncidentRow) -> list[Action]:
    return (await incidents.load_actions(session, [row.id]))[row.id, row.attempt]


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
    await endings.end(session, row, kept, "lapsed", because)
    incidents.touch(row)
    if attempt == row.attempt:
        await publish(session, row, "action", kept.body)
