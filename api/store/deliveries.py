"""What senders deliver twice: the same message, and messages about one occurrence."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import Alert
from api.store.database import Database
from api.store.incidents import now
from api.store.tables import AlertRow, DeliveryRow

KEEP = timedelta(days=30)
"""For how long a message that comes again is recognised."""


async def is_new(
    session: AsyncSession, database: Database, names: Sequence[tuple[str, str]]
) -> bool:
    """Remember a message by sender and what it is known by; False if any of that was seen.

    It is remembered if the caller's transaction is committed, together with what it said. What
    has no names is always new.
    """
    if not names:
        return True
    await session.execute(delete(DeliveryRow).where(DeliveryRow.at < now() - KEEP))
    insert = (sqlite if database.is_sqlite else postgresql).insert(DeliveryRow)
    rows = [{"source": sender, "id": known_by, "at": now()} for sender, known_by in names]
    kept = await session.scalars(
        insert.values(rows).on_conflict_do_nothing().returning(DeliveryRow.id)
    )
    return len(kept.all()) == len(rows)


async def forget(session: AsyncSession, sender: str, ids: Sequence[str]) -> None:
    """Not all of a message was taken: it may come again."""
    await session.execute(
        delete(DeliveryRow).where(DeliveryRow.source == sender, DeliveryRow.id.in_(ids))
    )


async def began(session: AsyncSession, alert: Alert) -> datetime | None:
    """When the occurrence that its fingerprint names began, as we were told first."""
    return await session.scalar(
        select(AlertRow.starts_at)
        .where(AlertRow.source == alert.source, AlertRow.fingerprint == alert.fingerprint)
        .order_by(AlertRow.id)
        .limit(1)
    )
