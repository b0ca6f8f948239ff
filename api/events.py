"""Events of an incident as they happen: server-sent events, resumable, ending with `end`."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, Header
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from api.auth import StillLetIn, Viewer
from api.listing import IncidentId
from api.problems import busy, documented
from api.service import Service
from api.store import events, incidents
from api.store.audit import Person
from api.store.database import Database
from api.store.tables import EventRow, IncidentRow

POLL_SECONDS = 0.25
"""Events may be written by another process, so the table is the only place to look."""
POLLS_PER_SECOND = 80
"""Of all streams together: many watchers wait a little longer, the work does not."""
PAGE = 200
MOST_STREAMS = 200
MOST_OF_ONE_PERSON = 50
END_SECONDS = 3.0
"""For a stream to end in order when the process stops."""
router = APIRouter(prefix="/v1/incidents", tags=["events"], responses=documented(404, 503))
_streams: Counter[str] = Counter()
"""Open ones, by person."""


@router.get(
    "/{incident_id}/events",
    response_class=EventSourceResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events"}},
)
async def stream(
    service: Annotated[Service, Depends(Service.of)],
    person: Viewer,
    is_let_in: StillLetIn,
    incident_id: IncidentId,
    last_event_id: Annotated[int, Header(ge=0, le=2**31 - 1)] = 0,
) -> EventSourceResponse:
    """Events after `Last-Event-ID`. Kinds: status, evidence, claim, plan, action, end.

    The comment before each is when it happened, in ISO 8601. The stream ends with the token of
    whoever listens.
    """
    return await stream_of(service, person, is_let_in, incident_id, last_event_id)


async def stream_of(
    service: Service,
    person: Person,
    is_let_in: Callable[[], bool],
    incident_id: str,
    last_event_id: int,
) -> EventSourceResponse:
    """Events after that one, for as long as the person is let in. Raises NoSuchIncident."""
    async with service.database.reading() as session:
        await incidents.load(session, incident_id, evidence=False)
    await service.seen.note(person, "events", incident_id)
    stopping = anyio.Event()

    def goes_on() -> bool:
        return is_let_in() and not stopping.is_set()  # whoever watches comes again

    events_after = _events(service.database, incident_id, last_event_id, goes_on)
    return _Stream(events_after, person.name, stopping)


class _Stream(EventSourceResponse):
    """One of a bounded number."""

    def __init__(
        self, events: AsyncIterator[ServerSentEvent], of: str, stopping: anyio.Event
    ) -> None:
        super().__init__(events, shutdown_event=stopping, shutdown_grace_period=END_SECONDS)
        self._of = of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Counted for as long as somebody listens."""
        if _streams.total() >= MOST_STREAMS:
            full = busy(f"{MOST_STREAMS} streams are open already")
            return await full.response()(scope, receive, send)
        if _streams[self._of] >= MOST_OF_ONE_PERSON:
            full = busy(f"{MOST_OF_ONE_PERSON} streams of {self._of} are open already")
            return await full.response()(scope, receive, send)
        _streams[self._of] += 1
        try:
            return await super().__call__(scope, receive, send)
        finally:
            _streams[self._of] -= 1
            if not _streams[self._of]:
                del _streams[self._of]


async def _events(
    database: Database, incident_id: str, number: int, goes_on: Callable[[], bool]
) -> AsyncIterator[ServerSentEvent]:
    while goes_on():
        batch, newest = await _after(database, incident_id, number)
        for event in batch:
            number = event.number
            # An `end` that was followed by more (another attempt) ends nothing.
            if event.kind != "end" or event.number == newest:
                yield _sse(event)
        if batch and batch[-1].kind == "end" and number == newest:
            return
        if not batch:
            await asyncio.sleep(max(POLL_SECONDS, _streams.total() / POLLS_PER_SECOND))


async def _after(database: Database, incident_id: str, number: int) -> tuple[list[EventRow], int]:
    async with database.reading() as session:
        row = await session.get(IncidentRow, incident_id)
        batch = await events.after(session, incident_id, number, PAGE)
    return batch, row.last_event if row else 0


def _sse(event: EventRow) -> ServerSentEvent:
    data = json.dumps(event.data)
    when = event.at.isoformat()  # a comment: `data` is what was published, as it was
    return ServerSentEvent(id=str(event.number), event=event.kind, data=data, comment=when)
