"""Is it alive, is it ready, how is it doing."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from api import exposition
from api.auth import Viewer
from api.problems import documented
from api.service import Service

State = Literal["ok", "failing"]
Mode = Literal["live", "dry_run"]
On = Annotated[Service, Depends(Service.of)]
router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """What the service depends on. A target being down is an incident, not unreadiness."""

    status: State
    dependencies: dict[str, State]
    reasons: dict[str, str]
    """Why those that fail do."""
    mode: Mode = "live"
    """dry_run: whatever is approved, nothing is written."""
    warnings: list[str] = []
    """Settings under which a crash could lose what was accepted."""


@router.get("/healthz", responses=documented(414, 431))
async def healthz() -> Health:
    """Liveness."""
    return Health()


@router.get(
    "/readyz",
    responses=documented(414, 431) | {503: {"model": Ready, "description": "Not ready"}},
)
async def readyz(service: On, response: Response) -> Ready:
    """Readiness, with each dependency's state."""
    reasons = await service.readiness.reasons()
    failing = {name: because for name, because in reasons.items() if because}
    if failing:
        response.status_code = 503
    return Ready(
        status="failing" if failing else "ok",
        dependencies={name: "failing" if because else "ok" for name, because in reasons.items()},
        reasons=failing,
        mode="dry_run" if service.settings.policy.dry_run else "live",
        warnings=service.readiness.warnings,
    )


@router.get(
    "/metrics", response_class=PlainTextResponse, responses=documented(401, 403, 414, 429, 431)
)
async def prometheus(service: On, _: Viewer) -> PlainTextResponse:
    """Prometheus metrics."""
    content = await exposition.exposition(service.standing)
    return PlainTextResponse(content, media_type=exposition.MEDIA_TYPE)
