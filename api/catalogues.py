"""What there is: targets, runbooks, tools, remedies."""

import inspect
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel

from agent.incident import Severity
from agent.runbook_search import LONGEST_QUERY, index_of
from agent.thresholds import spoken
from api.auth import Viewer
from api.listing import Page
from api.problems import Problem, documented
from api.service import Service
from api.store import glances, incidents
from api.thresholds import Rule, rules
from tools.connection import display_url
from tools.reads import READS
from tools.remedies.catalogue import REMEDIES
from tools.remedies.remedy import Need, Remedy, Risk

TREND = timedelta(days=1)
router = APIRouter(prefix="/v1", tags=["catalogues"])
On = Annotated[Service, Depends(Service.of)]


class TargetShown(BaseModel):
    """A configured server, without its credentials."""

    name: str
    address: str
    environment: str
    memory_limit: int | None
    match: dict[str, str]
    part_of: str
    """Targets of the same share their incidents."""
    remedies: bool
    """Is there a second identity to apply approved actions with?"""
    watched: bool
    """Do thresholds of the runbooks raise alerts on it? Which ones, the runbooks say."""


class MemoryKept(BaseModel):
    """Used memory around one time."""

    at: datetime
    used_bytes: int


class MemoryOfTarget(BaseModel):
    """What is kept of a target's memory, oldest first."""

    target: str
    samples: list[MemoryKept]


class ThresholdShown(BaseModel):
    """An alert that runbooks ask for."""

    threshold: str
    lasts: str
    severity: Severity
    not_watched: str
    """Why `watch` cannot raise it; empty: it can."""


class RunbookShown(BaseModel):
    """A runbook that is loaded."""

    id: str
    title: str
    severity: Severity
    causes: list[str]
    alerts: list[str]
    thresholds: list[ThresholdShown]
    prose_only: bool


class PassageShown(BaseModel):
    """A section of a runbook."""

    runbook: str
    title: str
    """Of the runbook."""
    section: str
    text: str


class ToolShown(BaseModel):
    """A read-only tool."""

    name: str
    description: str
    arguments: dict[str, Any]
    """JSON Schema."""


class RemedyShown(BaseModel):
    """A typed change that a plan may propose. What is not listed cannot be done."""

    kind: str
    risk: Risk
    executable: bool
    """False: a proposal or advice that people carry out."""
    needs: list[Need]
    """What must be configured, else it is only proposed."""
    description: str
    arguments: dict[str, Any]
    """JSON Schema."""


def remedy_shown(remedy: Remedy[Any]) -> RemedyShown:
    """A remedy as catalogues list it."""
    return RemedyShown(
        kind=remedy.kind,
        risk=remedy.risk,
        executable=remedy.executable,
        needs=sorted(remedy.needs),
        description=inspect.getdoc(remedy) or "",
        arguments=remedy.args.model_json_schema(),
    )


@router.get("/targets")
async def list_targets(service: On, _: Viewer) -> Page[TargetShown]:
    """The configured targets."""
    config = service.settings.config
    return Page(
        items=[
            TargetShown(
                name=target.name,
                address=display_url(target.url),
                environment=target.environment,
                memory_limit=target.memory_limit,
                match=target.match,
                part_of=target.part_of,
                watched=config.watches_thresholds and target.name not in config.watch.skip_targets,
                remedies=target.remedy_url is not None,
            )
            for target in service.targets
        ]
    )


@router.get("/targets/{name}/memory", responses=documented(404))
async def target_memory(
    service: On, _: Viewer, name: Annotated[str, Path(max_length=200, description="A target")]
) -> MemoryOfTarget:
    """Its used memory of the last 24 hours as `watch` samples it: means of ten minutes."""
    target = next((known for known in service.targets if known.name == name), None)
    if target is None:
        raise Problem(404, "there is no such target; GET /v1/targets has all of them")
    async with service.database.reading() as session:
        found = await glances.spans(session, [name], incidents.now() - TREND)
    return MemoryOfTarget(
        target=name,
        samples=[MemoryKept(at=at, used_bytes=round(used)) for at, used in found.get(name, [])],
    )


def thresholds_shown(known: Sequence[Rule], book: str) -> list[ThresholdShown]:
    """Those that this runbook asks for."""
    return [
        ThresholdShown(
            threshold=spoken(rule.threshold),
            lasts=rule.threshold.for_,
            severity=rule.threshold.severity,
            not_watched=rule.because,
        )
        for rule in known
        if book in rule.runbooks
    ]


@router.get("/runbooks")
async def list_runbooks(service: On, _: Viewer) -> Page[RunbookShown]:
    """The runbooks that are loaded."""
    known = rules(service.library, service.settings.config.watch)
    return Page(
        items=[
            RunbookShown(
                id=book.id,
                title=book.front.title,
                severity=book.front.severity,
                causes=[cause.id for cause in book.front.causes],
                alerts=book.front.matches.alerts,
                thresholds=thresholds_shown(known, book.id),
                prose_only=book.prose_only,
            )
            for book in service.library.runbooks
        ]
    )


@router.get(
    "/runbooks/{runbook_id}",
    response_class=PlainTextResponse,
    responses={
        200: {"content": {"text/markdown": {}}, "description": "Markdown, without front matter"},
        **documented(404),
    },
)
async def get_runbook(
    service: On, _: Viewer, runbook_id: Annotated[str, Path(max_length=200)]
) -> Response:
    """One runbook, whole."""
    body = next((book.body for book in service.library.runbooks if book.id == runbook_id), None)
    if body is None:
        raise Problem(404, "no such runbook is loaded; `GET /v1/runbooks` lists them")
    return PlainTextResponse(body, media_type="text/markdown; charset=utf-8")


@router.get("/passages")
async def search_runbooks(
    service: On,
    _: Viewer,
    query: Annotated[str, Query(min_length=2, max_length=LONGEST_QUERY)],
    limit: Annotated[int, Query(ge=1, le=20, description="Sections at most")] = 5,
) -> Page[PassageShown]:
    """Sections of the runbooks that answer a question, best first."""
    found = index_of(service.library).find(query, limit)
    return Page(items=[PassageShown.model_validate(each, from_attributes=True) for each in found])


@router.get("/tools")
async def list_tools(_: Viewer) -> Page[ToolShown]:
    """The read-only tools a reasoner may use."""
    return Page(
        items=[
            ToolShown(
                name=tool.name,
                description=tool.description,
                arguments=tool.args.model_json_schema(),
            )
            for tool in READS.values()
        ]
    )


@router.get("/remedies")
async def list_remedies(_: Viewer) -> Page[RemedyShown]:
    """The typed changes a plan may propose, each behind the gate."""
    return Page(items=[remedy_shown(remedy) for remedy in REMEDIES.values()])
