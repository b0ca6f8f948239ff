"""Pages of targets: all of them at a glance, worst first, and each in full."""

from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse, Response
from pydantic import ValidationError
from starlette.background import BackgroundTask

from agent.context import Target
from api import incidents as incident_api
from api.auth import must_be
from api.console.one_target import MOST_PARTS, target_view
from api.console.pages import go_to, page, size
from api.console.sessions import Posted, Visiting, Visitor
from api.console.target_view import MOST_OPEN, overview
from api.problems import Problem, fields_of
from api.service import Service

router = APIRouter(include_in_schema=False)
On = Annotated[Service, Depends(Service.of)]


@router.get("/targets")
async def list_page(
    service: On,
    visitor: Visiting,
    words: Annotated[str, Query(max_length=200)] = "",
    number: Annotated[int, Query(ge=1, le=10_000, alias="page")] = 1,
) -> HTMLResponse:
    """Worst first, a page at a time."""
    found = await overview(service, words, number)
    await service.seen.note(visitor.person, "targets")
    response = page(
        "targets",
        visitor,
        overview=found,
        words=words,
        most_open=MOST_OPEN,
        asks=lambda at: f"/targets?{urlencode({'words': words, 'page': at})}",
    )
    # Each takes a month of samples: the next look at the page has them.
    limits = {one.name: one.limit for one in found.shown}
    response.background = BackgroundTask(service.outlooks.fill, limits)
    return response


@router.get("/targets/{name}")
async def target_page(service: On, visitor: Visiting, name: str) -> HTMLResponse:
    """One of them."""
    return await _shown(service, visitor, _known(service, name))


@router.post("/targets/{name}/investigate")
async def investigate(service: On, visitor: Visiting, form: Posted, name: str) -> Response:
    """Look at it now: the same as `POST /v1/investigations`."""
    target = _known(service, name)
    try:
        must_be(visitor.person, "responder")
        body = incident_api.NewInvestigation(target=name, question=form.get("question", ""))
        opened = await incident_api.investigate(service, visitor.person, body)
    except ValidationError as invalid:
        problem = Problem(422, "Nothing was begun", fields_of(invalid.errors()))
        return await _shown(service, visitor, target, problem)
    except Problem as refused:
        return await _shown(service, visitor, target, refused)
    return go_to(f"/incidents/{quote(opened.id)}")


def _known(service: Service, name: str) -> Target:
    found = next((target for target in service.targets if target.name == name), None)
    if found is None:
        raise Problem(404, "no such target is configured")
    return found


async def _shown(
    service: Service, visitor: Visitor, target: Target, problem: Problem | None = None
) -> HTMLResponse:
    view = await target_view(service, target)
    await service.seen.note(visitor.person, "targets")
    if view.pictured:
        await service.seen.note(visitor.person, "evidence", view.pictured)
    return page(
        "target",
        visitor,
        status=problem.status if problem else 200,
        view=view,
        glance=view.glance,
        target=target,
        most_parts=MOST_PARTS,
        growth=lambda per_day: f"{'-' if per_day < 0 else ''}{size(abs(per_day))}",
        problem=problem.content() if problem else None,
    )
