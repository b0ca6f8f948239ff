"""A journal in memory: for one-shot investigations, replays, the suite and tests."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from agent.context import EventKind
from agent.exchange import Exchange, bounded, total
from agent.incident import (
    CALLS_PEOPLE,
    NOTHING,
    Action,
    Diagnosis,
    EvidenceSummary,
    Incident,
    Plan,
    RunbookMatch,
    Status,
    Usage,
)
from agent.policy import AutoLimits
from agent.precedents import Earlier
from agent.windows import Window
from tools.reading import Evidence

Listener = Callable[[EventKind, dict[str, Any]], None]


class MemoryLedger:
    """Keeps exchanges in this process. No day is counted: other processes cannot be seen."""

    def __init__(self, count: Callable[[Usage], Awaitable[None]] | None = None) -> None:
        self.exchanges: list[Exchange] = []
        self._count = count

    async def spent(self) -> Usage:
        """All of them."""
        return total([each.usage.plus(Usage(seconds=each.seconds)) for each in self.exchanges])

    async def reserve(self, model: str, most: Usage) -> None:
        """Nothing: the caps of the incident are its budget's own."""

    async def keep(self, exchange: Exchange) -> None:
        """Keep and count it."""
        self.exchanges.append(bounded(exchange))
        if self._count is not None:
            await self._count(exchange.usage)


class MemoryJournal:
    """Keeps one incident in this process; `listener` sees every event as it happens."""

    def __init__(self, incident: Incident, listener: Listener | None = None) -> None:
        self._incident = incident.model_copy(deep=True)
        self._evidence: list[Evidence] = []
        self.pages: list[str] = []
        self.frozen: list[Window] = []
        self.before = Earlier()
        self._intents: dict[str, dict[str, Any]] = {}
        self._listener = listener
        self.ledger = MemoryLedger(self.add_usage)

    async def incident(self) -> Incident:
        """The incident as it stands."""
        return self._incident.model_copy(deep=True)

    async def add_evidence(
        self,
        tool: str,
        args: dict[str, Any],
        reading: dict[str, Any],
        *,
        measured: bool,
        node: str,
        summary: str,
        taken_at: datetime | None = None,
        usage: Usage = NOTHING,
    ) -> Evidence:
        """Keep a reading under the next id."""
        await self.add_usage(usage)
        evidence = Evidence(
            id=f"E{len(self._evidence) + 1}",
            tool=tool,
            args=args,
            reading=reading,
            measured=measured,
            taken_at=taken_at or datetime.now(UTC),
            target=self._incident.target,
            node=node,
            summary=summary,
        )
        self._evidence.append(evidence)
        shown = EvidenceSummary.model_validate(
            evidence.model_dump(include=set(EvidenceSummary.model_fields))
        )
        self._incident.evidence.append(shown)
        await self.event("evidence", shown.model_dump(mode="json"))
        return evidence

    async def evidence(self) -> list[Evidence]:
        """All evidence, oldest first."""
        return list(self._evidence)

    async def set_status(self, status: Status, ended_because: str = "") -> None:
        """Move the incident on."""
        self._incident.status = status
        self._incident.ended_because = ended_because
        self._touch()
        await self.event("status", {"status": status, "ended_because": ended_because})

    async def set_runbooks(self, runbooks: list[RunbookMatch]) -> None:
        """Which runbooks were loaded."""
        self._incident.runbooks = runbooks

    async def set_diagnosis(self, diagnosis: Diagnosis) -> None:
        """Keep the diagnosis."""
        self._incident.diagnosis = diagnosis
        self._touch()
        for claim in diagnosis.claims:
            await self.event("claim", claim.model_dump(mode="json"))

    async def set_plan(self, plan: Plan) -> None:
        """Keep the plan."""
        self._incident.plan = plan
        self._touch()
        await self.event("plan", plan.model_dump(mode="json"))

    async def save_action(
        self,
        action: Action,
        *,
        intent: dict[str, Any] | None = None,
        outcome: dict[str, Any] | None = None,
    ) -> None:
        """Keep an action's state, its intent or outcome, and whom it calls."""
        if intent is not None:
            known = self._intents.get(action.id, {})
            self._intents[action.id] = {k: known[k] for k in ("progress",) if k in known} | intent
        if outcome is not None:
            self._intents.pop(action.id, None)
        before = {known.id: known.status for known in self._incident.plan.actions}
        if action.status in CALLS_PEOPLE and before.get(action.id) != action.status:
            how = action.status.replace("_", " ")
            self.pages.append(f"{action.id} ({action.title}): {how}: {action.comment}")
        self._incident.plan.actions = [
            action if known.id == action.id else known for known in self._incident.plan.actions
        ]
        self._touch()
        await self.event("action", action.model_dump(mode="json"))

    async def add_usage(self, usage: Usage) -> None:
        """Add to the cost."""
        self._incident.usage = self._incident.usage.plus(usage)

    async def intent(self, action_id: str) -> dict[str, Any] | None:
        """An intent without an outcome."""
        return self._intents.get(action_id)

    async def note_progress(self, action_id: str, done: dict[str, Any]) -> str:
        """Keep it beside the intent."""
        self._intents[action_id] = self._intents[action_id] | {"progress": dict(done)}
        return ""

    async def unsettled(self) -> list[dict[str, Any]]:
        """The open intents."""
        return list(self._intents.values())

    async def page(self, reason: str) -> None:
        """Keep it: nobody but this process is there to be called."""
        self.pages.append(reason)

    async def freezes(self) -> list[Window]:
        """Those a test declared: there is nobody else."""
        return list(self.frozen)

    async def earlier(self) -> Earlier:
        """What a test tells of earlier ones: nothing else is known of any."""
        return self.before

    async def approve_automatically(
        self, action: Action, cause: str, limits: AutoLimits
    ) -> str | None:
        """Never: other processes, and what they approved, cannot be seen."""
        return "this investigation is kept by no service"

    async def event(self, kind: EventKind, data: dict[str, Any]) -> None:
        """Tell the listener."""
        if self._listener is not None:
            self._listener(kind, data)

    def _touch(self) -> None:
        self._incident.updated_at = datetime.now(UTC)
