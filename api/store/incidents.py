"""Incidents: opening, reading them whole, moving them on."""

import secrets
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, case, delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import (
    UNFINISHED,
    Action,
    Alert,
    Diagnosis,
    Incident,
    Plan,
    RunbookMatch,
    Severity,
    Status,
    Usage,
)
from api import tracing
from api.store import notices
from api.store.appends import written
from api.store.events import publish
from api.store.evidence import summaries
from api.store.tables import ActionRow, AlertRow, DecisionRow, IncidentRow, LeaseRow

FINAL = ("resolved", "needs_human", "closed", "failed")
"""Statuses in which nothing goes on by itself."""
CLOSED = ("resolved", "closed", "failed")
AT_WORK = ("approved", "applying", "applied", "rolling_back")
"""Statuses of an action that a run has to work on."""


MOST_ALERTS = 200
"""Of an incident that are read: one target may have any number of them."""
MOST_LISTED = 20
"""Of each incident in a list."""


class NoSuchIncident(LookupError):
    """There is no incident with that id."""


def now() -> datetime:
    """Now, UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """An id that sorts by time of opening."""
    return f"inc-{time.time_ns() // 1_000_000:012x}{secrets.token_hex(4)}"


async def open_incident(
    session: AsyncSession,
    *,
    title: str,
    target: str,
    severity: Severity = "warning",
    question: str = "",
    status: Status = "queued",
    ended_because: str = "",
) -> IncidentRow:
    """A new incident; final from the start if it cannot be investigated."""
    at = now()
    row = IncidentRow(
        id=new_id(),
        status=status,
        severity=severity,
        title=title,
        target=target,
        question=question,
        opened_at=at,
        updated_at=at,
        attempt=1,
        prevention=[],
        checklist=[],
        runbooks=[],
        usage={},
        ended_because=ended_because,
        nudges=0,
        idle_runs=0,
        last_event=0,
        last_evidence=0,
        follows="",
        closes_at=None,
        look_at=None,
        silenced_by="",
        silenced_until=None,
        traceparent=tracing.traceparent(),
    )
    session.add(row)
    await publish_status(session, row)
    notices.opened(session, row)
    return row


async def lock(session: AsyncSession, incident_id: str) -> IncidentRow:
    """The row, for writing: everybody who changes an incident takes it first."""
    row = await session.scalar(
        select(IncidentRow).where(IncidentRow.id == incident_id).with_for_update()
    )
    if row is None:
        raise NoSuchIncident(incident_id)
    return row


async def move(
    session: AsyncSession, row: IncidentRow, status: Status, ended_because: str = ""
) -> None:
    """Another status, with its events. The same again changes nothing."""
    if (row.status, row.ended_because) == (status, ended_because):
        return
    row.status, row.ended_because = status, ended_because
    touch(row)
    await publish_status(session, row)


async def publish_status(session: AsyncSession, row: IncidentRow) -> None:
    """Tell whoever watches; a final status also ends the stream."""
    data = {"status": row.status, "ended_because": row.ended_because}
    await publish(session, row, "status", data)
    if row.status in FINAL:
        await publish(session, row, "end", data)


def touch(row: IncidentRow) -> None:
    """It moved: runs may start again."""
    row.updated_at = now()
    row.idle_runs = 0


async def begin_attempt(session: AsyncSession, row: IncidentRow, because: str) -> None:
    """Investigate once more, from the beginning; what was found before stays in the store."""
    row.attempt += 1
    row.diagnosis, row.closes_at, row.look_at = None, None, None
    row.prevention, row.checklist, row.runbooks = [], [], []
    await move(session, row, "queued", "")
    await publish(session, row, "status", {"status": "queued", "attempt": row.attempt,
                                           "because": because})  # fmt: skip


async def load(session: AsyncSession, incident_id: str, *, evidence: bool = True) -> Incident:
    """The whole incident; or without its evidence, of which there may be thousands.

    Raises NoSuchIncident.
    """
    row = await session.get(IncidentRow, incident_id, populate_existing=True)
    if row is None:
        raise NoSuchIncident(incident_id)
    return (await assemble(session, [row], evidence=evidence))[0]


async def reload(session: AsyncSession, row: IncidentRow) -> Incident:
    """The whole incident inside the transaction that changes it."""
    await written(session)
    await session.flush()
    return (await assemble(session, [row]))[0]


async def page(
    session: AsyncSession,
    *,
    statuses: Sequence[str] = (),
    target: str | None = None,
    before: str | None = None,
    limit: int = 20,
    evidence: bool = True,
) -> list[Incident]:
    """Incidents, newest first, opened before `before`."""
    query = select(IncidentRow).order_by(IncidentRow.id.desc()).limit(limit)
    if statuses:
        query = query.where(IncidentRow.status.in_(statuses))
    if target is not None:
        query = query.where(IncidentRow.target == target)
    if before is not None:
        query = query.where(IncidentRow.id < before)
    rows = (await session.scalars(query)).all()
    return await assemble(session, rows, MOST_LISTED, evidence=evidence)


async def unfinished(session: AsyncSession, clock: float, limit: int = 200) -> list[str]:
    """Incidents with work to do and nobody at it, the most urgent first.

    What people approved, or what is under way on a server, comes before any look at another; then
    severity decides, then age.
    """
    leased = exists().where(LeaseRow.target == IncidentRow.target, LeaseRow.expires > clock)
    looks_first = IncidentRow.status.in_(("queued", "investigating"))
    severity = case({"critical": 0, "warning": 1}, value=IncidentRow.severity, else_=2)
    return list(
        await session.scalars(
            select(IncidentRow.id)
            .where(has_work(), ~leased)
            .order_by(case((looks_first, 1), else_=0), severity, IncidentRow.id)
            .limit(limit)
        )
    )


def has_work() -> Any:
    """Condition: a run would get on with it. At the gate: decided, or nothing left to decide.

    What is approved for later has to wait like what nobody has decided upon.
    """
    mine = and_(
        ActionRow.incident_id == IncidentRow.id,
        ActionRow.attempt == IncidentRow.attempt,
        ActionRow.executable.is_(True),
    )
    later = and_(ActionRow.status == "approved", ActionRow.not_before > now())
    at_work = exists().where(
        mine, ActionRow.status.in_(AT_WORK), or_(~later, ActionRow.not_before.is_(None))
    )
    waiting = exists().where(mine, or_(ActionRow.status == "proposed", later))
    at_gate = IncidentRow.status == "awaiting_approval"
    return or_(IncidentRow.status.in_(UNFINISHED), and_(at_gate, or_(at_work, ~waiting)))


async def works_left(session: AsyncSession, incident_id: str) -> bool:
    """Is there something to do for a run of this incident?"""
    found = select(IncidentRow.id).where(IncidentRow.id == incident_id, has_work())
    return (await session.scalar(found)) is not None


async def queued(session: AsyncSession) -> int:
    """How many incidents wait for a worker."""
    return int(await session.scalar(_QUEUED) or 0)


_QUEUED = select(func.count()).select_from(IncidentRow).where(IncidentRow.status == "queued")


def asked_now(row: IncidentRow) -> None:
    """What is to do from now on belongs to the present request's trace; the last one is linked."""
    if here := tracing.traceparent():
        tracing.link(row.traceparent)
        row.traceparent = here


