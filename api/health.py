"""Is it alive, is it ready, how is it doing."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Depends, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel
from sqlalchemy import select

from api import metrics
from api.auth import Viewer
from api.problems import documented
from api.service import Service
from api.store.durability import weaknesses
from api.store.tables import IncidentRow

PROBE_SECONDS = 3.0
State = Literal["ok", "failing"]
Mode = Literal["live", "dry_run"]
On = Annotated[Service, Depends(Service.of)]
router = APIRouter(tags=["health"])
log = structlog.get_logger(__name__)


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """What the service depends on. A target being down is an incident, not unreadiness."""

    status: State
    dependencies: dict[str, State]
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
    responses=documented(414, 431) | {503: {"model": Readiness, "description": "Not ready"}},
)
async def readyz(service: On, response: Response) -> Readiness:
    """Readiness, with each dependency's state."""
    warnings: list[str] = []

    async def database() -> None:
        async with service.database.reading() as session:
            await session.execute(select(IncidentRow.id).limit(1))  # our tables, not any file
        warnings.extend(await weaknesses(service.database))

    probes = {"database": database, "queue": service.queue.ping}
    states = await asyncio.gather(*(_probe(name, probe) for name, probe in probes.items()))
    dependencies = dict(zip(probes, states, strict=True))
    ready: State = "ok" if set(states) == {"ok"} else "failing"
    if ready != "ok":
        response.status_code = 503
    mode: Mode = "dry_run" if service.settings.policy.dry_run else "live"
    return Readiness(status=ready, dependencies=dependencies, mode=mode, warnings=warnings)


async def _probe(name: str, probe: Callable[[], Awaitable[None]]) -> State:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await probe()
    except Exception as error:  # noqa: BLE001 - whatever it is, the dependency does not work
        log.warning("dependency_failing", dependency=name, error=type(error).__name__)
        return "failing"
    return "ok"


@router.get(
    "/metrics", response_class=PlainTextResponse, responses=documented(401, 403, 414, 429, 431, 503)
)
async def prometheus(service: On, _: Viewer) -> PlainTextResponse:
    """Prometheus metrics."""
    content = await metrics.exposition(service.database)
    return PlainTextResponse(content, media_type="text/plain; version=0.0.4; charset=utf-8")
