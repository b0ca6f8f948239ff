"""A database of a version before this one: the last that was released, unless told another.

Its tables come from its own migrations, its rows from SQL that knows nothing of today's tables.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, inspect, text

from api.store.database import Database, database_url
from api.store.migrate import migrate

RELEASED = "0004"
UNCHAINED = "0003"
"""Before the audit trail was chained."""
FINGERPRINT = "c" * 64
DIAGNOSIS: dict[str, Any] = {
    "root_cause": "organic-growth", "title": "It grew", "is_incident": True, "confidence": 0.9,
    "summary": "It grew.", "contributing": [], "claims": [], "alternatives": [],
    "not_measured": [], "escalate": False, "hypothesis": None, "reasoner": "rules",
    "overruled": None,
}  # fmt: skip
ACTION: dict[str, Any] = {
    "id": "A1", "fingerprint": FINGERPRINT, "kind": "set_config", "title": "Raise maxmemory",
    "arguments": {"parameter": "maxmemory", "value": "67108864"}, "risk": "R1",
    "commands": [["CONFIG", "SET", "maxmemory", "67108864"]], "preconditions": [],
    "evidence": ["E1"], "status": "proposed", "approvals_required": 1, "executable": True,
}  # fmt: skip


def insert(connection: Connection, table: str, **values: Any) -> None:
    """As that version's own SQL did: only the columns that it knew."""
    plain = {
        name: json.dumps(value) if isinstance(value, dict | list) else value
        for name, value in values.items()
    }
    columns = ", ".join(f'"{name}"' for name in plain)
    told = ", ".join(f":{name}" for name in plain)
    connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({told})"), plain)


def incident(connection: Connection, incident_id: str, status: str, target: str) -> None:
    at = moment(connection)
    insert(
        connection, "incidents", id=incident_id, status=status, severity="critical", title="t",
        target=target, question="", opened_at=at, updated_at=at, attempt=1,
        diagnosis=DIAGNOSIS if status == "awaiting_approval" else None, prevention=[],
        checklist=[], runbooks=[], usage={}, ended_because="", nudges=1, idle_runs=0,
        last_event=1, last_evidence=1,
    )  # fmt: skip
    insert(
        connection, "alerts", incident_id=incident_id, source="alertmanager", starts_at=at,
        fingerprint=incident_id, name="RedisMemoryHigh", status="firing", severity="critical",
        labels={"instance": target}, annotations={}, received_at=at,
    )  # fmt: skip
    evidence(connection, incident_id, 1)
    event(connection, incident_id, 1)
    known = {one["name"] for one in inspect(connection).get_columns("audit")}
    audit(connection, incident_id, chained="mac" in known)


def evidence(connection: Connection, incident_id: str, number: int) -> None:
    insert(
        connection, "evidence", incident_id=incident_id, number=number, attempt=1,
        tool="memory_info", args={}, reading={}, measured=True, target="t", node="n", summary="s",
        taken_at=moment(connection),
    )  # fmt: skip


def event(connection: Connection, incident_id: str, number: int) -> None:
    insert(connection, "events", incident_id=incident_id, number=number, kind="status",
           data={"status": "queued", "ended_because": ""}, at=moment(connection))  # fmt: skip


def action(connection: Connection, incident_id: str) -> None:
    insert(
        connection, "actions", incident_id=incident_id, attempt=1, id="A1", position=0,
        fingerprint=FINGERPRINT, status="proposed", executable=True,
        expires_at=moment(connection, hours=4), body=ACTION,
    )  # fmt: skip


def audit(connection: Connection, incident_id: str, *, chained: bool) -> None:
    number = connection.scalar(text("SELECT coalesce(max(id), 0) + 1 FROM audit"))
    link = {"id": number, "key_id": "", "mac": ""} if chained else {}
    insert(connection, "audit", at=moment(connection), by="ada", role="admin", what="alerts",
           incident_id=incident_id, detail={}, **link)  # fmt: skip


def moment(connection: Connection, hours: int = 0) -> Any:
    """As each database keeps it."""
    at = datetime.now(UTC) + timedelta(hours=hours)
    return at if connection.dialect.name == "postgresql" else f"{at:%Y-%m-%d %H:%M:%S.%f}"


def at_work(connection: Connection) -> None:
    """One incident in each state that a restart meets, and what hangs on them."""
    incident(connection, "inc-1-queued", "queued", "cache-eu")
    incident(connection, "inc-2-looked-at", "investigating", "cache-us")
    incident(connection, "inc-3-at-the-gate", "awaiting_approval", "cache-ap")
    action(connection, "inc-3-at-the-gate")
    incident(connection, "inc-4-over", "closed", "cache-eu")
    at = moment(connection)
    insert(connection, "verdicts", incident_id="inc-4-over", by="ada", root_cause="organic-growth",
           comment="yes", at=at)  # fmt: skip
    insert(connection, "recordings", incident_id="inc-4-over", attempt=1, flavour="redis",
           data=b"x", taken_at=at)  # fmt: skip
    insert(connection, "messages", thread_id="t1", by="admin-1", question="?", answer="!",
           claims=[], reasoner="rules", at=at)  # fmt: skip
    insert(
        connection, "exchanges", incident_id="inc-4-over", attempt=1, purpose="investigation",
        model="m", day=at[:10] if isinstance(at, str) else at, at=at, input_tokens=1,
        output_tokens=1, cached_tokens=0, seconds=0.5, last_evidence=1,
    )  # fmt: skip
    insert(connection, "leases", target="cache-us", holder="old:1:aa", fencing=7, expires=0.0,
           incident_id="inc-2-looked-at")  # fmt: skip


async def built(url: str, revision: str = RELEASED) -> Database:
    """The database, as that version left it."""
    database = Database(database_url(url))
    await migrate(database, revision)
    async with database.engine.begin() as connection:
        await connection.run_sync(at_work)
    return database
