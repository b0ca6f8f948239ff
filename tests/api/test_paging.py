"""Pages on their way out: through Apprise to a real server, at least once, not for ever."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from api import paging
from api.app import create_app
from api.paging import Pager
from api.settings import Settings, SettingsError
from api.store import events, incidents, pages
from api.store.database import Database
from api.store.tables import PageRow
from tests.api.serving import serving, until
from tests.api.test_incidents_api import opened, service_of
from tests.api.test_settings import load


class Pagerhouse:
    """A server that takes pages, and says no for as long as it is `down`."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.down = False
        house = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                if not house.down:
                    house.got.append(json.loads(content))
                self.send_response(503 if house.down else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.url = f"json://user:s3cret@127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def house() -> Iterator[Pagerhouse]:
    with contextlib.closing(Pagerhouse()) as made:
        yield made


@pytest.fixture
def other(house: Pagerhouse) -> Iterator[Pagerhouse]:
    with contextlib.closing(Pagerhouse()) as made:
        yield made


def pager(settings: Callable[..., Settings], *houses: Pagerhouse) -> Pager:
    return Pager(settings(pages={"to": [each.url for each in houses]}))


async def call(database: Database, reason: str, title: str = "RedisDown") -> str:
    async with database.writing() as session:
        row = await incidents.open_incident(session, title=title, target="cache-eu")
        await pages.call(session, reason, incidents.now(), row)
    return row.id


async def make_due(database: Database) -> None:
    async with database.writing() as session:
        past = incidents.now() - timedelta(seconds=1)
        await session.execute(update(PageRow).values(due_at=past))


async def kept(database: Database) -> list[PageRow]:
    async with database.reading() as session:
        return list(await session.scalars(select(PageRow).order_by(PageRow.id)))


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
        assert page["title"] == "redis-oncall: cache-eu: RedisDown"
        assert "rollback_failed: undo at" in page["message"]
        assert f"redis-oncall incidents {incident_id}" in page["message"]
        assert "hunter2" not in page["message"]
        assert "\x1b" not in page["message"]
        assert len(page["message"]) < 2_500
    (row,) = await kept(database)
    assert (row.tries, row.failure, row.sent_at is None) == (1, "", False)


async def test_who_had_it_is_not_woken_again_while_another_address_is_tried(
    database: Database, settings: Callable[..., Settings], house: Pagerhouse, other: Pagerhouse,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    await call(database, "outcome_unknown")
    other.down = True
    calling = pager(settings, house, other)
    await calling.send_due(database)
    await calling.send_due(database)  # not due yet
    (row,) = await kept(database)
    assert (row.tries, row.sent_at, row.failure) == (1, None, "not accepted by JSON")
    assert "s3cret" not in json.dumps([row.failure, row.delivered])
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
    monkeypatch.setattr(pages, "MOST_TRIES", 3)
    await call(database, "outcome_unknown")
    house.down = True
    calling = pager(settings, house)
    for _ in range(5):
        await make_due(database)
        await calling.send_due(database)
    (row,) = await kept(database)
    assert (row.tries, row.sent_at is None, row.failure) == (3, False, "not accepted by JSON")
    assert await paging.pages_kept(database) == {"sent": 0, "waiting": 0, "given_up": 1}


async def test_two_senders_send_it_once_and_a_dead_ones_page_is_sent_by_the_other(
    database: Database, settings: Callable[..., Settings], house: Pagerhouse
) -> None:
    await call(database, "outcome_unknown")
    await asyncio.gather(*(pager(settings, house).send_due(database) for _ in range(4)))
    assert len(house.got) == 1
    await call(database, "rollback_failed")
    async with database.writing() as session:
        assert await pages.claim(session, incidents.now()) is not None  # and dies with it
    await pager(settings, house).send_due(database)
    assert len(house.got) == 1
    async with database.writing() as session:
        later = incidents.now() + pages.CLAIMED
        assert await pages.claim(session, later) is not None


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
    monkeypatch.setattr(paging, "LOOK_SECONDS", 0.05)

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
    settings: Callable[..., Settings], house: Pagerhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "LOOK_SECONDS", 0.05)
    app = create_app(settings(pages={"to": house.url}))
    async with serving(app) as client:
        await call(service_of(client).database, "come")

        async def arrived() -> bool:
            return bool(house.got)

        await until(arrived, what="the page")
        metrics = await client.get("/metrics")
        assert 'redis_oncall_pages{state="given_up"} 0.0' in metrics.text


def test_an_address_nobody_understands_stops_the_start_without_being_repeated(
    tmp_path: Path, settings: Callable[..., Settings]
) -> None:
    with pytest.raises(SettingsError, match=r"pages\.to\.1: not an Apprise URL") as refused:
        Pager(settings(pages={"to": ["json://h", "slak://T0p/s3cret"]}))
    assert "s3cret" not in str(refused.value)
    told = load(tmp_path, {"pages": {"to": ["slack://${TOKEN}"]}}, TOKEN="s3cret")
    assert "s3cret" not in repr(told) + str(told.config)
