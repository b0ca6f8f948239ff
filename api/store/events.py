"""What happened to an incident, numbered from 1 without gaps."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.context import EventKind
from api.store.appends import append, appended
from api.store.tables import EventRow, IncidentRow


async def publish(
    session: AsyncSession, row: IncidentRow, kind: EventKind, data: dict[str, Any]
) -> None:
    """Append an event. `row` is locked by the caller: no gaps and no races.

    An `end` straight after an `end` says nothing new and is dropped.
    """
    if kind == "end" and await _last_kind(session, row) == "end":
        return
    row.last_event += 1
    append(
        session,
        EventRow,
        incident_id=row.id,
        number=row.last_event,
        kind=kind,
        data=data,
        at=datetime.now(UTC),
    )


async def _last_kind(session: AsyncSession, row: IncidentRow) -> str | None:
    for event in reversed(appended(session, EventRow)):
        if event["incident_id"] == row.id:
            return str(event["kind"])
    last = (EventRow.incident_id == row.id, EventRow.number == row.last_event)
    return await session.scalar(select(EventRow.kind).where(*last))


async def after(
    session: AsyncSession, incident_id: str, number: int, limit: int = 200
) -> list[EventRow]:
    """Events after that number, in order."""
    return list(
        await session.scalars(
            select(EventRow)
            .where(EventRow.incident_id == incident_id, EventRow.number > number)
            .order_by(EventRow.number)
            .limit(limit)
        )
    )
