"""The service's own format, for scripts and sources without a parser.

`{"alerts": [{"name", "status", "fingerprint", "starts_at", "labels", "annotations"}]}`
"""

from typing import Any

from agent.incident import Alert
from api.alerts.parsed import (
    Malformed,
    Parsed,
    alerts_of,
    clean,
    fingerprint,
    instant,
    malformed,
    not_too_many,
    severity,
    texts,
)


def parse(body: Any) -> list[Parsed]:
    """The alerts of a message. Raises UnreadableEnvelope."""
    parsed = []
    for raw in not_too_many(alerts_of(body)):
        try:
            parsed.append(Parsed(_alert(raw)))
        except Malformed as problem:
            parsed.append(malformed("generic", raw, str(problem)))
    return parsed


def _alert(raw: Any) -> Alert:
    if not isinstance(raw, dict):
        raise Malformed("it is not an object")
    name = raw.get("name")
    if not isinstance(name, str) or not name.strip():
        raise Malformed("name is missing")
    status = raw.get("status", "firing")
    if status not in ("firing", "resolved"):
        raise Malformed("status must be firing or resolved")
    starts_at = instant(raw, "starts_at")
    if starts_at is None:
        raise Malformed("starts_at is missing")
    labels = texts(raw, "labels")
    return Alert(
        source="generic",
        name=clean(name),
        status=status,
        fingerprint=fingerprint(raw.get("fingerprint"), labels | {"alertname": name}),
        starts_at=starts_at,
        ends_at=instant(raw, "ends_at"),
        severity=severity(labels),
        labels=labels,
        annotations=texts(raw, "annotations"),
    )
