"""The page of the audit trail: who did what."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse

from agent.report import short
from api.auth import must_be
from api.console.pages import page
from api.console.sessions import Visiting
from api.service import Service
from api.store.trail_pages import MOST_LOOKED_THROUGH, Wanted
from api.store.trail_pages import page as trail_page

SHORT = 200
"""Characters of a row's detail that are shown before it is opened."""
router = APIRouter(include_in_schema=False)
On = Annotated[Service, Depends(Service.of)]
Text = Annotated[str, Query(max_length=200)]
Before = Annotated[int | None, Query(ge=1, le=2**31 - 1)]


@router.get("/audit")
async def audit_page(
    service: On,
    visitor: Visiting,
    by: Text = "",
    what: Text = "",
    incident: Text = "",
    before: Before = None,
) -> HTMLResponse:
    """Newest first. For approvers: it says who looked at what, what they typed, and from where."""
    must_be(visitor.person, "approver")
    await service.seen.note(visitor.person, "audit")
    kept = {"by": by.strip(), "what": what.strip(), "incident": incident.strip()}
    wanted = Wanted(kept["by"], kept["what"], kept["incident"])
    askable = all(text.isprintable() for text in kept.values())
    async with service.database.reading() as session:
        nothing = Wanted(what="\ufffd")
        found = await trail_page(
            session, service.database.audit_keys, wanted if askable else nothing, before
        )
    return page(
        "audit",
        visitor,
        trail=found,
        kept=kept,
        filtered=not wanted.anything,
        looked_through=MOST_LOOKED_THROUGH,
        before=before,
        brief=lambda detail: short(detail)[:SHORT],
        is_long=lambda detail: len(short(detail)) > SHORT,
        asks=lambda **changes: f"/audit?{urlencode({**kept, **changes})}",
    )
