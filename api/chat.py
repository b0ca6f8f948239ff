"""Chat about an incident, a target or Redis: answered from evidence, unable to change anything."""

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from sse_starlette import EventSourceResponse, ServerSentEvent

from agent.chat import MOST_TURNS, ChatAnswer, answer
from agent.chat_question import Citation, Progress
from agent.context import Target
from agent.incident import Claim, Incident
from agent.model import Model
from api.auth import Responder
from api.incidents import Body
from api.listing import Comment, Cursor, Limit, Page
from api.looks import Looks
from api.past import Past
from api.problems import Problem, busy, documented, fault
from api.room import Room
from api.service import Service
from api.store import audit, incidents, threads
from api.store.audit import Person
from api.store.exchanges import SqlLedger
from api.store.journal import add_asked_evidence
from api.store.records import SqlRecords
from api.store.tables import MessageRow
from tools.reading import Evidence

ANSWER_SECONDS = 110.0
_ID = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$"
_INCIDENT = re.compile(r"(?<![\w-])inc-[0-9a-f]{20}(?![\w-])")
router = APIRouter(prefix="/v1/chat", tags=["chat"], responses=documented(404, 503))
On = Annotated[Service, Depends(Service.of)]
ROOM = Room("questions", most=8, most_of_one=4)


class ChatMessage(Body):
    """A question, and what it is about."""

    message: Comment = Field(min_length=1)
    thread_id: str | None = Field(default=None, pattern=_ID)
    incident_id: str | None = Field(default=None, pattern=_ID)
    target: str | None = Field(default=None, max_length=200)
    stream: bool = False


class ChatReply(BaseModel):
    """The answer, the claims it rests on, and where those come from."""

    thread_id: str
    answer: str
    claims: list[Claim]
    citations: list[Citation]
    reasoner: str


class Turn(BaseModel):
    """One question and its answer."""

    question: str
    answer: str
    claims: list[Claim]
    reasoner: str
    incident_id: str | None
    target: str | None
    at: datetime


@dataclass(frozen=True)
class Asked:
    """A question that may be answered: who asks, what about, what was said before."""

    service: Service
    model: Model | None
    person: Person
    body: ChatMessage
    turns: Sequence[MessageRow]
    """Of the thread, oldest first."""
    incident: Incident | None
    target: Target | None
    named: str | None
    """The target, if the question is about one and no incident."""


@router.post(
    "",
    response_model=ChatReply,
    responses={
        200: {
            "description": "The answer; with `stream`, as events `progress`, `token`, then `end` "
            "with the whole reply or `error` with a problem",
            "content": {"text/event-stream": {}},
        }
    },
)
async def chat(service: On, request: Request, person: Responder, body: ChatMessage) -> Response:
    """Ask about an incident, a target, or Redis in general. Nothing can be changed from here."""
    ROOM.check(person)
    asked = await _about(service, request.app.state.model, person, body)
    if body.stream:
        return EventSourceResponse(_stream(asked))
    reply = await _reply(asked)
    return Response(reply.model_dump_json(), media_type="application/json")


@router.get("/threads")
async def list_threads(
    service: On, person: Responder, limit: Limit = 20, cursor: Cursor = None
) -> Page[threads.Thread]:
    """Your own threads, the one that went on last first."""
    async with service.database.reading() as session:
        found = await threads.listed(session, person.name, limit + 1, cursor)
    more = len(found) > limit
    return Page(items=found[:limit], next_cursor=found[limit - 1].id if more else None)


