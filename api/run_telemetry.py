"""What runs tell, as metrics and traces. Implements `agent.telemetry.Telemetry`."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from agent.incident import Incident
from agent.telemetry import Attribute, Span, Telemetry
from api import metrics, tracing
from api.settings import Settings, SettingsError
from api.store import incidents, processes
from api.store.database import Database


class RunTelemetry:
    """Counts in this process's metrics; spans, if traces are on."""

    def span(
        self, name: str, attributes: Mapping[str, Attribute] | None = None
    ) -> AbstractContextManager[Span]:
        """A span below the current one."""
        return tracing.span(name, attributes)

    def looked(self, tool: str, outcome: str) -> None:
        """Count a look."""
        metrics.LOOKS.labels(tool, outcome).inc()

    def checked(self, reasoner: str, *, held: bool) -> None:
        """Count an evidence check."""
        metrics.CLAIM_CHECKS.labels(reasoner, "held" if held else "failed").inc()


TELEMETRY: Telemetry = RunTelemetry()


def start_tracing(settings: Settings) -> None:
    """If a receiver of traces is configured. Raises SettingsError."""
    if not settings.otel_endpoint:
        return
    try:
        tracing.install(settings.otel_endpoint, processes.process_name())
    except tracing.NoExporter as missing:
        raise SettingsError(str(missing)) from None


async def run_span(database: Database, incident: Incident) -> AbstractContextManager[Span]:
    """A run: part of the trace of the request that asked for it, or if it goes on after a crash
    one of its own that is linked to that. A nudge carries no trace: it is of no one incident.
    """  # noqa: D205
    if not tracing.is_on():
        return tracing.NO_SPAN
    async with database.reading() as session:
        asked = await incidents.asked_by(session, incident.id)
    goes_on = incident.status not in ("queued", "awaiting_approval")
    return tracing.span(
        "job advance",
        {"redis_oncall.incident": incident.id, "redis_oncall.target": incident.target},
        kind="consumer",
        parent=tracing.context_of("" if goes_on else asked),
        link=asked if goes_on else "",
    )
