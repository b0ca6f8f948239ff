"""From a message to incidents, in one transaction: 202 means committed."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Body, Depends
from pydantic import BaseModel

from agent.context import Target
from agent.incident import Alert, Status
from agent.redaction import redact_tree
from api import metrics
from api.alerts import alertmanager, generic
from api.alerts.parsed import Parsed, UnreadableEnvelope
from api.alerts.schemas import ALERTMANAGER, GENERIC
from api.auth import may_post, who
from api.problems import Problem, busy, documented
from api.service import Service
from api.store import alerts as store
from api.store import audit, incidents
from api.store.audit import Person
from api.store.tables import IncidentRow

MOST_QUEUED = 1_000
"""Incidents waiting for a worker, before senders are asked to come back later."""
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


def target_for(alert: Alert, targets: Sequence[Target]) -> Target | None:
    """The target whose `match` labels the alert all carries: the most specific, then the first."""
    fits = [
        target
        for target in targets
        if target.match and target.match.items() <= alert.labels.items()
    ]
    return max(fits, key=lambda target: len(target.match), default=None)


def _unmatched(alert: Alert) -> str:
    labels = ", ".join(f"{name}={value}" for name, value in sorted(alert.labels.items())[:8])
    return f"no configured target's `match` fits this alert ({labels or 'it has no labels'})"


async def accept(service: Service, person: Person, source: str, parsed: list[Parsed]) -> Accepted:
    """Commit the alerts, then nudge the queue."""
    opened: dict[str, OpenedIncident] = {}
    async with service.database.writing() as session:
        if await incidents.queued(session) >= MOST_QUEUED:
            raise busy(f"{MOST_QUEUED} incidents wait for a worker already")
        for target, item in _in_order(parsed, service.targets):
            row, created = await _take(service, session, item, target)
            if row is not None:
                created = created or (row.id in opened and opened[row.id].created)
                opened[row.id] = OpenedIncident(id=row.id, status=row.status, created=created)
        await audit.note(session, person, "alerts", source=source, incidents=list(opened))
    for item in parsed:
        metrics.ALERTS.labels(source=source, status=item.alert.status).inc()
    log.info("alerts_accepted", source=source, alerts=len(parsed), incidents=list(opened))
    await service.queue.nudge(*(one.id for one in opened.values() if one.status == "queued"))
    return Accepted(incidents=list(opened.values()))


def _in_order(parsed: list[Parsed], targets: Sequence[Target]) -> list[tuple[str, Parsed]]:
    """With its target's name, or "". Every message takes its locks in the same order: by target;
    of one target, firing before resolved.
    """  # noqa: D205
    placed = []
    for item in parsed:
        target = None if item.problem else target_for(item.alert, targets)
        placed.append((target.name if target else "", item))
    return sorted(placed, key=lambda one: (one[0], one[1].alert.status, one[1].alert.fingerprint))


async def _take(
    service: Service, session: Any, item: Parsed, target: str
) -> tuple[IncidentRow | None, bool]:
    alert = _without_secrets(item.alert)
    if alert.status == "resolved":
        return await store.resolved(session, alert), False
    problem = item.problem or ("" if target else _unmatched(alert))
    return await store.firing(service.database, session, alert, target or None, problem)


def _without_secrets(alert: Alert) -> Alert:
    """As it is kept: exporters put the URL they scrape into labels, with its password."""
    told = redact_tree(alert.model_dump(include={"name", "labels", "annotations"}))
    return alert.model_copy(update=told)


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
        try:
            parsed = parse(body)
        except UnreadableEnvelope as error:
            raise Problem(
                422, "not a message of this source", [(error.field, str(error))]
            ) from None
        return await accept(service, person, source, parsed)


def _parse_grafana(body: Any) -> list[Parsed]:
    return alertmanager.parse(body, "grafana")


_route("alertmanager", alertmanager.parse, ALERTMANAGER, "Alertmanager's webhook, version 4")
_route("grafana", _parse_grafana, ALERTMANAGER, "Grafana's alerting webhook")
_route("generic", generic.parse, GENERIC, "Alerts in the service's own format")
