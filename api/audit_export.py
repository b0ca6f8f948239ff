"""The audit trail as JSON lines that can be verified elsewhere, with the key.

One line a row, as the API would show it, with its MAC and the MAC before it; then one line that
seals the export itself: a line that is taken out of a part of the trail is missed by it.
"""

import hmac
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, TextIO

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from api.store import trail
from api.store.chain import MOST_FINDINGS, Entry, Finding, Key, Keyring, entry_from
from api.store.tables import AuditRow

LONGEST_LINE = 200_000
"""Characters of a line that is read back; a row's detail has at most 8,000."""


class Seal:
    """What the last line of an export holds: how many rows, and a MAC over theirs."""

    def __init__(self, key: Key) -> None:
        self._key_id = key.id
        self._rows = 0
        self._mac = hmac.new(key.secret, b"export", "sha256")

    def add(self, seq: int, mac: str) -> None:
        """One more row."""
        self._rows += 1
        self._mac.update(f"{seq} {mac}\n".encode())

    def end(self, since: str | None, incident: str | None) -> dict[str, Any]:
        """The last line, of an export with this filter."""
        about = {"since": since, "incident": incident, "rows": self._rows, "key_id": self._key_id}
        mac = self._mac.copy()
        mac.update(json.dumps(about, sort_keys=True).encode())
        return about | {"mac": mac.hexdigest()}


async def export(
    session: AsyncSession, key: Key, since: datetime | None, incident_id: str | None
) -> AsyncIterator[dict[str, Any]]:
    """The lines, from one snapshot, in pages."""
    seal = Seal(key)
    anchor = await trail.anchor_of(session)
    before = aliased(AuditRow)
    after = anchor.seq
    while True:
        chosen = (
            select(AuditRow, before.mac)
            .outerjoin(before, before.id == AuditRow.id - 1)
            .where(AuditRow.id > after)
            .order_by(AuditRow.id)
            .limit(trail.PAGE)
        )
        if since is not None:
            chosen = chosen.where(AuditRow.at >= since)
        if incident_id is not None:
            chosen = chosen.where(AuditRow.incident_id == incident_id)
        page = (await session.execute(chosen)).all()
        for row, mac in page:
            after = row.id
            seal.add(row.id, row.mac)
            yield _line(trail.entry_of(row), mac or anchor.mac)
        session.expunge_all()
        if not page:
            break
    yield {"end": seal.end(since.isoformat() if since else None, incident_id)}


def _line(entry: Entry, previous: str) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "at": entry.at.astimezone(UTC).isoformat(),
        "by": entry.by,
        "role": entry.role,
        "what": entry.what,
        "incident_id": entry.incident_id,
        "detail": entry.detail,
        "key_id": entry.key_id,
        "previous": previous,
        "mac": entry.mac,
    }


class Reading:
    """An export being read back: what was found, in bounded memory."""

    def __init__(self, keys: Keyring) -> None:
        self.rows = 0
        self.findings: list[Finding] = []
        self._keys = keys
        self._seals = [Seal(key) for key in (keys.current, *keys.earlier)]
        self._last, self._mac = 0, ""
        self._end: dict[str, Any] | None = None

    def line(self, text: str) -> None:
        """One line. Raises ValueError, KeyError, TypeError or AttributeError: not one of ours."""
        if self._end is not None:
            raise ValueError("something follows the end")
        line = json.loads(text)
        if "end" in line:
            self._end = line["end"]
            return
        entry = entry_from(line)
        if problem := self._problem(entry, str(line["previous"])):
            self.found(entry.seq, f"row {entry.seq}: {problem}")
        self.rows += 1
        self._last, self._mac = entry.seq, entry.mac
        for seal in self._seals:
            seal.add(entry.seq, entry.mac)

    def _problem(self, entry: Entry, previous: str) -> str:
        key = self._keys.find(entry.key_id)
        if entry.seq <= self._last:
            return f"it does not belong after row {self._last}"
        if key is None:
            return f"written with key {entry.key_id}, which is not here"
        if entry.sealed(key, previous) != entry.mac:
            return "it was changed"
        if self.rows and entry.seq == self._last + 1 and previous != self._mac:
            return "it was not written after the row before it"
        return ""

    def finish(self) -> None:
        """There are no more lines."""
        end = self._end
        if end is None:
            self.found(self._last, "the export is cut short: its last line is missing")
        elif end not in [seal.end(end.get("since"), end.get("incident")) for seal in self._seals]:
            self.found(self._last, "lines were taken out of the export, or its last line changed")

    def found(self, seq: int, text: str) -> None:
        """Note something that is wrong."""
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(seq, text))


def verify_export(file: TextIO, keys: Keyring) -> Reading:
    """What is wrong with an export."""
    reading, number = Reading(keys), 0
    while text := file.readline(LONGEST_LINE):
        number += 1
        try:
            reading.line(text)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            reading.found(reading.rows, f"line {number} is not a row of the audit trail")
            return reading
    reading.finish()
    return reading
