"""Pages of incidents: what burns, one of them, its evidence, its report; and their events."""

from collections.abc import Callable
from typing import Annotated, get_args

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import Incident, Status
from agent.waiting import waits_for
from api import events, reports
from api.console.incident_view import TYPED_FROM, IncidentView, view_of
from api.console.pages import go_to, page
from api.console.sessions import Visiting, Visitor, person_now
from api.listing import Cursor, EvidenceId, IncidentId
from api.problems import Problem
from api.service import Service
from api.store import incidents, leases
from api.store.evidence import summaries
from api.store.journal import to_evidence
from api.store.tables import EvidenceRow

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
"""What came of a form, by the word that stands for it."""
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
    before: Cursor = None,
) -> HTMLResponse:
    """What burns now, all of it whatever is over since; and what is over. Newest first."""
    known: tuple[Status, ...] = get_args(Status)
    status = status if status in ("open", *known) else ""
    target = target if target.isprintable() else ""
    asked = [each for each in known if not status or status in (each, "open")]
    open_ones = [each for each in asked if each not in incidents.CLOSED]
    closed = [each for each in asked if each in incidents.CLOSED and status != "open"]
    async with service.database.reading() as session:
        of_open = None if closed else before
        burning, more = await _some(session, open_ones, target, of_open, MOST_OPEN)
        over, older = await _some(session, closed, target, before, MOST_OVER)
        queued = {row.target for row in burning if row.status == "queued"}
        holders = await leases.at_work(session, service.database, queued) if queued else {}
    await service.seen.note(visitor.person, "list")
    return page(
        "incidents",
        visitor,
        burning=[(row, waits_for(row, holders.get(row.target, ""))) for row in burning],
        over=over,
        statuses=known,
        targets=sorted({*(known.name for known in service.targets), *filter(None, [target])}),
        chosen_status=status,
        chosen_target=target,
        more=more,
        older=older,
    )


async def _some(
    session: AsyncSession, statuses: list[Status], target: str, before: str | None, most: int
) -> tuple[list[Incident], str]:
    """The newest of these; and, where there are older ones, the id before which they are."""
    if not statuses:
        return [], ""
    rows = await incidents.page(
        session,
        statuses=statuses,
        target=target or None,
        before=before,
        limit=most + 1,
        evidence=False,
    )
    return rows[:most], rows[most - 1].id if len(rows) > most else ""


@router.get("/incidents/{incident_id}")
async def incident_page(
    service: On,
    visitor: Visiting,
    incident_id: IncidentId,
    before: Number = None,
    said: str = "",
) -> HTMLResponse:
    """One incident."""
    view = await view_of(service, visitor, incident_id, before)
    await service.seen.note(visitor.person, "incident", incident_id)
    return shown(service, visitor, view, said=_words(visitor, incident_id, said))


def came_of(visitor: Visitor, incident_id: str, said: str, about: str) -> str:
    """What came of a form, for the address that it leads to: nobody else's link can say so."""
    return visitor.sessions.sealed(
        said=said, about=about, of=incident_id, session=visitor.session
    )  # fmt: skip


def _words(visitor: Visitor, incident_id: str, sealed: str) -> str:
    content = visitor.sessions.opened(sealed)
    if (content.get("of"), content.get("session")) != (incident_id, visitor.session):
        return ""
    return SAID.get(content.get("said", ""), "").format(content.get("about", ""))


def shown(
    service: Service,
    visitor: Visitor,
    view: IncidentView,
    *,
    said: str = "",
    problem: Problem | None = None,
    typed: Callable[[str, str], str] = lambda _, __: "",
) -> HTMLResponse:
    """The page; with what came of a form, or what was wrong with it and what was typed there."""
    return page(
        "incident",
        visitor,
        status=problem.status if problem else 200,
        view=view,
        incident=view.incident,
        diagnosis=view.incident.diagnosis,
        said=said,
        typed=typed,
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
