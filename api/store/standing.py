"""How the store stands, as Prometheus metrics: the same from whichever process they are asked."""

from datetime import datetime
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Gauge
from sqlalchemy import and_, case, exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import ActionStatus, Status
from api.store import automatic, incidents, notices, pages, processes
from api.store.database import Database
from api.store.tables import ActionRow, EventRow, IncidentRow, LeaseRow, PageRow


async def standing(database: Database) -> CollectorRegistry:
    """Gauges of this moment. Raises what the database raises: what is unknown is left out."""
    registry = CollectorRegistry()
    async with database.reading() as session:
        clock = await database.clock(session)
        await _counts(session, registry)
        await _work(session, clock, registry)
        await _people(session, registry)
        leased = select(func.count()).where(LeaseRow.expires > clock, LeaseRow.incident_id != "")
        _one(registry, "leases", "Targets that are worked on.", await session.scalar(leased))
        alive = await processes.workers(session, clock)
        _one(registry, "workers", "Processes that sweep and work on incidents.", alive)
    return registry


def _one(registry: CollectorRegistry, name: str, what: str, value: float | None) -> None:
    Gauge(f"redis_oncall_{name}", what, registry=registry).set(value or 0)


async def _counts(session: AsyncSession, registry: CollectorRegistry) -> None:
    by_status: tuple[tuple[str, Any, Any], ...] = (
        ("incidents", IncidentRow.status, Status),
        ("actions", ActionRow.status, ActionStatus),
    )
    for name, column, statuses in by_status:
        found = await session.execute(select(column, func.count()).group_by(column))
        numbers = dict.fromkeys(get_args(statuses), 0) | {status: n for status, n in found}
        _many(registry, name, f"{name.capitalize()} in the store.", "status", numbers)
    _many(registry, "approvals", "Approvals in the store: by people, break_glass or policy.",
          "by", await automatic.counts(session))  # fmt: skip
    _many(registry, "pages", "Pages in the outbox.", "state", await pages.counts(session))
    _many(registry, "notices", "Notifications in the outbox.", "state",
          await notices.counts(session))  # fmt: skip


def _many(
    registry: CollectorRegistry, name: str, what: str, label: str, numbers: dict[str, int]
) -> None:
    gauge = Gauge(f"redis_oncall_{name}", what, [label], registry=registry)
    for value, number in numbers.items():
        gauge.labels(value).set(number)


async def _work(session: AsyncSession, clock: float, registry: CollectorRegistry) -> None:
    """Incidents with work to do and nobody at it."""
    leased = exists().where(LeaseRow.target == IncidentRow.target, LeaseRow.expires > clock)
    # More alerts touch a row; the first attempt waits since the incident was opened all the same.
    first = and_(IncidentRow.status == "queued", IncidentRow.attempt == 1)
    since = case((first, IncidentRow.opened_at), else_=IncidentRow.updated_at)
    waiting, oldest = (
        await session.execute(
            select(func.count(), func.min(since)).where(incidents.has_work(), ~leased)
        )
    ).one()
    _one(registry, "queue_depth", "Incidents with work to do and nobody at it.", waiting)
    _one(registry, "oldest_unattended_seconds",
         "For how long the oldest of them has waited; 0: there is none.",
         _age(oldest))  # fmt: skip


async def _people(session: AsyncSession, registry: CollectorRegistry) -> None:
    """What waits for people."""
    at_gate = (
        select(IncidentRow.id)
        .join(
            ActionRow,
            and_(
                ActionRow.incident_id == IncidentRow.id,
                ActionRow.attempt == IncidentRow.attempt,
                ActionRow.executable.is_(True),
                ActionRow.status == "proposed",
            ),
        )
        .where(IncidentRow.status == "awaiting_approval")
    )
    rows = at_gate.subquery()
    number = await session.scalar(select(func.count()).select_from(rows))
    planned = (
        select(func.max(EventRow.at).label("at"))
        .where(EventRow.kind == "plan", EventRow.incident_id.in_(at_gate))
        .group_by(EventRow.incident_id)
        .subquery()
    )
    oldest = await session.scalar(select(func.min(planned.c.at)))
    _one(registry, "approvals_waiting", "Actions that wait for people.", number)
    _one(registry, "oldest_approval_seconds",
         "For how long the oldest plan of these has waited; 0: there is none.",
         _age(oldest))  # fmt: skip
    page = await session.scalar(select(func.min(PageRow.at)).where(PageRow.sent_at.is_(None)))
    _one(registry, "oldest_page_seconds",
         "For how long the oldest page has waited to be sent; 0: there is none.",
         _age(page))  # fmt: skip


def _age(since: datetime | None) -> float:
    return 0.0 if since is None else max(0.0, (incidents.now() - since).total_seconds())
