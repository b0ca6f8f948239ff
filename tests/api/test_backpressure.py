"""More than the service can take: senders are asked to come again, and nothing is lost."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from httpx2 import AsyncClient, Response
from sqlalchemy import event, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from api.alerts.alertmanager import parse
from api.alerts.intake import accept
from api.alerts.rates import Rates
from api.alerts.taking import Message, Taken
from api.app import create_app
from api.settings import Settings
from api.store import group_commit, incidents
from api.store.audit import Person
from api.store.database import Database
from api.store.group_commit import GroupCommit
from api.store.tables import AlertRow, IncidentRow
from tests.api.serving import TARGETS, serving, sha256
from tests.api.test_alerts import firing, message
from tests.api.test_incidents_api import service_of

NAMES = ("cache-eu", "cache-us", "queue-eu", "queue-us")


def alert(name: str, severity: str = "warning", fingerprint: str = "") -> dict[str, Any]:
    labels = {"alertname": "RedisMemoryHigh", "instance": name, "severity": severity}
    return firing(fingerprint or f"f-{name}", labels=labels)


async def send(client: AsyncClient, *alerts: Any, token: str = "admin") -> Response:
    headers = {"Authorization": f"Bearer {token}"} if token != "admin" else {}
    return await client.post("/v1/alerts/alertmanager", json=message(*alerts), headers=headers)


async def kept(database: Database) -> list[str]:
    async with database.reading() as session:
        return sorted(await session.scalars(select(AlertRow.fingerprint)))


def asked_to_come_again(response: Response) -> int:
    assert response.status_code == 503, response.text
    seconds = int(response.headers["retry-after"])
    assert seconds > 0
    return seconds


async def opened(session: AsyncSession, titles: Sequence[str]) -> list[str]:
    """Opens incidents; `poison` cannot be one."""
    found = []
    for title in titles:
        row = await incidents.open_incident(session, title=title, target=title)
        if title == "poison":
            raise ValueError(title)
        found.append(row.id)
    return found


async def titles(database: Database) -> list[str]:
    async with database.reading() as session:
        return sorted(await session.scalars(select(IncidentRow.title)))


async def test_what_waits_for_the_disk_shares_a_commit(database: Database) -> None:
    """Each has its answer after its own commit."""
    commits: list[int] = []

    async def write(session: AsyncSession, work: Sequence[str]) -> list[str]:
        commits.append(len(work))
        return await opened(session, work)

    group = GroupCommit(database, write)

    async def one(title: str) -> None:
        incident_id = await group.commit(title)
        async with database.reading() as session:
            row = await session.get(IncidentRow, incident_id)
        assert row is not None, "answered before its commit"
        assert row.title == title

    wanted = [f"t{number:02}" for number in range(60)]
    await asyncio.gather(*(one(title) for title in wanted))
    assert await titles(database) == wanted
    assert sum(commits) == 60
    assert len(commits) <= 3, commits
    assert max(commits) <= group_commit.MOST_TOGETHER


async def test_a_poisoned_message_fails_alone(database: Database) -> None:
    group = GroupCommit(database, opened)
    wanted = ["a", "b", "poison", "c"]
    found = await asyncio.gather(*(group.commit(t) for t in wanted), return_exceptions=True)
    assert [type(one) for one in found] == [str, str, ValueError, str]
    assert await titles(database) == ["a", "b", "c"]
    assert await group.commit("d"), "and it goes on"


async def test_messages_wait_in_a_bounded_place(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is held up: one message is with it, one waits, and one is too many."""
    monkeypatch.setattr(group_commit, "MOST_WAITING", 1)
    database = service_of(client).database
    async with database.writing():
        first = asyncio.create_task(send(client, alert("cache-eu")))
        await waiting(client, 0)
        second = asyncio.create_task(send(client, alert("cache-us")))
        await waiting(client, 1)
        asked_to_come_again(await send(client, alert("cache-eu", fingerprint="late")))
    assert [(await one).status_code for one in (first, second)] == [202, 202]
    assert await kept(database) == ["f-cache-eu", "f-cache-us"]


