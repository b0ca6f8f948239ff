"""`POST /v1/alerts/{source}`: authenticated over the raw bytes, then read, then committed."""

import hashlib
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from api import metrics
from api.alerts import alertmanager, datadog, generic, pagerduty, schemas
from api.alerts.alertmanager import truncated
from api.alerts.intake import Accepted, accept
from api.alerts.parsed import Parsed, UnreadableEnvelope, message_of
from api.problems import Problem, busy, documented
from api.service import Service
from api.source_auth import Sender, sender_of
from api.source_config import SourceKind
from api.store.audit import Person

router = APIRouter(prefix="/v1/alerts", tags=["alerts"])


def _delivery(request: Request, source: SourceKind, sender: Sender, body: bytes) -> str:
    """What this message is known by, if it may only count once.

    PagerDuty's number is not signed: a replay may have another, and it never is enough to take a
    message for one that was seen.
    """
    if sender.signed:
        return f"signed:{sender.signed}"
    number = request.headers.get("X-Webhook-Id", "") if source == "pagerduty" else ""
    return f"webhook:{hashlib.sha256(number.encode() + b':' + body).hexdigest()}" if number else ""


def _route(source: SourceKind, parse: Callable[[Any], list[Parsed]], what: str) -> None:
    async def sent_by(request: Request) -> Sender:
        return await sender_of(request, source)

    @router.post(
        f"/{source}",
        status_code=202,
        summary=what,
        operation_id=f"post_{source}_alerts",
        responses=documented(503),
        openapi_extra=schemas.described(source),
    )
    async def post(
        request: Request,
        service: Annotated[Service, Depends(Service.of)],
        sender: Annotated[Sender, Depends(sent_by)],
    ) -> Accepted:
        _within_rate(service, sender.person, source)
        try:
            content = message_of(body := await request.body())
            parsed = parse(content)
        except UnreadableEnvelope as error:
            raise Problem(
                422, "not a message of this source", [(error.field, str(error))]
            ) from None
        service.rates.spend(sender.person.name, len(parsed))
        left_out = truncated(content) if source in ("alertmanager", "grafana") else 0
        delivery = _delivery(request, source, sender, body)
        return await accept(service, sender.person, source, parsed, delivery, left_out)


def _within_rate(service: Service, person: Person, source: str) -> None:
    if seconds := service.rates.wait(person.name):
        metrics.REFUSED.labels(source=source, because="rate").inc()
        raise busy(f"{person.name} sends more alerts than `intake.per_second` allows", seconds)


def _parse_grafana(body: Any) -> list[Parsed]:
    return alertmanager.parse(body, "grafana")


_route("alertmanager", alertmanager.parse, "Alertmanager's webhook, version 4")
_route("grafana", _parse_grafana, "Grafana's alerting webhook")
_route("pagerduty", pagerduty.parse, "PagerDuty's webhooks, version 3")
_route("datadog", datadog.parse, "Datadog's webhook with the documented payload")
_route("generic", generic.parse, "Alerts in the service's own format")
