"""Keeping what the tools saw during an investigation, so that it can be replayed and judged."""

import asyncio
from datetime import datetime

import structlog

from agent.context import Target
from agent.incident import Incident
from agent.redaction import redact_tree
from api.recording_redaction import redacted
from api.store import recordings
from api.store.database import Database
from api.store.tables import RecordingRow
from tools.capture import CAPTURE_BYTES
from tools.connection import Command, CommandFailure, Connection, Reply
from tools.recording import RecordingConnection
from tools.recording_file import Recording, fitting, packed

LARGEST_KEPT = 1_000_000
"""Bytes, compressed: a target with very many clients may exceed what leaving out keys can save."""
log = structlog.get_logger(__name__)


class Recorder(RecordingConnection):
    """Records as long as it can: a reply it cannot keep costs the recording, never the run."""

    failed = False

    def _keep(self, command: Command, at: float, reply: Reply | CommandFailure) -> None:
        if self.failed:
            return
        try:
            super()._keep(command, at, reply)
        except Exception:
            self.failed = True
            log.exception("recording_failed", command=str(command[0])[:40])


def recording_of(live: Connection, target: Target, incident: Incident) -> Recorder:
    """A connection that also records, for the run that begins an attempt."""
    return Recorder(live, memory_limit=target.memory_limit, alert=alert_of(incident))


def alert_of(incident: Incident) -> dict[str, object]:
    """What fired, or what was asked, as a recording's header holds it."""
    if not incident.alerts:
        return {
            "name": incident.title,
            "severity": incident.severity,
            "annotations": {"summary": incident.question},
        }
    first = incident.alerts[0].model_dump(
        mode="json", include={"name", "severity", "labels", "annotations"}
    )
    known: dict[str, object] = redact_tree(first)
    return known


async def keep(database: Database, recorder: Recorder, incident: Incident, most: int) -> None:
    """Keep the recording of an attempt. Failing to is no reason to fail the incident."""
    if recorder.failed:
        return
    try:
        recording = recorder.finished()
        data = await asyncio.to_thread(_within, recording)
        if len(data) > LARGEST_KEPT:
            log.warning("recording_too_large", bytes=len(data))
            return
        async with database.writing() as session:
            row = RecordingRow(
                incident_id=incident.id,
                attempt=incident.attempt,
                flavour=recording.header.flavour,
                data=data,
                taken_at=datetime.fromisoformat(recording.header.captured_at),
            )
            await recordings.keep(session, row, most)
    except Exception:
        log.exception("recording_not_kept")


def _within(recording: Recording) -> bytes:
    return packed(fitting(redacted(recording), CAPTURE_BYTES))
