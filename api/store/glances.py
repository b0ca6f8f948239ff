"""Many targets at a glance: a few statements for all of them, in each a look or two a target."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, get_args

from sqlalchemy import JSON, ColumnElement, Integer, and_, cast, extract, func, literal, select
from sqlalchemy import TableValuedAlias as Rows
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from agent.incident import Status
from api.store.incidents import CLOSED
from api.store.samples import SPAN_SECONDS
from api.store.tables import EvidenceRow, IncidentRow
from api.store.target_tables import SampleRow

OPEN = tuple(status for status in get_args(Status) if status not in CLOSED)
MOST_OPEN = 300
"""Open incidents of one page of targets."""
NEWEST_LOOKS = 200
"""Of an incident, among which a look at persistence is searched for."""


class LastSample(NamedTuple):
    """The newest look at a target's memory; None where its server did not say."""

    target: str
    at: datetime
    used_bytes: int
    rss_bytes: int | None
    limit_bytes: int | None
    keys: int | None


class OpenIncident(NamedTuple):
    """An incident that is not over."""

    id: str
    target: str
    severity: str
    status: str
    title: str


@dataclass(frozen=True)
class Newest:
    """The newest incident of a target."""

    id: str
    opened_at: datetime
    checklist: Sequence[dict[str, Any]]
    persistence: EvidenceRow | None
    """Its newest look at snapshots and append-only file."""


def _rows(session: AsyncSession, names: Sequence[str]) -> Rows:
    """The names as rows: one value, however many there are of them."""
    sqlite = session.get_bind().dialect.name == "sqlite"
    each = func.json_each if sqlite else func.json_array_elements_text
    return each(literal(list(names), JSON)).table_valued("value")


async def last_samples(session: AsyncSession, names: Sequence[str]) -> dict[str, LastSample]:
    """The newest sample of each target that has one."""
    rows = _rows(session, names)
    name: ColumnElement[str] = rows.c.value
    other = aliased(SampleRow)
    last = select(func.max(other.at)).where(other.target == name).scalar_subquery()
    # Columns, not rows of the ORM: of thousands those take most of the time.
    columns = [getattr(SampleRow, column) for column in LastSample._fields]
    found = await session.execute(
        select(*columns).join(rows, and_(SampleRow.target == name, SampleRow.at == last))
    )
    return {sample.target: sample for sample in map(LastSample._make, found)}


async def spans(
    session: AsyncSession, names: Sequence[str], since: datetime, seconds: int = SPAN_SECONDS
) -> dict[str, list[tuple[datetime, float]]]:
    """used_memory of each target since then, the mean of so many seconds, oldest first."""
    span = cast(extract("epoch", SampleRow.at) / seconds, Integer)
    last = func.max(SampleRow.at)
    rows = await session.execute(
        select(SampleRow.target, last, func.avg(SampleRow.used_bytes))
        .where(SampleRow.target.in_(names), SampleRow.at >= since)
        .group_by(SampleRow.target, span)
        .order_by(last)
    )
    found = defaultdict[str, list[tuple[datetime, float]]](list)
    for target, at, used in rows:
        found[target].append((at, float(used)))
    return dict(found)


async def severities(session: AsyncSession) -> dict[str, set[str]]:
    """Those of open incidents, by target."""
    rows = await session.execute(
        select(IncidentRow.target, IncidentRow.severity)
        .where(IncidentRow.status.in_(OPEN))
        .group_by(IncidentRow.target, IncidentRow.severity)
    )
    found = defaultdict[str, set[str]](set)
    for target, severity in rows:
        found[target].add(severity)
    return dict(found)


async def open_on(session: AsyncSession, names: Sequence[str]) -> list[OpenIncident]:
    """Open incidents of these targets, newest first, at most `MOST_OPEN`."""
    diagnosed = IncidentRow.diagnosis["title"].as_string()
    rows = await session.execute(
        select(
            IncidentRow.id,
            IncidentRow.target,
            IncidentRow.severity,
            IncidentRow.status,
            func.coalesce(diagnosed, IncidentRow.title),
        )
        .where(IncidentRow.target.in_(names), IncidentRow.status.in_(OPEN))
        .order_by(IncidentRow.id.desc())
        .limit(MOST_OPEN)
    )
    return [OpenIncident(*row) for row in rows]


async def newest(session: AsyncSession, names: Sequence[str]) -> dict[str, Newest]:
    """The newest incident of each target that has one."""
    rows = _rows(session, names)
    name: ColumnElement[str] = rows.c.value
    other = aliased(IncidentRow)
    last = select(func.max(other.id)).where(other.target == name).scalar_subquery()
    columns = (IncidentRow.id, IncidentRow.target, IncidentRow.opened_at, IncidentRow.checklist)
    found = (await session.execute(select(*columns).join(rows, IncidentRow.id == last))).all()
    looks = await persistence(session, [row.id for row in found])
    return {
        row.target: Newest(row.id, row.opened_at, row.checklist or (), looks.get(row.id))
        for row in found
    }


async def persistence(session: AsyncSession, ids: Sequence[str]) -> dict[str, EvidenceRow]:
    """The newest look at persistence of each incident, if it is among its newest."""
    other = aliased(EvidenceRow)
    number = (
        select(func.max(other.number))
        .where(
            other.incident_id == IncidentRow.id,
            other.number > IncidentRow.last_evidence - NEWEST_LOOKS,
            other.tool == "persistence",
            other.measured.is_(True),
        )
        .scalar_subquery()
    )
    rows = await session.scalars(
        select(EvidenceRow)
        .join(IncidentRow, EvidenceRow.incident_id == IncidentRow.id)
        .where(IncidentRow.id.in_(ids), EvidenceRow.number == number)
    )
    return {row.incident_id: row for row in rows}
