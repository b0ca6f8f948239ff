"""Alerts: deduplicated by a unique key, joined to the incident that is open on their target."""

from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import Alert
from api.store import incidents
from api.store.database import Database
from api.store.events import publish
from api.store.tables import AlertRow, IncidentRow

LOOK_AGAIN_AFTER = timedelta(minutes=5)
"""A new alert on an incident that waits for a person starts another look, at most this often."""
_SEVERITIES = ("info", "warning", "critical")


class QueueFull(Exception):
    """Too many incidents wait for a worker: no other is opened for this alert."""


async def firing(
    database: Database,
    session: AsyncSession,
    alert: Alert,
    target: str | None,
    problem: str = "",
    *,
    full: bool = False,
) -> tuple[IncidentRow, bool]:
    """The incident of a firing alert, and whether it was opened for it.

    Without a target (or with a problem) it is opened for a person, and nothing is looked at.
    `full`: what would open an incident for a worker raises QueueFull, unless it is critical.
    """
    await database.exclude(session, f"target:{target}" if target else f"alert:{alert.fingerprint}")
    known = await _find(session, alert)
    if known is not None:
        return await incidents.lock(session, known.incident_id), False
    row = await incidents.open_on(session, target) if target else None
    created = row is None
    if row is None:
        if full and not problem and alert.severity != "critical":
            raise QueueFull(target)
        row = await incidents.open_incident(
            session,
            title=alert.name,
            target=target or "",
            severity=alert.severity,
            status="needs_human" if problem else "queued",
            ended_because=problem,
        )
    if not await _keep(database, session, alert, row.id):
        raise RuntimeError("an alert's key was taken inside its own lock")
    if not created:
        await _join(session, row, alert)
    return row, created


async def _join(session: AsyncSession, row: IncidentRow, alert: Alert) -> None:
    if _SEVERITIES.index(alert.severity) > _SEVERITIES.index(row.severity):
        row.severity = alert.severity
    idle_since = row.updated_at
    row.updated_at = incidents.now()
    await publish(session, row, "status", {"status": row.status, "alert": alert.name})
    if row.status == "needs_human" and incidents.now() - idle_since > LOOK_AGAIN_AFTER:
        await incidents.begin_attempt(session, row, f"another alert: {alert.name}")


async def resolved(session: AsyncSession, alert: Alert) -> IncidentRow | None:
    """Note that an alert is over; close its incident if nothing is pending there."""
    known = await _find(session, alert) or await _latest(session, alert)
    if known is None:
        return None
    row = await incidents.lock(session, known.incident_id)
    if known.status == "resolved":
        return row
    known.status, known.ends_at = "resolved", alert.ends_at
    await session.flush()
    await publish(session, row, "status", {"status": row.status, "resolved": known.name})
    still_firing = await session.scalar(
        select(AlertRow.id)
        .where(AlertRow.incident_id == row.id, AlertRow.status == "firing")
        .limit(1)
    )
    # At the gate or at work something is pending; needs_human waits for nothing but the alert.
    if still_firing is None and row.status == "needs_human":
        await incidents.move(session, row, "closed", "all its alerts are resolved")
    return row


async def _find(session: AsyncSession, alert: Alert) -> AlertRow | None:
    return await session.scalar(
        select(AlertRow).where(
            AlertRow.source == alert.source,
            AlertRow.fingerprint == alert.fingerprint,
            AlertRow.starts_at == alert.starts_at,
        )
    )


async def _latest(session: AsyncSession, alert: Alert) -> AlertRow | None:
    """Some sources send another start with the resolution: the last one that fires is meant."""
    return await session.scalar(
        select(AlertRow)
        .where(
            AlertRow.source == alert.source,
            AlertRow.fingerprint == alert.fingerprint,
            AlertRow.status == "firing",
        )
        .order_by(AlertRow.id.desc())
        .limit(1)
    )


async def _keep(database: Database, session: AsyncSession, alert: Alert, incident_id: str) -> bool:
    insert = (sqlite if database.is_sqlite else postgresql).insert(AlertRow)
    kept = await session.scalar(
        insert.values(incident_id=incident_id, received_at=incidents.now(), **alert.model_dump())
        .on_conflict_do_nothing()
        .returning(AlertRow.id)
    )
    return kept is not None
