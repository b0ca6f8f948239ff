"""Rows that a transaction adds: as they were given, in order, whoever writes them at its end."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import Alert
from api.store import appends, audit, events, incidents, occurrences
from api.store import database as databases
from api.store.database import Database
from api.store.tables import AlertRow, AuditRow, EventRow, IncidentRow
from tests.api.test_intake_queries import statements

ODD = [
    "", "NULL", "null", "{a,b}", '{"a": "b"}', "it's \"quoted\"", "back\\slash", "\\N",
    "%s %(a)s :b", "Grüße 🔥", "line\nand\ttab", "a,b;c", "()",
]  # fmt: skip
"""What an array, a format, a row or JSON could take for its own."""
DATA: list[Any] = [{}, {"a": None}, {"a": [1, 2.5, True, {"b": []}]}, {"text": "\u0000 \\u0000"}]


def odd_alert(text: str, number: int) -> Alert:
    return Alert(
        source="generic", fingerprint=f"f{number}", name=text, severity="warning", status="firing",
        starts_at=datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), ends_at=None,
        labels={text or "empty": text}, annotations={"summary": text},
    )  # fmt: skip


async def opened(session: AsyncSession) -> IncidentRow:
    return await incidents.open_incident(session, title="t", target="cache")


async def test_rows_come_back_as_they_were_given(database: Database) -> None:
    alerts = [odd_alert(text, number) for number, text in enumerate(ODD)]
    by = audit.Person("ann 'o' \\N", "viewer")
    async with database.writing() as session:
        row = await opened(session)
        for alert in alerts:
            occurrences.keep(session, alert, row.id)
        for data in DATA:
            await events.publish(session, row, "status", data)
        for text in ODD:
            await audit.note(session, by, "odd", row.id, said=text)
    async with database.reading() as session:
        kept = (await session.scalars(select(AlertRow).order_by(AlertRow.id))).all()
        assert [incidents.to_alert(one) for one in kept] == alerts
        told = (await session.scalars(select(EventRow).order_by(EventRow.number))).all()
        assert [one.data for one in told if one.kind == "status"][1:] == DATA
        trail = (await session.scalars(select(AuditRow).order_by(AuditRow.id))).all()
        assert [one.detail for one in trail if one.what == "odd"] == [{"said": t} for t in ODD]
        assert {one.by for one in trail if one.what == "odd"} == {by.name}


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_nothing_is_cut_off_to_fit_its_column(database: Database) -> None:
    alert = odd_alert("a", 1).model_copy(update={"fingerprint": "f" * 201})
    async with database.writing() as session:
        row = await opened(session)
        occurrences.keep(session, alert, row.id)
        with pytest.raises(DBAPIError, match="value too long"):
            await appends.written(session)
        await session.rollback()


async def test_whoever_asks_within_the_transaction_is_told_of_what_it_added(
    database: Database,
) -> None:
    async with database.writing() as session:
        row = await opened(session)
        assert not await occurrences.still_fires(session, row.id)
        occurrences.keep(session, odd_alert("a", 1), row.id)
        assert await occurrences.still_fires(session, row.id)
        assert [one.name for one in await occurrences.times(session, odd_alert("a", 1))] == ["a"]
        occurrences.keep(session, odd_alert("b", 2), row.id)
        assert [one.name for one in (await incidents.reload(session, row)).alerts] == ["a", "b"]
        assert not appends.taken(session)


async def test_an_end_straight_after_an_end_is_dropped(database: Database) -> None:
    """Whether the first of them is written already or not."""
    async with database.writing() as session:
        row = await opened(session)
        await events.publish(session, row, "end", {})
        await events.publish(session, row, "end", {})
    async with database.writing() as session:
        row = await incidents.lock(session, row.id)
        await events.publish(session, row, "end", {})
        await events.publish(session, row, "status", {})
        await events.publish(session, row, "end", {})
    async with database.reading() as session:
        kinds = await session.scalars(select(EventRow.kind).order_by(EventRow.number))
        assert kinds.all() == ["status", "end", "status", "end"]


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_all_that_is_added_is_one_statement(database: Database) -> None:
    async with database.writing() as session:
        row = await opened(session)
    with statements(database) as asked:
        async with database.writing() as session:
            for number in range(10):
                occurrences.keep(session, odd_alert("a", number), row.id)
                await audit.note(session, audit.service(), "odd", row.id)
                appends.append(
                    session, EventRow, incident_id=row.id, number=100 + number, kind="status",
                    data={}, at=datetime.now(UTC),
                )  # fmt: skip
    assert [one.split()[0] for one in asked] == ["SELECT", "WITH"], "the head of the trail, and it"


def pings(database: Database) -> list[str]:
    found: list[str] = []
    event.listen(database.engine.sync_engine.pool, "invalidate", lambda *_: found.append("gone"))
    return found


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("asked_after", [0.0, 1e9], ids=["asked", "used a moment ago"])
async def test_a_connection_that_was_hung_up_on_is_not_used_again(
    database: Database, url: str, asked_after: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "ASK_AFTER_SECONDS", asked_after)
    gone = pings(database)
    async with database.reading() as one, database.reading() as other:
        await asyncio.gather(database.clock(one), database.clock(other))
    for _ in range(2):
        async with database.writing() as session:
            assert await database.clock(session) > 0
    assert not gone
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    async with database.writing() as session:
        assert await database.clock(session) > 0
    assert gone


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_a_connection_that_was_closed_here_is_not_used_again(database: Database) -> None:
    async with database.reading() as session:
        link = (await (await session.connection()).get_raw_connection()).driver_connection
    assert link is not None
    await link.close()
    async with database.writing() as session:
        assert await database.clock(session) > 0


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(("asked_after", "times"), [(0.0, 4), (1e9, 0)])
async def test_only_the_idle_are_asked_whether_they_are_still_there(
    database: Database, asked_after: float, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "ASK_AFTER_SECONDS", asked_after)
    asked: list[Any] = []
    dialect = database.engine.sync_engine.dialect
    monkeypatch.setattr(dialect, "do_ping", asked.append)
    for _ in range(4):
        async with database.writing() as session:
            await database.clock(session)
    assert len(asked) == times
    async with database.reading() as one, database.reading() as new:
        await database.clock(one)
        asked.clear()
        await database.clock(new)
    assert not asked, "it was made just now"


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_many_rows_are_written_before_the_end_of_the_trail_is_locked(
    database: Database,
) -> None:
    with statements(database) as asked:
        async with database.writing() as session:
            row = await opened(session)
            for number in range(audit.MOST_UNDER_THE_LOCK):
                occurrences.keep(session, odd_alert("a", number), row.id)
            await audit.note(session, audit.service(), "odd", row.id)
    assert "INSERT INTO alerts" not in asked[-1], "the last one has the head locked"
