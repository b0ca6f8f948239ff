"""An installation on a database of its own, its commands, and five incidents in it."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from typer.testing import CliRunner

from agent.incident import Plan
from agent.policy import BUILT_IN
from api.auditing import keyring, note_head
from api.cli.main import app
from api.settings import Settings, load_settings
from api.store import decisions, incidents, leases, trail
from api.store.audit import Person
from api.store.database import Database, database_url
from api.store.decisions import Choice
from api.store.judge import judge_at
from api.store.leases import Lease
from api.store.migrate import migrate
from api.store.tables import ActionRow, IncidentRow, IntentRow
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
