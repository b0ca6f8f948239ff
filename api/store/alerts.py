"""Alerts: deduplicated by a unique key, joined to the incident that is open on their target."""

from collections.abc import Sequence
from datetime import timedelta
from typing import cast

from sqlalchemy import Table, select, update
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


def lock_of(alert: Alert, target: str | None) -> str:
    """What is excluded while its incident is chosen. Several are taken in this order."""
    return f"target:{target}" if target else f"alert:{alert.fingerprint}"


async def seen(session: AsyncSession, alerts: Sequence[Alert]) -> set[tuple[str, str]]:
    """Source and fingerprint of those of which anything is in the store, whenever it was."""
    fingerprints = {alert.fingerprint for alert in alerts}
    known = select(AlertRow.source, AlertRow.fingerprint).where(
        AlertRow.fingerprint.in_(fingerprints),
        AlertRow.source.in_({alert.source for alert in alerts}),
    )
    return {(source, fingerprint) for source, fingerprint in await session.execute(known)}


async def firing(
    database: Database,
    session: AsyncSession,
    alert: Alert,
    target: str | None,
    problem: str = "",
    *,
    full: bool = False,
    fresh: bool = False,
) -> tuple[IncidentRow, bool]:
    """The incident of a firing alert, and whether it was opened for it.

    Without a target (or with a problem) it is opened for a person, and nothing is looked at.
    `full`: what would open an incident for a worker raises QueueFull, unless it is critical.
    `fresh`: the caller holds its lock, and nothing of this alert is in the store (`seen`).
    """
    if not fresh:
        await database.exclude(session, lock_of(alert, target))
    known = None if fresh else await _find(session, alert)
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


async def worsened(session: AsyncSession, row: IncidentRow, alert: Alert) -> None:
    """What fires already is worse than it was: Datadog's Warn became Triggered."""
    if row.status in incidents.CLOSED or _SEVERITIES.index(alert.severity) <= _SEVERITIES.index(
        row.severity
    ):
        return
    changed = await session.scalar(
        update(AlertRow)
        .where(
            AlertRow.source == alert.source,
            AlertRow.fingerprint == alert.fingerprint,
            AlertRow.starts_at == alert.starts_at,
            AlertRow.status == "firing",
        )
        .values(severity=alert.severity)
        .returning(AlertRow.id)
    )
    if changed is None:
        return
    row.severity = alert.severity
    row.updated_at = incidents.now()
    data = {"status": row.status, "alert": alert.name, "severity": alert.severity}
    await publish(session, row, "status", data)


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


_TABLE = cast("Table", AlertRow.__table__)
_INSERT = {
    True: sqlite.insert(_TABLE).on_conflict_do_nothing().returning(_TABLE.c.id),
    False: postgresql.insert(_TABLE).on_conflict_do_nothing().returning(_TABLE.c.id),
}
"""By whether it is SQLite. Made once: making one takes longer than running it."""


async def _keep(database: Database, session: AsyncSession, alert: Alert, incident_id: str) -> bool:
    row = {"incident_id": incident_id, "received_at": incidents.now(), **alert.model_dump()}
    return await session.scalar(_INSERT[database.is_sqlite], row) is not None
