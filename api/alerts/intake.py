"""From a message to incidents: 202 means committed."""

import structlog
from pydantic import BaseModel

from agent.incident import Status
from api import metrics, tracing
from api.alerts.parsed import Parsed
from api.alerts.taking import Message
from api.problems import busy
from api.service import Service
from api.store.audit import Person
from api.store.group_commit import Overloaded

log = structlog.get_logger(__name__)


class OpenedIncident(BaseModel):
    """Where an alert went."""

    id: str
    status: Status
    created: bool


class Accepted(BaseModel):
    """The incidents of a message, each once."""

    incidents: list[OpenedIncident]


async def accept(
    service: Service,
    person: Person,
    source: str,
    parsed: list[Parsed],
    delivery: str = "",
    truncated: int = 0,
) -> Accepted:
    """Commit the alerts of a message (see `Message`), then nudge the queue."""
    try:
        here = tracing.traceparent()
        message = Message(person, source, parsed, delivery, truncated, here)
        taken = await service.intake.take(message)
    except Overloaded as overloaded:
        metrics.REFUSED.labels(source=source, because="intake").inc(len(parsed))
        raise busy(str(overloaded)) from None
    if taken.seen_before:
        metrics.REPEATED.labels(source=source).inc()
        log.info("delivered_again", source=source, sender=person.name)
        return Accepted(incidents=[])
    for item in parsed:
        metrics.ALERTS.labels(source=source, status=item.alert.status).inc()
    log.info("alerts_accepted", source=source, alerts=len(parsed) - taken.shed, shed=taken.shed,
             incidents=list(taken.rows))  # fmt: skip
    if truncated:
        metrics.TRUNCATED.labels(source=source).inc(truncated)
        log.warning("alerts_truncated", source=source, left_out=truncated, sender=person.name)
    await service.queue.nudge(*taken.to_start, jobs=taken.to_start)
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
