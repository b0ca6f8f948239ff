"""Chat about an incident or a target: answered from evidence, and unable to change anything."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import select
from sse_starlette import EventSourceResponse, ServerSentEvent

from agent.chat import ChatAnswer, answer
from agent.context import Target
from agent.incident import Claim, Incident
from agent.model import Model
from agent.redaction import redact_tree, redacted
from api.auth import Responder
from api.incidents import Body
from api.listing import Comment
from api.problems import Problem, busy, documented
from api.service import Service
from api.store import incidents
from api.store.audit import Person
from api.store.database import Database
from api.store.journal import add_asked_evidence, to_evidence
from api.store.tables import EvidenceRow, MessageRow
from tools.connection import Connection, open_for_reading
from tools.reading import Evidence, NotMeasured, Reading
from tools.reads import READS
from tools.summaries import summarize

MOST_AT_ONCE = 8
MOST_LOOKS = 12
LOOK_SECONDS = 15.0
ANSWER_SECONDS = 110.0
HISTORY = 6
MOST_EVIDENCE = 200
_ID = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$"
router = APIRouter(prefix="/v1", tags=["chat"], responses=documented(404, 503))
On = Annotated[Service, Depends(Service.of)]
_answering = asyncio.Semaphore(MOST_AT_ONCE)


class ChatMessage(Body):
    """A question, and what it is about."""

    message: Comment = Field(min_length=1)
    thread_id: str | None = Field(default=None, pattern=_ID)
    incident_id: str | None = Field(default=None, pattern=_ID)
    target: str | None = Field(default=None, max_length=200)
    stream: bool = False


class ChatReply(BaseModel):
    """The answer, and the claims it rests on."""

    thread_id: str
    answer: str
    claims: list[Claim]
    reasoner: str


@dataclass
class Looks:
    """Further reads of one question: bounded, opened only if one is wanted."""

    database: Database
    target: Target
    incident_id: str | None
    known: int
    taken: int = 0
    _connection: Connection | None = field(default=None, init=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def look(self, tool: str, arguments: dict[str, Any]) -> Evidence:
        """One read. Raises KeyError for an unknown tool, ValidationError for bad arguments."""
        chosen = READS[tool]
        args = chosen.args.model_validate(arguments).model_dump(mode="json", exclude_defaults=True)
        async with self._lock:
            if self._connection is None:
                self._connection = await open_for_reading(self.target.url)
            connection = self._connection
            self.taken += 1
            reading = redacted(await self._read(connection, tool, args))
            evidence = Evidence(
                id=f"E{self.known + self.taken}",
                tool=tool,
                args=redact_tree(args),
                reading=reading.model_dump(mode="json"),
                measured=not isinstance(reading, NotMeasured),
                taken_at=connection.now(),
                target=self.target.name,
                node=connection.node,
                summary=summarize(reading),
            )
            if self.incident_id is None:
                return evidence
            return await add_asked_evidence(self.database, self.incident_id, evidence)

    async def _read(
        self, connection: Connection, tool: str, args: dict[str, Any]
    ) -> Reading | NotMeasured:
        if self.taken > MOST_LOOKS:
            because = f"this question has spent its {MOST_LOOKS} looks"
            return NotMeasured(not_measured=tool, because=because, failure="budget")
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await READS[tool].call(connection, args)
        except (TimeoutError, ValidationError) as error:
            return NotMeasured(
                not_measured=tool, because=type(error).__name__, failure="timeout"
                if isinstance(error, TimeoutError) else "error",
            )  # fmt: skip

    async def close(self) -> None:
        """Close the connection, if one was opened."""
        if self._connection is not None:
            await self._connection.close()


@router.post(
    "/chat",
    response_model=ChatReply,
    responses={200: {"description": "The answer; with `stream`, as events `token` and `end`",
                     "content": {"text/event-stream": {}}}},
)  # fmt: skip
async def chat(service: On, request: Request, person: Responder, body: ChatMessage) -> Response:
    """Ask about an incident or a target."""
    if _answering.locked():
        raise busy(f"{MOST_AT_ONCE} questions are being answered already")
    async with _answering:
        reply = await _reply(service, request.app.state.model, person, body)
    if body.stream:
        return EventSourceResponse(_stream(reply))
    return Response(reply.model_dump_json(), media_type="application/json")


async def _reply(
    service: Service, model: Model | None, person: Person, body: ChatMessage
) -> ChatReply:
    turns = await _thread(service.database, person, body.thread_id)
    incident_id, name = body.incident_id, body.target
    if turns and not (incident_id or name):  # the question goes on about the same
        incident_id, name = turns[-1].incident_id, turns[-1].target
    incident, evidence = await _record(service.database, incident_id)
    target = _target(service, name, incident)
    looks = Looks(service.database, target, incident_id, _numbers(evidence)) if target else None
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            said = await answer(
                body.message,
                incident=incident,
                evidence=evidence,
                library=service.library,
                look=looks.look if looks else None,
                model=model,
                history=_history(turns),
            )
    except TimeoutError:
        raise busy(f"there was no answer within {ANSWER_SECONDS:.0f} s") from None
    finally:
        if looks is not None:
            await looks.close()
    thread_id = body.thread_id or f"thread-{secrets.token_hex(8)}"
    await _keep(service.database, person, body, thread_id, incident_id, name, said)
    return ChatReply(thread_id=thread_id, **said.model_dump())


def _target(service: Service, name: str | None, incident: Incident | None) -> Target | None:
    wanted = name or (incident.target if incident else None)
    found = next((target for target in service.targets if target.name == wanted), None)
    if name is not None and found is None:
        raise Problem(422, "the target is not configured", [("target", "not a configured target")])
    if name and incident and incident.target != name:
        because = "the incident is about another target: leave one of the two out"
        raise Problem(422, because, [("target", because)])
    return found


def _numbers(evidence: Sequence[Evidence]) -> int:
    return max((int(piece.id[1:]) for piece in evidence), default=0)


async def _thread(
    database: Database, person: Person, thread_id: str | None
) -> Sequence[MessageRow]:
    """The last turns of one's own thread, oldest first."""
    if thread_id is None:
        return []
    async with database.reading() as session:
        rows = await session.scalars(
            select(MessageRow)
            .where(MessageRow.thread_id == thread_id, MessageRow.by == person.name)
            .order_by(MessageRow.id.desc())
            .limit(HISTORY)
        )
        turns = list(rows)[::-1]
    if not turns:
        raise Problem(404, "there is no such thread of yours; leave thread_id out to start one")
    return turns


