"""PagerDuty's webhooks, version 3: one event a message.

Labels are what PagerDuty itself says of the incident (`service`, `service_id`, `priority`,
`urgency`, `team`) and, under names that are still free, the sender's own details.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from agent.incident import Alert, Severity
from api.alerts.parsed import (
    MOST_LABELS,
    PRIORITIES,
    Malformed,
    Parsed,
    UnreadableEnvelope,
    clean,
    fingerprint,
    instant,
    malformed,
    scalars,
    severity,
    text,
)

OPEN = frozenset({
    "incident.triggered", "incident.acknowledged", "incident.unacknowledged", "incident.escalated",
})  # fmt: skip
"""The incident is not resolved: whichever of these arrives first opens it here."""
REOPENED = "incident.reopened"
RESOLVED = "incident.resolved"
DETAILS = (("custom_details",), ("body", "details"), ("body", "cef_details", "details"))
"""Where in `event.data` the sender's own details may be."""
_MERGED = "merge_resolve_reason"
_URGENCIES: dict[str, Severity] = {"high": "critical", "low": "warning"}


def parse(body: Any) -> list[Parsed]:
    """The event, if it opens or resolves something; else nothing. Raises UnreadableEnvelope."""
    event = body.get("event") if isinstance(body, dict) else None
    if not isinstance(event, dict):
        raise UnreadableEnvelope("body.event", "an event of PagerDuty's V3 webhooks is expected")
    kind = event.get("event_type")
    if not isinstance(kind, str) or not kind:
        raise UnreadableEnvelope("body.event.event_type", "a text is expected: incident.triggered")
    if kind not in OPEN and kind not in (REOPENED, RESOLVED):
        return []
    incident = event.get("data")
    if kind == RESOLVED and _was_merged(incident):
        return []
    try:
        return [Parsed(_alert(kind, event, incident))]
    except Malformed as problem:
        return [malformed("pagerduty", event, str(problem))]


def _was_merged(incident: Any) -> bool:
    """Resolved only because it goes on in another incident: nothing is over."""
    reason = incident.get("resolve_reason") if isinstance(incident, dict) else None
    return isinstance(reason, dict) and reason.get("type") == _MERGED


def _alert(kind: str, event: Mapping[str, Any], incident: Any) -> Alert:
    if not isinstance(incident, dict):
        raise Malformed("event.data must be an object")
    number, title = text(incident, "id"), text(incident, "title")
    if not number:
        raise Malformed("event.data.id is missing")
    if not title:
        raise Malformed("event.data.title is missing")
    happened = _time(event, "event.occurred_at")
    labels = _labels(incident)
    return Alert(
        source="pagerduty",
        name=title,
        status="resolved" if kind == RESOLVED else "firing",
        fingerprint=fingerprint(number, {}),
        # A reopened incident is another occurrence, and its resolution is of the latest one.
        starts_at=_time(incident, "event.data.created_at") if kind in OPEN else happened,
        ends_at=happened if kind == RESOLVED else None,
        severity=_severity(labels),
        labels=labels,
        annotations={"link": link} if (link := text(incident, "html_url")) else {},
    )


def _time(raw: Mapping[str, Any], path: str) -> datetime:
    field = path.rpartition(".")[2]
    try:
        moment = instant(raw, field)
    except Malformed as problem:
        raise Malformed(f"{path.removesuffix(field)}{problem}") from None
    if moment is None:
        raise Malformed(f"{path} is missing")
    return moment


def _labels(incident: Mapping[str, Any]) -> dict[str, str]:
    service, priority = _object(incident, "service"), _object(incident, "priority")
    teams = incident.get("teams")
    team = teams[0] if isinstance(teams, list) and teams and isinstance(teams[0], dict) else {}
    said = {
        "service": text(service, "summary"),
        "service_id": text(service, "id"),
        "priority": text(priority, "summary"),
        "urgency": text(incident, "urgency"),
        "team": text(team, "summary"),
    }
    labels = {name: value for name, value in said.items() if value}
    for details in _details(incident):
        for name, value in scalars(details).items():
            if len(labels) < MOST_LABELS and name not in said:
                labels.setdefault(name, value)
    return labels


def _details(incident: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for path in DETAILS:
        found: Any = incident
        for field in path:
            found = _object(found, field)
        yield found


def _object(raw: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    found = raw.get(field)
    return found if isinstance(found, dict) else {}


def _severity(labels: Mapping[str, str]) -> Severity:
    """As the sender said it, else by priority, else by urgency."""
    if "severity" in labels:
        return severity(labels)
    by_urgency = _URGENCIES.get(labels.get("urgency", ""), "warning")
    return PRIORITIES.get(clean(labels.get("priority", ""))[:2].upper(), by_urgency)