async def asked_by(session: AsyncSession, incident_id: str) -> str:
    """The trace of the request that last gave the incident something to do; empty: none."""
    found = select(IncidentRow.traceparent).where(IncidentRow.id == incident_id)
    return await session.scalar(found) or ""


async def next_jobs(session: AsyncSession, ids: Sequence[str]) -> dict[str, int]:
    """The numbers of the incidents' next jobs."""
    found = select(IncidentRow.id, IncidentRow.nudges).where(IncidentRow.id.in_(ids))
    return {row.id: row.nudges for row in await session.execute(found)}


async def next_nudge(session: AsyncSession, incident_id: str) -> None:
    """From now on another number."""
    changed = update(IncidentRow).where(IncidentRow.id == incident_id)
    await session.execute(changed.values(nudges=IncidentRow.nudges + 1))


async def forget_proposed(session: AsyncSession, row: IncidentRow) -> None:
    """Drop the attempt's actions that nobody decided upon."""
    await session.execute(
        delete(ActionRow).where(
            ActionRow.incident_id == row.id,
            ActionRow.attempt == row.attempt,
            ActionRow.status == "proposed",
        )
    )


async def assemble(
    session: AsyncSession,
    rows: Sequence[IncidentRow],
    most_alerts: int = MOST_ALERTS,
    *,
    evidence: bool = True,
) -> list[Incident]:
    """The incidents of these rows, with all their parts, in few queries."""
    ids = [row.id for row in rows]
    if not ids:
        return []
    alerts, counted = await _load_alerts(session, ids, most_alerts)
    seen = await summaries(session, ids) if evidence else defaultdict(list)
    actions = await load_actions(session, ids)
    return [
        Incident(
            id=row.id,
            status=row.status,
            severity=row.severity,
            title=row.title,
            target=row.target,
            question=row.question,
            alerts=alerts[row.id],
            more_alerts=counted.get(row.id, 0) - len(alerts[row.id]),
            opened_at=row.opened_at,
            updated_at=row.updated_at,
            attempt=row.attempt,
            diagnosis=Diagnosis.model_validate(row.diagnosis) if row.diagnosis else None,
            plan=Plan(
                actions=actions[row.id, row.attempt],
                prevention=row.prevention,
                checklist=row.checklist,
            ),
            evidence=seen[row.id],
            runbooks=[RunbookMatch.model_validate(match) for match in row.runbooks],
            usage=Usage.model_validate(row.usage),
            ended_because=row.ended_because,
            follows=row.follows,
            silenced_by=row.silenced_by,
            silenced_until=row.silenced_until,
        )
        for row in rows
    ]


