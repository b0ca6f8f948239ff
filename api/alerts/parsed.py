"""What a parser hands over: alerts, and what could not be read as one."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agent.incident import Alert, Severity
from api.json_shape import json_too_much
from tools.reading import printable

MOST_ALERTS = 2_000
"""Alerts of one message, which may be of 2 MiB: one of Alertmanager's takes 1 KiB or more."""
MOST_LABELS = 100
LONGEST_TEXT = 2_000
LONGEST_FINGERPRINT = 200
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TOO_LATE = datetime(9999, 1, 1, tzinfo=UTC)
"""So near the end of the calendar that an hour, or another zone, may pass it."""
_SEVERITIES: dict[str, Severity] = {
    "critical": "critical", "page": "critical", "error": "critical", "high": "critical",
    "warning": "warning", "warn": "warning", "info": "info", "none": "info", "low": "info",
}  # fmt: skip
PRIORITIES: dict[str, Severity] = {
    "P1": "critical", "P2": "critical", "P3": "warning", "P4": "info", "P5": "info",
}  # fmt: skip
"""As PagerDuty and Datadog number them."""


class UnreadableEnvelope(ValueError):
    """Not a message of this source at all: field, and what was expected."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Parsed:
    """An alert, or a piece of a message that could not be read as one (`problem`)."""

    alert: Alert
    problem: str = ""
    occurrence: str = ""
    """The label that says which time of the alert it is, where each message has a start of its own;
    empty: the start says it."""
    target: str = ""
    """Known without any label: only our own watch says it, never a sender."""


class Malformed(ValueError):
    """One alert of a message cannot be read; the text names the field."""


def message_of(body: bytes) -> Any:
    """The JSON of a message. Raises UnreadableEnvelope."""
    if (because := json_too_much(body)) is not None:
        raise UnreadableEnvelope("body", because)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise UnreadableEnvelope("body", "JSON is expected") from None


def alerts_of(body: Any) -> list[Any]:
    """The list under `alerts`. Raises UnreadableEnvelope."""
    if not isinstance(body, dict):
        raise UnreadableEnvelope("body", "a JSON object is expected")
    alerts = body.get("alerts")
    if not isinstance(alerts, list):
        raise UnreadableEnvelope("body.alerts", "a list of alerts is expected")
    return alerts


def not_too_many(alerts: list[Any]) -> list[Any]:
    """All of them, for senders who can send several messages. Raises UnreadableEnvelope."""
    if len(alerts) > MOST_ALERTS:
        raise UnreadableEnvelope(
            "body.alerts", f"at most {MOST_ALERTS} alerts are expected; send several messages"
        )
    return alerts


def most_urgent(alerts: list[Any]) -> list[Any]:
    """As many as are taken of a message: critical ones first, last what is over.

    For senders who would drop the whole message if it were refused.
    """
    return sorted(alerts, key=_urgency)[:MOST_ALERTS] if len(alerts) > MOST_ALERTS else alerts


def _urgency(raw: Any) -> int:
    if not isinstance(raw, dict):
        return 1
    if raw.get("status") == "resolved":
        return 2
    labels = raw.get("labels")
    said = labels.get("severity") if isinstance(labels, dict) else None
    return int(_SEVERITIES.get(str(said).lower(), "warning") != "critical")


def malformed(source: str, raw: Any, problem: str) -> Parsed:
    """Keep what could not be read: a person has to look at it. The same again is recognised."""
    text = json.dumps(raw, sort_keys=True, ensure_ascii=True, default=str)
    alert = Alert(
        source=source,
        name="unreadable alert",
        fingerprint=f"unreadable-{_digest(text)}",
        starts_at=EPOCH,
        annotations={"raw": printable(text, LONGEST_TEXT)},
    )
    return Parsed(alert, f"an alert from {source} could not be read: {problem}")


def clean(value: Any) -> str:
    """Untrusted text: printable, bounded, lines kept."""
    lines = str(value)[:LONGEST_TEXT].splitlines()
    return "\n".join(printable(line, LONGEST_TEXT) for line in lines)


def texts(raw: Mapping[str, Any], field: str) -> dict[str, str]:
    """Labels or annotations. Raises Malformed."""
    found = raw.get(field) or {}
    if not isinstance(found, dict):
        raise Malformed(f"{field} must be an object")
    if any(isinstance(value, dict | list) for value in found.values()):
        raise Malformed(f"{field} must hold texts")
    kept = list(found.items())[:MOST_LABELS]
    return {clean(name): clean(value) for name, value in kept if value is not None}


def text(raw: Mapping[str, Any], field: str) -> str:
    """A field that should be a text or a number; "" if it is neither."""
    value = raw.get(field)
    is_scalar = isinstance(value, str | int | float) and not isinstance(value, bool)
    return clean(value).strip() if is_scalar else ""


def scalars(raw: Mapping[str, Any]) -> dict[str, str]:
    """What of an object can be a label; the rest is left out."""
    kept = {
        clean(name): clean(value)
        for name, value in list(raw.items())[:MOST_LABELS]
        if isinstance(value, str | int | float)
    }
    return {name: value for name, value in kept.items() if name}


def instant(raw: Mapping[str, Any], field: str) -> datetime | None:
    """A time with a zone; None if absent or Go's zero time. Raises Malformed."""
    value = raw.get(field)
    if value in (None, ""):
        return None
    if not isinstance(value, str):
        raise Malformed(f"{field} must be a text")
    try:
        moment = datetime.fromisoformat(value)
        if moment.year <= 1:
            return None
        with_zone = moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        raise Malformed(f"{field} must be a time such as 2026-01-31T03:00:00Z") from None
    if with_zone is None:
        raise Malformed(f"{field} has no time zone")
    if not EPOCH <= with_zone < TOO_LATE:
        raise Malformed(f"{field} must be a time from 1970 on, before the year {TOO_LATE.year}")
    return with_zone


def severity(labels: Mapping[str, str]) -> Severity:
    """From the usual label; warning if it says nothing we know."""
    return _SEVERITIES.get(labels.get("severity", "").lower(), "warning")


def fingerprint(given: Any, labels: Mapping[str, str]) -> str:
    """As the sender says it, or by its labels. What cannot be kept whole is kept as its digest:
    two alerts must never become one.
    """  # noqa: D205
    if not given:
        return identity(labels)
    kept = clean(given)
    return kept if kept == str(given) and len(kept) <= LONGEST_FINGERPRINT else _digest(str(given))


def identity(labels: Mapping[str, str]) -> str:
    """A fingerprint for a source that sends none: its labels are what an alert is."""
    return _digest(json.dumps(labels, sort_keys=True, ensure_ascii=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
