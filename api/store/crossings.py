"""Since when targets have crossed thresholds, as `watch` sees it: it survives restarts.

What was told of them is in the alerts themselves: a process may die between the two.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import and_, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from api.store.tables import AlertRow
from api.store.target_tables import CrossingRow

SOURCE = "watch"
"""Of the alerts about them."""


class Crossing(NamedTuple):
    """A threshold that is crossed."""

    threshold: str
    since: datetime
    told: str
    """The name of the alert that fires because of it; empty: none was sent yet."""


def fingerprint(target: str, threshold: str) -> str:
    """Of the alert about it, which starts when it was crossed."""
    return f"{target}:{threshold}"


async def of(session: AsyncSession, target: str) -> dict[str, Crossing]:
    """A target's, by threshold. One whose alert is over is over as well."""
    about = and_(
        AlertRow.source == SOURCE,
        AlertRow.fingerprint == CrossingRow.target + ":" + CrossingRow.threshold,
        AlertRow.starts_at == CrossingRow.since,
    )
    found = await session.execute(
        select(CrossingRow.threshold, CrossingRow.since, AlertRow.name)
        .outerjoin(AlertRow, about)
        .where(
            CrossingRow.target == target,
            or_(AlertRow.status == "firing", AlertRow.status.is_(None)),
        )
    )
    return {key: Crossing(key, since, name or "") for key, since, name in found}


async def begin(
    session: AsyncSession, target: str, thresholds: Iterable[str], since: datetime
) -> None:
    """They are crossed from now on."""
    for threshold in thresholds:
        await session.merge(CrossingRow(target=target, threshold=threshold, since=since))


async def end(session: AsyncSession, target: str, thresholds: Iterable[str]) -> None:
    """They are not crossed any more."""
    some = CrossingRow.threshold.in_(list(thresholds))
    await session.execute(delete(CrossingRow).where(CrossingRow.target == target, some))


async def told_of_others(session: AsyncSession, targets: Collection[str]) -> Sequence[AlertRow]:
    """What was told of other targets than these, and fires."""
    told = select(AlertRow).where(AlertRow.source == SOURCE, AlertRow.status == "firing")
    return (await session.scalars(told.where(AlertRow.target.not_in(targets)))).all()


async def forget_others(session: AsyncSession, targets: Collection[str]) -> None:
    """Others than these cross nothing."""
    await session.execute(delete(CrossingRow).where(CrossingRow.target.not_in(targets)))
