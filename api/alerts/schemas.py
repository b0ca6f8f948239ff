"""What the senders' messages look like, for OpenAPI: described, not enforced (see parsers)."""

from typing import Any

_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_STATUS = {"type": "string", "enum": ["firing", "resolved"]}
_TIME = {"type": "string", "format": "date-time"}


def _message(required: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    alert = {"type": "object", "required": required, "properties": properties}
    schema = {
        "type": "object",
        "required": ["alerts"],
        "properties": {"alerts": {"type": "array", "maxItems": 500, "items": alert}},
    }
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


ALERTMANAGER = _message(
    ["status", "labels", "startsAt"],
    {
        "status": _STATUS,
        "labels": {**_TEXTS, "required": ["alertname"]},
        "annotations": _TEXTS,
        "startsAt": _TIME,
        "endsAt": _TIME,
        "generatorURL": {"type": "string"},
        "fingerprint": {"type": "string"},
    },
)
GENERIC = _message(
    ["name", "starts_at"],
    {
        "name": {"type": "string", "minLength": 1},
        "status": _STATUS,
        "fingerprint": {"type": "string"},
        "starts_at": _TIME,
        "ends_at": _TIME,
        "labels": _TEXTS,
        "annotations": _TEXTS,
    },
)
