"""Prometheus metrics of this process, and of the store as it stands."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from sqlalchemy import func, select

from api.store import automatic, pages
from api.store.database import Database
from api.store.tables import ActionRow, IncidentRow

REGISTRY = CollectorRegistry()
ALERTS = Counter(
    "redis_oncall_alerts_total", "Alerts received.", ["source", "status"], registry=REGISTRY
)
REFUSED = Counter(
    "redis_oncall_alerts_refused_total",
    "Alerts that a sender was asked to send again later.",
    ["source", "because"],
    registry=REGISTRY,
)
"""because: rate | intake (too much waits to be stored) | queue (no room for another incident)."""
TRUNCATED = Counter(
    "redis_oncall_alerts_truncated_total",
    "Alerts that senders left out of their messages.",
    ["source"],
    registry=REGISTRY,
)
REPEATED = Counter(
    "redis_oncall_deliveries_repeated_total",
    "Messages that came again: delivered twice, or replayed.",
    ["source"],
    registry=REGISTRY,
)
DECISIONS = Counter(
    "redis_oncall_decisions_total", "Decisions of people.", ["decision"], registry=REGISTRY
)
REQUESTS = Counter(
    "redis_oncall_http_requests_total", "HTTP requests.", ["method", "code"], registry=REGISTRY
)
RUN_SECONDS = Histogram(
    "redis_oncall_run_seconds",
    "Time of one run of the graph, to its end or to the gate.",
    buckets=(1, 2.5, 5, 7.5, 10, 15, 30, 60, 120, 300),
    registry=REGISTRY,
)
RUNS_FAILED = Counter(
    "redis_oncall_runs_failed_total", "Runs that ended with an error.", registry=REGISTRY
)
INCIDENTS = Gauge(
    "redis_oncall_incidents", "Incidents in the store.", ["status"], registry=REGISTRY
)
ACTIONS = Gauge("redis_oncall_actions", "Actions in the store.", ["status"], registry=REGISTRY)
APPROVALS = Gauge("redis_oncall_approvals", "Approvals in the store.", ["by"], registry=REGISTRY)
"""by: people | break_glass | policy."""
PAGES = Gauge("redis_oncall_pages", "Pages in the store.", ["state"], registry=REGISTRY)


async def exposition(database: Database) -> bytes:
    """The metrics in Prometheus' text format."""
    async with database.reading() as session:
        for gauge, column in ((INCIDENTS, IncidentRow.status), (ACTIONS, ActionRow.status)):
            gauge.clear()
            for status, number in await session.execute(
                select(column, func.count()).group_by(column)
            ):
                gauge.labels(status=status).set(number)
        for by, number in (await automatic.counts(session)).items():
            APPROVALS.labels(by=by).set(number)
        for state, number in (await pages.counts(session)).items():
            PAGES.labels(state=state).set(number)
    return generate_latest(REGISTRY)
