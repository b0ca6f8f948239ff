"""What was said between the agent and a model, and what models cost, over HTTP."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from agent.exchange import KeptExchange
from api.auth import Responder, Viewer
from api.listing import IncidentId, Page, ThreadId
from api.model_settings import DayEntry
from api.problems import Problem, documented
from api.service import Service
from api.store import exchanges, incidents, threads
from api.store.exchanges import DayUsage
from api.store.tables import IncidentRow

router = APIRouter(prefix="/v1", tags=["model"])
On = Annotated[Service, Depends(Service.of)]
Exchanges = Annotated[int, Query(ge=1, le=20, description="Exchanges of a page")]
Days = Annotated[int, Query(ge=1, le=100, description="Days of a page")]
After = Annotated[
    str, Query(pattern=r"^[0-9]{1,9}$", description="`next_cursor` of the page before")
]
Before = Annotated[date | None, Query(description="`next_cursor` of the page before")]


class UsagePage(Page[DayUsage]):
    """What models cost, and what they may cost in a day."""

    caps: DayEntry = Field(description="Of a UTC day, over everybody who shares the database")


@router.get("/incidents/{incident_id}/transcript", responses=documented(404))
async def get_transcript(
    service: On, person: Viewer, incident_id: IncidentId, limit: Exchanges = 10, cursor: After = "0"
) -> Page[KeptExchange]:
    """Every exchange of the incident's investigation with a model, oldest first, redacted."""
    async with service.database.reading() as session:
        if await session.get(IncidentRow, incident_id) is None:
            raise incidents.NoSuchIncident(incident_id)
        items = await exchanges.transcript(session, incident_id, int(cursor), limit + 1)
    await service.seen.note(person, "transcript", incident_id)
    return _page(items, limit)


def _page(items: list[KeptExchange], limit: int) -> Page[KeptExchange]:
    more = len(items) > limit
    return Page(items=items[:limit], next_cursor=str(items[limit - 1].id) if more else None)


@router.get("/chat/threads/{thread_id}/transcript", responses=documented(404))
async def get_thread_transcript(
    service: On, person: Responder, thread_id: ThreadId, limit: Exchanges = 10, cursor: After = "0"
) -> Page[KeptExchange]:
    """Every exchange with a model in a thread of yours, oldest first, redacted."""
    async with service.database.reading() as session:
        if not await threads.turns(session, person.name, thread_id, 1):
            raise Problem(404, "there is no such thread of yours")
        items = await exchanges.of_thread(session, thread_id, int(cursor), limit + 1)
    return _page(items, limit)


@router.get("/usage")
async def get_usage(service: On, _: Viewer, limit: Days = 30, cursor: Before = None) -> UsagePage:
    """What models cost on each UTC day, by model, newest first; chat included."""
    async with service.database.reading() as session:
        found = await exchanges.by_day(session, cursor, limit + 1)
    days = sorted({item.day for item in found}, reverse=True)
    shown = set(days[:limit])
    return UsagePage(
        items=[item for item in found if item.day in shown],
        next_cursor=days[limit - 1].isoformat() if len(days) > limit else None,
        caps=service.settings.config.model.per_day,
    )
