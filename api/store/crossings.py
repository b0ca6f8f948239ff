"""Since when targets have crossed thresholds, as `watch` sees it: it survives restarts."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from api.store.target_tables import CrossingRow


async def of(session: AsyncSession, target: str) -> dict[str, CrossingRow]:
    """A target's, by threshold."""
    rows = await session.scalars(select(CrossingRow).where(CrossingRow.target == target))
    return {row.threshold: row for row in rows}


async def begin(
    session: AsyncSession, target: str, thresholds: Iterable[str], since: datetime
) -> None:
    """They are crossed from now on. One that is known keeps its time."""
    for threshold in thresholds:
        if await session.get(CrossingRow, (target, threshold)) is None:
            session.add(CrossingRow(target=target, threshold=threshold, since=since, told=False))


async def told(session: AsyncSession, target: str, thresholds: Iterable[str]) -> None:
    """An alert was sent about each."""
    await session.execute(update(CrossingRow).where(*_are(target, thresholds)).values(told=True))


async def end(session: AsyncSession, target: str, thresholds: Iterable[str]) -> None:
    """They are not crossed any more."""
    await session.execute(delete(CrossingRow).where(*_are(target, thresholds)))


def _are(target: str, thresholds: Iterable[str]) -> tuple[ColumnElement[bool], ...]:
    return (CrossingRow.target == target, CrossingRow.threshold.in_(list(thresholds)))
