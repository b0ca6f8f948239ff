"""Alertmanager's webhook, version 4; Grafana's alerting speaks the same.

Unknown fields are ignored. A malformed alert is kept for a person and never fails the message:
Alertmanager drops a whole batch that is answered with 4xx.
"""

from typing import Any, Literal

from agent.incident import Alert
from api.alerts.parsed import (
    MOST_ALERTS,
    Malformed,
    Parsed,
    alerts_of,
    fingerprint,
    instant,
    malformed,
    most_urgent,
    severity,
    texts,
)

MOST_TRUNCATED = 1_000_000
"""What is believed of `truncatedAlerts`."""


def parse(body: Any, source: Literal["alertmanager", "grafana"] = "alertmanager") -> list[Parsed]:
    """The alerts of a message. Raises UnreadableEnvelope."""
    parsed = []
    alerts = most_urgent(alerts_of(body))
    left_out = truncated(body)
    why = f"max_alerts, or more than {MOST_ALERTS:,} in a message"
    note = f"{left_out} more alerts of this group were left out ({why})" if left_out else ""
    for raw in alerts:
        try:
            parsed.append(Parsed(_alert(raw, source, note)))
        except Malformed as problem:
            parsed.append(malformed(source, raw, str(problem)))
    return parsed


def truncated(body: Any) -> int:
    """How many alerts are left out of a message.

    By its sender (`max_alerts` of its configuration), and by us, of one with more than MOST_ALERTS:
    Alertmanager drops what is refused, and the others with it.
    """
    said = body.get("truncatedAlerts")
    by_sender = said if isinstance(said, int) and not isinstance(said, bool) else 0
    by_us = max(len(alerts_of(body)) - MOST_ALERTS, 0)
    return min(max(by_sender, 0), MOST_TRUNCATED) + by_us


def _alert(raw: Any, source: str, note: str) -> Alert:
    if not isinstance(raw, dict):
        raise Malformed("it is not an object")
    status = raw.get("status")
    if status not in ("firing", "resolved"):
        raise Malformed("status must be firing or resolved")
    labels = texts(raw, "labels")
    name = labels.get("alertname", "")
    if not name:
        raise Malformed("labels.alertname is missing")
    starts_at = instant(raw, "startsAt")
    if starts_at is None:
        raise Malformed("startsAt is missing")
    ends_at = instant(raw, "endsAt")
    return Alert(
        source=source,
        name=name,
        status=status,
        fingerprint=fingerprint(raw.get("fingerprint"), labels),
        starts_at=starts_at,
        ends_at=ends_at if status == "resolved" else None,
        severity=severity(labels),
        labels=labels,
        annotations=texts(raw, "annotations") | ({"truncated": note} if note else {}),
    )