@router.get("/threads/{thread_id}")
async def get_thread(
    service: On,
    person: Responder,
    thread_id: Annotated[str, Path(pattern=_ID, description="The thread's id")],
    limit: Limit = 20,
    cursor: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> Page[Turn]:
    """The turns of a thread of yours, newest first."""
    async with service.database.reading() as session:
        rows = await threads.turns(session, person.name, thread_id, limit + 1, cursor)
    if not rows and cursor is None:
        raise _no_such_thread()
    turns = [Turn.model_validate(row, from_attributes=True) for row in rows[:limit]]
    more = len(rows) > limit
    return Page(items=turns, next_cursor=str(rows[limit - 1].id) if more else None)


def _no_such_thread() -> Problem:
    return Problem(404, "there is no such thread of yours; leave thread_id out to start one")


# -- what a question is about ---------------------------------------------------------------


async def _about(service: Service, model: Model | None, person: Person, body: ChatMessage) -> Asked:
    """Resolve thread, incident and target. Raises Problem, NoSuchIncident."""
    turns: list[MessageRow] = []
    if body.thread_id is not None:
        async with service.database.reading() as session:
            rows = await threads.turns(session, person.name, body.thread_id, MOST_TURNS)
        if not rows:
            raise _no_such_thread()
        turns = rows[::-1]
    incident_id, name = body.incident_id, body.target
    if not (incident_id or name):
        incident_id, name = await _named_in(service, body.message)
    if turns and not (incident_id or name):  # the question goes on about the same
        incident_id, name = turns[-1].incident_id, turns[-1].target
    incident = None
    if incident_id is not None:
        async with service.database.reading() as session:
            incident = await incidents.load(session, incident_id)
    target = _target(service, name, incident)
    return Asked(service, model, person, body, turns, incident, target, name)


async def _named_in(service: Service, message: str) -> tuple[str | None, str | None]:
    """An incident or a target that the question itself names."""
    if (found := _INCIDENT.search(message)) and await SqlRecords(service.database).incident(
        found[0]
    ):
        return found[0], None
    names = [target.name for target in service.targets]
    said = [
        name
        for name in names
        if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", message, re.IGNORECASE)
    ]
    return None, max(said, key=len, default=None)


def _target(service: Service, name: str | None, incident: Incident | None) -> Target | None:
    if name is not None:
        found: Target | None = service.target(name)
    else:
        wanted = incident.target if incident else None
        found = next((target for target in service.targets if target.name == wanted), None)
    if name and incident and incident.target != name:
        because = "the incident is about another target: leave one of the two out"
        raise Problem(422, because, [("target", because)])
    return found


# -- answering ------------------------------------------------------------------------------


async def _reply(asked: Asked, progress: Progress | None = None) -> ChatReply:
    """Answer and keep the turn. Raises Problem."""
    with ROOM.entered(asked.person):
        records = SqlRecords(asked.service.database)
        evidence = await records.evidence(asked.incident.id) if asked.incident else []
        looks = _looks(asked, evidence)
        thread_id = asked.body.thread_id or f"thread-{secrets.token_hex(8)}"
        day = asked.service.settings.config.model.day()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                said = await answer(
                    asked.body.message,
                    incident=asked.incident,
                    evidence=evidence,
                    library=asked.service.library,
                    look=looks.look if looks else None,
                    model=asked.model,
                    history=threads.as_history(asked.turns),
                    records=records,
                    target=asked.target.name if asked.target else "",
                    targets=[target.name for target in asked.service.targets],
                    progress=progress,
                    ledger=SqlLedger(asked.service.database, day, thread_id=thread_id),
                )
        except TimeoutError:
            raise busy(f"there was no answer within {ANSWER_SECONDS:.0f} s") from None
        finally:
            if looks is not None:
                await looks.close()
        await _keep(asked, thread_id, said)
    return ChatReply(thread_id=thread_id, **said.model_dump())


def _looks(asked: Asked, evidence: Sequence[Evidence]) -> Looks | None:
    if asked.target is None:
        return None
    keep = None
    if asked.incident is not None:
        keep = partial(add_asked_evidence, asked.service.database, asked.incident.id)
    numbers = (int(piece.id[1:]) for piece in evidence)
    past = Past(asked.service.settings, asked.service.database, asked.target.name)
    return Looks(asked.target, keep, asked.incident, past.known, known=max(numbers, default=0))


async def _keep(asked: Asked, thread_id: str, said: ChatAnswer) -> None:
    async with asked.service.database.writing() as session:
        turn = MessageRow(
            thread_id=thread_id,
            by=asked.person.name,
            incident_id=asked.incident.id if asked.incident else None,
            target=asked.named,
            question=asked.body.message,
            answer=said.answer,
            claims=[claim.model_dump(mode="json") for claim in said.claims],
            reasoner=said.reasoner,
            at=incidents.now(),
        )
        await threads.keep(session, turn)
        about = {"thread": thread_id, "target": asked.target.name if asked.target else None}
        await audit.note(session, asked.person, "chat", turn.incident_id, **about)


async def _stream(asked: Asked) -> AsyncIterator[ServerSentEvent]:
    """What is being done, then the checked answer word by word: nothing unchecked is shown."""
    told: asyncio.Queue[str | None] = asyncio.Queue()  # bounded by the looks of a question

    async def work() -> ChatReply:
        try:
            return await _reply(asked, told.put)
        finally:
            told.put_nowait(None)

    working = asyncio.create_task(work())
    try:
        while (what := await told.get()) is not None:
            yield ServerSentEvent(event="progress", data=json.dumps({"text": what}))
        reply = await working
    except Exception as error:  # noqa: BLE001 - the headers are sent: it has to become an event
        yield ServerSentEvent(event="error", data=json.dumps(_problem(error).content()))
        return
    finally:
        working.cancel()  # whoever asked has gone
    for word in reply.answer.split(" "):
        yield ServerSentEvent(event="token", data=json.dumps({"text": f"{word} "}))
    yield ServerSentEvent(event="end", data=reply.model_dump_json())


def _problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    return fault(error)
