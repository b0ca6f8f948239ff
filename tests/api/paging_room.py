"""The intake of a service on its database, without HTTP, and a clock that tests move."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from agent.incident import Action, Incident, Plan, Status
from api.alerts.alertmanager import parse
from api.alerts.intake import OpenedIncident, accept
from api.alerts.placing import place_of
from api.alerts.silencing import wake
from api.service import Service
from api.store import closing, events, incidents, leases, looks
from api.store.audit import Person
from api.store.database import Database
from api.store.journal import SqlJournal
from api.store.tables import AlertRow, EventRow, IncidentRow, MessageRow, Utc
from api.store.target_tables import SilenceRow
from tests.api.test_alerts import firing, message

SENDER = Person("prometheus", "source")
START = datetime(2026, 1, 31, 3, tzinfo=UTC)
TARGETS: list[dict[str, Any]] = [
    {"name": "orders-1", "part_of": "orders"},
    {"name": "orders-2", "part_of": "orders"},
    {"name": "orders-3", "part_of": "orders"},
    {"name": "carts-1", "part_of": "carts"},
    {"name": "alone", "environment": "staging"},
    {"name": "single"},
]
"""With where they are, and by which label they are meant."""


def targets() -> list[dict[str, Any]]:
    return [
        {"url": "redis://127.0.0.1:1", "match": {"instance": target["name"]}} | target
        for target in TARGETS
    ]


def at(minutes: float) -> str:
    """So many minutes after the alerts of these tests begin."""
    return (START + timedelta(minutes=minutes)).isoformat()


def alert(fingerprint: str, target: str, since: float = 0, **fields: Any) -> dict[str, Any]:
    """Firing since that minute; with `over`, resolved at that one."""
    labels = {"alertname": "RedisMemoryHigh", "instance": target, "severity": "warning"}
    labels |= fields.pop("labels", {})
    if (over := fields.pop("over", None)) is not None:
        fields |= {"status": "resolved", "endsAt": at(over)}
    return firing(fingerprint, labels=labels, startsAt=at(since), **fields)


def action(name: str = "A1", status: str = "proposed", **fields: Any) -> Action:
    values: dict[str, Any] = {
        "id": name, "fingerprint": "a" * 64, "kind": "set_config", "title": "Raise maxmemory",
        "arguments": {}, "risk": "R1", "status": status,
    }  # fmt: skip
    return Action(**values | fields)


@dataclass
class Room:
    """What happens on one night."""

    service: Service

    @property
    def database(self) -> Database:
        return self.service.database

    async def send(self, *alerts: Any) -> list[OpenedIncident]:
        """One message."""
        parsed = parse(message(*alerts))
        return (await accept(self.service, SENDER, "alertmanager", parsed)).incidents

    def beside(self) -> "Room":
        """Another process on the same database: what it takes is another transaction."""
        known = self.service
        return Room(Service(known.settings, known.database, known.queue, known.library,
                            known.targets))  # fmt: skip

    async def one(self, *alerts: Any) -> OpenedIncident:
        """One message about one incident."""
        (found,) = await self.send(*alerts)
        return found

    async def shown(self, incident_id: str) -> Incident:
        async with self.database.reading() as session:
            return await incidents.load(session, incident_id)

    async def all(self) -> Sequence[Incident]:
        """Oldest first."""
        async with self.database.reading() as session:
            return (await incidents.page(session, limit=100))[::-1]

    async def said(self, incident_id: str, *fields: str) -> list[dict[str, Any]]:
        """Data of the events that have these fields."""
        async with self.database.reading() as session:
            rows = await events.after(session, incident_id, 0)
        return [row.data for row in rows if set(fields) <= set(row.data)]

    async def ends(self, incident_id: str, status: Status, *actions: Action) -> None:
        """An investigation comes to its end, with this plan."""
        shown = await self.shown(incident_id)
        lease = await leases.acquire(self.database, shown.target, incident_id, "a worker")
        assert lease is not None
        journal = SqlJournal(self.database, incident_id, shown.attempt, lease)
        if actions:
            await journal.set_plan(Plan(actions=list(actions)))
        await journal.set_status(status, "for a test")
        await leases.release(self.database, lease)

    async def later(self, **time: float) -> None:
        """So much time goes by: all that is noted is that much older."""
        by = timedelta(**time)
        async with self.database.writing() as session:
            for table in (AlertRow, EventRow, IncidentRow, MessageRow, SilenceRow):
                times = [c.name for c in table.__table__.columns if isinstance(c.type, Utc)]
                for row in await session.scalars(select(table)):
                    for name in set(times) - {"starts_at", "ends_at"}:
                        if (moment := getattr(row, name)) is not None:
                            setattr(row, name, moment - by)

    async def sweep(self) -> list[str]:
        """What a worker does every few seconds; which incidents it nudges."""
        await closing.close_due(self.database)
        targets = self.service.targets
        by_name = {target.name: target for target in targets}
        await looks.begin_due(self.database, lambda name: place_of(by_name[name], targets))
        windows = self.service.settings.config.silencing()
        return await wake(self.database, self.service.targets, windows)
