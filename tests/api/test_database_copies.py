"""The database is copied while it is used, lost, and brought back: nothing is done twice.

SQLite and PostgreSQL, by the commands that a person types.
"""

import asyncio
import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from pydantic import SecretStr
from sqlalchemy import select, update

from agent.context import Context
from agent.incident import Incident
from api.app import create_app
from api.auditing import keyring
from api.copies import archive, sqlite
from api.copies.facts import CopyFailed
from api.settings import Settings
from api.store import incidents, trail
from api.store.database import Database, database_url
from api.store.migrate import UnsettledCopy, migrate
from api.store.tables import EventRow, IncidentRow, LeaseRow, PageRow
from tests.api.house import House, five_incidents, statuses
from tests.api.serving import serving, until


@pytest.fixture
def house(tmp_path: Path, url: str) -> House:
    return House(tmp_path, url)


def test_what_was_approved_before_the_backup_is_never_carried_out_by_the_restored_copy(
    house: House,
) -> None:
    ids = house.on(five_incidents)
    assert house.on(statuses)[ids["approved"]] == ("awaiting_approval", "approved")
    said = house.does("database", "backup", str(house.file))
    assert "5 incidents" in said
    assert house.file.stat().st_mode & 0o777 == 0o600

    async def goes_on(database: Database) -> None:  # and is lost
        async with database.writing() as session:
            await incidents.open_incident(session, title="later", target="later")
            row = await incidents.lock(session, ids["half"])
            await incidents.move(session, row, "closed", "later")

    house.on(goes_on)
    assert "--replace" in house.refuses("database", "restore", str(house.file), "--yes")
    restored = ("database", "restore", str(house.file), "--yes", "--replace", "--json")
    told = json.loads(house.run(*restored).stdout)
    assert told["again"] == sorted([ids["approved"], ids["half"], ids["queued"]])
    assert told["lapsed"] == [f"{ids['approved']}/A1", f"{ids['half']}/A1"]
    assert told["unknown"] == [f"{ids['applying']}/A1"]
    assert house.on(statuses) == {
        ids["approved"]: ("queued", "lapsed"),
        ids["half"]: ("queued", "lapsed"),
        ids["applying"]: ("needs_human", "outcome_unknown"),
        ids["queued"]: ("queued", ""),
        ids["closed"]: ("closed", ""),
    }

    async def rows(database: Database) -> tuple[Any, ...]:
        async with database.reading() as session:
            page = await session.scalar(select(PageRow.reason))
            fencing = await session.scalar(select(LeaseRow.fencing).limit(1))
            again = await incidents.load(session, ids["approved"])
        return page, fencing, again

    page, fencing, again = house.on(rows)
    assert "outcome_unknown: restored from a backup of" in page
    assert fencing > 1_000_000
    assert (again.attempt, again.plan.actions) == (2, [])
    assert "whole" in house.does("audit", "verify")
    assert "database_restored" in house.does("audit", "list")


async def test_the_service_looks_again_and_waits_with_what_is_approved_anew(
    tmp_path: Path, settings: Callable[..., Settings]
) -> None:
    house = House(tmp_path, f"sqlite:///{tmp_path / 'oncall.db'}")
    house.environment["REDIS_ONCALL_DATA"] = str(tmp_path)
    ids = await asyncio.to_thread(house.on, five_incidents)
    await asyncio.to_thread(house.does, "database", "backup", str(house.file))
    await asyncio.to_thread(
        house.does, "database", "restore", str(house.file), "--yes", "--replace"
    )
    seen: dict[str, list[str]] = {}

    async def look(context: Context, incident: Incident) -> None:
        seen[incident.id] = [action.status for action in incident.plan.actions]
        await context.journal.set_status("needs_human", "looked")

    targets = [{"name": name, "url": "redis://127.0.0.1:1"} for name in ids]
    configured = settings(targets=targets, recordings=0)
    async with serving(create_app(configured, run_graph=look, open_reading=AsyncMock())) as client:
        again = {ids["approved"], ids["half"], ids["queued"]}

        async def all_seen() -> bool:
            return set(seen) >= again

        await until(all_seen, what="what was open is looked at")
        (freeze,) = (await client.get("/v1/freezes")).json()["items"]
    assert seen == {incident_id: [] for incident_id in again}
    assert "what happened since is not known" in freeze["reason"]


