"""The queue: Docket. Only a nudge: whatever is lost in it, the sweeper finds again."""

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import Context
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import structlog

from api.store import incidents
from api.store.database import Database

if TYPE_CHECKING:
    from docket import Docket, Worker

REDELIVERY_SECONDS = 10
NUDGE_SECONDS = 2.0
AWAY_SECONDS = 2.0
"""Whom nobody reached a moment ago is not tried again: not every alert shall wait for it."""
MOST_UNANNOUNCED = 10_000
ANNOUNCED_TOGETHER = 50
"""Within NUDGE_SECONDS, also where the queue is slow."""
RESTART_SECONDS = 1.0
KNOWN_SECONDS = 60
NAME = "redis-oncall"
IN_MEMORY = "memory:"
"""How the URL of a queue begins that only its own process has."""
log = structlog.get_logger(__name__)


class Nudges(Protocol):
    """Whom to ask to get on with an incident."""

    async def nudge(self, *incident_ids: str, jobs: Mapping[str, int] | None = None) -> bool:
        """Never raises: what is committed must not be refused. False: the sweeper finds it.

        `jobs`: the numbers of their next jobs, where they were read under the incidents' locks.
        """

    async def ping(self) -> None:
        """Raises if it cannot be reached."""


class Queue:
    """Asks workers to get on with an incident."""

    def __init__(self, docket: "Docket", database: Database) -> None:
        self._docket = docket
        self._database = database
        self._away_until = -math.inf

    async def nudge(self, *incident_ids: str, jobs: Mapping[str, int] | None = None) -> bool:
        """Enqueue `advance` for each. Never raises: what is committed must not be refused.

        Nor does it wait long: whom it does not reach (False), the sweeper finds later.
        """
        if time.monotonic() < self._away_until:
            return False
        try:
            async with asyncio.timeout(NUDGE_SECONDS):
                if jobs is None:
                    async with self._database.reading() as session:
                        jobs = await incidents.next_jobs(session, incident_ids)
                for incident_id in incident_ids:
                    await self._enqueue(incident_id, jobs.get(incident_id, 0))
        except Exception as error:  # noqa: BLE001 - whatever it is, the incident is committed
            log.warning("queue_unavailable", incidents=len(incident_ids), error=repr(error))
            self._away_until = time.monotonic() + AWAY_SECONDS
            return False
        return True

    async def _enqueue(self, incident_id: str, job: int) -> None:
        # The queue drops a key it knows. While a job waits, further nudges are the same one, so
        # a storm cannot fill the queue; as soon as it has started, they are another. So are they
        # after a while: a key whose job got lost must not silence the incident.
        key = f"{incident_id}:{job}:{int(time.time() // KNOWN_SECONDS)}"
        await self._docket.add("advance", key=key)(incident_id)

    async def started(self, incident_id: str) -> None:
        """A job has started: what happens from now on asks for another one."""
        async with self._database.writing() as session:
            await incidents.next_nudge(session, incident_id)

    async def ping(self) -> None:
        """Raises if the queue cannot be reached."""
        async with asyncio.timeout(2), self._docket.redis() as redis:
            await redis.xlen(self._docket.stream_key)


class Announcements:
    """Nudges that nobody waits for: who sent an alert has its answer when that is committed."""

    def __init__(self, queue: Nudges) -> None:
        self._queue = queue
        self._jobs: dict[str, int] = {}
        self._sender: asyncio.Task[None] | None = None

    def announce(self, jobs: Mapping[str, int]) -> None:
        """Incidents that wait for a worker, with the numbers of their next jobs; soon.

        Beyond MOST_UNANNOUNCED they are dropped: the sweeper finds them.
        """
        if len(self._jobs) < MOST_UNANNOUNCED:
            self._jobs.update(jobs)
        if self._jobs and self._sender is None:
            # Of nobody's request: neither its log lines nor its jobs are of the first who asked.
            self._sender = asyncio.create_task(self._send(), context=Context())

    async def _send(self) -> None:
        try:
            while self._jobs:
                some = dict(itertools.islice(self._jobs.items(), ANNOUNCED_TOGETHER))
                for incident_id in some:
                    del self._jobs[incident_id]
                await self._queue.nudge(*some, jobs=some)
        finally:
            self._sender = None


@asynccontextmanager
async def open_queue(
    url: str, database: Database, name: str = NAME
) -> AsyncIterator["tuple[Queue, Docket]"]:
    """Connect to the queue."""
    from docket import Docket  # 8 MB, which a `serve` with its own worker does without

    async with Docket(name=name, url=url) as docket:
        docket.register(_somewhere_else, names=["advance"])
        yield Queue(docket, database), docket


async def _somewhere_else(incident_id: str) -> None:
    """Stands for the job in a process that only enqueues it."""
    raise RuntimeError(f"no worker runs here: {incident_id}")


@asynccontextmanager
async def working(
    queue: Queue, docket: "Docket", attend: Callable[[str], Awaitable[None]], concurrency: int
) -> AsyncIterator[None]:
    """Run jobs in the background, so many at a time, until the block ends."""
    from docket import Worker

    async def job(incident_id: str) -> None:
        await queue.started(incident_id)
        await attend(incident_id)

    docket.register(job, names=["advance"])
    async with Worker(
        docket,
        concurrency=concurrency,
        redelivery_timeout=timedelta(seconds=REDELIVERY_SECONDS),
        reconnection_delay=timedelta(seconds=RESTART_SECONDS),
    ) as worker:
        task = asyncio.create_task(_run_forever(worker))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _run_forever(worker: "Worker") -> None:
    """It survives an unreachable queue by itself; what else it raises must not end the work."""
    while True:
        try:
            return await worker.run_forever()  # cancelled, it returns
        except Exception:
            log.exception("queue_worker_failed")
        await asyncio.sleep(RESTART_SECONDS)
