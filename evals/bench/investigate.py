"""`bench investigate`: how long a diagnosis takes, and which share of that is ours.

Two samples at least five seconds apart and the server's own time are not ours; the rest is.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from agent.context import Context, Target
from agent.incident import Incident
from agent.memory_journal import MemoryJournal
from agent.rules import Rules
from agent.run import investigate
from agent.runbook_library import load_library
from evals import servers
from evals.bench.options import Options, Tell, machine
from evals.faults import FAULTS
from tools.capture import SAMPLE_SECONDS
from tools.connection import Argument, Command, CommandFailure, Connection, Reply
from tools.opening import open_for_reading

FAULT = "missing-ttl-prefix-leak"
RUNS = 3
SCALE = 1.5
"""About 100 MB."""


class TimedConnection:
    """Counts the time in which at least one command or wait is under way."""

    def __init__(self, live: Connection) -> None:
        self.node = live.node
        self.not_ours = 0.0
        """Seconds spent on the server's answers or on waiting between samples."""
        self.commands = 0
        self._live = live
        self._under_way = 0
        self._since = 0.0

    @contextmanager
    def _away(self) -> Iterator[None]:
        if self._under_way == 0:
            self._since = time.perf_counter()
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            if self._under_way == 0:
                self.not_ours += time.perf_counter() - self._since

    async def execute(self, *command: Argument) -> Reply:
        """Run one command."""
        self.commands += 1
        with self._away():
            return await self._live.execute(*command)

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        """Run commands in one round trip."""
        self.commands += len(commands)
        with self._away():
            return await self._live.execute_many(commands)

    async def at(self, address: str) -> Connection:
        """Another node: its time is not counted."""
        return await self._live.at(address)

    async def wait(self, seconds: float) -> None:
        """Sleep."""
        with self._away():
            await self._live.wait(seconds)

    def now(self) -> datetime:
        """Now."""
        return self._live.now()

    async def close(self) -> None:
        """Close the link."""
        await self._live.close()


async def bench_investigate(
    options: Options, tell: Tell, *, scale: float = SCALE, build: str = "valkey-9.1"
) -> dict[str, Any]:
    """Investigate one faulty server several times. Raises LookupError if the build is missing."""
    library = load_library()
    fault = FAULTS[FAULT]
    measured = []
    with (
        servers.running(build, *fault.arguments_for(build)) as server,
        fault.prepare(server, seed=1, scale=scale),
    ):
        for number in range(options.runs or RUNS):
            tell(f"run {number + 1}")
            connection = TimedConnection(await open_for_reading(server.url))
            try:
                measured.append(await _once(connection, library, server.url))
            finally:
                await connection.close()
    ours = statistics.median(run["ours_seconds"] for run in measured)
    total = statistics.median(run["total_seconds"] for run in measured)
    return {
        "name": "investigate",
        "runs": measured,
        "ratios": {
            "ours_over_total": round(ours / total, 4),
            "total_over_sample_wait": round(total / SAMPLE_SECONDS, 4),
        },
        "machine": machine(build),
    }


async def _once(connection: TimedConnection, library: Any, url: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    journal = MemoryJournal(
        Incident(
            id="bench", status="queued", severity="warning", title="Redis memory is high",
            target="bench", question="Redis memory is high", opened_at=now, updated_at=now,
        )
    )  # fmt: skip
    context = Context(
        target=Target("bench", url),
        connection=connection,
        open_for_remedies=_refuse,
        journal=journal,
        library=library,
        rules=Rules(library),
    )
    started, cpu = time.perf_counter(), time.process_time()
    incident = await investigate(context, await journal.incident())
    total = time.perf_counter() - started
    return {
        "total_seconds": round(total, 3),
        "not_ours_seconds": round(connection.not_ours, 3),
        "ours_seconds": round(total - connection.not_ours, 3),
        "our_cpu_seconds": round(time.process_time() - cpu, 3),
        "commands": connection.commands,
        "root_cause": incident.diagnosis.root_cause if incident.diagnosis else "none",
    }


async def _refuse() -> Connection:
    raise CommandFailure("not_allowed", "open for remedies", "a benchmark writes nothing")
