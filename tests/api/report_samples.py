"""An incident whose action was applied, watched and verified, with every part of a report."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.incident import Incident

AT = datetime(2026, 1, 31, 3, tzinfo=UTC)


def series() -> dict[str, Any]:
    rows: list[list[float | None]] = []
    for number in range(-12, 40):
        after = max(0, number)
        pressure = 0.93 if number <= 0 else 0.61 + 0.32 * math.exp(-after / 6)
        wave = 1 + 0.1 * math.sin(number)
        rows.append([
            number * 1.5, round(pressure, 4), round(420 * wave if number <= 0 else 3 * wave, 2),
            None if number in (8, 9, 10) else round(1.2 * wave, 3), 184.0,
        ])  # fmt: skip
    columns = ["seconds", "pressure", "refused_writes", "round_trip_ms", "connected_clients"]
    return {"columns": columns, "rows": rows}


def outcome(text: str = "maxmemory") -> dict[str, Any]:
    return {
        "identity": {"run_id": "r", "role": "master", "replication_id": "m"},
        "before": {"old": "256mb", text: 1},
        "done": {"set": "512mb"},
        "baseline": {"pressure": 0.93, "refused_writes": 420.0, "round_trip_ms": 1.2,
                     "connected_clients": 184, f"errors.{text}": 3.0, "replica_lag_bytes": None},
        "after": {"pressure": 0.61, "refused_writes": 3.1, "round_trip_ms": 1.3,
                  "connected_clients": 184, f"errors.{text}": 60.0, "replica_lag_bytes": None},
        "series": series(),
        "held_seconds": 60.0,
        "remedy": {"value": "512mb", "writes_refused": text},
        "regressions": [{"metric": f"errors.{text}", "before": 3, "after": 60, "because": text}],
        "signals": {
            "cleared": [{"name": "alert memory_info.pressure",
                         "because": f"memory_info.pressure from 93.0 % to 61.0 {text}",
                         "evidence": ["E9"]}],
            "still": [{"name": text, "because": text, "evidence": []}],
            "not_measured": [],
        },
        "evidence": ["E9"],
    }  # fmt: skip


def sample(text: str, status: str = "verified") -> Incident:
    at = AT.isoformat()
    fact = {"name": text, "evidence": "E1", "op": "ratio", "of": ["used", "limit"], "value": 0.93,
            "unit": "ratio"}  # fmt: skip
    action: dict[str, Any] = {
        "id": "A1", "fingerprint": "a" * 64, "kind": "set_config", "title": text,
        "arguments": {"parameter": "maxmemory", "value": "512mb"}, "risk": "R1",
        "commands": [["CONFIG", "SET", "maxmemory", text]], "predicted_effect": text,
        "verification": text, "rollback": text, "never_touches": text, "comment": text,
        "approvals": [{"by": text, "role": "admin", "at": at, "comment": text}],
        "outcome": outcome(text), "status": status,
    }  # fmt: skip
    later = {**action, "id": "A2", "relief": "long_term", "status": "proposed", "outcome": {},
             "approvals": [], "executable": False, "comment": ""}  # fmt: skip
    return Incident.model_validate({
        "id": "inc-0190a1b2c3d4e5f60718", "status": "resolved", "severity": "critical",
        "title": text, "target": text, "question": text, "opened_at": at,
        "updated_at": (AT + timedelta(minutes=4)).isoformat(), "ended_because": text,
        "alerts": [{"source": "generic", "name": text, "fingerprint": text, "starts_at": at,
                    "ends_at": at, "labels": {text: text}}],
        "diagnosis": {
            "root_cause": "missing-ttl-prefix-leak", "title": text, "is_incident": True,
            "confidence": 0.82, "summary": text, "culprit": {"kind": "prefix", "name": text},
            "contributing": [text], "claims": [{"text": text, "facts": [fact]}],
            "alternatives": [{"root_cause": "single-bigkey", "confidence": 0.1, "why_not": text}],
            "not_measured": [text], "hypothesis": {"title": text, "claims": []},
            "overruled": {"reasoner": text, "root_cause": "z", "confidence": 0.3, "reason": text},
        },
        "plan": {"actions": [action, later], "prevention": [text], "checklist": [
            {"runbook": "r", "text": text, "result": "fail", "because": text, "evidence": ["E1"]},
            {"runbook": "r", "text": text, "result": "pass", "because": text}]},
        "evidence": [{"id": "E1", "tool": "memory_info", "args": {"key": text}, "node": text,
                      "summary": text, "taken_at": at}],
        "runbooks": [{"id": "r", "why": text}],
        "usage": {"llm_calls": 1, "tool_calls": 14, "input_tokens": 5120, "seconds": 7.5},
    })  # fmt: skip


def events(text: str) -> list[tuple[datetime, str, dict[str, Any]]]:
    """As the service publishes them, one every ten seconds."""
    told: list[tuple[str, dict[str, Any]]] = [
        ("status", {"status": "investigating", "ended_because": ""}),
        ("claim", {"text": text}),
        ("plan", {"actions": [{}, {}]}),
        ("status", {"status": "awaiting_approval", "ended_because": ""}),
        ("action", {"id": "A1", "status": "approved", "comment": ""}),
        ("action", {"id": "A1", "status": "applying", "comment": ""}),
        ("action", {"id": "A1", "status": "applied", "comment": ""}),
        ("status", {"status": "verifying", "so_far": text, "action": "A1"}),
        ("status", {"status": "verifying", "page": text}),
        ("action", {"id": "A1", "status": "verified", "comment": text}),
        ("status", {"status": "resolved", "ended_because": text}),
        ("status", {"status": "resolved", "verdict": text, "by": text}),
    ]
    return [(AT + timedelta(seconds=10 * n), *one) for n, one in enumerate(told, 1)]