def _history(turns: Sequence[MessageRow]) -> list[dict[str, str]]:
    pairs = ((("user", turn.question), ("assistant", turn.answer)) for turn in turns)
    return [{"role": role, "content": content} for pair in pairs for role, content in pair]


async def _record(
    database: Database, incident_id: str | None
) -> tuple[Incident | None, list[Evidence]]:
    if incident_id is None:
        return None, []
    async with database.reading() as session:
        incident = await incidents.load(session, incident_id)
        rows = await session.scalars(
            select(EvidenceRow)
            .where(EvidenceRow.incident_id == incident_id)
            .order_by(EvidenceRow.number.desc())
            .limit(MOST_EVIDENCE)
        )
        return incident, [to_evidence(row) for row in rows][::-1]


async def _keep(
    database: Database,
    person: Person,
    body: ChatMessage,
    thread_id: str,
    incident_id: str | None,
    target: str | None,
    said: ChatAnswer,
) -> None:
    async with database.writing() as session:
        session.add(
            MessageRow(
                thread_id=thread_id,
                by=person.name,
                incident_id=incident_id,
                target=target,
                question=body.message,
                answer=said.answer,
                claims=[claim.model_dump(mode="json") for claim in said.claims],
                reasoner=said.reasoner,
                at=incidents.now(),
            )
        )


async def _stream(reply: ChatReply) -> AsyncIterator[ServerSentEvent]:
    """The checked answer, word by word: numbers are computed before anything is shown."""
    for word in reply.answer.split(" "):
        yield ServerSentEvent(event="token", data=json.dumps({"text": word + " "}))
    yield ServerSentEvent(event="end", data=reply.model_dump_json())
