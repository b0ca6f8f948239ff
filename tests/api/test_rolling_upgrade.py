"""The version before is still at work while this one starts, on the same database."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner

from agent.context import Context
from agent.incident import Incident
from api.app import create_app
from api.cli.main import app
from api.settings import Settings
from api.store import incidents
from api.store.database import Database, database_url
from api.store.migrate import migrate
from tests.api import version_before as old
from tests.api.serving import serving, until
from tests.forked import Forked

TARGETS = [{"name": name, "url": "redis://127.0.0.1:1"}
           for name in ("cache-eu", "cache-us", "cache-ap")]  # fmt: skip


async def test_its_incidents_are_served_worked_on_and_approved(
    empty_url: str, settings: Callable[..., Settings]
) -> None:
    await (await old.built(empty_url)).close()
    worked_on: dict[str, str] = {}

    async def run(context: Context, incident: Incident) -> None:
        await context.journal.set_status("needs_human", "looked")
        worked_on[incident.id] = incident.status

    configured = settings(empty_url, targets=TARGETS, recordings=0)
    async with serving(create_app(configured, run_graph=run, open_reading=AsyncMock())) as client:

        async def both() -> bool:
            return {"inc-1-queued", "inc-2-looked-at"} <= set(worked_on)

        await until(both, what="what was under way goes on")
        assert worked_on["inc-2-looked-at"] == "investigating"
        assert "inc-3-at-the-gate" not in worked_on, "nobody has decided yet"
        listed = (await client.get("/v1/incidents")).json()["items"]
        assert {one["id"]: one["status"] for one in listed} == {
            "inc-1-queued": "needs_human", "inc-2-looked-at": "needs_human",
            "inc-3-at-the-gate": "awaiting_approval", "inc-4-over": "closed",
        }  # fmt: skip
        gate = "/v1/incidents/inc-3-at-the-gate"
        (shown,) = (await client.get(gate)).json()["plan"]["actions"]
        assert (shown["batch"], shown["not_before"], shown["stop_requested"]) == ("", None, "")
        said = await client.post(
            f"{gate}/actions/A1/approve", json={"fingerprint": old.FINGERPRINT, "comment": "go"}
        )
        assert said.json()["status"] == "approved", said.text

        async def approved() -> bool:
            return "inc-3-at-the-gate" in worked_on

        await until(approved, what="what is approved is worked on")
        over = "/v1/incidents/inc-4-over"
        for path in ("", "/report", "/transcript", "/evidence/E1"):
            answer = await client.get(f"{over}{path}")
            assert answer.status_code == 200, (path, answer.text)
        verdict = {"root_cause": "organic-growth", "comment": "still"}
        assert (await client.post(f"{over}/verdict", json=verdict)).is_success
        again = await client.post(f"{over}/reinvestigate", json={})
        assert again.is_success, again.text
        assert (await client.get("/v1/chat/threads")).json()["items"][0]["id"] == "t1"
        assert (await client.get("/v1/usage")).json()["items"]
    env = {"DATABASE_URL": empty_url, "REDIS_ONCALL_DATA": str(configured.data_folder)}
    done = await asyncio.to_thread(CliRunner().invoke, app, ["audit", "verify"], env=env)
    assert "whole" in done.output


async def test_it_may_write_while_the_tables_are_upgraded(empty_url: str) -> None:
    """In transactions like its own, the incident first: all wait, none fails, nothing is lost."""
    database = await old.built(empty_url)
    beside = Database(database_url(empty_url))
    stop = asyncio.Event()

    async def writes(incident_id: str) -> int:
        number = 1
        while not stop.is_set():
            number += 1
            async with beside.engine.begin() as connection:
                locked = "" if beside.is_sqlite else " FOR UPDATE"
                found = text(f"SELECT id FROM incidents WHERE id = :id{locked}")
                await connection.execute(found, {"id": incident_id})
                await connection.run_sync(old.evidence, incident_id, number)
                await asyncio.sleep(0.005)
                await connection.run_sync(old.event, incident_id, number)
                changed = text("UPDATE actions SET position = :n WHERE incident_id = :id")
                await connection.execute(changed, {"n": number, "id": incident_id})
        return number

    names = ("inc-1-queued", "inc-2-looked-at", "inc-3-at-the-gate")
    writing = [asyncio.create_task(writes(name)) for name in names]
    await asyncio.sleep(0.3)
    await migrate(database)
    await asyncio.sleep(0.3)
    stop.set()
    last = dict(zip(names, await asyncio.gather(*writing), strict=True))
    async with database.reading() as session:
        for table in ("evidence", "events"):
            for name in names:
                rows = await session.scalars(
                    text(f"SELECT number FROM {table} WHERE incident_id = :id ORDER BY 1"),
                    {"id": name},
                )
                assert list(rows) == list(range(1, last[name] + 1)), (table, name)
    await beside.close()
    await database.close()


def _deeds(chained: bool) -> list[Callable[[Connection], Any]]:
    """What a process that was not stopped yet writes, in the order of its own transactions."""
    return [
        lambda c: old.evidence(c, "inc-1-queued", 2),
        lambda c: old.event(c, "inc-1-queued", 2),
        lambda c: old.action(c, "inc-1-queued"),
        lambda c: old.audit(c, "inc-1-queued", chained=chained),
        lambda c: old.incident(c, "inc-5-new", "queued", "cache-eu"),
    ]


async def _in_one(database: Database, deed: Callable[[Connection], Any]) -> None:
    async with database.engine.begin() as connection:
        await connection.run_sync(deed)


async def test_it_may_go_on_with_everything_afterwards(empty_url: str) -> None:
    """Nothing was taken from it, and what came has a default: so it need not be stopped first."""
    database = await old.built(empty_url)
    await migrate(database)
    for deed in _deeds(chained=True):
        await _in_one(database, deed)
    async with database.reading() as session:
        found = await incidents.load(session, "inc-5-new")
    assert (found.status, [alert.name for alert in found.alerts]) == ("queued", ["RedisMemoryHigh"])
    await database.close()


async def test_of_the_one_before_that_a_deed_on_record_is_refused_as_a_whole(
    empty_url: str,
) -> None:
    database = await old.built(empty_url, old.UNCHAINED)
    await migrate(database)
    *kept, audit, _ = _deeds(chained=False)
    for deed in kept:
        await _in_one(database, deed)

    def on_record(connection: Connection) -> None:
        old.event(connection, "inc-2-looked-at", 2)
        audit(connection)

    with pytest.raises(IntegrityError):
        await _in_one(database, on_record)
    async with database.reading() as session:
        found = await session.scalars(text("SELECT incident_id FROM events WHERE number = 2"))
        assert list(found) == ["inc-1-queued"]
    await database.close()


async def test_started_on_the_tables_of_a_newer_version_it_refuses_and_says_why(
    empty_url: str, tmp_path: Path
) -> None:
    database = Database(database_url(empty_url))
    await migrate(database)
    async with database.engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await database.close()
    env = os.environ | {"DATABASE_URL": empty_url, "REDIS_ONCALL_DATA": str(tmp_path)}
    said = tmp_path / "said"
    process = Forked(["serve", "--port", "0"], env, said)
    assert await asyncio.to_thread(process.wait, 60) == 1
    assert "the tables of a newer version (9999" in " ".join(said.read_text().split())
    async with database.reading() as session:
        assert await session.scalar(text("SELECT version_num FROM alembic_version")) == "9999"
    await database.close()
