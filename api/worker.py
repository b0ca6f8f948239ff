"""The worker: takes a target's lease, runs the graph to its end or to the gate, lets go.

`api/sweeping.py` makes the queue a mere nudge: it finds every unfinished incident nobody works on.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import structlog
from sqlalchemy import update

from agent.context import Context, Target
from agent.incident import UNFINISHED, Incident
from agent.reaching import open_target
from agent.runbook import Library
from api import logs, metrics, recorder, shared_metrics, sweeping, tracing
from api.auditing import audited
from api.backups import backup_folder
from api.collecting import settle
from api.notifications import Notifier
from api.observed_connection import ObservedConnection
from api.own_worker import hearing
from api.past import Past
from api.queue import Nudges, Queue, open_queue, working
from api.resize_hook import resize_hook_of
from api.retention import Retention
from api.rotation import rotating
from api.run_telemetry import TELEMETRY, run_span, start_tracing
from api.service import Service
from api.settings import Settings
from api.sign_ins import SignIns
from api.stopping import RunStopped, Stopping, exit_in_time
from api.store import incidents, processes
from api.store.database import Database, database_url
from api.store.journal import ActionMoved, SqlJournal, Superseded
from api.store.leases import HEARTBEAT_SECONDS, Lease, LeaseLost, acquire, release, renew
from api.store.migrate import migrate, open_checkpoints
from api.store.tables import IncidentRow
from api.sweeping import Sweeper
from api.thresholds import Thresholds
from api.unusable import told_plainly
from api.watch import Watch
from api.worker_http import answering
from tools.connection import CommandFailure, Connection
from tools.known import keeping
from tools.opening import open_for_remedies

MOST_IDLE_RUNS = 5
"""Runs without progress before an incident is handed to a person."""
MOST_TRIED = 20
"""Incidents that one nudge may find taken by others at the same moment."""
RunGraph = Callable[[Context, Incident], Awaitable[None]]
"""From the checkpoint to the end or to the gate."""
OpenReading = Callable[[Target, Incident], Awaitable[Connection]]
"""The way to look at a target, for an incident. Raises CommandFailure."""
log = structlog.get_logger(__name__)


async def _open_live(target: Target, incident: Incident) -> Connection:
    return await open_target(target, incident)


@dataclass
class Worker:
    """Everything `advance` needs. One per process."""

    settings: Settings
    database: Database
    queue: Nudges
    run_graph: RunGraph
    library: Library
    reasoners: tuple[Any, Any]
    """The rules, and the model or None."""
    open_reading: OpenReading = _open_live
    holder: str = field(default_factory=processes.process_name)

    def __post_init__(self) -> None:
        self.targets = {target.name: target for target in self.settings.agent_targets()}
        self.backups = backup_folder(self.settings)
        self.stopping = Stopping()
        self._attended: dict[str, float] = {}
        """When this process last worked on an incident that still has work."""

    async def attend(self, nudged: str) -> None:
        """Get on with the most urgent incident that nobody is at, whichever the nudge was about.

        There is a nudge for each, so that the others' turn comes with the other nudges. One that
        was left with work a moment ago has to wait, unless it is this nudge's own.
        """
        async with self.database.reading() as session:
            clock = await self.database.clock(session)
            found = await incidents.unfinished(session, clock, MOST_TRIED)
        since = time.monotonic() - sweeping.NUDGE_AGAIN_SECONDS
        self._attended = {known: at for known, at in self._attended.items() if at > since}
        for incident_id in found:
            if incident_id == nudged or incident_id not in self._attended:
                self._attended[incident_id] = time.monotonic()
                if await self.advance(incident_id):
                    self._attended[incident_id] = time.monotonic()
                    return

    async def advance(self, incident_id: str) -> bool:
        """Get on with an incident, unless somebody is already at its target: then False."""
        with structlog.contextvars.bound_contextvars(incident=incident_id):
            try:
                return await self._advance(incident_id)
            except LeaseLost:
                log.warning("lease_lost")
            except RunStopped:
                pass  # said already: another process goes on from the checkpoint
            except (Superseded, ActionMoved) as moved:
                log.info("superseded", by=str(moved))
            except incidents.NoSuchIncident:
                log.warning("no_such_incident")
        return True

    async def _advance(self, incident_id: str) -> bool:
        if self.stopping.begun:
            return True
        async with self.database.reading() as session:
            incident = await incidents.load(session, incident_id)
            if not await incidents.works_left(session, incident_id):
                return False
        lease = await acquire(self.database, incident.target, incident_id, self.holder)
        if lease is None:
            return False  # whoever holds it looks again before it lets go, the sweeper after that
        try:
            with await run_span(self.database, incident):
                await self._under(lease)
        finally:
            await release(self.database, lease)
        # A decision may have come while the run was ending, when its nudge found the lease taken.
        async with self.database.reading() as session:
            incident = await incidents.load(session, incident_id)
            again = await incidents.works_left(session, incident_id)
        if again and incident.status == "awaiting_approval":
            await self.queue.nudge(incident_id)
        return True

    async def _under(self, lease: Lease) -> None:
        async with self.database.reading() as session:
            if not await incidents.works_left(session, lease.incident_id):
                return None  # whoever had the lease before us did it all
            incident = await incidents.load(session, lease.incident_id)
        journal = SqlJournal(
            self.database, incident.id, incident.attempt, lease, self.settings.config.model.day()
        )
        if not await self._may_start(lease):
            because = f"{MOST_IDLE_RUNS} runs in a row ended without progress; see the log"
            return await journal.hand_over(because)
        target = self.targets.get(incident.target)
        if target is None:
            return await journal.hand_over(f"{incident.target} is no longer configured")
        started = time.monotonic()
        try:
            with metrics.RUN_SECONDS.time():
                await self._run(target, journal, incident, lease)
            if incident.status in ("queued", "investigating"):
                await self._count(incident, time.monotonic() - started)
        except (LeaseLost, Superseded, ActionMoved, RunStopped):
            raise
        except Exception as error:
            # The run is at fault, not the incident: the sweeper tries again, a bounded number
            # of times, from the last checkpoint.
            log.exception("run_failed", error=type(error).__name__)
            metrics.RUNS_FAILED.inc()
        return None

    async def _count(self, before: Incident, seconds: float) -> None:
        async with self.database.reading() as session:
            after = await incidents.load(session, before.id)
        if after.attempt == before.attempt and after.status not in UNFINISHED:
            metrics.investigated(after, seconds)

    async def _run(
        self, target: Target, journal: SqlJournal, incident: Incident, lease: Lease
    ) -> None:
        """The graph, and a heartbeat beside it: without the lease it is stopped."""
        rules, model = self.reasoners
        # The connection first: at maxclients, or when memory is gone, a later one may be refused.
        connection = await self.open_reading(target, incident)
        # A run that goes on after a crash or an approval saw only a part: that is no recording.
        most = self.settings.config.recordings
        begins = most > 0 and incident.status == "queued"
        seen = ObservedConnection(connection, target.name, "investigation")
        recording = recorder.recording_of(seen, target, incident) if begins else None
        past = Past(self.settings, self.database, target.name)
        context = Context(
            target=target,
            connection=recording or seen,
            open_for_remedies=lambda: self._open_for_remedies(target, connection),
            journal=journal,
            library=self.library,
            rules=rules,
            model=model,
            policy=self.settings.policy,
            backups=self.backups,
            resize_hook=resize_hook_of(self.settings, target.name),
            known=keeping(recording.recording, past.known) if recording else past.known,
            stop_reason=self.stopping.reason,
            telemetry=TELEMETRY,
        )
        run = asyncio.ensure_future(self.run_graph(context, incident))
        heart = asyncio.create_task(self._beat(lease))
        try:
            with self.stopping.holding(run, journal):
                await asyncio.wait({run, heart}, return_when=asyncio.FIRST_COMPLETED)
                if heart.done() and not run.done():
                    heart.result()  # raises LeaseLost
                await run
            if recording is not None:
                await recorder.keep(self.database, recording, incident, most)
        finally:
            await _ended(run, heart)
            await _ended(*context.looking)
            await connection.close()

    async def _open_for_remedies(self, target: Target, seen: Connection) -> Connection:
        if self.settings.policy.dry_run:
            raise CommandFailure(
                "refused", "opening a connection to write", "dry run: nothing is written"
            )
        # Of a cluster: to the node that is looked at.
        opened = await open_for_remedies(target.remedy_url, node=seen.node)
        return ObservedConnection(opened, target.name, "remedy")

    async def _beat(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            await renew(self.database, lease)

    async def _may_start(self, lease: Lease) -> bool:
        """Count this run; too many without any progress between them are enough."""
        async with self.database.writing() as session:
            runs = await session.scalar(
                update(IncidentRow)
                .where(IncidentRow.id == lease.incident_id)
                .values(idle_runs=IncidentRow.idle_runs + 1)
                .returning(IncidentRow.idle_runs)
            )
        return int(runs or 0) <= MOST_IDLE_RUNS


async def _ended(*tasks: "asyncio.Future[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _run_with(checkpointer: Any, database: Database) -> RunGraph:
    from agent.graph import build_graph
    from agent.run import advance
    from api.store.fenced_checkpoints import FencedCheckpoints

    async def run(context: Context, incident: Incident) -> None:
        journal = cast("SqlJournal", context.journal)
        fenced = FencedCheckpoints(checkpointer, database, journal.lease)
        await advance(build_graph(fenced), context, incident)

    return run


@asynccontextmanager
async def working_on(
    settings: Settings,
    database: Database,
    queue: Queue,
    docket: Any,
    run_graph: RunGraph | None = None,
    open_reading: OpenReading | None = None,
) -> AsyncIterator[Worker]:
    """A worker and its sweeper, in the background, until the block ends."""
    from agent.runbook_library import load_library
    from api.reasoning import reasoners

    notifier, library = Notifier(settings), load_library(settings.runbooks)
    database.routes = notifier.routes
    async with open_checkpoints(database) as checkpointer:
        run_graph = run_graph or _run_with(checkpointer, database)
        worker = Worker(
            settings, database, queue, run_graph, library, reasoners(settings, library),
            open_reading or _open_live,
        )  # fmt: skip
        sweeper = Sweeper(settings, database, queue, worker.holder, worker.advance)
        async with working(queue, docket, worker.attend, settings.workers):
            beside = [
                asyncio.create_task(sweeper.forever()),
                asyncio.create_task(notifier.send_forever(database)),
                asyncio.create_task(
                    Retention(settings, database, checkpointer, worker.holder).forever()
                ),
            ]
            service = Service(settings, database, queue, library, settings.agent_targets())
            thresholds = Thresholds(service)
            beside.append(asyncio.create_task(thresholds.end_unwatched()))
            if settings.config.watch.enabled:
                watch = Watch(settings, database, worker.holder, thresholds)
                beside.append(asyncio.create_task(watch.forever()))
            try:
                yield worker
            finally:
                await worker.stopping.stop()
                with contextlib.suppress(Exception):  # the database may be away: it ends anyway
                    await processes.say_goodbye(database, worker.holder)
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
                await sweeper.unqueued.close()


@asynccontextmanager
async def _auditing(
    settings: Settings, database: Database, sign_ins: SignIns
) -> AsyncIterator[None]:
    """On tables of this version, until the block ends. Raises TablesRefused, WrongKey."""
    async with contextlib.AsyncExitStack() as stack:
        with told_plainly(settings):
            migrated = await migrate(database)
            await stack.enter_async_context(
                audited(settings, database, "worker", migrated, sign_ins)
            )
        yield


async def run_worker(
    settings: Settings,
    run_graph: RunGraph | None = None,
    open_reading: OpenReading | None = None,
    *,
    nudged: bool = False,
) -> None:
    """A worker on its own, until SIGTERM or SIGINT.

    `nudged`: it is that of a `serve`, which tells it of incidents through its standard input.
    """
    logs.configure()
    start_tracing(settings)
    database = Database(database_url(settings.database_url.get_secret_value()))
    stopped = asyncio.Event()

    def stop() -> None:
        exit_in_time()
        stopped.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    sign_ins = SignIns()
    try:
        url = settings.queue.get_secret_value()
        async with (
            _auditing(settings, database, sign_ins),
            rotating(settings, database),
            open_queue(url, database) as (queue, docket),
            answering(settings, database, queue, sign_ins),
            working_on(settings, database, queue, docket, run_graph, open_reading),
            hearing(queue, stop) if nudged else contextlib.nullcontext(),
        ):
            settle()
            await stopped.wait()
    finally:
        await database.close()
        tracing.close()
        if nudged and stopped.is_set():  # with the `serve` that was asked for them
            shared_metrics.forget()
