"""What a worker does every few seconds besides: it makes the queue a mere nudge.

Each part is tried every time, whatever became of the others.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

import structlog

from api.alerts.placing import place_of
from api.alerts.silencing import wake
from api.backups import backup_folder
from api.queue import Nudges
from api.settings import Settings
from api.store import audit, closing, decisions, incidents, looks, processes
from api.store.database import Database
from api.store.place import Place
from api.unqueued import Unqueued

SWEEP_SECONDS = 2.0
SWEEP_BACKUPS_SECONDS = 600.0
NUDGE_AGAIN_SECONDS = 5.0
SAY_ALIVE_SECONDS = 5.0
log = structlog.get_logger(__name__)


class Sweeper:
    """The sweeps of one worker process, whose `advance` gets on with an incident."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        queue: Nudges,
        holder: str,
        advance: Callable[[str], Awaitable[object]],
    ) -> None:
        self._settings = settings
        self._database = database
        self._queue = queue
        self._holder = holder
        self._targets = settings.agent_targets()
        self._windows = settings.config.silencing()
        self._backups = backup_folder(settings)
        self._nudged: dict[str, float] = {}
        self._said_alive = self._backups_swept = -math.inf
        self._has_woken = False
        self.unqueued = Unqueued(advance, settings.workers)

    async def forever(self) -> None:
        """Every few seconds; the database being away for a while is survived."""
        while True:
            await self.sweep()
            await asyncio.sleep(SWEEP_SECONDS)

    async def sweep(self) -> None:
        """Everything once: first of all that this process lives, last what is left to do."""
        failed = False
        for part in (
            self._say_alive, self._end, self._look_again, self._wake, self._lapse, self._nudge,
            self._sweep_backups,
        ):  # fmt: skip
            try:
                await part()
            except Exception:
                # If the database is away, all of them fail alike: one trace is enough.
                name = part.__name__.removeprefix("_")
                log.error("sweep_failed", part=name, exc_info=not failed)  # noqa: TRY400
                failed = True

    async def _say_alive(self) -> None:
        if time.monotonic() - self._said_alive > SAY_ALIVE_SECONDS:
            await processes.say_alive(self._database, self._holder, "worker")
            self._said_alive = time.monotonic()

    async def _end(self) -> None:
        """Incidents whose alerts are all over."""
        await closing.close_due(self._database)

    async def _look_again(self) -> None:
        """At incidents that another alert joined."""
        await self._queue.nudge(*await looks.begin_due(self._database, self._place))

    def _place(self, target: str) -> Place:
        named = next((known for known in self._targets if known.name == target), None)
        return place_of(named, self._targets) if named else Place(target)

    async def _wake(self) -> None:
        """What was silenced, and is not any more; after a start perhaps by no window any more."""
        first = not self._has_woken
        woken = await wake(self._database, self._targets, self._windows, everything=first)
        self._has_woken = True
        await self._queue.nudge(*woken)

    async def _lapse(self) -> None:
        """What nobody approved in time."""
        async with self._database.writing() as session:
            await decisions.expire(session)

    async def _nudge(self) -> None:
        """The most urgent of the unattended incidents.

        As many as there are slots here: a nudge is taken for the most urgent anyway, and the queue
        stays short. Those waiting in it are not lost: they are not nudged again at once.
        """
        async with self._database.reading() as session:
            found = await incidents.unfinished(session, await self._database.clock(session))
        since = time.monotonic() - NUDGE_AGAIN_SECONDS
        due = [known for known in found if self._nudged.get(known, -math.inf) < since]
        due = due[: self._settings.workers]
        self._nudged = {known: self._nudged.get(known, -math.inf) for known in found}
        self._nudged |= dict.fromkeys(due, time.monotonic())
        if not await self._queue.nudge(*due):
            self.unqueued.take(due)

    async def _sweep_backups(self) -> None:
        """Copies that remedies made, and that are kept for long enough."""
        if time.monotonic() - self._backups_swept <= SWEEP_BACKUPS_SECONDS:
            return
        self._backups_swept = time.monotonic()
        if gone := await asyncio.to_thread(self._backups.sweep):
            log.info("backups_expired", deleted=gone)
            async with self._database.writing() as session:
                who = audit.service("service")
                await audit.note(session, who, "backups_deleted", deleted=gone)
