"""Signing in and out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from api.auth import OutOfTime, Tokens, digest_of, is_at_least, refused
from api.console import sessions
from api.console.pages import go_to, page
from api.console.sessions import NOBODY, Sessions, SignInNeeded
from api.problems import Problem
from api.service import Service
from api.store import audit

router = APIRouter(include_in_schema=False)
On = Annotated[Service, Depends(Service.of)]
LONGEST_TOKEN = 500
LONGEST_PATH = 2_000


@router.get("/sign-in")
async def sign_in_page(
    request: Request, wanted: Annotated[str, Query(alias="next")] = ""
) -> Response:
    """A form for a token; whoever is signed in already goes on."""
    try:
        await sessions.visiting(request)
    except SignInNeeded:
        return _form(request, wanted)
    return go_to(_ours(wanted))


@router.post("/sign-in")
async def sign_in(request: Request, service: On) -> Response:
    """A session for a person's token."""
    tokens: Tokens = request.app.state.tokens
    fields = await sessions.form_of(request, NOBODY)
    token, wanted = fields.get("token", "").strip()[:LONGEST_TOKEN], fields.get("next", "")
    because = "this is no token of the service"
    try:
        person = tokens.person(token)
    except OutOfTime as out_of_time:
        person, because = None, str(out_of_time)
    if person is not None and not is_at_least(person, "viewer"):
        person, because = None, "this token may send alerts, and nothing else"
    if person is None:
        return _form(request, wanted, refused(request, because))
    async with service.database.writing() as session:
        await audit.note(session, person, "sign_in")
    response = go_to(_ours(wanted))
    sessions.let_in(request, response, digest_of(token))
    return response


@router.post("/sign-out")
async def sign_out(request: Request, _: sessions.Posted) -> Response:
    """No session any more in this browser."""
    response = go_to("/sign-in")
    sessions.send_out(request, response)
    return response


def _form(request: Request, wanted: str, problem: Problem | None = None) -> Response:
    seal: Sessions = request.app.state.sessions
    return page(
        "sign_in",
        None,
        status=problem.status if problem else 200,
        headers=problem.headers if problem else None,
        csrf=seal.sealed(form=NOBODY),
        wanted=_ours(wanted),
        problem=problem.content() if problem else None,
    )


def _ours(wanted: str) -> str:
    """A path of this site, whatever was asked for: no other site, no other scheme."""
    fine = (
        len(wanted) <= LONGEST_PATH
        and wanted.startswith("/")
        and not wanted.startswith(("//", "/\\"))
    )
    return wanted if fine and wanted.isprintable() else "/incidents"
