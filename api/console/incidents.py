"""Pages of incidents: what burns, one of them, its evidence, its report; and their events."""

from typing import Annotated, get_args

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import Incident, Status
from agent.waiting import waits_for
from api import events, reports
from api.console.incident_view import TYPED_FROM, IncidentView, view_of
from api.console.pages import go_to, page
from api.console.sessions import Visiting, Visitor, person_now
from api.listing import EvidenceId, IncidentId
from api.problems import Problem
from api.service import Service
from api.store import incidents
from api.store.evidence import summaries
from api.store.journal import to_evidence
from api.store.tables import EvidenceRow, LeaseRow

MOST_OPEN = 100
MOST_OVER = 20
MOST_LOOKS = 100
SAID = {
    "approved": "Your yes to {} is kept.",
    "rejected": "{} is rejected.",
    "stopped": "{} is being stopped.",
    "closed": "The incident is closed.",
    "again": "It is looked at again, from the beginning.",
    "verdict": "Your verdict is kept.",
}
"""What came of a form, by the word in the address that it leads to."""
router = APIRouter(include_in_schema=False)
On = Annotated[Service, Depends(Service.of)]
Number = Annotated[int | None, Query(ge=1, le=2**31 - 1)]


@router.get("/")
async def front(_: Visiting) -> Response:
    """What burns."""
    return go_to("/incidents")


@router.get("/incidents")
async def list_page(
    service: On,
    visitor: Visiting,
    status: str = "",
    target: Annotated[str, Query(max_length=200)] = "",
    before: Annotated[str, Query(max_length=64)] = "",
) -> HTMLResponse:
    """What burns now, and what is over; newest first."""
    known: tuple[Status, ...] = get_args(Status)
    still_open = [each for each in known if each not in incidents.CLOSED]
    statuses = still_open if status == "open" else [each for each in known if each == status]
    of = target if target and target.isprintable() else None
    async with service.database.reading() as session:
        rows = await incidents.page(
            session,
            statuses=statuses,
            target=of,
            before=before or None,
            limit=MOST_OPEN + 1,
            evidence=False,
        )
        holders = await _holders(session, rows)
    shown = rows[:MOST_OPEN]
    await service.seen.note(visitor.person, "list")
    open_ones = [row for row in shown if row.status not in incidents.CLOSED]
    return page(
        "incidents",
        visitor,
        burning=[(row, waits_for(row, holders.get(row.id, ""))) for row in open_ones],
        over=[row for row in shown if row.status in incidents.CLOSED],
        statuses=known,
        targets=[known.name for known in service.targets],
        chosen_status=status,
        chosen_target=target,
        older=shown[-1].id if len(rows) > MOST_OPEN else "",
    )


async def _holders(session: AsyncSession, rows: list[Incident]) -> dict[str, str]:
    """By queued incident the other one that its target is worked on for."""
    waiting = {row.target: row.id for row in rows if row.status == "queued"}
    leases = await session.scalars(select(LeaseRow).where(LeaseRow.target.in_(waiting)))
    found = {lease.target: lease.incident_id for lease in leases if lease.incident_id}
    return {waiting[target]: other for target, other in found.items() if other != waiting[target]}


@router.get("/incidents/{incident_id}")
async def incident_page(
    service: On,
    visitor: Visiting,
    incident_id: IncidentId,
    before: Number = None,
    said: str = "",
    about: Annotated[str, Query(pattern=r"^[A-Za-z0-9_.:-]{0,64}$")] = "",
) -> HTMLResponse:
    """One incident."""
    view = await view_of(service, visitor, incident_id, before)
    await service.seen.note(visitor.person, "incident", incident_id)
    return shown(service, visitor, view, said=SAID.get(said, "").format(about))


def shown(
    service: Service,
    visitor: Visitor,
    view: IncidentView,
    *,
    said: str = "",
    problem: Problem | None = None,
) -> HTMLResponse:
    """The page; with what came of a form, or what was wrong with it."""
    return page(
        "incident",
        visitor,
        status=problem.status if problem else 200,
        view=view,
        incident=view.incident,
        diagnosis=view.incident.diagnosis,
        said=said,
        problem=problem.content() if problem else None,
        typed_from=TYPED_FROM,
        causes=sorted({"unknown", "no-incident", *service.library.causes()}),
        configured={known.name for known in service.targets},
    )


@router.get("/incidents/{incident_id}/live")
async def live(
    request: Request, service: On, visitor: Visiting, incident_id: IncidentId, after: Number = None
) -> Response:
    """Events as they happen, for as long as whoever looks is let in."""
    tokens = request.app.state.tokens

    def is_let_in() -> bool:
        return not visitor.digest or person_now(tokens, visitor.digest) == visitor.person

    last = request.headers.get("last-event-id", "")
    number = int(last) if last.isascii() and last.isdigit() and len(last) < 10 else after or 0
    return await events.stream_of(service, visitor.person, is_let_in, incident_id, number)


@router.get("/incidents/{incident_id}/evidence")
async def evidence_list(
    service: On, visitor: Visiting, incident_id: IncidentId, before: Number = None
) -> HTMLResponse:
    """All looks, newest first, a page at a time."""
    async with service.database.reading() as session:
        incident = await incidents.load(session, incident_id, evidence=False)
        looks = (await summaries(session, [incident_id], MOST_LOOKS, before))[incident_id]
    await service.seen.note(visitor.person, "evidence", incident_id)
    first = int(looks[0].id[1:]) if looks else 1
    return page(
        "looks", visitor, incident=incident, looks=looks[::-1], older=first if first > 1 else None
    )


@router.get("/incidents/{incident_id}/evidence/{evidence_id}")
async def evidence_page(
    service: On, visitor: Visiting, incident_id: IncidentId, evidence_id: EvidenceId
) -> HTMLResponse:
    """One look, whole: what was asked, when, of which node, and what was read."""
    async with service.database.reading() as session:
        incident = await incidents.load(session, incident_id, evidence=False)
        row = await session.get(EvidenceRow, (incident_id, int(evidence_id[1:])))
    if row is None:
        raise Problem(404, "the incident has no such evidence")
    await service.seen.note(visitor.person, "evidence", incident_id)
    piece = to_evidence(row)
    return page("look", visitor, incident=incident, piece=piece, source=source_of(row.tool))


def source_of(tool: str) -> str:
    """The Redis commands that a tool reads, as its description says."""
    from tools.reads import READS

    known = READS.get(tool)
    said = known.description if known is not None else ""
    _, mark, commands = said.partition("Source:")
    return commands.strip().rstrip(".") if mark else ""


@router.get("/incidents/{incident_id}/report")
async def report(service: On, visitor: Visiting, incident_id: IncidentId) -> Response:
    """The post-incident report, as a page of its own."""
    return await reports.get_report(service, visitor.person, incident_id, format="html")
