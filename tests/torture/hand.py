"""One executor process: the real worker and journal, and a hand that strikes it at one step."""

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy.exc import OperationalError

from agent import executor, rollback, work
from agent.context import Context
from agent.incident import Action, Incident
from agent.runbook import Library
from api import worker as workers
from api.config import Config
from api.settings import Settings
from api.store import incidents, leases, trail
from api.store.database import Database, database_url
from tests.api.trails import KEYS
from tools.connection import LiveConnection
from tools.permissions import READ_WRITE

LEASE_SECONDS, HEARTBEAT_SECONDS = 1.5, 0.2
PATIENCE_SECONDS = 5.0
COMMAND_SECONDS = 0.6
LONGEST_SECONDS = 40.0
CALLS = "calls"
"""The file that says how often a run that came to its end called the journal."""
OPEN = ("approved", "applying", "applied", "rolling_back")


@dataclass(frozen=True)
class Order:
    """What a process is to do, and what strikes it."""

    folder: str
    incident: str
    url: str
    """Of the server, for looking."""
    through: str
    """Of the proxy, for writing."""
    undo: bool
    """What was applied is undone, as if it had not helped."""
    at: int = -1
    """The call of the journal at which it is struck, from 0; -1: none."""
    after: bool = False
    """When the call is durable, instead of before it."""
    by: int = signal.SIGKILL


class Struck:
    """The journal, counting its calls."""

    def __init__(self, journal: Any, order: Order) -> None:
        self._journal, self._order = journal, order
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._journal, name)
        if name not in ("save_action", "note_progress", "intent", "unsettled", "incident"):
            return found

        async def called(*given: Any, **named: Any) -> Any:
            number, self.calls = self.calls, self.calls + 1
            if number == self._order.at and not self._order.after:
                os.kill(os.getpid(), self._order.by)
            answer = await found(*given, **named)
            if number == self._order.at and self._order.after:
                os.kill(os.getpid(), self._order.by)
            return answer

        return called


class NoQueue:
    """Nudges nobody: whoever looks on starts the next process."""

    async def nudge(self, *_: str, **__: Any) -> None:
        """Nothing."""


def settings_of(folder: str, url: str) -> Settings:
    """An installation in a folder, with one target."""
    target = {"name": "cache-1", "url": url, "remedy_url": url, "environment": "staging"}
    return Settings(
        config=Config.model_validate({"targets": [target], "tokens": []}),
        database_url=SecretStr(f"sqlite:///{folder}/oncall.db"),
        queue=SecretStr("memory://torture"),
        data_folder=Path(folder),
    )


async def open_database(folder: str) -> Database:
    """The installation's, as every process opens it."""
    database = Database(database_url(f"sqlite:///{folder}/oncall.db"))
    while True:
        try:
            await trail.begin(database, KEYS)
        except OperationalError:  # frozen inside of a transaction, one keeps SQLite's lock
            await asyncio.sleep(0.1)
        else:
            return database


def work_as(order: Order) -> None:
    """Work until the action has its end, or until struck. The main function of a process."""
    leases.LEASE_SECONDS = LEASE_SECONDS
    vars(workers)["HEARTBEAT_SECONDS"] = HEARTBEAT_SECONDS
    work.PATIENCE_SECONDS = PATIENCE_SECONDS
    with suppress(asyncio.CancelledError):
        asyncio.run(_work(order))


async def _work(order: Order) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    settings = settings_of(order.folder, order.url)
    database = await open_database(order.folder)

    async def run(context: Context, incident: Incident) -> None:
        await _carry_out(context, incident, order)

    worker = workers.Worker(
        settings,
        database,
        NoQueue(),  # type: ignore[arg-type]
        run,
        Library(runbooks=[]),
        (None, None),
    )
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            while (await action_of(database, order.incident)).status in OPEN:
                try:
                    await worker.advance(order.incident)
                except OperationalError as error:  # the queue reports it and the sweeper nudges
                    print("again:", type(error.orig).__name__)  # noqa: T201
                await asyncio.sleep(0.05)
    finally:
        await database.close()


async def _carry_out(context: Context, incident: Incident, order: Order) -> None:
    async def through() -> LiveConnection:
        connection = LiveConnection(
            order.through, READ_WRITE, reconnects=0, command_seconds=COMMAND_SECONDS
        )
        try:
            await connection.open()
        except BaseException:
            await connection.close()
            raise
        return connection

    journal = Struck(context.journal, order)
    context = replace(
        context,
        journal=journal,
        open_for_remedies=through,
        policy=replace(context.policy, verify_for=timedelta(0)),
    )
    action = await executor.apply(context, incident.plan.actions[0])
    if action.status == "applied" and order.undo:
        action = await work.save(context, action, status="rolling_back", comment="for the test")
    if action.status == "rolling_back":
        await rollback.roll_back(context, action, watch_seconds=0)
    elif action.status == "applied":  # kept as its end: what helps is not judged here
        verified = action.comment or "applied"
        await work.save(context, action, status="verified", comment=verified)
    (Path(order.folder) / CALLS).write_text(str(journal.calls))


async def action_of(database: Database, incident_id: str) -> Action:
    """The one action, as it stands."""
    async with database.reading() as session:
        return (await incidents.load(session, incident_id)).plan.actions[0]
