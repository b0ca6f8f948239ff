"""A free worker takes what is most urgent, whichever nudge woke it."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from httpx2 import AsyncClient
from sqlalchemy import select

from agent.context import Context
from agent.incident import Incident
from api import sweeping
from api.app import create_app
from api.settings import Settings
from api.store import incidents, looks
from api.store.database import Database
from api.store.tables import IncidentRow
from tests.api.serving import serving, until
from tests.api.test_backpressure import alert, send
from tests.api.test_incidents_api import service_of

SEVERITIES = {
    "a": "info", "b": "warning", "c": "critical", "d": "info", "e": "critical", "f": "warning",
}  # fmt: skip
MOST_URGENT_FIRST = ["c", "e", "b", "f", "a", "d"]
"""Severity, then age."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "SWEEP_SECONDS", 0.1)
    monkeypatch.setattr(sweeping, "NUDGE_AGAIN_SECONDS", 0.1)


@pytest.fixture
def one_slot(settings: Callable[..., Settings], url: str) -> Settings:
    targets = [
        {"name": name, "url": "redis://127.0.0.1:1", "match": {"instance": name}}
        for name in ("first", *SEVERITIES)
    ]
    return settings(database=url, targets=targets).model_copy(update={"workers": 1})


class Runs:
    """Notes in which order targets are worked on; the first waits until it may go on."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.go_on = asyncio.Event()

    async def run(self, context: Context, incident: Incident) -> None:
        self.order.append(incident.target)
        await self.go_on.wait()
        await context.journal.set_status("needs_human", "done")


async def storm(client: AsyncClient) -> None:
    for name, severity in SEVERITIES.items():
        assert (await send(client, alert(name, severity))).status_code == 202


async def test_the_most_urgent_incident_is_next(one_slot: Settings) -> None:
    runs = Runs()
    async with serving(create_app(one_slot, run_graph=runs.run)) as client:
        await send(client, alert("first", "info"))

        async def busy() -> bool:
            return runs.order == ["first"]

        await until(busy, what="the only slot is taken")
        await storm(client)
        runs.go_on.set()

        async def all_done() -> bool:
            return len(runs.order) >= 1 + len(SEVERITIES)

        await until(all_done, what="all were worked on")
    assert runs.order == ["first", *MOST_URGENT_FIRST]


async def test_what_the_queue_lost_is_found_in_the_same_order(one_slot: Settings) -> None:
    async with serving(create_app(one_slot, worker=False)) as client:
        await storm(client)
    runs = Runs()
    runs.go_on.set()
    lost = one_slot.model_copy(update={"queue": type(one_slot.queue)("memory://another")})
    async with serving(create_app(lost, run_graph=runs.run)):

        async def all_done() -> bool:
            return len(runs.order) >= len(SEVERITIES)

        await until(all_done, what="all were worked on")
    assert runs.order == MOST_URGENT_FIRST


async def test_what_is_under_way_on_a_server_comes_before_a_look_at_another(
    database: Database,
) -> None:
    async with database.writing() as session:
        for name, severity in (("look", "critical"), ("half-applied", "info")):
            await incidents.open_incident(session, title=name, target=name, severity=severity)  # type: ignore[arg-type]
        row = await session.scalar(select(IncidentRow).where(IncidentRow.title == "half-applied"))
        assert row is not None
        await incidents.move(session, row, "remediating")
    async with database.reading() as session:
        found = await incidents.unfinished(session, await database.clock(session))
        titles = [(await incidents.load(session, one)).title for one in found]
    assert titles == ["half-applied", "look"]


async def test_what_still_fires_after_it_was_resolved_waits_until_there_is_room(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "STILL_FIRES_AFTER", timedelta(0))
    names = ("cache-eu", "cache-us", "queue-eu")
    targets = [{"name": n, "url": "redis://127.0.0.1:1", "match": {"instance": n}} for n in names]
    told = settings(targets=targets, intake={"queue": 1})
    async with serving(create_app(told, worker=False)) as client:
        database = service_of(client).database
        for name in ("cache-eu", "queue-eu"):
            await send(client, alert(name))
            async with database.writing() as session:
                for row in await session.scalars(select(IncidentRow)):
                    await incidents.move(session, row, "resolved")
        await send(client, alert("cache-us"))

        async def status(*sent: dict[str, Any]) -> str:
            (one,) = (await send(client, *sent)).json()["incidents"]
            return str(one["status"])

        assert await status(alert("cache-eu")) == "resolved", "the queue is full"
        assert await status(alert("queue-eu", "critical", "f-queue-eu")) == "queued"
