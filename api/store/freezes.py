"""Freezes that people declare while the service runs, beside the configured ones."""

from datetime import datetime

from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from agent.windows import Window
from api.store.tables import ActionRow, IncidentRow
from api.store.target_tables import FreezeRow

MOST = 200
"""Freezes in force at a time."""


class NoSuchFreeze(LookupError):
    """There is no freeze with that number, or it is over."""


class TooMany(Exception):
    """So many are in force that nobody would read another."""


async def declare(
    session: AsyncSession, target: str | None, reason: str, by: str, at: datetime, until: datetime
) -> FreezeRow:
    """From now on nothing is changed there. Raises TooMany."""
    count = select(func.count()).select_from(FreezeRow).where(FreezeRow.until > at)
    if (await session.scalar(count) or 0) >= MOST:
        raise TooMany(MOST)
    row = FreezeRow(target=target, reason=reason, by=by, at=at, until=until, thawed_by="")
    session.add(row)
    await session.flush()
    return row


async def in_force(session: AsyncSession, at: datetime) -> list[FreezeRow]:
    """Those that are not over, oldest first."""
    found = select(FreezeRow).where(FreezeRow.until > at).order_by(FreezeRow.id)
    return list(await session.scalars(found))


async def about(session: AsyncSession, target: str, at: datetime) -> list[Window]:
    """Those of one target, as the policy reads them."""
    rows = await session.scalars(
        select(FreezeRow)
        .where(FreezeRow.until > at, or_(FreezeRow.target.is_(None), FreezeRow.target == target))
        .order_by(FreezeRow.until.desc())
        .limit(MOST)
    )
    return [
        # From its row on, whatever the clocks of several machines say.
        Window(reason=f"{row.reason} (frozen by {row.by})", ends=row.until)
        for row in rows
    ]


async def thaw(session: AsyncSession, number: int, by: str, at: datetime) -> FreezeRow:
    """It is over. What waited is looked at again at once. Raises NoSuchFreeze."""
    row = await session.get(FreezeRow, number, with_for_update=True)
    if row is None or row.until <= at:
        raise NoSuchFreeze(number)
    row.until, row.thawed_by = at, by
    waiting = update(ActionRow).where(ActionRow.status == "approved", ActionRow.not_before > at)
    if row.target is not None:
        there = select(IncidentRow.id).where(IncidentRow.target == row.target)
        waiting = waiting.where(ActionRow.incident_id.in_(there))
    await session.execute(waiting.values(not_before=at))
    return row
