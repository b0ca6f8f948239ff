"""From a message to incidents: 202 means committed."""

import structlog
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from agent.incident import Status
from api import metrics, tracing
from api.alerts.parsed import Parsed
from api.alerts.taking import Message, Taken
from api.problems import busy
from api.service import Service
from api.store.audit import Person
from api.store.group_commit import MOST_TOGETHER, Overloaded

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
    """Commit the alerts of a message (see `Message`), then nudge the queue, soon.

    Many go in several transactions, each bounded. If one of them fails, the whole message is
    refused; sent again, what was taken of it is recognised.
    """
    taken = Taken(seen_before=True)
    # All that fire, then all that are over: a pair is not to be told in the wrong order.
    ordered = sorted(parsed, key=lambda item: item.alert.status)
    for first in range(0, max(1, len(ordered)), MOST_TOGETHER):
        part = ordered[first : first + MOST_TOGETHER]
        name = f"{delivery}#{first}" if delivery and first else delivery
        message = Message(person, source, part, name, 0 if first else truncated,
                          tracing.traceparent())  # fmt: skip
        try:
            found = await service.intake.take(message)
        except Overloaded as overloaded:
            metrics.REFUSED.labels(source=source, because="intake").inc(len(ordered) - first)
            raise busy(str(overloaded)) from None
        except (DBAPIError, PoolTimeout):
            metrics.REFUSED.labels(source=source, because="database").inc(len(ordered) - first)
            raise
        service.announcements.announce(found.to_start)
        taken.add(found)
    if taken.seen_before:
        metrics.REPEATED.labels(source=source).inc()
        log.info("delivered_again", source=source, sender=person.name)
        return Accepted(incidents=[])
    for item in parsed:
        metrics.ALERTS.labels(source=source, status=item.alert.status).inc()
    log.info("alerts_accepted", source=source, alerts=len(parsed) - taken.shed, shed=taken.shed,
             incidents=list(taken.rows)[:MOST_TOGETHER])  # fmt: skip
    if truncated:
        metrics.TRUNCATED.labels(source=source).inc(truncated)
        log.warning("alerts_truncated", source=source, left_out=truncated, sender=person.name)
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
