"""One target as its page shows it: what is known of it, and how old that is."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.context import Target
from agent.incident import ChecklistItem, Incident
from agent.memory_picture import TOOLS, MemoryPicture, memory_picture
from api.console.drawing import Trend, trend
from api.console.target_view import DAY, Glance, Saved, about, glance_at, saved
from api.freezes import Freeze
from api.outlooks import Outlook
from api.service import Service
from api.store import baselines, glances, incidents, silences
from api.store.evidence import newest_of
from api.store.journal import to_evidence
from api.store.tables import EvidenceRow

MOST_INCIDENTS = 20
MOST_PICTURED = 3
"""The newest incidents whose evidence is looked through for a picture of the memory."""
MOST_PARTS = 12
MOST_LOOKS = 3
LONG = timedelta(days=30)
HOUR = 3_600
OUTLOOK_SECONDS = 3.0
"""Prometheus may take longer; a page waits for it no longer."""


@dataclass(frozen=True)
class Checklist:
    """The production checklist, as an incident's investigation evaluated it."""

    items: Sequence[ChecklistItem]
    incident_id: str
    at: datetime | None
    """Of the newest look that it rests on."""

    def count(self, result: str) -> int:
        """How many items."""
        return sum(item.result == result for item in self.items)


@dataclass(frozen=True)
class Healthy:
    """When it was last looked at while nothing was wrong, and whether that is so now."""

    looks: Sequence[tuple[str, str, datetime]]
    """Node (empty: whichever answers), kind, time; newest first."""
    now: bool


@dataclass(frozen=True)
class TargetView:
    """What its page shows."""

    glance: Glance
    target: Target
    outlook: Outlook
    incidents: Sequence[Incident]
    more: bool
    month: Trend | None
    picture: MemoryPicture | None
    pictured: str
    """The incident that it is of."""
    saved: Saved | None
    checklist: Checklist | None
    changed: Incident | None
    """The newest whose diagnosis says what changed since healthy times."""
    healthy: Healthy
    silenced: Sequence[tuple[Freeze, dict[str, str]]]
    """With the labels that an alert has to carry."""
    related: Sequence[str]


async def target_view(service: Service, target: Target) -> TargetView:
    """Read in a bounded number of rows."""
    async with service.database.reading() as session:
        glance = await glance_at(service, session, target)
        found = await incidents.page(
            session, target=target.name, limit=MOST_INCIDENTS + 1, evidence=False
        )
        shown = found[:MOST_INCIDENTS]
        looks = await glances.persistence(session, [one.id for one in shown])
        newest = max(looks.values(), key=lambda row: row.taken_at, default=None)
        now = incidents.now()
        hours = await glances.spans(session, [target.name], now - LONG, HOUR)
        month = hours.get(target.name, [])
        picture, pictured = await _picture(session, shown)
        view = TargetView(
            glance=glance,
            target=target,
            outlook=Outlook(now, "nobody"),
            incidents=shown,
            more=len(found) > MOST_INCIDENTS,
            month=trend(month, glance.limit) if _is_longer(month) else None,
            picture=picture,
            pictured=pictured,
            saved=saved(newest),
            checklist=await _checklist(session, shown),
            changed=next((i for i in shown if i.diagnosis and i.diagnosis.changes), None),
            healthy=await _healthy(session, target.name, now),
            silenced=await _silenced(service, session, glance, now),
            related=[
                one.name
                for one in service.targets
                if target.part_of and one.part_of == target.part_of and one.name != target.name
            ][:MOST_PARTS],
        )
    try:
        async with asyncio.timeout(OUTLOOK_SECONDS):
            outlook = await service.outlooks.of(target.name, glance.limit)
    except TimeoutError:
        outlook = Outlook(now, "nobody", because="whoever keeps its samples has not answered yet")
    return replace(view, outlook=outlook)


def _is_longer(points: Sequence[tuple[datetime, float]]) -> bool:
    """Than what the curve of a day shows already."""
    return bool(points) and points[-1][0] - points[0][0] > 1.5 * DAY


async def _picture(
    session: AsyncSession, found: Iterable[Incident]
) -> tuple[MemoryPicture | None, str]:
    for one in list(found)[:MOST_PICTURED]:
        rows = await newest_of(session, one.id, one.attempt, TOOLS, MOST_LOOKS)
        if (picture := memory_picture(map(to_evidence, rows))) is not None:
            return picture, one.id
    return None, ""


async def _checklist(session: AsyncSession, found: Iterable[Incident]) -> Checklist | None:
    one = next((incident for incident in found if incident.plan.checklist), None)
    if one is None:
        return None
    items = one.plan.checklist
    cited = {int(i[1:]) for item in items for i in item.evidence if i[1:].isdecimal()}
    taken = select(func.max(EvidenceRow.taken_at)).where(
        EvidenceRow.incident_id == one.id, EvidenceRow.number.in_(cited)
    )
    order = ("fail", "not_measured", "pass")
    return Checklist(
        sorted(items, key=lambda item: order.index(item.result)),
        one.id,
        await session.scalar(taken) if cited else None,
    )


async def _healthy(session: AsyncSession, name: str, now: datetime) -> Healthy:
    looks = await baselines.newest(session, name)
    rows = [(node, kind, at) for (node, kind), at in looks.items()]
    return Healthy(
        sorted(rows, key=lambda row: row[2], reverse=True)[:MOST_PARTS],
        await baselines.is_quiet(session, name, now),
    )


async def _silenced(
    service: Service, session: AsyncSession, glance: Glance, now: datetime
) -> list[tuple[Freeze, dict[str, str]]]:
    declared = await silences.in_force(session, now)
    labels = {row.id: row.labels for row in declared}
    windows = service.settings.config.silencing()
    return [
        (one, {} if one.id is None else labels.get(one.id, {}))
        for one in about(glance, declared, windows, now)
    ]
