"""What PagerDuty, Datadog and a signing Grafana send."""

import hashlib
import hmac
import json
from typing import Any

from api.alerts.datadog import TEMPLATE

OLD, NEW = "the-secret-before-it", "the-secret-after-that"


def event(event_type: str = "incident.triggered", **data: Any) -> dict[str, Any]:
    """PagerDuty's, as its documentation shows it."""
    incident: dict[str, Any] = {
        "id": "PGR0VU2",
        "type": "incident",
        "html_url": "https://acme.pagerduty.example/incidents/PGR0VU2",
        "status": "triggered",
        "incident_key": "d3640fbd41094207a1c11e58e46b1662",
        "created_at": "2026-01-31T03:00:00Z",
        "title": "Redis memory is high",
        "service": {"id": "PF9KMXH", "summary": "cache-eu", "type": "service_reference"},
        "teams": [{"id": "PFCVPS0", "summary": "Engineering"}],
        "priority": {"id": "PSO75BM", "summary": "P1"},
        "urgency": "high",
        "resolve_reason": None,
    }
    occurred_at = data.pop("occurred_at", "2026-01-31T03:00:01.169Z")
    return {
        "event": {
            "id": "5ac64822-4adc-4fda-ade0-410becf0de4f",
            "event_type": event_type,
            "resource_type": "incident",
            "occurred_at": occurred_at,
            "agent": None,
            "client": None,
            "data": incident | data,
        }
    }


PING = {
    "event": {
        "id": "01FKZOXA868SHYEE4DVNWB5P9W",
        "event_type": "pagey.ping",
        "resource_type": "pagey",
        "occurred_at": "2026-01-31T03:00:55.532Z",
        "agent": {"id": "PVE0ZR9", "type": "user_reference"},
        "client": None,
        "data": {"message": "Hello from your friend Pagey!", "type": "ping"},
    }
}


def transition(what: str = "Triggered", **fields: Any) -> dict[str, Any]:
    """Datadog's template, filled in."""
    filled = {
        "alert_id": "148275309",
        "cycle": "7716548234011234567",
        "transition": what,
        "title": f"[{what} on {{instance:cache-eu}}] Redis memory is high",
        "date": "1769828400000",
        "scope": "instance:cache-eu",
        "tags": "monitor, env:prod, instance:other, service:checkout",
        "host": "i-0abc",
        "metric": "redis.mem.used",
        "priority": "P2",
        "message": "memory above 85 %",
        "link": "https://app.datadog.example/monitors/148275309",
    }
    assert set(filled) == set(TEMPLATE)
    return filled | fields


def signature(body: bytes, secret: str = NEW, timestamp: int | None = None) -> str:
    signed = body if timestamp is None else str(timestamp).encode() + b":" + body
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def raw(message: Any) -> bytes:
    return json.dumps(message, ensure_ascii=False).encode()
