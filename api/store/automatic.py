"""Approvals by the policy itself, and the limits that only the store can see."""

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import AUTOMATIC, Action
from agent.policy import AutoLimits
from api.store import audit, incidents
from api.store.audit import Person
from api.store.database import Database
from api.store.events import publish
from api.store.tables import ActionRow, DecisionRow, IncidentRow

POLICY = Person("policy", AUTOMATIC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def approve(
    database: Database,
    session: AsyncSession,
    row: IncidentRow,
    action: Action,
    cause: str,
    limits: AutoLimits,
) -> str | None:
    """Approve it, or say why not. The incident is locked; of one target one at a time may ask."""
    await database.exclude(session, f"automatic:{row.target}")
    now = incidents.now()
    if (because := await _limit(session, row.target, cause, limits, now)) is not None:
        return because
    kept = await session.get(ActionRow, (row.id, row.attempt, action.id), with_for_update=True)
    if kept is None or kept.fingerprint != action.fingerprint or kept.status != "proposed":
        return "it is decided upon already"
    comment = f"a row of the policy lets it, for {cause}"
    session.add(
        DecisionRow(
            incident_id=row.id,
            attempt=row.attempt,
            action_id=action.id,
            by=POLICY.name,
            fingerprint=action.fingerprint,
            role=POLICY.role,
            approves=True,
            break_glass=False,
            cause=cause,
            comment=comment,
            at=now,
        )
    )
    kept.status = "approved"
    kept.body = {**kept.body, "status": "approved", "comment": ""}
    incidents.touch(row)
    await session.flush()
    plan = (await incidents.load_actions(session, [row.id]))[row.id, row.attempt]
    shown = next(known for known in plan if known.id == action.id)
    await publish(session, row, "action", shown.model_dump(mode="json"))
    await audit.note(session, POLICY, "approve", row.id, action=action.id,
                     fingerprint=action.fingerprint, comment=comment)  # fmt: skip
    return None


async def _limit(
    session: AsyncSession, target: str, cause: str, limits: AutoLimits, now: datetime
) -> str | None:
    found = (
        select(func.count())
        .select_from(DecisionRow)
        .join(IncidentRow, IncidentRow.id == DecisionRow.incident_id)
        .where(IncidentRow.target == target, DecisionRow.role == AUTOMATIC)
    )
    today = found.where(DecisionRow.at > now - DAY)
    if await session.scalar(today.where(DecisionRow.cause == cause)):
        return f"it was done for {cause} within a day, and it came back"
    for most, query, span in (
        (limits.per_hour, found.where(DecisionRow.at > now - HOUR), "hour"),
        (limits.per_day, today, "day"),
    ):
        if int(await session.scalar(query) or 0) >= most:
            return f"{most} in the last {span} on this target are the most"
    return None


async def counts(session: AsyncSession) -> dict[str, int]:
    """Approvals in the store: of people, of an admin alone, of the policy itself."""
    yes = select(func.count()).where(DecisionRow.approves.is_(True))
    by = {
        "people": yes.where(DecisionRow.role != AUTOMATIC, DecisionRow.break_glass.is_(False)),
        "break_glass": yes.where(DecisionRow.break_glass.is_(True)),
        "policy": yes.where(DecisionRow.role == AUTOMATIC),
    }
    return {name: int(await session.scalar(query) or 0) for name, query in by.items()}
