"""The chain of the audit trail: what a row's MAC covers, and walking along it. Pure.

The key is outside the database. Each row's MAC covers all of its fields, its number and the MAC of
the row before, so that a row cannot be changed, removed, moved or put in without the key. What is
cut off at the end shows only against a MAC that was noted elsewhere (`heads`).
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

GENESIS = "0" * 64
"""What stands for the MAC before the first row."""
KEY_CHANGE = "audit_key"
"""The deed that hands the chain over to another key; its detail names it as `next`."""
MOST_FINDINGS = 20
_FORMAT = 1
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Key:
    """One key, and a name for it that does not give it away."""

    secret: bytes = field(repr=False)

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits."""
        return hmac.new(self.secret, b"key id", hashlib.sha256).hexdigest()[:16]

    def sign(self, *content: Any) -> str:
        """HMAC-SHA256 of the content's canonical JSON, hexadecimal."""
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hmac.new(self.secret, text.encode("ascii"), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Keyring:
    """The key that rows are written with, and those they were written with before."""

    current: Key
    earlier: tuple[Key, ...] = ()

    def find(self, key_id: str) -> Key | None:
        """The key of that id, if it is here."""
        return next((key for key in (self.current, *self.earlier) if key.id == key_id), None)


@dataclass(frozen=True)
class Entry:
    """One row of the trail."""

    seq: int
    at: datetime
    by: str
    role: str
    what: str
    incident_id: str | None
    detail: Any
    key_id: str
    mac: str = ""

    def sealed(self, key: Key, previous: str) -> str:
        """The MAC that it must have after that one."""
        return key.sign(
            _FORMAT, self.seq, previous, self.key_id, self.at.astimezone(UTC).isoformat(),
            self.by, self.role, self.what, self.incident_id, self.detail,
        )  # fmt: skip


@dataclass(frozen=True)
class Anchor:
    """What is left of rows that were pruned: the last of them. Nothing pruned: seq 0."""

    seq: int = 0
    mac: str = GENESIS
    at: datetime = _NEVER
    key_id: str = ""
    signature: str = ""

    def sealed(self, key: Key) -> str:
        """The signature that it must have."""
        at = self.at.astimezone(UTC).isoformat()
        return key.sign("anchor", _FORMAT, self.seq, self.mac, at, self.key_id)

    def problem(self, keys: Keyring) -> str:
        """Why it cannot be trusted; empty if it can."""
        if self.seq == 0:
            return ""
        key = keys.find(self.key_id)
        if key is None:
            return f"the anchor at row {self.seq} is signed with key {self.key_id}, not at hand"
        if self.sealed(key) != self.signature:
            return f"the anchor at row {self.seq} was changed"
        return ""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was written; `seq` is the row where it shows."""

    seq: int
    text: str
    without_key: bool = False
    """Not wrong: nobody here can tell."""


class Walk:
    """Follows the rows in order. Memory: the heads, and the first findings."""

    def __init__(
        self, keys: Keyring, anchor: Anchor | None = None, heads: Mapping[int, str] | None = None
    ) -> None:
        self._keys = keys
        anchor = anchor or Anchor()
        self.first = anchor.seq + 1
        self.seq, self.mac = anchor.seq, anchor.mac
        self.rows = 0
        self.findings: list[Finding] = []
        self.total = 0
        """Findings, also those that are not kept."""
        self._heads = heads or {}
        self._unknown = set[str]()
        self._key_id = ""
        """The key that the next row must have; empty: any that is at hand."""
        if problem := anchor.problem(keys):
            without_key = keys.find(anchor.key_id) is None
            self.found(anchor.seq, problem, without_key=without_key)
        if self._heads.get(anchor.seq, anchor.mac) != anchor.mac:
            self.found(anchor.seq, f"the anchor at row {anchor.seq} is not the row noted then")

    def found(self, seq: int, text: str, *, without_key: bool = False) -> None:
        """Note something that is wrong."""
        self.total += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(seq, text, without_key))

    def step(self, entry: Entry) -> None:
        """The next row."""
        self.rows += 1
        if entry.seq <= self.seq:
            self.found(entry.seq, f"row {entry.seq} does not belong after row {self.seq}")
            return
        if entry.seq > self.seq + 1:
            self.found(self.seq + 1, f"{_rows(self.seq + 1, entry.seq - 1)} missing")
        elif self._keys.find(entry.key_id) is None:
            self._without_key(entry)
        elif problem := self._problem(entry):
            self.found(entry.seq, f"row {entry.seq}: {problem}")
        if (noted := self._heads.get(entry.seq)) is not None and noted != entry.mac:
            self.found(entry.seq, f"row {entry.seq} is not the row that was noted as the head")
        self.seq, self.mac = entry.seq, entry.mac
        self._key_id = _next_key(entry)

    def unreadable(self, seq: int) -> None:
        """A row that holds what was never written there."""
        self.rows += 1
        self.found(seq, f"row {seq} was changed: it cannot be read")
        self.seq, self.mac, self._key_id = seq, "", ""

    def _without_key(self, entry: Entry) -> None:
        if entry.key_id in self._unknown:
            return
        if len(self._unknown) < MOST_FINDINGS:
            self._unknown.add(entry.key_id)
        text = f"row {entry.seq} and others: written with key {entry.key_id}, which is not here"
        self.found(entry.seq, f"{text} (here: {self._keys.current.id})", without_key=True)

    def _problem(self, entry: Entry) -> str:
        key = self._keys.find(entry.key_id)
        if self._key_id not in ("", entry.key_id):
            return f"written with key {entry.key_id}, and nobody changed the key before it"
        if not self.mac:
            return ""  # the row before could not be read: that is said already
        if key is None or entry.sealed(key, self.mac) != entry.mac:
            return "it was changed, or it is not the row that was written after the one before"
        return ""

    def end(self, head: tuple[int, str] | None) -> None:
        """All rows were there. `head`: the last row as the database itself notes it."""
        if head is None:
            if self.rows or self.first > 1:
                self.found(self.seq, "the note of the last row is missing")
        elif head[0] > self.seq:
            self.found(self.seq + 1, f"{_rows(self.seq + 1, head[0])} missing at the end")
        elif head != (self.seq, self.mac):
            text = f"the last row is {self.seq}, and the note of the last row says {head[0]}"
            self.found(min(self.seq, head[0] + 1), text)
        # Several heads may be beyond the end: the last says how much there was.
        beyond = max((seq for seq in self._heads if seq > self.seq), default=0)
        if beyond and (head is None or head[0] < beyond):
            text = f"{_rows(self.seq + 1, beyond)} missing at the end: row {beyond} was noted once"
            self.found(self.seq + 1, text)


def _next_key(entry: Entry) -> str:
    """The key of the row after this one."""
    if entry.what == KEY_CHANGE and isinstance(entry.detail, dict):
        return str(entry.detail.get("next") or entry.key_id)
    return entry.key_id


def _rows(first: int, last: int) -> str:
    return f"row {first} is" if first == last else f"rows {first} to {last} are"


def plain(detail: Mapping[str, Any], most: int) -> dict[str, Any]:
    """The detail as JSON holds it, so that what is signed is what is read back; bounded."""
    text = json.dumps(dict(detail), default=str, allow_nan=True)
    if len(text) > most:
        return {"cut": text[:most]}
    found: dict[str, Any] = json.loads(text, parse_constant=str)
    return found


def entry_from(line: Mapping[str, Any]) -> Entry:
    """A row as it was exported. Raises ValueError, KeyError or TypeError."""
    return Entry(
        seq=int(line["seq"]),
        at=datetime.fromisoformat(line["at"]),
        by=line["by"],
        role=line["role"],
        what=line["what"],
        incident_id=line["incident_id"],
        detail=line["detail"],
        key_id=line["key_id"],
        mac=line["mac"],
    )
