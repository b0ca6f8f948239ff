"""Pages: kept in the transaction of what they are about. To whom they go: `notices.py`."""

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.redaction import redact
from api.store import audit, notices
from api.store.events import publish
from api.store.tables import IncidentRow, PageRow

AGAIN = timedelta(hours=1)
"""The same words about the same incident are one page for so long."""
LONGEST_REASON = 1_000


async def call(
    session: AsyncSession, reason: str, at: datetime, row: IncidentRow | None = None
) -> None:
    """People have to come: keep a page; whoever watches the incident (locked) sees it, too."""
    reason = redact(reason)[:LONGEST_REASON]
    known = select(PageRow.id).where(
        PageRow.incident_id == (row.id if row else None),
        PageRow.reason == reason,
        PageRow.at > at - AGAIN,
    )
    if (await session.scalar(known.limit(1))) is not None:
        return
    session.add(
        PageRow(
            incident_id=row.id if row else None,
            reason=reason,
            at=at,
            tries=0,
            due_at=at,
            delivered=[],
            failure="",
        )
    )
    who = audit.service("service")
    await audit.note(session, who, "page", row.id if row else None, reason=reason)
    if row is not None:
        await publish(session, row, "status", {"status": row.status, "page": reason})


async def is_any_due(session: AsyncSession, at: datetime) -> bool:
    """Is there a page to be addressed?"""
    due = select(PageRow.id).where(PageRow.sent_at.is_(None), PageRow.due_at <= at)
    return (await session.scalar(due.limit(1))) is not None


async def counts(session: AsyncSession) -> dict[str, int]:
    """How many are sent, waiting, and given up."""
    return await notices.by_state(session, PageRow)
