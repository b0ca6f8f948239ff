"""What `watch` told of a target that nobody looks at any more does not fire for ever."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.incident import Alert
from agent.runbook_library import load_library
from api.alerts.intake import accept
from api.alerts.parsed import Parsed
from api.queue import Queue, open_queue
from api.service import Service
from api.settings import Settings
from api.store import audit, crossings, incidents
from api.store.database import Database
from api.store.target_tables import CrossingRow
from api.thresholds import Thresholds
from api.worker import working_on
from tests.api.serving import until

TARGETS = [{"name": name, "url": "redis://127.0.0.1:1"} for name in ("cache-1", "cache-2")]
SINCE = datetime(2026, 1, 31, 3, tzinfo=UTC)


@pytest.fixture
def service(settings: Callable[..., Settings], database: Database, queue: Queue) -> Any:
    def make(**config: Any) -> Service:
        told = settings(**{"targets": TARGETS, "watch": {"alerts": True}} | config)
        return Service(told, database, queue, load_library(), told.agent_targets())

    return make


async def told(service: Service, name: str) -> None:
    """A threshold was crossed there, and is an alert."""
    async with service.database.writing() as session:
        await crossings.begin(session, name, ["key"], SINCE)
    alert = Alert(
        source="watch", name="a threshold", fingerprint=crossings.fingerprint(name, "key"),
        starts_at=SINCE,
    )  # fmt: skip
    await accept(service, audit.service("watch"), "watch", [Parsed(alert, target=name)])
    async with service.database.writing() as session:  # nothing is under way there
        (row,) = await incidents.page(session, target=name)
        locked = await incidents.lock(session, row.id)
        await incidents.move(session, locked, "needs_human", "for a test")


async def shown(database: Database) -> dict[str, tuple[str, str]]:
    async with database.reading() as session:
        found = await incidents.page(session)
        return {one.target: (one.status, one.alerts[0].status) for one in found}


@pytest.mark.parametrize(
    ("config", "ended"),
    [
        ({"watch": {"enabled": False}}, {"cache-1", "cache-2"}),
        ({"watch": {"alerts": False}}, {"cache-1", "cache-2"}),
        ({"watch": {"alerts": True, "skip_targets": "cache-2"}}, {"cache-2"}),
        ({"targets": TARGETS[1:]}, {"cache-1"}),
        ({}, set()),
    ],
)
async def test_a_worker_that_starts_ends_it(
    service: Any, database: Database, config: Any, ended: set[str]
) -> None:
    before: Service = service()
    for name in ("cache-1", "cache-2"):
        await told(before, name)
    now: Service = service(**config)
    await Thresholds(now).end_unwatched()
    on, over = ("needs_human", "firing"), ("closed", "resolved")
    both = ("cache-1", "cache-2")
    assert await shown(database) == {name: over if name in ended else on for name in both}
    async with database.reading() as session:
        left = {name for name in both if await session.get(CrossingRow, (name, "key"))}
    assert left == set(both) - ended


async def test_a_worker_without_watch_does_so_when_it_starts(
    service: Any, settings: Callable[..., Settings], database: Database, queue: Queue
) -> None:
    await told(service(), "cache-1")
    off = settings(targets=TARGETS, watch={"enabled": False})

    async def is_over() -> bool:
        return (await shown(database))["cache-1"] == ("closed", "resolved")

    async with (
        open_queue(off.queue.get_secret_value(), database) as (nudges, docket),
        working_on(off, database, nudges, docket),
    ):
        await until(is_over, what="its alert is over")