def test_a_copy_that_nobody_settled_is_started_by_nobody(house: House) -> None:
    house.on(five_incidents)
    house.does("database", "backup", str(house.file))
    with pytest.MonkeyPatch.context() as patch:  # the command dies between its two halves
        patch.setattr("api.cli.copies._settle", lambda *_, **__: None)
        house.does("database", "restore", str(house.file), "--yes", "--replace")
    with pytest.raises(UnsettledCopy, match="database settle"):
        house.on(statuses)
    assert "not settled" in house.refuses("database", "backup", str(house.folder / "other.tar.gz"))
    assert "lapsed" in house.does("database", "settle", "--yes")
    assert {status for _, status in house.on(statuses).values()} == {
        "", "lapsed", "outcome_unknown",
    }  # fmt: skip


def test_a_database_that_came_back_by_other_means_is_settled_by_its_time(house: House) -> None:
    ids = house.on(five_incidents)
    assert "--as-of" in house.refuses("database", "settle", "--yes")
    said = house.does("database", "settle", "--yes", "--as-of", "2026-01-31T03:00")
    assert "as of 2026-01-31 03:00 UTC" in said
    assert house.on(statuses)[ids["approved"]] == ("queued", "lapsed")


def test_a_database_in_use_is_not_replaced(house: House) -> None:
    house.on(five_incidents)
    house.does("database", "backup", str(house.file))
    before = house.on(statuses)

    async def beside(database: Database) -> None:
        async with database.reading() as session:
            await session.execute(select(IncidentRow.id).limit(1))
        for words in (
            ("restore", str(house.file), "--replace"),
            ("settle", "--as-of", "2026-01-01"),
        ):
            said = await asyncio.to_thread(house.refuses, "database", *words, "--yes")
            assert "in use" in said

    house.on(beside)
    assert house.on(statuses) == before


async def test_a_copy_is_of_one_moment_while_others_write(house: House) -> None:
    async def events(database: Database, incident_id: str, stop: asyncio.Event) -> int:
        written = 0
        while not stop.is_set():
            async with database.writing() as session:
                row = await incidents.lock(session, incident_id)
                await incidents.publish_status(session, row)
                await session.execute(
                    update(IncidentRow)
                    .where(IncidentRow.id == incident_id)
                    .values(nudges=row.last_event)
                )
            written += 1
        return written

    database, stop = Database(database_url(house.url)), asyncio.Event()
    await migrate(database)
    await trail.begin(database, keyring(house.settings))
    async with database.writing() as session:
        known = (await incidents.open_incident(session, title="t", target="cache")).id
    writer = asyncio.create_task(events(database, known, stop))
    await asyncio.sleep(0.2)
    await archive.back_up(database_url(house.url), house.file, house.settings.path)
    await asyncio.sleep(0.1)
    stop.set()
    assert await writer > 0
    await database.close()
    restored = ("database", "restore", str(house.file), "--yes", "--replace")
    await asyncio.to_thread(house.does, *restored)
    again = Database(database_url(house.url))
    async with again.reading() as session:
        numbers = list(await session.scalars(select(EventRow.number).order_by(EventRow.number)))
        nudges = await session.scalar(select(IncidentRow.nudges))
    await again.close()
    assert numbers == list(range(1, len(numbers) + 1))
    assert nudges is not None
    assert 0 <= len(numbers) - nudges <= 3, "the events after the last nudge are the restore's own"


def test_an_older_version_gets_its_tables_back(house: House) -> None:
    ids = house.on(five_incidents)
    before = house.on(statuses)
    assert "none of" in house.refuses("database", "downgrade", "0815", "--yes", code=2)
    assert "0004" in house.does("database", "downgrade", "0004", "--yes")

    async def revision(database: Database) -> str:
        async with database.engine.connect() as connection:
            found = await connection.exec_driver_sql("SELECT version_num FROM alembic_version")
            return str(found.scalar_one())

    async def untouched() -> str:
        database = Database(database_url(house.url))
        try:
            return await revision(database)
        finally:
            await database.close()

    assert asyncio.run(untouched()) == "0004"
    assert house.on(statuses) == before
    assert set(before) == set(ids.values())
    assert "downgrade" in house.does("audit", "list")


