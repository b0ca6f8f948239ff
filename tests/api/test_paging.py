"""Pages on their way out: through Apprise to a real server, at least once, not for ever."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from api import news, notifications
from api.app import create_app
from api.notifications import Notifier
from api.settings import Settings, SettingsError
from api.store import events, incidents, notices, pages
from api.store.database import Database
from api.store.notice_table import NoticeRow
from api.store.tables import PageRow
from tests.api.pagerhouse import Pagerhouse
from tests.api.serving import serving, until
from tests.api.test_incidents_api import opened, service_of
from tests.api.test_settings import load


def pager(settings: Callable[..., Settings], *houses: Pagerhouse) -> Notifier:
    return Notifier(settings(pages={"to": [each.url for each in houses]}))


async def call(database: Database, reason: str, title: str = "RedisDown") -> str:
    async with database.writing() as session:
        row = await incidents.open_incident(session, title=title, target="cache-eu")
        await pages.call(session, reason, incidents.now(), row)
    return row.id


async def make_due(database: Database) -> None:
    async with database.writing() as session:
        past = incidents.now() - timedelta(seconds=1)
        await session.execute(update(PageRow).values(due_at=past))
        await session.execute(update(NoticeRow).values(due_at=past))


async def kept(database: Database) -> list[PageRow]:
    async with database.reading() as session:
        return list(await session.scalars(select(PageRow).order_by(PageRow.id)))


async def left(database: Database) -> list[tuple[int, bool, str]]:
    """Of each address: tries, whether it is over, and why the last one failed."""
    async with database.reading() as session:
        rows = await session.scalars(select(NoticeRow).order_by(NoticeRow.id))
        return [(row.tries, row.sent_at is not None, row.failure) for row in rows]


async def test_everybody_gets_it_once_without_secrets(
    database: Database, settings: Callable[..., Settings], house: Pagerhouse, other: Pagerhouse
) -> None:
    reason = "rollback_failed: undo at redis://u:hunter2@h:1 failed\x1b[31m " + "x" * 5_000
    incident_id = await call(database, reason)
    calling = pager(settings, house, other)
    for _ in range(2):
        await calling.send_due(database)
    for got in (house.got, other.got):
        (page,) = got
        assert page["title"] == f"[{incident_id}] cache-eu: RedisDown"
        assert "rollback_failed: undo at" in page["message"]
        assert f"redis-oncall show {incident_id}" in page["message"]
        assert "hunter2" not in page["message"]
        assert "\x1b" not in page["message"]
        assert len(page["message"]) < 2_500
    assert await left(database) == [(1, True, "")] * 2
    (row,) = await kept(database)
    assert (row.failure, row.sent_at is None) == ("", False)


def claimed_again(claim: notices.Claim) -> notices.Claim:
    told = [replace(one, tries=one.tries + 1) for one in claim.notices]
    return replace(claim, notices=told)


async def test_who_had_it_is_not_woken_again_while_another_address_is_tried(
    database: Database, settings: Callable[..., Settings], house: Pagerhouse, other: Pagerhouse,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    await call(database, "outcome_unknown")
    other.down = True
    calling = pager(settings, house, other)
    await calling.send_due(database)
    await calling.send_due(database)  # not due yet
    assert await left(database) == [(1, True, ""), (1, False, "not accepted by JSON")]
    assert (await kept(database))[0].sent_at is None
    other.down = False
    await make_due(database)
    await calling.send_due(database)
    assert (len(house.got), len(other.got)) == (1, 1)
    assert (await kept(database))[0].sent_at is not None
    assert "s3cret" not in capsys.readouterr().err


async def test_an_address_that_never_answers_is_given_up_after_a_bounded_number_of_tries(
    database: Database, settings: Callable[..., Settings], house: Pagerhouse,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(notices, "MOST_TRIES", 3)
    await call(database, "outcome_unknown")
    house.down = True
    calling = pager(settings, house)
    for _ in range(5):
        await make_due(database)
        await calling.send_due(database)
    assert await left(database) == [(3, True, "not accepted by JSON")]
    (row,) = await kept(database)
    assert (row.sent_at is None, row.failure) == (False, "not accepted by JSON")
    told = (await notifications.kept(database))["pages"]
    assert told == {"sent": 0, "waiting": 0, "given_up": 1}


async def test_a_page_also_goes_to_the_address_that_replaces_one_that_does_not_work(
    database: Database, settings: Callable[..., Settings], house: Pagerhouse, other: Pagerhouse
) -> None:
    await call(database, "outcome_unknown")
    house.down = True
    await pager(settings, house).send_due(database)
    await make_due(database)
    await pager(settings, other).send_due(database)
    assert [len(got) for got in (house.got, other.got)] == [0, 1]
    assert (await kept(database))[0].sent_at is None, "another process may know the first one"
    async with database.writing() as session:
        long_ago = incidents.now() - notices.STRANGE_AFTER
        await session.execute(update(NoticeRow).values(due_at=long_ago))
    for _ in range(2):
        await pager(settings, other).send_due(database)
        await make_due(database)
    (page,) = await kept(database)
    assert (page.sent_at is None, page.failure) == (False, "the address is no longer configured")
    assert len(other.got) == 1


async def test_two_senders_send_it_once_and_a_dead_ones_page_is_sent_by_the_other(
    database: Database, settings: Callable[..., Settings], house: Pagerhouse
) -> None:
    await call(database, "outcome_unknown")
    await asyncio.gather(*(pager(settings, house).send_due(database) for _ in range(4)))
    assert len(house.got) == 1
    await call(database, "rollback_failed")
    (mark,) = pager(settings, house).addresses
    async with database.writing() as session:
        await notices.address_pages(session, [mark], incidents.now())
    async with database.writing() as session:
        claimed = await notices.claim(session, mark, 60, incidents.now())
        assert claimed is not None  # and dies with it
    await pager(settings, house).send_due(database)
    assert len(house.got) == 1
    async with database.writing() as session:
        later = incidents.now() + notices.CLAIMED
        assert await notices.claim(session, mark, 60, later) == claimed_again(claimed)


async def test_the_same_words_about_the_same_incident_are_one_page(database: Database) -> None:
    async with database.writing() as session:
        row = await incidents.open_incident(session, title="t", target="cache-eu")
        for reason in ("a", "b", "a"):
            await pages.call(session, reason, incidents.now(), row)
        await pages.call(session, "a", incidents.now())
        await pages.call(session, "a", incidents.now() + pages.AGAIN * 2, row)
    assert [page.reason for page in await kept(database)] == ["a", "b", "a", "a"]


async def test_without_an_address_a_page_is_an_error_in_the_log_and_an_event(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(notifications, "LOOK_SECONDS", 0.05)

    async def nothing(*_: Any) -> None:
        pass

    async with serving(create_app(settings(), run_graph=nothing)) as client:
        one, database = await opened(client), service_of(client).database
        async with database.writing() as session:
            row = await incidents.lock(session, one["id"])
            await pages.call(session, "the key is gone", incidents.now(), row)

        async def over() -> bool:
            return all(page.sent_at for page in await kept(database))

        await until(over, what="the page is logged")
        async with database.reading() as session:
            told = [event.data for event in await events.after(session, one["id"], 0, 200)]
    assert "the key is gone" in json.dumps(told)
    logged = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (line,) = [line for line in logged if line["event"] == "page_for_nobody"]
    assert (line["level"], line["page"], line["incident"]) == (
        "error",
        "the key is gone",
        one["id"],
    )


async def test_a_running_service_sends_them_by_itself(
    settings: Callable[..., Settings], house: Pagerhouse, other: Pagerhouse,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(notifications, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(news, "PATIENCE", {})
    monkeypatch.setattr(news, "LITTLE_PATIENCE", timedelta())
    configured = settings(pages={"to": house.url}, notifications={"to": other.url})
    async with serving(create_app(configured, worker=False)) as client:
        await opened(client)
        found = await notifications.kept(service_of(client).database)
        assert found["notices"]["waiting"] == 1, "it is a worker that sends"
    async with serving(create_app(configured)) as client:
        await call(service_of(client).database, "come")

        async def arrived() -> bool:
            return bool(house.got) and len(other.got) >= 2

        await until(arrived, what="the page, and what both processes had to tell")
        metrics = await client.get("/metrics")
        assert 'redis_oncall_pages{state="given_up"} 0.0' in metrics.text
        assert 'redis_oncall_notices{state="given_up"} 0.0' in metrics.text


def test_an_address_nobody_understands_stops_the_start_without_being_repeated(
    tmp_path: Path, settings: Callable[..., Settings]
) -> None:
    with pytest.raises(SettingsError, match=r"pages\.to\.1: not an Apprise URL") as refused:
        Notifier(settings(pages={"to": ["json://h", "slak://T0p/s3cret"]}))
    assert "s3cret" not in str(refused.value)
    told = load(tmp_path, {"pages": {"to": ["slack://${TOKEN}"]}}, TOKEN="s3cret")
    assert "s3cret" not in repr(told) + str(told.config)
