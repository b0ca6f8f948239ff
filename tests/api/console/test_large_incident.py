"""The first view of an incident that went on for long: bounded in time and size."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert

from agent.incident import Diagnosis
from api.app import create_app
from api.console import pages
from api.settings import Settings
from api.store.database import Database
from api.store.tables import EventRow, EvidenceRow, IncidentRow
from tests.api.console.visiting import asked, look, sign_in
from tests.api.house import at_the_gate
from tests.api.report_samples import sample
from tests.api.serving import serving
from tests.api.test_incidents_api import service_of

LOOKS, EVENTS = 5_000, 1_000
AT = datetime.now(UTC) - timedelta(hours=5)
MEMORY = {
    "used_memory": 70_000_000, "used_memory_overhead": 2_000_000, "used_memory_startup": 900_000,
    "counted_memory": 70_000_000, "limit": 80_000_000, "limit_source": "maxmemory",
    "used_memory_rss": 90_000_000, "used_memory_peak": 75_000_000,
}  # fmt: skip
KEYS = {
    "complete": True, "keys_seen": 100_000, "keys_total": 100_000, "bytes_seen": 68_000_000,
    "prefixes": [
        {"prefix": f"family-{n}:", "bytes": 680_000, "keys": 1_000, "types": ["hash"]}
        for n in range(100)
    ],
    "types": [{"type": "hash", "share_of_bytes": 1.0, "keys": 100_000}],
}  # fmt: skip


async def test_thousands_of_looks_and_events_are_as_quick_to_see_as_a_few(
    settings: Callable[..., Settings],
) -> None:
    pages.warm()
    async with serving(create_app(settings(), worker=False)) as client:
        database = service_of(client).database
        incident = await at_the_gate(database, "cache-eu", approved=False)
        await went_on_for_long(database, incident)
        await sign_in(client, "approver")
        began, worked = time.perf_counter(), time.process_time()
        with asked(database) as statements:
            html = await look(client, f"/incidents/{incident}")
        seconds, cpu = time.perf_counter() - began, time.process_time() - worked
        # On a busy machine other tests take their share of the time, and none of this process's.
        assert min(seconds, cpu) < 0.3, (seconds, cpu)
        assert len(html.encode()) < 200_000
        assert len(statements) < 25
        assert f"{LOOKS:,}" in html
        assert "family-0:" in html

        # The rest is there, a page at a time: every event and every look once.
        events, path = set[str](), f"/incidents/{incident}"
        while path:
            html = await look(client, path)
            found = numbers(html, 'data-number="')
            assert not found & events
            events |= found
            path = after(html, "Earlier events")
        assert len(events) >= EVENTS
        looks, path = set[str](), f"/incidents/{incident}/evidence"
        while path:
            html = await look(client, path)
            looks |= numbers(html, f'<td><a href="/incidents/{incident}/evidence/E')
            path = after(html, "Earlier looks")
        assert looks == {str(number) for number in range(1, LOOKS + 1)}


async def went_on_for_long(database: Database, incident_id: str) -> None:
    base = {"incident_id": incident_id, "attempt": 1, "args": {}, "target": "cache-eu",
            "node": "127.0.0.1:6379 (master)", "measured": True}  # fmt: skip
    looks: list[dict[str, Any]] = []
    for number in range(1, LOOKS + 1):
        tool, reading = [("memory_info", MEMORY), ("bigkeys", KEYS), ("clients", {})][number % 3]
        looks.append({**base, "number": number, "tool": tool, "reading": reading,
                      "summary": f"look {number}: " + "what was seen " * 12,
                      "taken_at": AT + timedelta(seconds=number)})  # fmt: skip
    data = {"id": "E1", "tool": "memory_info", "summary": "what was seen " * 12}
    events = [
        {"incident_id": incident_id, "number": number, "kind": "evidence", "data": data, "at": AT}
        for number in range(1_000, 1_000 + EVENTS)
    ]
    diagnosis: Diagnosis | None = sample("a word").diagnosis
    assert diagnosis is not None
    async with database.writing() as session:
        await session.execute(insert(EvidenceRow), looks)
        await session.execute(insert(EventRow), events)
        row = await session.get(IncidentRow, incident_id)
        assert row is not None
        row.diagnosis = diagnosis.model_dump(mode="json")
        row.last_event = 1_000 + EVENTS - 1


def numbers(html: str, before: str) -> set[str]:
    return {part.partition('"')[0] for part in html.split(before)[1:]}


def after(html: str, label: str) -> str:
    """Where the link with this label leads; empty: there is none."""
    head, found, _ = html.partition(f">{label}</a>")
    return head.rpartition('href="')[2].rstrip('"').partition("#")[0] if found else ""
