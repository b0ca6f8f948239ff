"""What targets' memory was: one row a look, for trends."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Integer, cast, delete, extract, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from api.store.target_tables import SampleRow
from tools.growth import MOST_SAMPLES, MemorySample

MOST_SPANS = 2_000
SPAN_SECONDS = 600
"""Samples of so many seconds are read as one: an hour's median asks for no more."""


class KeptSpan(NamedTuple):
    """Ten minutes of a target; None where its server did not say."""

    at: datetime
    used_memory_bytes: float | None
    resident_bytes: float | None
    limit_bytes: float | None
    keys: float | None


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


async def recent(
    session: AsyncSession, target: str, since: datetime, until: datetime | None = None
) -> list[KeptSpan]:
    """Everything that is kept of a target since then, by spans of ten minutes, oldest first."""
    of_time = [SampleRow.at >= since, *([SampleRow.at <= until] if until else [])]
    span = cast(extract("epoch", SampleRow.at) / SPAN_SECONDS, Integer)
    rows = await session.execute(
        select(
            func.max(SampleRow.at).label("at"),
            func.avg(SampleRow.used_bytes),
            func.avg(SampleRow.rss_bytes),
            func.max(SampleRow.limit_bytes),
            func.avg(SampleRow.keys),
        )
        .where(SampleRow.target == target, *of_time)
        .group_by(span)
        .order_by(func.max(SampleRow.at).desc())
        .limit(MOST_SPANS)
    )
    return [
        KeptSpan(at, *(None if value is None else float(value) for value in values))
        for at, *values in rows
    ][::-1]


async def forget(session: AsyncSession, before: datetime) -> None:
    """Delete what is older, also of targets that are no longer configured."""
    await session.execute(delete(SampleRow).where(SampleRow.at < before))
