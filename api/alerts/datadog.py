"""Datadog's webhook with the payload of `TEMPLATE`: one transition of a monitor a message."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from agent.incident import Alert, Severity
from api.alerts.parsed import (
    MOST_LABELS,
    PRIORITIES,
    Malformed,
    Parsed,
    UnreadableEnvelope,
    clean,
    identity,
    malformed,
    severity,
    text,
)

TEMPLATE = {
    "alert_id": "$ALERT_ID",
    "cycle": "$ALERT_CYCLE_KEY",
    "transition": "$ALERT_TRANSITION",
    "title": "$ALERT_TITLE",
    "date": "$DATE",
    "scope": "$ALERT_SCOPE",
    "tags": "$TAGS",
    "host": "$HOSTNAME",
    "metric": "$ALERT_METRIC",
    "priority": "$ALERT_PRIORITY",
    "message": "$TEXT_ONLY_MSG",
    "link": "$LINK",
}
"""What to paste as the webhook's payload."""
FIRING: dict[str, Severity] = {
    "triggered": "critical", "re-triggered": "critical", "renotify": "critical",
    "warn": "warning", "re-warn": "warning", "no data": "warning", "re-no data": "warning",
}  # fmt: skip
"""Transitions that say it is wrong, and how bad that is if the monitor has no priority."""
RESOLVED = "recovered"
_UNFILLED = re.compile(r"\$[A-Z_]+")
_STATE = re.compile(r"^\[[^\]]{0,300}\]\s*")
"""`[Triggered on {host:a}]` before a title: the name of the alert is what follows."""
_MILLISECONDS = re.compile(r"[0-9]{13}", re.ASCII)


def parse(body: Any) -> list[Parsed]:
    """The one alert of a message. Raises UnreadableEnvelope."""
    if not isinstance(body, dict):
        raise UnreadableEnvelope("body", "a JSON object is expected: the payload of the template")
    if "transition" not in body:
        raise UnreadableEnvelope("body.transition", "$ALERT_TRANSITION of the template is expected")
    try:
        # Each notification has its own date; the cycle is what those of one time have in common.
        return [Parsed(_alert(body), occurrence="cycle")]
    except Malformed as problem:
        return [malformed("datadog", body, str(problem))]


def _alert(raw: Mapping[str, Any]) -> Alert:
    told = {field: _filled(raw, field) for field in TEMPLATE}
    for field in ("alert_id", "cycle", "title"):
        if not told[field]:
            raise Malformed(f"{field} is missing: ${TEMPLATE[field][1:]} of the template")
    transition = told["transition"].lower()
    if transition not in FIRING and transition != RESOLVED:
        raise Malformed(f"transition must be Recovered or one of {', '.join(FIRING)}")
    if _MILLISECONDS.fullmatch(told["date"]) is None:
        raise Malformed("date must be milliseconds since 1970, as $DATE is")
    happened = datetime.fromtimestamp(int(told["date"]) / 1000, UTC)
    over = transition == RESOLVED
    labels = _labels(told)
    return Alert(
        source="datadog",
        name=_STATE.sub("", told["title"]) or told["title"],
        status="resolved" if over else "firing",
        fingerprint=identity({"monitor": told["alert_id"], "group": _group(told["scope"])}),
        starts_at=happened,
        ends_at=happened if over else None,
        severity=_severity(told, labels),
        labels=labels,
        annotations={name: told[name] for name in ("message", "link") if told[name]},
    )


def _filled(raw: Mapping[str, Any], field: str) -> str:
    """A field of the template; "" where Datadog had nothing to put in."""
    value = text(raw, field)
    return "" if _UNFILLED.fullmatch(value) or value.lower() in ("null", "n/a") else value


def _labels(told: Mapping[str, str]) -> dict[str, str]:
    """The monitor and its cycle, then the tags of the group that alerts, then the others."""
    named = {"monitor": "alert_id", "cycle": "cycle", "host": "host", "metric": "metric"}
    labels = {name: told[field] for name, field in named.items() if told[field]}
    for field in ("scope", "tags"):
        for tag in _tags(told[field]):
            name, _, value = (part.strip() for part in tag.partition(":"))
            if name and len(labels) < MOST_LABELS:
                labels.setdefault(clean(name), clean(value))
    return labels


def _tags(listed: str) -> list[str]:
    return sorted(tag.strip() for tag in listed.split(","))


def _group(scope: str) -> str:
    return ",".join(_tags(scope))


def _severity(told: Mapping[str, str], labels: Mapping[str, str]) -> Severity:
    """As a tag says it, else by the monitor's priority, else by what happened."""
    if "severity" in labels:
        return severity(labels)
    usual = FIRING.get(told["transition"].lower(), "warning")
    return PRIORITIES.get(told["priority"].upper(), usual)
