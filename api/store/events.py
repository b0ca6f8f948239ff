"""What happened to an incident, numbered from 1 without gaps."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.context import EventKind
from api.store.tables import EventRow, IncidentRow


async def publish(
    session: AsyncSession, row: IncidentRow, kind: EventKind, data: dict[str, Any]
) -> None:
    """Append an event, at the next flush. `row` is locked by the caller: no gaps and no races.

    An `end` straight after an `end` says nothing new and is dropped.
    """
    if kind == "end" and row.last_event:
        await session.flush()
        last = await session.get(EventRow, (row.id, row.last_event))
        if last is not None and last.kind == "end":
            return
    row.last_event += 1
    session.add(
        EventRow(
            incident_id=row.id,
            number=row.last_event,
            kind=kind,
            data=data,
            at=datetime.now(UTC),
        )
    )


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
