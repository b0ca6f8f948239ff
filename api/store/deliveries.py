"""What senders deliver twice: the same message, and messages about one occurrence."""

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import Alert
from api.store.appends import written
from api.store.database import Database
from api.store.incidents import now
from api.store.tables import AlertRow, DeliveryRow

KEEP = timedelta(days=30)
"""For how long a message that comes again is recognised."""


async def remember(
    session: AsyncSession, database: Database, names: Collection[tuple[str, str]]
) -> set[tuple[str, str]]:
    """Remember messages by sender and what each is known by; those that nobody has seen before.

    They are remembered if the caller's transaction is committed, together with what they said.
    """
    if not names:
        return set()
    await session.execute(delete(DeliveryRow).where(DeliveryRow.at < now() - KEEP))
    insert = (sqlite if database.is_sqlite else postgresql).insert(DeliveryRow)
    # In one order: processes that insert the same wait for each other.
    rows = [{"source": sender, "id": known_by, "at": now()} for sender, known_by in sorted(names)]
    kept = await session.execute(
        insert.values(rows).on_conflict_do_nothing().returning(DeliveryRow.source, DeliveryRow.id)
    )
    return {(sender, known_by) for sender, known_by in kept}


async def forget(session: AsyncSession, sender: str, known_by: str) -> None:
    """Not all of a message was taken: it may come again."""
    await session.execute(
        delete(DeliveryRow).where(DeliveryRow.source == sender, DeliveryRow.id == known_by)
    )


async def since_it_began(session: AsyncSession, alert: Alert, occurrence: str) -> Alert:
    """With the start that the first message about this occurrence had; a label says which it is."""
    await written(session)
    began = await session.scalar(
        select(AlertRow.starts_at)
        .where(
            AlertRow.source == alert.source,
            AlertRow.fingerprint == alert.fingerprint,
            AlertRow.labels[occurrence].as_string() == alert.labels[occurrence],
        )
        .order_by(AlertRow.id)
        .limit(1)
    )
    return alert if began is None else alert.model_copy(update={"starts_at": began})