async def _load_alerts(
    session: AsyncSession, ids: Sequence[str], most: int
) -> tuple[dict[str, list[Alert]], dict[str, int]]:
    """The first of each incident and the newest, as many as that; and how many there are."""
    backwards = func.row_number().over(
        partition_by=AlertRow.incident_id, order_by=AlertRow.id.desc()
    )
    all_of_it = func.count().over(partition_by=AlertRow.incident_id)
    numbered = (
        select(AlertRow.id, backwards.label("place"), all_of_it.label("number"))
        .where(AlertRow.incident_id.in_(ids))
        .subquery()
    )
    place, number = numbered.c.place, numbered.c.number
    alerts, counted = defaultdict[str, list[Alert]](list), dict[str, int]()
    for row, total in await session.execute(
        select(AlertRow, number)
        .join(numbered, AlertRow.id == numbered.c.id)
        .where(or_(place < most, place == number))
        .order_by(AlertRow.id)
    ):
        alerts[str(row.incident_id)].append(to_alert(row))
        counted[str(row.incident_id)] = total
    return alerts, counted


async def load_actions(
    session: AsyncSession, ids: Sequence[str]
) -> defaultdict[tuple[str, int], list[Action]]:
    """Actions by incident and attempt, with the decisions of people."""
    approvals: dict[tuple[str, int, str], list[DecisionRow]] = defaultdict(list)
    for decision in await session.scalars(
        select(DecisionRow).where(DecisionRow.incident_id.in_(ids)).order_by(DecisionRow.at)
    ):
        approvals[decision.incident_id, decision.attempt, decision.action_id].append(decision)
    actions: defaultdict[tuple[str, int], list[Action]] = defaultdict(list)
    for row in await session.scalars(
        select(ActionRow).where(ActionRow.incident_id.in_(ids)).order_by(ActionRow.position)
    ):
        decisions = approvals[row.incident_id, row.attempt, row.id]
        actions[row.incident_id, row.attempt].append(to_action(row, decisions))
    return actions


def to_action(row: ActionRow, decisions: Sequence[DecisionRow]) -> Action:
    """The action as the API shows it."""
    valid = [decision for decision in decisions if decision.fingerprint == row.fingerprint]
    approvals = [
        {
            "by": d.by, "role": d.role, "at": d.at, "comment": d.comment,
            "break_glass": d.break_glass,
        }
        for d in valid if d.approves
    ]  # fmt: skip
    rejected_by = next((d.by for d in valid if not d.approves), None)
    return Action.model_validate(
        {
            **row.body,
            "status": row.status,
            "approvals": approvals,
            "rejected_by": rejected_by,
            "not_before": row.not_before,
            "batch": row.batch,
            "stop_requested": row.stop_requested,
        }
    )


def to_alert(row: AlertRow) -> Alert:
    """The alert as the API shows it."""
    return Alert.model_validate({name: getattr(row, name) for name in Alert.model_fields})