def packed(manifest: dict[str, Any], content: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as file:
        for name, data in (("manifest.json", json.dumps(manifest).encode()), ("database", content)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return made.getvalue()


def test_a_file_that_is_damaged_or_of_another_version_replaces_nothing(tmp_path: Path) -> None:
    house = House(tmp_path, f"sqlite:///{tmp_path / 'oncall.db'}")
    house.on(five_incidents)
    house.does("database", "backup", str(house.file))
    assert "exists already" in house.refuses("database", "backup", str(house.file))
    assert "does not exist" in house.refuses("database", "backup", "/no/such/file", code=2)
    before, whole = house.on(statuses), house.file.read_bytes()
    manifest = json.loads(archive.read_manifest(house.file).model_dump_json())
    plain = gzip.decompress(whole)
    flipped = bytearray(plain)
    flipped[len(plain) // 2] ^= 1
    for content, says in (
        (whole[: len(whole) // 2], "cannot be read"),
        (gzip.compress(bytes(flipped)), "damaged"),
        (b"not an archive", "cannot be read"),
        (packed(manifest | {"revision": "9999"}, b""), "does not know"),
        (packed(manifest | {"kind": "postgresql"}, b""), "of its kind"),
        (packed({"format": 7}, b""), "another version"),
        (packed(manifest, b"another"), "damaged"),
    ):
        house.file.write_bytes(content)
        said = house.refuses("database", "restore", str(house.file), "--yes", "--replace")
        assert says in said
    assert "No such file" in house.refuses("database", "restore", "/no/such", "--yes")
    assert house.on(statuses) == before
    assert {path.name for path in tmp_path.iterdir()} >= {"oncall.db", "copy.tar.gz"}
    assert [path for path in tmp_path.rglob(".restoring-*")] == []


def test_a_damaged_database_is_not_copied(tmp_path: Path) -> None:
    house = House(tmp_path, f"sqlite:///{tmp_path / 'oncall.db'}")
    house.on(five_incidents)
    path = tmp_path / "oncall.db"
    sqlite.must_be_free(path)  # leaves the WAL
    content = bytearray(path.read_bytes())
    content[8192:16384] = b"\x7f" * 8192
    path.write_bytes(content)
    said = house.refuses("database", "backup", str(house.file))
    assert "damaged" in said or "cannot be copied" in said
    assert not house.file.exists()


def test_a_copy_whose_trail_was_changed_or_whose_key_is_lost_is_not_settled(house: House) -> None:
    house.on(five_incidents)
    house.does("database", "backup", str(house.file))
    house.environment["REDIS_ONCALL_KEY"] = "00" * 32
    restored = ("database", "restore", str(house.file), "--yes", "--replace")
    assert "cannot be verified with the key that is here" in house.refuses(*restored)
    with pytest.raises(UnsettledCopy):
        house.on(statuses)
    said = house.does("database", "settle", "--yes", "--damaged-trail")
    assert "NOT whole" in said
    house.on(statuses)
    assert "database_restored" in house.does("audit", "list")


async def test_without_postgresqls_programs_it_is_said_what_to_install(
    postgresql: str, tmp_path: Path
) -> None:
    database = Database(database_url(postgresql))
    await migrate(database)
    await database.close()
    with pytest.raises(CopyFailed, match="apt install postgresql-client"):
        await archive.back_up(database_url(postgresql), tmp_path / "copy", str(tmp_path))
    secret = SecretStr(postgresql.replace("oncall@", "oncall:s3cr3t@").replace("127.0.0.1", "h"))
    with pytest.raises(CopyFailed) as failed:
        await archive.back_up(
            database_url(secret.get_secret_value()), tmp_path / "copy", "/usr/bin"
        )
    assert "s3cr3t" not in str(failed.value)
