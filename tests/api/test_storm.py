"""Storms of alerts: one incident a target, nothing lost, and the queue stays small."""

import asyncio
import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from api import queue as api_queue
from api.alerts.alertmanager import parse
from api.alerts.intake import accept
from api.app import create_app
from api.queue import Queue
from api.service import Service
from api.settings import Settings
from api.store import incidents, looks
from api.store.audit import Person
from api.store.database import Database
from api.store.tables import AlertRow, IncidentRow
from tests.api.serving import serving
from tests.api.test_alerts import firing, message
from tests.api.test_incidents_api import opened, service_of

SENDER = Person("prometheus", "source")
NAMES = [f"cache-{number}" for number in range(50)]


def alert_on(name: str, fingerprint: str) -> dict[str, Any]:
    return firing(fingerprint, labels={"alertname": "RedisMemoryHigh", "instance": name})


@pytest.fixture
def service(settings: Callable[..., Settings], database: Database, queue: Queue) -> Service:
    targets = [{"name": n, "url": "redis://127.0.0.1:1", "match": {"instance": n}} for n in NAMES]
    configured = settings(targets=targets)
    return Service(configured, database, queue, None, configured.agent_targets())  # type: ignore[arg-type]


async def incidents_and_alerts(database: Database) -> tuple[list[str], int]:
    async with database.reading() as session:
        targets = list(await session.scalars(select(IncidentRow.target)))
        alerts = await session.scalar(select(func.count()).select_from(AlertRow))
    return sorted(targets), int(alerts or 0)


async def send(service: Service, alerts: list[Any]) -> set[str]:
    accepted = await accept(service, SENDER, "alertmanager", parse(message(*alerts)))
    return {incident.id for incident in accepted.incidents}


async def test_500_alerts_on_one_target_are_one_incident(service: Service) -> None:
    batches = [[alert_on("cache-0", f"f{b}-{n}") for n in range(50)] for b in range(10)]
    found = await asyncio.gather(*(send(service, batch) for batch in batches))
    assert len(set().union(*found)) == 1
    assert await incidents_and_alerts(service.database) == (["cache-0"], 500)


async def test_50_targets_twice_from_two_alertmanagers_at_once(service: Service) -> None:
    """A highly available pair sends everything twice."""
    alerts = [alert_on(name, f"f-{name}") for name in NAMES]
    first, second = await asyncio.gather(send(service, alerts), send(service, alerts))
    assert first == second
    assert await incidents_and_alerts(service.database) == (sorted(NAMES), 50)


async def test_messages_about_the_same_targets_never_block_each_other(service: Service) -> None:
    """Fingerprints order the targets differently in each: locks must not follow them."""
    shuffle = random.Random(7)
    messages = []
    for sender in range(8):
        order = shuffle.sample(range(100, 112), 12)
        messages.append([alert_on(NAMES[n], f"{order[n]}-{sender}") for n in range(12)])
    await asyncio.gather(*(send(service, alerts) for alerts in messages))
    assert await incidents_and_alerts(service.database) == (sorted(NAMES[:12]), 96)


async def test_nudges_of_a_waiting_incident_do_not_fill_the_queue(
    settings: Callable[..., Settings],
) -> None:
    """The sweeper nudges every few seconds; a storm may take an hour to work off."""
    async with serving(create_app(settings(), worker=False)) as client:
        one = await opened(client)
        queue = service_of(client).queue
        assert isinstance(queue, Queue)
        for _ in range(20):
            await queue.nudge(one["id"])
        before = await waiting(queue)
        assert before in (1, 2), "two where the minute changed meanwhile"
        await queue.started(one["id"])
        await queue.nudge(one["id"])
        assert await waiting(queue) == before + 1, "while a job runs, it asks for another one"


async def test_another_look_asks_for_another_job(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job of the first look may still be ending: the queue drops a key that it knows."""
    monkeypatch.setattr(looks, "AGAIN_AFTER", timedelta(0))
    async with serving(create_app(settings(), worker=False)) as client:
        one = await opened(client)
        service = service_of(client)
        assert isinstance(service.queue, Queue)
        await service.queue.started(one["id"])
        async with service.database.writing() as session:
            await incidents.move(session, await incidents.lock(session, one["id"]), "needs_human")
        await announced(service)
        before = await waiting(service.queue)
        assert await send(service, [alert_on("cache-eu", "another")]) == {one["id"]}
        await announced(service)
        assert await waiting(service.queue) == before + 1


async def announced(service: Service) -> None:
    """Until the queue knows of all that was accepted."""
    async with asyncio.timeout(10):
        while service.announcements._sender is not None:
            await asyncio.sleep(0.005)


async def waiting(queue: Queue) -> int:
    docket = queue._docket
    async with docket.redis() as redis:
        return int(await redis.xlen(docket.stream_key))


async def test_announcing_is_waited_for_by_nobody_and_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A queue that is slow: alerts are answered, and what it cannot be told the sweeper finds."""
    monkeypatch.setattr(api_queue, "MOST_UNANNOUNCED", 60)
    monkeypatch.setattr(api_queue, "ANNOUNCED_TOGETHER", 2)
    told: list[str] = []
    slow = asyncio.Event()

    class Slow:
        async def nudge(self, *ids: str, jobs: Mapping[str, int] | None = None) -> bool:
            await slow.wait()
            assert jobs == dict.fromkeys(ids, 0)
            told.extend(ids)
            return True

        async def ping(self) -> None: ...

    announcements = api_queue.Announcements(Slow())
    for number in range(100):
        announcements.announce({f"inc-{number}": 0})
    await asyncio.sleep(0)
    slow.set()
    async with asyncio.timeout(5):
        while announcements._sender is not None:
            await asyncio.sleep(0.001)
    assert told == [f"inc-{number}" for number in range(60)]
