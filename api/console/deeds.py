"""What people do from a page of an incident: the same deeds as over the API, by the same functions.

A deed that is refused answers with the page as it is now, and with what was wrong.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError

from agent.incident import Action, Culprit
from api import actions, chat
from api import incidents as incident_api
from api.auth import must_be
from api.console.incident_view import TYPED_FROM, view_of
from api.console.incidents import came_of, shown
from api.console.pages import go_to
from api.console.sessions import Posted, Visiting, Visitor
from api.listing import ActionId, IncidentId
from api.problems import Problem, fields_of
from api.service import Service
from api.store import incidents
from api.store.audit import Person
from api.store.decisions import NoSuchAction, Stale

router = APIRouter(include_in_schema=False)
On = Annotated[Service, Depends(Service.of)]
M = TypeVar("M", bound=BaseModel)
LONGEST_TYPED = 2_000


@router.post("/incidents/{incident_id}/actions/{action_id}/approve")
async def approve(
    service: On, visitor: Visiting, form: Posted, incident_id: IncidentId, action_id: ActionId
) -> Response:
    """Yes, to exactly what was shown."""

    async def deed() -> None:
        must_be(visitor.person, "responder")
        await _must_be_typed(service, incident_id, action_id, form)
        body = _made(
            actions.Approval,
            fingerprint=form.get("fingerprint", ""),
            comment=form.get("comment", ""),
            break_glass=form.get("break_glass") == "yes",
        )
        await actions.approve(service, visitor.person, incident_id, action_id, body)

    return await _done(service, visitor, incident_id, deed, form, "approved", action_id)


@router.post("/incidents/{incident_id}/actions/{action_id}/reject")
async def reject(
    service: On, visitor: Visiting, form: Posted, incident_id: IncidentId, action_id: ActionId
) -> Response:
    """No."""

    async def deed() -> None:
        must_be(visitor.person, "approver")
        body = _made(
            actions.Decision,
            fingerprint=form.get("fingerprint", ""),
            comment=form.get("comment", ""),
        )
        await actions.reject(service, visitor.person, incident_id, action_id, body)

    return await _done(service, visitor, incident_id, deed, form, "rejected", action_id)


@router.post("/incidents/{incident_id}/actions/{action_id}/stop")
async def stop(
    service: On, visitor: Visiting, form: Posted, incident_id: IncidentId, action_id: ActionId
) -> Response:
    """Not begun, or ended after the present batch."""

    async def deed() -> None:
        must_be(visitor.person, "responder")
        body = _made(actions.Stop, comment=form.get("comment", ""))
        await actions.stop(service, visitor.person, incident_id, action_id, body)

    return await _done(service, visitor, incident_id, deed, form, "stopped", action_id)


@router.post("/incidents/{incident_id}/close")
async def close(service: On, visitor: Visiting, form: Posted, incident_id: IncidentId) -> Response:
    """Nothing more to do here."""
    do = incident_api.close
    return await _for_a_reason(service, visitor, form, incident_id, do, "closed")


@router.post("/incidents/{incident_id}/reinvestigate")
async def reinvestigate(
    service: On, visitor: Visiting, form: Posted, incident_id: IncidentId
) -> Response:
    """Look again."""
    do = incident_api.reinvestigate
    return await _for_a_reason(service, visitor, form, incident_id, do, "again")


@router.post("/incidents/{incident_id}/verdict")
async def verdict(
    service: On, visitor: Visiting, form: Posted, incident_id: IncidentId
) -> Response:
    """What it really was."""

    async def deed() -> None:
        must_be(visitor.person, "responder")
        kind, name = form.get("culprit_kind", ""), form.get("culprit_name", "")
        culprit = _made(Culprit, kind=kind, name=name) if kind else None
        body = _made(
            incident_api.Verdict,
            root_cause=form.get("root_cause", ""),
            culprit=culprit,
            comment=form.get("comment", ""),
        )
        await incident_api.give_verdict(service, visitor.person, incident_id, body)

    return await _done(service, visitor, incident_id, deed, form, "verdict")


@router.post("/incidents/{incident_id}/chat")
async def ask(
    request: Request, service: On, visitor: Visiting, form: Posted, incident_id: IncidentId
) -> Response:
    """A question about the incident; the answer is on the page then.

    A script is told meanwhile what is being done, as over the API.
    """

    async def asked(*, stream: bool) -> Response:
        must_be(visitor.person, "responder")
        body = _made(
            chat.ChatMessage,
            message=form.get("message", ""),
            incident_id=incident_id,
            thread_id=form.get("thread_id") or None,
            stream=stream,
        )
        return await chat.chat(service, request, visitor.person, body)

    if "text/event-stream" in request.headers.get("accept", ""):
        return await asked(stream=True)

    async def deed() -> None:
        await asked(stream=False)

    return await _done(service, visitor, incident_id, deed, form, "", "chat")


async def _for_a_reason(
    service: Service,
    visitor: Visitor,
    form: Mapping[str, str],
    incident_id: str,
    do: Callable[[Service, Person, str, incident_api.Reason], Awaitable[object]],
    said: str,
) -> Response:
    async def deed() -> None:
        must_be(visitor.person, "responder")
        body = _made(incident_api.Reason, comment=form.get("comment", ""))
        await do(service, visitor.person, incident_id, body)

    return await _done(service, visitor, incident_id, deed, form, said)


async def _done(
    service: Service,
    visitor: Visitor,
    incident_id: str,
    deed: Callable[[], Awaitable[None]],
    form: Mapping[str, str],
    said: str,
    about: str = "",
) -> Response:
    """Do it; then the page, at the place it is about."""
    try:
        await deed()
    except NoSuchAction:
        problem = Problem(404, "the incident's plan has no such action")
    except Stale as stale:
        problem = Problem(409, f"Nothing was done: {stale}")
    except Problem as refused:
        problem = refused
    else:
        query = f"?said={came_of(visitor, incident_id, said, about)}" if said else ""
        return go_to(f"/incidents/{quote(incident_id)}{query}#{quote(about or 'top')}")
    view = await view_of(service, visitor, incident_id)
    typed = partial(_typed, about or said, form)
    return shown(service, visitor, view, problem=problem, typed=typed)


def _typed(where: str, form: Mapping[str, str], place: str, field: str) -> str:
    """What stood in a field of the form that was refused: it is not typed twice."""
    return form.get(field, "")[:LONGEST_TYPED] if place == where else ""


async def _must_be_typed(
    service: Service, incident_id: str, action_id: str, form: Mapping[str, str]
) -> None:
    """The target's name, where more than configuration changes. Raises Problem."""
    async with service.database.reading() as session:
        incident = await incidents.load(session, incident_id, evidence=False)
    action: Action | None = next((a for a in incident.plan.actions if a.id == action_id), None)
    if action is None or action.risk not in TYPED_FROM:
        return
    if form.get("target", "").strip() != incident.target:
        message = f"type the target's name, {incident.target}, to approve {action_id}"
        raise Problem(422, "Nothing was approved", [("target", message)])


def _made(kind: type[M], /, **values: Any) -> M:
    """Of the fields of a form. Raises Problem."""
    try:
        return kind.model_validate(values)
    except ValidationError as invalid:
        raise Problem(422, "Nothing was done", fields_of(invalid.errors())) from None
