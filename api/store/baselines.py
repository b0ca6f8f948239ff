"""What targets looked like when nothing was wrong, and whether that is so now."""

import contextlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal

from pydantic import ValidationError
from sqlalchemy import and_, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from api.store import crossings
from api.store.incidents import CLOSED
from api.store.tables import AlertRow, IncidentRow
from api.store.target_tables import BaselineRow
from tools.shape import Baselines, KeyShape, ServerShape

Kind = Literal["server", "keyspace"]
KEEP = timedelta(days=14)
NEWEST = 12
"""Kept as they are; of older ones one an hour for a day, then one a day."""
QUIET = timedelta(minutes=30)
"""After an incident, or anything done about it, before what is seen counts as usual again."""
USUAL = timedelta(days=1)
"""A warning that fires for longer, as of a limit that was never set: so the target usually is."""
_ENDED = (*CLOSED, "needs_human")


async def is_quiet(session: AsyncSession, target: str, now: datetime) -> bool:
    """Nothing is known to be wrong with the target, and nothing was just now.

    Not if a threshold is crossed, an alert fires or an incident is being worked on. An alert whose
    incident was resolved while it still fires was found to be no incident; a warning of days is
    how the target usually is.
    """
    incident = select(IncidentRow.id).where(
        IncidentRow.target == target,
        or_(IncidentRow.status.not_in(_ENDED), IncidentRow.updated_at > now - QUIET),
    )
    alert = (
        select(AlertRow.id)
        .outerjoin(IncidentRow, IncidentRow.id == AlertRow.incident_id)
        .where(
            AlertRow.target == target,
            AlertRow.status == "firing",
            or_(IncidentRow.status.is_(None), IncidentRow.status != "resolved"),
            or_(AlertRow.severity == "critical", AlertRow.starts_at > now - USUAL),
        )
    )
    if any([await session.scalar(one.limit(1)) is not None for one in (incident, alert)]):
        return False
    return all(crossing.told for crossing in (await crossings.of(session, target)).values())


async def newest(session: AsyncSession, target: str) -> dict[tuple[str, str], datetime]:
    """When the target was last looked at, by node and kind."""
    rows = await session.execute(
        select(BaselineRow.node, BaselineRow.kind, func.max(BaselineRow.at))
        .where(BaselineRow.target == target)
        .group_by(BaselineRow.node, BaselineRow.kind)
    )
    return {(node, kind): at for node, kind, at in rows}


async def keep(
    session: AsyncSession, target: str, shape: ServerShape | KeyShape, node: str = ""
) -> None:
    """Keep one, and delete those that are not needed any more."""
    kind: Kind = "server" if isinstance(shape, ServerShape) else "keyspace"
    row = BaselineRow(
        target=target, node=node, kind=kind, at=shape.at, shape=shape.model_dump(mode="json")
    )
    await session.merge(row)
    of_kind = and_(BaselineRow.target == target, BaselineRow.node == node, BaselineRow.kind == kind)
    there = (await session.scalars(select(BaselineRow.at).where(of_kind))).all()
    gone = set(there) - thinned({*there, shape.at}, shape.at)
    if gone:
        await session.execute(delete(BaselineRow).where(of_kind, BaselineRow.at.in_(gone)))


def thinned(moments: Iterable[datetime], now: datetime) -> set[datetime]:
    """Which looks to keep: none of a clock that ran ahead. Pure."""
    ordered = sorted((at for at in moments if at <= now <= at + KEEP), reverse=True)
    kept = set(ordered[:NEWEST])
    spans: dict[tuple[str, int], datetime] = {}
    for at in ordered[NEWEST:]:
        hours = int(at.timestamp() // 3_600)
        of_a_day = now - at <= timedelta(days=1)
        spans["hour" if of_a_day else "day", hours if of_a_day else hours // 24] = at
    return kept | set(spans.values())


async def of(session: AsyncSession, target: str, node: str = "") -> Baselines:
    """All that are kept of a target, or of a node of its cluster, oldest first."""
    found = await session.execute(
        select(BaselineRow.kind, BaselineRow.shape)
        .where(BaselineRow.target == target, BaselineRow.node == node)
        .order_by(BaselineRow.at)
    )
    kept = Baselines()
    for kind, shape in found:
        with contextlib.suppress(ValidationError):  # another version's
            if kind == "server":
                kept.servers.append(ServerShape.model_validate(shape))
            else:
                kept.keyspaces.append(KeyShape.model_validate(shape))
    return kept
