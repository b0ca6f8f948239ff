"""One recorded incident, worked offline through the real graph, and its facts looked up again."""

import asyncio
import time
from collections.abc import Awaitable, Container, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from agent.context import Context, Reasoner
from agent.exchange import Exchange
from agent.incident import Alert, Diagnosis, Incident
from agent.memory_journal import MemoryJournal, MemoryLedger
from agent.reaching import recorded_target
from agent.redaction import redact_tree
from agent.rules import Rules
from agent.run import investigate
from agent.runbook import Library
from evals.score import Checked, Result, recomputed
from evals.truth import RecordedIncident
from tools import recording_file
from tools.connection import CommandFailure, Connection
from tools.known import known_in, of_tool
from tools.reading import Evidence
from tools.reads import READS
from tools.recording import RecordedConnection
from tools.recording_file import Recording

INCIDENT_SECONDS = 300.0
"""Longest one incident may take: five times what a model may spend on it."""


async def work(
    recorded: RecordedIncident, library: Library, model: Reasoner | None = None
) -> Result:
    """One incident. Whatever goes wrong in it is part of its result."""
    return await guarded(recorded, _worked(recorded, library, model))


async def guarded(recorded: RecordedIncident, worked: Awaitable[Result]) -> Result:
    """A crash, or taking too long, is a wrong answer and not the end of the suite."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(INCIDENT_SECONDS):
            return await worked
    except Exception as error:  # noqa: BLE001 - see above
        return failed(recorded, f"{type(error).__name__}: {error}", time.monotonic() - started)


def failed(recorded: RecordedIncident, why: str, seconds: float = 0.0) -> Result:
    """The result of an incident that got no answer."""
    return Result(
        recorded.id, recorded.truth, recorded.held_back, None, seconds=seconds, failure=why
    )


async def _worked(
    recorded: RecordedIncident, library: Library, model: Reasoner | None = None
) -> Result:
    started = time.monotonic()
    recording = recording_file.read(recorded.recording)
    context = opened(recorded, library, model, recording)
    incident = await investigate(context, await context.journal.incident())
    evidence = await context.journal.evidence()
    seconds = time.monotonic() - started
    diagnosis = incident.diagnosis
    readings = {piece.tool: piece.reading for piece in reversed(evidence)}
    if not recorded.truth.is_incident:
        # Others are compared with healthy servers, also where nobody had a reason to look.
        readings = await unseen(recording, readings) | readings
    return Result(
        id=recorded.id,
        truth=recorded.truth,
        held_back=recorded.held_back,
        diagnosis=diagnosis,
        actions=tuple(incident.plan.actions),
        facts=await check_facts(recording, diagnosis, evidence) if diagnosis else (),
        readings=readings,
        evidence=tuple(evidence),
        usage=incident.usage,
        exchanges=_exchanges(context),
        seconds=seconds,
    )


def _exchanges(context: Context) -> tuple[Exchange, ...]:
    ledger = context.journal.ledger
    return tuple(ledger.exchanges) if isinstance(ledger, MemoryLedger) else ()


async def diagnose(
    recorded: RecordedIncident, library: Library, model: Reasoner | None = None
) -> tuple[Incident, list[Evidence]]:
    """The incident at the gate, and all its evidence."""
    context = opened(recorded, library, model)
    incident = await investigate(context, await context.journal.incident())
    return incident, await context.journal.evidence()


def opened(
    recorded: RecordedIncident,
    library: Library,
    model: Reasoner | None = None,
    recording: Recording | None = None,
) -> Context:
    """What a run of this incident may reach: the recording, and nothing else."""
    connection = RecordedConnection(recording or recorded.recording)
    return Context(
        target=recorded_target(recorded.id, connection.recording),
        connection=connection,
        open_for_remedies=_refuse,
        journal=MemoryJournal(_opened(recorded.id, connection)),
        library=library,
        rules=Rules(library),
        model=model,
        known=known_in(connection.recording),
    )


async def _refuse() -> Connection:
    raise CommandFailure("not_allowed", "open for remedies", "a recording cannot be changed")


def _opened(name: str, connection: RecordedConnection) -> Incident:
    """The incident as the alert in the recording would open it."""
    now = datetime.now(UTC)
    fired = connection.header.alert or {}
    alert = Alert(
        source="recording",
        name=str(fired.get("name", "RedisAlert")),
        fingerprint=name,
        starts_at=now,
        severity=fired.get("severity", "warning"),
        labels=fired.get("labels", {}),
        annotations=fired.get("annotations", {}),
    )
    return Incident(
        id=name,
        status="queued",
        severity=alert.severity,
        title=alert.name,
        target=name,
        alerts=[alert],
        opened_at=now,
        updated_at=now,
    )


async def check_facts(
    recording: Recording, diagnosis: Diagnosis, evidence: Sequence[Evidence]
) -> tuple[Checked, ...]:
    """Look again, at the recording from its beginning, and compute every fact anew."""
    facts = [fact for claim in diagnosis.claims for fact in claim.facts]
    cited = {fact.evidence for fact in facts} | {
        path.partition(":")[0] for fact in facts for path in fact.of if ":" in path
    }
    readings = {
        piece.id: await _look(recording, piece.tool, piece.args)
        for piece in evidence
        if piece.id in cited
    }
    return tuple(recomputed(fact, readings) for fact in facts)


async def unseen(recording: Recording, known: Container[str]) -> dict[str, dict[str, Any]]:
    """What every other tool sees without arguments, by tool; nothing of those that need some."""
    seen = {tool: await _look(recording, tool, {}) for tool in READS if tool not in known}
    return {tool: reading for tool, reading in seen.items() if reading}


async def _look(recording: Recording, tool: str, args: dict[str, Any]) -> dict[str, Any]:
    connection = RecordedConnection(recording)  # its clock begins at zero again
    try:
        reading = await READS[tool].call(connection, args | of_tool(recording, tool))
    except (KeyError, ValidationError):
        return {}
    seen: dict[str, Any] = redact_tree(reading.model_dump(mode="json"))
    return seen
