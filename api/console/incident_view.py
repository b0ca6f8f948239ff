"""One incident as its page shows it: read in a bounded number of rows, however much there is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.effects import HEIGHT, WIDTH, Effect, effects
from agent.incident import Action, EvidenceSummary, Incident, Role
from agent.memory_picture import TOOLS, MemoryPicture, memory_picture
from agent.policy import may_approve
from agent.runbook import Library
from agent.thresholds import declared
from agent.waiting import waits_for
from api.console.drawing import Treemap, Trend, treemaps, trend
from api.console.sessions import Visitor
from api.console.timeline import Moment, moments
from api.service import Service
from api.store import incidents, leases, samples
from api.store.evidence import newest_of, summaries
from api.store.journal import to_evidence
from api.store.tables import EventRow, EvidenceRow, MessageRow, VerdictRow

MOST_EVENTS = 100
MOST_EVIDENCE = 25
MOST_LOOKS = 3
"""Of each tool that the memory is drawn of."""
MOST_TURNS = 12
MOST_VERDICTS = 20
TREND = timedelta(days=1)
TYPED_FROM = ("R2", "R3", "R4")
"""Risks for which the target's name has to be typed."""


@dataclass(frozen=True)
class Threshold:
    """A share of the limit that a runbook warns of."""

    share: float
    severity: str


@dataclass(frozen=True)
class IncidentView:
    """What its page shows."""

    incident: Incident
    waits: str
    happened: Sequence[Moment]
    """Newest last."""
    earlier: int | None
    """The number before which there are more."""
    last_event: int
    looks: Sequence[EvidenceSummary]
    all_looks: int
    picture: MemoryPicture | None
    treemaps: Sequence[Treemap]
    thresholds: Sequence[Threshold]
    trend: Trend | None
    effects: Sequence[Effect]
    turns: Sequence[MessageRow]
    verdicts: Sequence[VerdictRow]
    approvable: frozenset[str]
    """Actions that whoever looks may approve."""
    width: float = WIDTH
    height: float = HEIGHT

    @property
    def goes_on(self) -> bool:
        """Something may still happen by itself."""
        return self.incident.status not in incidents.FINAL

    @property
    def executable(self) -> list[Action]:
        """What can be done from here."""
        return [action for action in self.incident.plan.actions if action.executable]

    @property
    def for_people(self) -> list[Action]:
        """What people have to do."""
        return [action for action in self.incident.plan.actions if not action.executable]

    @property
    def next_action(self) -> Action | None:
        """The first that waits for an approval."""
        if self.incident.status != "awaiting_approval":
            return None
        return next((one for one in self.executable if one.status == "proposed"), None)


async def view_of(
    service: Service, visitor: Visitor, incident_id: str, before: int | None = None
) -> IncidentView:
    """Events before that number, or the newest. Raises NoSuchIncident."""
    async with service.database.reading() as session:
        # First: what happens while the rest is read is told by the stream.
        last_event, count = await _counts(session, incident_id)
        incident = await incidents.load(session, incident_id, evidence=False)
        events = await _events(session, incident_id, before)
        looks = (await summaries(session, [incident_id], newest=MOST_EVIDENCE))[incident_id]
        seen = await newest_of(session, incident_id, incident.attempt, TOOLS, MOST_LOOKS)
        turns = await _turns(session, visitor, incident_id)
        verdicts = await _verdicts(session, incident_id)
        held = await leases.at_work(session, service.database, [incident.target])
        until = incident.updated_at if incident.status in incidents.CLOSED else incidents.now()
        kept = await samples.recent(session, incident.target, until - TREND, until)
    picture = memory_picture(map(to_evidence, seen))
    first = events[0].number if events else 0
    known = [(k.at, k.used_memory_bytes) for k in kept if k.used_memory_bytes is not None]
    return IncidentView(
        incident=incident,
        waits=waits_for(incident, held.get(incident.target, ""))
        if incident.status not in incidents.CLOSED
        else "",
        happened=moments([(row.number, row.at, row.kind, row.data) for row in events]),
        earlier=first if first > 1 else None,
        last_event=last_event,
        looks=looks,
        all_looks=count,
        picture=picture,
        treemaps=treemaps(picture) if picture else (),
        thresholds=thresholds_of(service.library, incident),
        trend=trend(_with_looks(known, seen, until - TREND), picture.limit if picture else None),
        effects=effects(incident.plan.actions),
        turns=turns,
        verdicts=verdicts,
        approvable=_approvable(service, visitor, incident),
    )


def _with_looks(
    known: list[tuple[datetime, float]], looks: Sequence[EvidenceRow], since: datetime
) -> list[tuple[datetime, float]]:
    """What `watch` kept and what this incident saw."""
    for row in looks:
        used = row.reading.get("used_memory")
        if row.tool == "memory_info" and isinstance(used, int) and row.taken_at >= since:
            known.append((row.taken_at, float(used)))
    return sorted(known)


def thresholds_of(library: Library, incident: Incident) -> list[Threshold]:
    """Shares of the limit that the incident's runbooks warn of, lowest first."""
    loaded = {match.id for match in incident.runbooks}
    books = [book for book in library.runbooks if book.id in loaded]
    found = {
        asked.above: asked.severity
        for asked, _ in declared(books).values()
        if asked.when == "memory_info.pressure" and asked.above is not None
    }
    return [Threshold(share, severity) for share, severity in sorted(found.items())]


def _approvable(service: Service, visitor: Visitor, incident: Incident) -> frozenset[str]:
    if not visitor.may("responder"):
        return frozenset()
    environment, policy = service.environment(incident.target), service.settings.policy
    role = cast(Role, visitor.person.role)
    return frozenset(
        action.id
        for action in incident.plan.actions
        if action.executable and may_approve(role, action.risk, environment, policy)
    )


async def _events(session: AsyncSession, incident_id: str, before: int | None) -> list[EventRow]:
    query = select(EventRow).where(EventRow.incident_id == incident_id, EventRow.kind != "end")
    if before is not None:
        query = query.where(EventRow.number < before)
    rows = await session.scalars(query.order_by(EventRow.number.desc()).limit(MOST_EVENTS))
    return list(rows)[::-1]


async def _counts(session: AsyncSession, incident_id: str) -> tuple[int, int]:
    newest = select(func.max(EventRow.number)).where(EventRow.incident_id == incident_id)
    looks = select(func.count()).where(EvidenceRow.incident_id == incident_id)
    return await session.scalar(newest) or 0, await session.scalar(looks) or 0


async def _turns(session: AsyncSession, visitor: Visitor, incident_id: str) -> list[MessageRow]:
    rows = await session.scalars(
        select(MessageRow)
        .where(MessageRow.by == visitor.person.name, MessageRow.incident_id == incident_id)
        .order_by(MessageRow.id.desc())
        .limit(MOST_TURNS)
    )
    return list(rows)[::-1]


async def _verdicts(session: AsyncSession, incident_id: str) -> list[VerdictRow]:
    rows = await session.scalars(
        select(VerdictRow)
        .where(VerdictRow.incident_id == incident_id)
        .order_by(VerdictRow.id.desc())
        .limit(MOST_VERDICTS)
    )
    return list(rows)[::-1]
