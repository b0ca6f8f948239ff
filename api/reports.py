"""The post-incident report over HTTP: Markdown, or a page to read in a browser."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.report import render_report
from agent.report_html import content_security_policy, render_page
from api.auth import Viewer
from api.listing import IncidentId
from api.problems import documented
from api.service import Service
from api.store import incidents
from api.store.tables import EventRow, VerdictRow

MOST_EVENTS = 1_000
MOST_VERDICTS = 20
router = APIRouter(prefix="/v1", tags=["incidents"], responses=documented(404))


@router.get(
    "/incidents/{incident_id}/report",
    response_class=PlainTextResponse,
    responses={
        200: {
            "content": {"text/markdown": {}, "text/html": {}},
            "description": "Markdown; HTML with `format=html` or where `Accept` prefers it",
        }
    },
)
async def get_report(
    service: Annotated[Service, Depends(Service.of)],
    person: Viewer,
    incident_id: IncidentId,
    format: Annotated[Literal["markdown", "html"] | None, Query()] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """The post-incident report."""
    async with service.database.reading() as session:
        incident = await incidents.load(session, incident_id)
        said = await _verdicts(session, incident_id)
        events = await _events(session, incident_id)
    await service.seen.note(person, "report", incident_id)
    if format == "html" or (format is None and _prefers_html(accept)):
        headers = {"Content-Security-Policy": content_security_policy()}
        return HTMLResponse(render_page(incident, said, events), headers=headers)
    return PlainTextResponse(
        render_report(incident, said, events), media_type="text/markdown; charset=utf-8"
    )


def _prefers_html(accept: str) -> bool:
    """Does text/html come before what Markdown would do for?"""
    kinds = [kind.partition(";")[0].strip().lower() for kind in accept.split(",")]
    first = next((kind for kind in kinds if kind.startswith("text/")), "")
    return first == "text/html"


async def _verdicts(session: AsyncSession, incident_id: str) -> list[tuple[str, str, str]]:
    rows = await session.scalars(
        select(VerdictRow)
        .where(VerdictRow.incident_id == incident_id)
        .order_by(VerdictRow.id)
        .limit(MOST_VERDICTS)
    )
    return [(row.by, row.root_cause, row.comment) for row in rows]


async def _events(
    session: AsyncSession, incident_id: str
) -> list[tuple[datetime, str, dict[str, Any]]]:
    """The newest, oldest first; looks are told by the evidence itself."""
    rows = await session.scalars(
        select(EventRow)
        .where(EventRow.incident_id == incident_id, EventRow.kind.not_in(("evidence", "end")))
        .order_by(EventRow.number.desc())
        .limit(MOST_EVENTS)
    )
    return [(row.at, row.kind, row.data) for row in rows][::-1]
