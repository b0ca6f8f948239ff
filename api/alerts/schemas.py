"""What the senders' messages look like, for OpenAPI: described, not enforced (see parsers)."""

from typing import Any

from api.alerts.datadog import TEMPLATE
from api.alerts.parsed import MOST_ALERTS
from api.source_config import SIGNATURES, SourceKind

_TEXT = {"type": "string"}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_STATUS = {"type": "string", "enum": ["firing", "resolved"]}
_TIME = {"type": "string", "format": "date-time"}
_SIGNED = "HMAC-SHA256 with the source's secret, in hexadecimal, "
_BODY_OR_TIME = "of the body; with a configured `timestamp_header`, of `<timestamp>:<body>`"
SECURITY: dict[str, dict[str, str]] = {
    "Basic": {"type": "http", "scheme": "basic", "description": "`basic` of a source"},
    "ClientCertificate": {
        "type": "mutualTLS",
        "description": "`mtls` of a source: checked by a configured proxy in front",
    },
    **{
        f"{kind.capitalize()}Signature": {
            "type": "apiKey",
            "in": "header",
            "name": header,
            "description": _SIGNED + (_BODY_OR_TIME if kind != "pagerduty" else
                                      "of the body: `v1=…`, several with commas"),
        }
        for kind, header in SIGNATURES.items()
    },
}  # fmt: skip
"""Schemes beside the bearer tokens; any one of them is enough."""


def _of_alerts(
    required: list[str], properties: dict[str, Any], most: int | None = None, **more: Any
) -> dict[str, Any]:
    alert = {"type": "object", "required": required, "properties": properties}
    alerts = {"type": "array", "items": alert} | ({"maxItems": most} if most else {})
    return {"type": "object", "required": ["alerts"], "properties": {"alerts": alerts, **more}}


_ALERTMANAGER = _of_alerts(
    ["status", "labels", "startsAt"],
    {
        "status": _STATUS,
        "labels": {**_TEXTS, "required": ["alertname"]},
        "annotations": _TEXTS,
        "startsAt": _TIME,
        "endsAt": _TIME,
        "generatorURL": _TEXT,
        "fingerprint": _TEXT,
    },
    truncatedAlerts={"type": "integer", "minimum": 0},
)
_REFERENCE = {"type": "object", "properties": {"id": _TEXT, "summary": _TEXT}}
_INCIDENT = {
    "type": "object",
    "description": "Of an incident: id, title and created_at are needed. Others are not read",
    "properties": {
        "id": _TEXT,
        "title": _TEXT,
        "created_at": _TIME,
        "html_url": _TEXT,
        "urgency": {"type": "string", "enum": ["high", "low"]},
        "priority": _REFERENCE,
        "service": _REFERENCE,
        "teams": {"type": "array", "items": _REFERENCE},
        "custom_details": {"type": "object"},
        "body": {"type": "object", "properties": {"details": {"type": "object"}}},
    },
}
_EVENT = {
    "type": "object",
    "required": ["event_type", "occurred_at", "data"],
    "properties": {
        "id": _TEXT,
        "event_type": {"type": "string", "examples": ["incident.triggered", "pagey.ping"]},
        "occurred_at": _TIME,
        "data": _INCIDENT,
    },
}
_BODIES: dict[SourceKind, dict[str, Any]] = {
    "alertmanager": _ALERTMANAGER,
    "grafana": _ALERTMANAGER,
    "pagerduty": {"type": "object", "required": ["event"], "properties": {"event": _EVENT}},
    "datadog": {
        "type": "object",
        "required": ["alert_id", "cycle", "transition", "title", "date"],
        "properties": {name: {**_TEXT, "description": of} for name, of in TEMPLATE.items()},
    },
    "generic": _of_alerts(
        ["name", "starts_at"],
        {
            "name": {"type": "string", "minLength": 1},
            "status": _STATUS,
            "fingerprint": _TEXT,
            "starts_at": _TIME,
            "ends_at": _TIME,
            "labels": _TEXTS,
            "annotations": _TEXTS,
        },
        MOST_ALERTS,
    ),
}
_WEBHOOK_ID = {
    "name": "X-Webhook-Id",
    "in": "header",
    "description": "The same for each attempt at a delivery; the same body again counts once",
    "schema": _TEXT,
}


def described(kind: SourceKind) -> dict[str, Any]:
    """Body, headers and ways to authenticate of one kind of source."""
    ways = ["HTTPBearer", "Basic", "ClientCertificate"]
    if kind in SIGNATURES:
        ways.append(f"{kind.capitalize()}Signature")
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _BODIES[kind]}},
        },
        "security": [{way: []} for way in ways],
        "parameters": [_WEBHOOK_ID] if kind == "pagerduty" else [],
    }
