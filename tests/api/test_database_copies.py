"""The database is copied while it is used, lost, and brought back: nothing is done twice.

SQLite and PostgreSQL, by the commands that a person types.
"""

import asyncio
import gzip
import io
import json
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from pydantic import SecretStr
from sqlalchemy import select, update
from typer.testing import CliRunner

from agent.context import Context
from agent.incident import Incident, Plan
from agent.policy import BUILT_IN
from api.app import create_app
from api.auditing import keyring, note_head
from api.cli.main import app
from api.copies import archive, sqlite
from api.copies.facts import CopyFailed
from api.settings import Settings, load_settings
from api.store import decisions, incidents, leases, trail
from api.store.audit import Person
from api.store.database import Database, database_url
from api.store.decisions import Choice
from api.store.judge import judge_at
from api.store.leases import Lease
from api.store.migrate import UnsettledCopy, migrate
from api.store.tables import ActionRow, EventRow, IncidentRow, IntentRow, LeaseRow, PageRow
from tests.api.serving import serving, until
from tests.api.test_store import action, journal_of

RUN = CliRunner()
ALICE = Person("alice", "approver")


class House:
    """An installation whose commands are run, and whose database can be looked into."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.environment = {"REDIS_ONCALL_DATA": str(folder / "data"), "DATABASE_URL": url}
        self.file = folder / "copy.tar.gz"

    @property
    def settings(self) -> Settings:
        return load_settings({**self.environment, "PATH": "/usr/bin:/bin"})

    def run(self, *words: str) -> Any:
        return RUN.invoke(app, list(words), env=self.environment)

    def does(self, *words: str) -> str:
        done = self.run(*words)
        assert done.exit_code == 0, done.output
        return str(done.output)

    def refuses(self, *words: str, code: int = 1) -> str:
        done = self.run(*words)
        assert done.exit_code == code, done.output
        return " ".join(done.output.split())

    def on(self, what: Callable[[Database], Any]) -> Any:
        """Awaits it, on the database, as a service with its keys would."""

        async def run() -> Any:
            database = Database(database_url(self.url))
            try:
                await migrate(database)
                await trail.begin(database, keyring(self.settings))
                return await what(database)
            finally:
                await note_head(self.settings, database)
                await database.close()

        return asyncio.run(run())


@pytest.fixture
def house(tmp_path: Path, url: str) -> House:
    return House(tmp_path, url)


async def at_the_gate(database: Database, target: str, *, approved: bool) -> str:
    """The incident's id; its one action is approved, or has one approval of two."""
    journal = await journal_of(database, target)
    await journal.set_status("investigating")
    needs: dict[str, Any] = {} if approved else {"risk": "R3", "approvals_required": 2}
    needs["expires_at"] = datetime.now(UTC) + timedelta(hours=4)
    await journal.set_plan(Plan(actions=[action(**needs)]))
    await journal.set_status("awaiting_approval")
    async with database.writing() as session:
        row = await incidents.lock(session, (await journal.incident()).id)
        judge = await judge_at(session, BUILT_IN, target, "production", incidents.now())
        await decisions.approve(session, row, [Choice("A1", "a" * 64)], ALICE, "go", judge)
        return row.id


async def being_applied(database: Database, target: str) -> str:
    incident_id = await at_the_gate(database, target, approved=True)
    lease = await leases.acquire(database, f"{target}-again", incident_id, "me")
    assert isinstance(lease, Lease)
    async with database.writing() as session:
        row = await incidents.lock(session, incident_id)
        await incidents.move(session, row, "remediating")
        kept = await session.get_one(ActionRow, (incident_id, 1, "A1"))
        kept.status, kept.body = "applying", {**kept.body, "status": "applying"}
        session.add(
            IntentRow(incident_id=incident_id, attempt=1, action_id="A1", intent={"phase": "apply"},
                      noted_at=incidents.now())
        )  # fmt: skip
    return incident_id


async def five_incidents(database: Database) -> dict[str, str]:
    async with database.writing() as session:
        waits = await incidents.open_incident(session, title="waits", target="queued")
        over = await incidents.open_incident(session, title="over", target="over")
        await incidents.move(session, over, "closed", "by hand")
    return {
        "approved": await at_the_gate(database, "approved", approved=True),
        "half": await at_the_gate(database, "half", approved=False),
        "applying": await being_applied(database, "applying"),
        "queued": waits.id,
        "closed": over.id,
    }


async def statuses(database: Database) -> dict[str, tuple[str, str]]:
    """By incident: its status and that of A1."""
    async with database.reading() as session:
        found = await session.execute(
            select(IncidentRow.id, IncidentRow.status, ActionRow.status).outerjoin(
                ActionRow, ActionRow.incident_id == IncidentRow.id
            )
        )
        return {row[0]: (row[1], row[2] or "") for row in found}


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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("api.worker.open_for_reading", AsyncMock())
        async with serving(
            create_app(settings(targets=targets, recordings=0), run_graph=look)
        ) as client:
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
