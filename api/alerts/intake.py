"""Where senders post their messages: 202 means committed."""

from collections.abc import Callable
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Body, Depends
from pydantic import BaseModel

from agent.incident import Status
from api import metrics
from api.alerts import alertmanager, generic
from api.alerts.parsed import Parsed, UnreadableEnvelope
from api.alerts.schemas import ALERTMANAGER, GENERIC
from api.alerts.taking import Message
from api.auth import may_post, who
from api.problems import Problem, busy, documented
from api.service import Service
from api.store.audit import Person
from api.store.group_commit import Overloaded

router = APIRouter(prefix="/v1/alerts", tags=["alerts"])
log = structlog.get_logger(__name__)


class OpenedIncident(BaseModel):
    """Where an alert went."""

    id: str
    status: Status
    created: bool


class Accepted(BaseModel):
    """The incidents of a message, each once."""

    incidents: list[OpenedIncident]


async def accept(service: Service, person: Person, source: str, parsed: list[Parsed]) -> Accepted:
    """Commit the alerts, then nudge the queue."""
    try:
        taken = await service.intake.take(Message(person, source, parsed))
    except Overloaded as overloaded:
        metrics.REFUSED.labels(source=source, because="intake").inc(len(parsed))
        raise busy(str(overloaded)) from None
    for item in parsed:
        metrics.ALERTS.labels(source=source, status=item.alert.status).inc()
    log.info("alerts_accepted", source=source, alerts=len(parsed) - taken.shed, shed=taken.shed,
             incidents=list(taken.rows))  # fmt: skip
    await service.queue.nudge(*taken.to_start)
    if taken.shed:
        metrics.REFUSED.labels(source=source, because="queue").inc(taken.shed)
        raise busy(
            f"{service.settings.config.intake.queue} incidents wait for a worker: {taken.shed} of "
            f"{len(parsed)} alerts, none of them critical, would open another. Send the message "
            "again; what was taken of it is recognised"
        )
    return Accepted(
        incidents=[
            OpenedIncident(id=row.id, status=row.status, created=row.id in taken.opened)
            for row in taken.rows.values()
        ]
    )


def _within_rate(service: Service, person: Person, source: str) -> None:
    if seconds := service.rates.wait(person.name):
        metrics.REFUSED.labels(source=source, because="rate").inc()
        raise busy(f"{person.name} sends more alerts than `intake.per_second` allows", seconds)


def _route(
    source: str, parse: Callable[[Any], list[Parsed]], schema: dict[str, Any], what: str
) -> None:
    @router.post(
        f"/{source}",
        status_code=202,
        summary=what,
        operation_id=f"post_{source}_alerts",
        responses=documented(503),
        openapi_extra=schema,
    )
    async def post(
        service: Annotated[Service, Depends(Service.of)],
        person: Annotated[Person, Depends(who)],
        body: Annotated[Any, Body()],
    ) -> Accepted:
        may_post(person, source)
        _within_rate(service, person, source)
        try:
            parsed = parse(body)
        except UnreadableEnvelope as error:
            raise Problem(
                422, "not a message of this source", [(error.field, str(error))]
            ) from None
        service.rates.spend(person.name, len(parsed))
        return await accept(service, person, source, parsed)


def _parse_grafana(body: Any) -> list[Parsed]:
    return alertmanager.parse(body, "grafana")


_route("alertmanager", alertmanager.parse, ALERTMANAGER, "Alertmanager's webhook, version 4")
_route("grafana", _parse_grafana, ALERTMANAGER, "Grafana's alerting webhook")
_route("generic", generic.parse, GENERIC, "Alerts in the service's own format")
