"""One process of an installation: the real command, which takes its samples a little faster.

Every write of a run also notes, in the same transaction, under which lease it was made: so an
observer sees from the order of those notes whether two runs of a target ever interleaved.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import text

from agent import graph, run, runbook_library
from api import app, worker
from api.cli import main as commands
from api.cli import service
from api.store import journal
from tests.forked_worker import fork_workers
from tools.connection import LiveConnection

LONGEST_LOOK_SECONDS = 0.2
"""Two samples of a rate, elsewhere 5 s apart."""
NOTES = "chaos_writes"
LOADED = (app, commands, graph, run, runbook_library, service, worker)
"""What a process needs is there when it is forked: it begins in a fraction of a second."""


def main(arguments: Sequence[str], environment: Mapping[str, str], log: str) -> None:
    """Run `redis-oncall` with these arguments until it ends or is killed."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(handle, number)
    os.environ.clear()
    os.environ.update(environment)
    _hurry()
    _note_writes()
    if "serve" in arguments and "--no-worker" not in arguments:
        fork_workers()
    commands.app(list(arguments))


def _hurry() -> None:
    async def wait(_: LiveConnection, seconds: float) -> None:
        await asyncio.sleep(min(seconds, LONGEST_LOOK_SECONDS))

    LiveConnection.wait = wait  # type: ignore[method-assign,assignment]


def _note_writes() -> None:
    plain: Callable[..., Any] = journal.SqlJournal._writing
    note = text(
        f"INSERT INTO {NOTES} (target, fencing, incident_id, attempt, status) "
        "VALUES (:target, :fencing, :incident_id, :attempt, :status)"
    )

    @asynccontextmanager
    async def writing(self: Any, *, acting: bool = False) -> AsyncIterator[Any]:
        async with plain(self, acting=acting) as (session, row):
            yield session, row
            of_lease = {"target": self.lease.target, "fencing": self.lease.fencing}
            of_run = {"incident_id": row.id, "attempt": row.attempt, "status": row.status}
            await session.execute(note, of_lease | of_run)

    journal.SqlJournal._writing = writing  # type: ignore[method-assign]
