"""Incidents over HTTP: opening one, reading, judging, closing."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import Culprit, Incident, Status
from agent.redaction import redact
from api.alerts.placing import place_of
from api.auth import Responder, Viewer
from api.listing import Comment, Cursor, EvidenceId, IncidentId, Limit, Page
from api.problems import Problem, documented
from api.service import Service
from api.store import audit, decisions, incidents
from api.store.events import publish
from api.store.homes import Homes
from api.store.journal import to_evidence
from api.store.tables import EvidenceRow, IncidentRow, VerdictRow
from tools.reading import Evidence, printable

router = APIRouter(prefix="/v1", tags=["incidents"], responses=documented(404))
On = Annotated[Service, Depends(Service.of)]
_RUNNING = ("queued", "investigating", "awaiting_approval", "remediating", "verifying")
_WRITING = ("remediating", "verifying")


class Body(BaseModel):
    """Base of what is posted: an unknown field is a mistake worth telling."""

    model_config = ConfigDict(extra="forbid")


class NewInvestigation(Body):
    """What to look at, and optionally what for."""

    target: str = Field(max_length=200)
    question: Comment = ""


class OpenedInvestigation(BaseModel):
    """The incident that looks into it."""

    id: str
    status: Status
    created: bool


def _printable_name(culprit: Culprit | None) -> Culprit | None:
    return culprit and culprit.model_copy(update={"name": redact(printable(culprit.name))})


class Verdict(Body):
    """What it really was."""

    root_cause: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,99}$")
    culprit: Annotated[Culprit | None, AfterValidator(_printable_name)] = None
    comment: Comment = ""


class Reason(Body):
    """Why, for the record."""

    comment: Comment = ""


@router.post("/investigations", status_code=202, responses=documented(503))
async def investigate(
    service: On, person: Responder, body: NewInvestigation
) -> OpenedInvestigation:
    """Look into a configured target; joins what is under way there, or on one that is related."""
    place = place_of(service.target(body.target), service.targets)
    async with service.database.writing() as session:
        await service.database.exclude(session, place.lock())
        row = (await Homes.of(session, [place])).on(place)
        created = row is None or not _is_under_way(row, body.target)
        if row is None or created:
            row = await incidents.open_incident(
                session,
                title=body.question.strip().splitlines()[0][:200]
                if body.question.strip()
                else f"Investigation of {body.target}",
                target=body.target,
                question=body.question,
            )
        elif body.question.strip():
            data = {"status": row.status, "question": body.question, "by": person.name}
            await publish(session, row, "status", data | {"target": body.target})
        await audit.note(session, person, "investigate", row.id, target=body.target)
        opened = OpenedInvestigation(id=row.id, status=row.status, created=created)
    await service.queue.nudge(opened.id)
    return opened


def _is_under_way(row: IncidentRow, target: str) -> bool:
    """Also while people decide; on a related target they may take a day, and it is not this one."""
    return row.status in _RUNNING and (row.target == target or row.status != "awaiting_approval")


@router.get("/incidents")
async def list_incidents(
    service: On,
    person: Viewer,
    status: Annotated[list[Status], Query(max_length=9, description="Any of these")] = [],  # noqa: B006
    target: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[Incident]:
    """Incidents, newest first."""
    if target is not None and not target.isprintable():
        return Page(items=[])
    async with service.database.reading() as session:
        items = await incidents.page(
            session, statuses=status, target=target, before=cursor, limit=limit + 1
        )
    await service.seen.note(person, "list")
    more = len(items) > limit
    return Page(items=items[:limit], next_cursor=items[limit - 1].id if more else None)


@router.get("/incidents/{incident_id}")
async def get_incident(service: On, person: Viewer, incident_id: IncidentId) -> Incident:
    """The whole incident."""
    async with service.database.reading() as session:
        incident = await incidents.load(session, incident_id)
    await service.seen.note(person, "incident", incident_id)
    return incident


@router.get("/incidents/{incident_id}/evidence/{evidence_id}")
async def get_evidence(
    service: On, person: Viewer, incident_id: IncidentId, evidence_id: EvidenceId
) -> Evidence:
    """One piece of evidence, whole."""
    async with service.database.reading() as session:
        row = await session.get(EvidenceRow, (incident_id, int(evidence_id[1:])))
    if row is None:
        raise Problem(404, "the incident has no such evidence")
    await service.seen.note(person, "evidence", incident_id)
    return to_evidence(row)


@router.post("/incidents/{incident_id}/verdict")
async def give_verdict(
    service: On, person: Responder, incident_id: IncidentId, body: Verdict
) -> Verdict:
    """Say what it really was; this labels the recording."""
    known = {"unknown", "no-incident", *service.library.causes()}
    if body.root_cause not in known:
        message = "not a root cause of any runbook, nor `unknown` or `no-incident`"
        raise Problem(422, "the root cause is not known", [("root_cause", message)])
    async with service.database.writing() as session:
        row = await incidents.lock(session, incident_id)
        culprit = body.culprit.model_dump(mode="json") if body.culprit else None
        session.add(
            VerdictRow(
                incident_id=row.id,
                by=person.name,
                root_cause=body.root_cause,
                culprit=culprit,
                comment=body.comment,
                at=incidents.now(),
            )
        )
        await audit.note(session, person, "verdict", row.id, root_cause=body.root_cause)
        data = {"status": row.status, "verdict": body.root_cause, "by": person.name}
        await publish(session, row, "status", data)
    return body


@router.post("/incidents/{incident_id}/reinvestigate", status_code=202, responses=documented(409))
async def reinvestigate(
    service: On, person: Responder, incident_id: IncidentId, body: Reason | None = None
) -> Incident:
    """Look again, from the beginning. What is proposed lapses."""
    async with service.database.writing() as session:
        row = await incidents.lock(session, incident_id)
        if row.target not in {target.name for target in service.targets}:
            raise Problem(
                409,
                "the incident has no configured target to look at: `POST /v1/investigations` "
                "names one",
            )
        if row.status in _RUNNING and row.status != "awaiting_approval":
            raise Problem(409, f"it is {row.status}: wait until that has ended")
        await _must_not_be_at_work(session, row)
        comment = body.comment if body else ""
        await decisions.lapse_all(session, row, f"{person.name} asked to look again")
        incidents.asked_now(row)
        await incidents.begin_attempt(session, row, comment or f"{person.name} asked to look again")
        await audit.note(session, person, "reinvestigate", row.id, comment=comment)
        incident = await incidents.reload(session, row)
    await service.queue.nudge(incident_id)
    return incident


@router.post("/incidents/{incident_id}/close", responses=documented(409))
async def close(
    service: On, person: Responder, incident_id: IncidentId, body: Reason | None = None
) -> Incident:
    """Nothing more to do here. What is proposed lapses; a change under way must end first."""
    async with service.database.writing() as session:
        row = await incidents.lock(session, incident_id)
        if row.status != "closed":
            if row.status in _WRITING:
                raise Problem(409, f"it is {row.status}: a change is under way")
            await _must_not_be_at_work(session, row)
            because = f"closed by {person.name}" + (
                f": {body.comment}" if body and body.comment else ""
            )
            await decisions.lapse_all(session, row, because)
            await incidents.move(session, row, "closed", because)
            await audit.note(session, person, "close", row.id, because=because)
        return await incidents.reload(session, row)


async def _must_not_be_at_work(session: AsyncSession, row: IncidentRow) -> None:
    if await decisions.at_work(session, row):
        raise Problem(409, "an approved action is being carried out: wait until that has ended")