async def test_a_large_message_is_stored_in_parts_and_is_whole_when_it_comes_again(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two groups of a real outage in one: what was stored before the disk failed counts once."""
    many = [alert(NAMES[n % 2], fingerprint=f"f{n:03}") for n in range(250)]
    intake, parts = service_of(client).intake, list[int]()
    take = intake.take

    async def takes(message: Message) -> Taken:
        parts.append(len(message.parsed))
        if len(parts) == 2:
            raise group_commit.Overloaded("the disk is slow")
        return await take(message)

    monkeypatch.setattr(intake, "take", takes)
    asked_to_come_again(await send(client, *many))
    assert len(await kept(service_of(client).database)) == 100
    again = await send(client, *many)
    assert parts == [100, 100, 100, 100, 50]
    assert [one["created"] for one in again.json()["incidents"]] == [False, False]
    assert await kept(service_of(client).database) == [f"f{n:03}" for n in range(250)]


async def test_each_part_of_a_signed_message_counts_once(client: AsyncClient) -> None:
    """The parts share one signature: none of them is taken for a replay of another."""
    service, person = service_of(client), Person("grafana", "source")
    many = [alert(NAMES[n % 2], fingerprint=f"f{n:03}") for n in range(250)]
    for new in (2, 0):
        taken = await accept(service, person, "grafana", parse(message(*many), "grafana"), "signed")
        assert len(taken.incidents) == new
        assert len(await kept(service.database)) == 250


async def test_a_pair_in_different_parts_is_told_in_its_order(client: AsyncClient) -> None:
    """Its end comes first in the message, and its beginning more than a part later."""
    over = {"status": "resolved", "endsAt": "2026-01-31T03:05:00Z"}
    others = [alert("cache-us", fingerprint=f"f{n:03}") for n in range(120)]
    pair = alert("cache-eu")
    answer = await send(client, pair | over, *others, pair)
    assert len(answer.json()["incidents"]) == 2, "it began, so somebody is told of it"


async def waiting(client: AsyncClient, number: int) -> None:
    """Until the writer is at work, and so many wait behind what it has in hand."""
    commits = service_of(client).intake._commits
    async with asyncio.timeout(10):
        while commits._writer is None or commits.waiting != number:
            await asyncio.sleep(0.005)


async def test_whoever_waits_too_long_sends_it_again(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is committed after all: it is recognised. The second never began."""
    monkeypatch.setattr(group_commit, "ANSWER_SECONDS", 0.05)
    database = service_of(client).database
    both = (alert("cache-eu"), alert("cache-us"))
    async with database.writing():
        first = asyncio.create_task(send(client, both[0]))
        await waiting(client, 0)
        second = asyncio.create_task(send(client, both[1]))
        for one in (first, second):
            asked_to_come_again(await one)
    async with asyncio.timeout(10):
        while service_of(client).intake._commits._writer is not None:
            await asyncio.sleep(0.005)
    assert await kept(database) == ["f-cache-eu"]
    monkeypatch.setattr(group_commit, "ANSWER_SECONDS", 10.0)
    for again in both:
        assert (await send(client, again)).status_code == 202
    assert await kept(database) == ["f-cache-eu", "f-cache-us"]


@contextmanager
def full_disk(database: Database) -> Iterator[None]:
    """SQLite itself says that the disk is full: no page may be added."""

    def limit(connection: Any, _record: Any, _proxy: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    pages = 1  # SQLite takes what there is for the least
    engine = database.writer.sync_engine
    event.listen(engine, "checkout", limit)
    try:
        yield
    finally:
        event.remove(engine, "checkout", limit)
        pages = 1_000_000
        event.listen(engine, "checkout", limit)


async def test_a_full_disk_loses_nothing(client: AsyncClient) -> None:
    database = service_of(client).database
    big = {"summary": "x" * 1_900, **{f"n{n}": "y" * 1_900 for n in range(20)}}
    answers = {}
    with full_disk(database):
        for number in range(6):
            sent = firing(f"f{number}", annotations=big)
            answers[f"f{number}"] = await send(client, sent)
    refused = [name for name, answer in answers.items() if answer.status_code != 202]
    assert refused, "the disk was not full"
    for name in refused:
        asked_to_come_again(answers[name])
    assert await kept(database) == sorted(set(answers) - set(refused)), "202 means kept"
    for name in refused:
        assert (await send(client, firing(name, annotations=big))).status_code == 202
    assert await kept(database) == sorted(answers)


# SQLite's is a file: it is there, or the service does not start.
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_a_database_that_is_away_loses_nothing(
    settings: Callable[..., Settings], url: str, postgresql: str
) -> None:
    name = url.rpartition("/")[2]

    def admit(yes: bool) -> None:
        with psycopg.connect(postgresql, autocommit=True) as server:
            server.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS {yes}".encode())
            gone = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
            server.execute(gone, (name,))

    async with serving(create_app(settings(database=url), worker=False)) as client:
        assert (await send(client, alert("cache-eu"))).status_code == 202
        admit(False)
        refused = await asyncio.gather(
            *(send(client, alert("cache-us", fingerprint=f"f{number}")) for number in range(5))
        )
        for one in refused:
            asked_to_come_again(one)
        admit(True)
        for number in range(5):
            taken = await send(client, alert("cache-us", fingerprint=f"f{number}"))
            assert taken.status_code == 202
        expected = ["f-cache-eu", *(f"f{number}" for number in range(5))]
        assert await kept(service_of(client).database) == expected


@pytest.fixture
def few(settings: Callable[..., Settings]) -> Callable[..., Settings]:
    """Four targets, and room for one incident in the queue."""
    targets = [*TARGETS, *({"name": n, "url": "redis://127.0.0.1:1", "match": {"instance": n}}
                           for n in NAMES[2:])]  # fmt: skip
    return lambda **more: settings(targets=targets, **({"intake": {"queue": 1}} | more))


async def test_a_full_queue_sheds_only_what_would_open_another_incident(
    few: Callable[..., Settings], url: str
) -> None:
    async with serving(create_app(few(database=url), worker=False)) as client:
        database = service_of(client).database
        (first,) = (await send(client, alert("cache-eu"))).json()["incidents"]
        assert (await send(client, alert("cache-eu", fingerprint="joins"))).status_code == 202
        asked_to_come_again(await send(client, alert("cache-us")))
        mixed = alert("queue-eu", "critical"), alert("queue-us"), alert("cache-eu", "info", "too")
        refused = await send(client, *mixed)
        asked_to_come_again(refused)
        assert "1 of 3 alerts" in refused.json()["detail"]
        assert await kept(database) == ["f-cache-eu", "f-queue-eu", "joins", "too"]
        exposed = (await client.get("/metrics")).text
        shed = 'redis_oncall_alerts_refused_total{because="queue",source="alertmanager"}'
        assert shed in exposed
        unmatched = await send(client, alert("unheard-of"))
        assert unmatched.status_code == 202, "a person is asked, no worker"

        async with database.writing() as session:  # the queue has been worked off
            for row in await session.scalars(select(IncidentRow)):
                await incidents.move(session, row, "needs_human")
        again = await send(client, *mixed)
        assert again.status_code == 202
        assert first["id"] in {one["id"] for one in again.json()["incidents"]}
        assert await kept(database) == sorted(
            ["f-cache-eu", "f-queue-eu", "f-queue-us", "f-unheard-of", "joins", "too"]
        )
        async with database.reading() as session:
            number = await session.scalar(select(func.count()).select_from(IncidentRow))
        assert number == 4


async def test_the_incidents_of_one_message_share_what_room_is_left(
    few: Callable[..., Settings],
) -> None:
    async with serving(create_app(few(), worker=False)) as client:
        refused = await send(
            client, *(alert(name) for name in ("cache-eu", "cache-us", "queue-us"))
        )
        asked_to_come_again(refused)
        assert "2 of 3 alerts" in refused.json()["detail"]
        assert len(await kept(service_of(client).database)) == 1


async def test_a_source_that_sends_too_much_waits_for_itself_only(
    few: Callable[..., Settings],
) -> None:
    tokens = [
        {"name": name, "role": "source", "sha256": sha256(f"roc_{name}_x")}
        for name in ("loud", "quiet")
    ]
    bounds = {"queue": 10, "per_second": 0.1, "burst": 2}
    async with serving(create_app(few(tokens=tokens, intake=bounds), worker=False)) as client:
        many = [alert("cache-eu", fingerprint=f"f{number}") for number in range(3)]
        taken = await send(client, *many, token="roc_loud_x")
        assert taken.status_code == 202, "a message that is begun is taken whole"
        refused = await send(client, alert("cache-eu", fingerprint="more"), token="roc_loud_x")
        assert 10 <= asked_to_come_again(refused) <= 20
        assert "intake.per_second" in refused.json()["detail"]
        assert (await send(client, alert("cache-us"), token="roc_quiet_x")).status_code == 202
        assert await kept(service_of(client).database) == ["f-cache-us", "f0", "f1", "f2"]


def test_a_bucket_fills_with_time_and_no_further_than_its_burst() -> None:
    now = [0.0]
    rates = Rates(2.0, 4, clock=lambda: now[0])
    rates.spend("a", 4)
    assert rates.wait("a") == 1
    assert rates.wait("b") == 0
    now[0] = 0.5
    assert rates.wait("a") == 0
    rates.spend("a", 21)
    assert rates.wait("a") == 11
    now[0] = 1_000.0
    assert rates.wait("a") == 0
    rates.spend("a", 4)
    assert rates.wait("a") == 1


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_writers_of_one_process_take_turns(database: Database) -> None:
    """First come, first served: SQLite's own way is to poll, and may pass over somebody.

    PostgreSQL has as many writers as it likes.
    """
    order: list[int] = []

    async def write(number: int) -> None:
        async with database.writing() as session:
            await session.execute(text("SELECT 1"))
            order.append(number)

    async with database.writing():
        writers = [asyncio.create_task(write(number)) for number in range(20)]
        await asyncio.sleep(0)
    await asyncio.gather(*writers)
    assert order == list(range(20))


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_whoever_leaves_in_the_middle_of_a_transaction_takes_the_lock_along(
    database: Database,
) -> None:
    """A run that lost its lease, a browser that went away. PostgreSQL's are another process's."""
    counted = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})"
    long = f"{counted} SELECT max(i) FROM n"
    for _ in range(5):
        began = asyncio.Event()

        async def leave(began: asyncio.Event) -> None:
            async with database.writing() as session:
                await session.execute(text(long.format(300_000)))
                began.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(leave(began))
        await began.wait()
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5), database.writing() as session:
            assert await session.scalar(text(long.format(10))) == 10
