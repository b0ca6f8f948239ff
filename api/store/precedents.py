"""What came of earlier plans on a target, as the next investigation reads it."""

from datetime import datetime, timedelta

from sqlalchemy import and_, not_, select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.precedents import CameBack, Earlier, PastVerdict, Precedent
from api.store.tables import ActionRow, DecisionRow, IncidentRow, VerdictRow

RECENT = timedelta(days=30)
MOST_ACTIONS, MOST_VERDICTS = 12, 6
LONGEST_WORDS = 300
NOT_WANTED = ("rejected", "rolled_back", "rollback_failed", "outcome_unknown", "failed")


async def earlier(
    session: AsyncSession, target: str, incident_id: str, attempt: int, now: datetime
) -> Earlier:
    """Of other incidents, and of earlier attempts at this one."""
    return Earlier(
        actions=await _actions(session, target, incident_id, attempt, now - RECENT),
        verdicts=await _verdicts(session, target, incident_id, now - RECENT),
        came_back=await _came_back(session, incident_id),
    )


async def _came_back(session: AsyncSession, incident_id: str) -> CameBack | None:
    follows = select(IncidentRow.follows).where(IncidentRow.id == incident_id)
    row = await session.get(IncidentRow, await session.scalar(follows) or "")
    if row is None:
        return None
    return CameBack(
        incident=row.id,
        ended=row.updated_at,
        status=row.status,
        because=_short(row.ended_because),
        root_cause=(row.diagnosis or {}).get("root_cause", ""),
    )


async def _actions(
    session: AsyncSession, target: str, incident_id: str, attempt: int, since: datetime
) -> list[Precedent]:
    this_one = and_(ActionRow.incident_id == incident_id, ActionRow.attempt == attempt)
    no = and_(
        DecisionRow.incident_id == ActionRow.incident_id,
        DecisionRow.attempt == ActionRow.attempt,
        DecisionRow.action_id == ActionRow.id,
        DecisionRow.approves.is_(False),
    )
    rows = await session.execute(
        select(ActionRow, IncidentRow.updated_at, DecisionRow.by, DecisionRow.at)
        .join(IncidentRow, IncidentRow.id == ActionRow.incident_id)
        .outerjoin(DecisionRow, no)
        .where(
            IncidentRow.target == target,
            IncidentRow.updated_at > since,
            ActionRow.status.in_(NOT_WANTED),
            not_(this_one),
        )
        .order_by(IncidentRow.updated_at.desc(), ActionRow.attempt.desc(), ActionRow.position)
        .limit(MOST_ACTIONS)
    )
    return [
        Precedent(
            incident=action.incident_id,
            kind=action.body["kind"],
            arguments=action.body["arguments"],
            title=action.body["title"],
            status=action.status,
            at=rejected_at or updated_at,
            by=by or "",
            why=_short(action.body.get("comment", "")),
        )
        for action, updated_at, by, rejected_at in rows
    ]


async def _verdicts(
    session: AsyncSession, target: str, incident_id: str, since: datetime
) -> list[PastVerdict]:
    rows = await session.execute(
        select(VerdictRow, IncidentRow.diagnosis)
        .join(IncidentRow, IncidentRow.id == VerdictRow.incident_id)
        .where(IncidentRow.target == target, VerdictRow.at > since, IncidentRow.id != incident_id)
        .order_by(VerdictRow.id.desc())
        .limit(MOST_VERDICTS)
    )
    return [
        PastVerdict(
            incident=said.incident_id,
            at=said.at,
            by=said.by,
            diagnosed=(diagnosis or {}).get("root_cause", ""),
            root_cause=said.root_cause,
            comment=_short(said.comment),
        )
        for said, diagnosis in rows
    ]


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_WORDS else text[:LONGEST_WORDS] + " …"
