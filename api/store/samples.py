"""What targets' memory was: one row a look, for trends."""

from datetime import datetime

from sqlalchemy import Integer, cast, delete, extract, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from api.store.target_tables import SampleRow
from tools.growth import MOST_SAMPLES, MemorySample

SPAN_SECONDS = 600
"""Samples of so many seconds are read as one: an hour's median asks for no more."""


async def keep(session: AsyncSession, row: SampleRow) -> None:
    """Keep one; the target's second at the same instant replaces the first."""
    await session.merge(row)


async def newest(session: AsyncSession, target: str) -> list[MemorySample]:
    """The newest of a target, at most `MOST_SAMPLES` spans of ten minutes, oldest first."""
    span = cast(extract("epoch", SampleRow.at) / SPAN_SECONDS, Integer)
    last = func.max(SampleRow.at)
    rows = await session.execute(
        select(last, func.avg(SampleRow.used_bytes))
        .where(SampleRow.target == target)
        .group_by(span)
        .order_by(last.desc())
        .limit(MOST_SAMPLES)
    )
    return [MemorySample(at=at, used_bytes=round(used)) for at, used in rows][::-1]


async def forget(session: AsyncSession, before: datetime) -> None:
    """Delete what is older, also of targets that are no longer configured."""
    await session.execute(delete(SampleRow).where(SampleRow.at < before))
