"""The worker of a `serve`: a process of its own, beside it and no longer than it.

Python runs one thread of a process at a time. In one process an alert would wait for whatever the
investigations compute; so, and on one core more, it does not.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from api import shared_metrics
from api.queue import Nudges
from api.readiness import NotReady
from api.stopping import CUT_SECONDS, WRITES_SECONDS

RESTART_SECONDS = 1.0
LONGEST_RESTART_SECONDS = 30.0
"""One that ends as soon as it has begun is started ever more seldom, down to this."""
STOP_SECONDS = WRITES_SECONDS + CUT_SECONDS + 2.0
"""What the worker takes itself to let go of its runs, and a little."""
MOST_UNREAD = 65_536
"""Bytes of nudges it may leave unread before more are dropped."""
_HANG_UP = "SIGHUP"
"""Told in place of an incident. As a signal it would end one that has only begun to start."""
_ROOT = Path(__file__).resolve().parents[1]
log = structlog.get_logger(__name__)


class OwnWorker:
    """Keeps it running, and nudges it through its standard input, which ends when we do."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self.process: Process | None = None

    async def nudge(self, *incident_ids: str, jobs: Mapping[str, int] | None = None) -> bool:
        """Ask it to get on with each. Never raises, never waits: the sweeper finds the rest."""
        return self._tell(*incident_ids)

    def hang_up(self) -> None:
        """Ask it to read the tokens again; should it not hear, it looks at the file itself."""
        self._tell(_HANG_UP)

    def _tell(self, *lines: str) -> bool:
        pipe = self.process.stdin if self.process is not None else None
        if pipe is None or pipe.transport.is_closing():
            return False
        if pipe.transport.get_write_buffer_size() > MOST_UNREAD:
            return False
        pipe.write("".join(f"{line}\n" for line in lines).encode())
        return True

    async def ping(self) -> None:
        """Raises NotReady if it does not run."""
        if self.process is None or self.process.returncode is not None:
            raise NotReady("the worker beside this process has ended; it is started again")

    async def start(self) -> None:
        """Raises OSError if there is no room for another process."""
        # As this one was: the same code, whatever lies in the present folder.
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        arenas = os.environ.get("MALLOC_ARENA_MAX", "2")  # glibc's, for a dozen threads: -9 MB
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", *self._command,
            stdin=PIPE, env=os.environ | {"PYTHONPATH": path, "MALLOC_ARENA_MAX": arenas},
            start_new_session=True,  # Ctrl-C is ours; its input ends when we stop
        )  # fmt: skip
        log.info("worker_started", pid=self.process.pid)

    async def keep(self) -> None:
        """Start it again whenever it ends."""
        pause = RESTART_SECONDS
        while True:
            began = time.monotonic()
            if self.process is not None:
                code = await self.process.wait()
                # 0: it was told to, perhaps as all of us are (systemd).
                (log.error if code else log.info)("worker_ended", code=code)
                self._count(self.process.pid)
            if time.monotonic() - began > LONGEST_RESTART_SECONDS:
                pause = RESTART_SECONDS
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_RESTART_SECONDS)
            try:
                await self.start()
            except OSError:
                log.exception("worker_not_started")
                self.process = None

    def _count(self, pid: int) -> None:
        try:
            shared_metrics.add_up(pid)
        except Exception:  # it is started again whatever its files are like
            log.exception("metrics_not_added_up")

    async def stop(self) -> None:
        """In order, else by force."""
        if (process := self.process) is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            log.error("worker_killed", after=STOP_SECONDS)  # noqa: TRY400 - nothing else to tell
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@asynccontextmanager
async def worker_beside(command: Sequence[str]) -> AsyncIterator[OwnWorker]:
    """It runs until the block ends. Raises OSError."""
    worker = OwnWorker(command)
    await worker.start()
    keeping = asyncio.create_task(worker.keep())
    try:
        yield worker
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await worker.stop()


@asynccontextmanager
async def hearing(queue: Nudges, orphaned: Callable[[], None]) -> AsyncIterator[None]:
    """In the worker: hand on what is told; once nobody is there to tell, `orphaned`."""
    task = asyncio.create_task(_hear(queue, orphaned))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _hear(queue: Nudges, orphaned: Callable[[], None]) -> None:
    told = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    try:
        while line := await told.readline():
            if (what := line.decode().strip()) == _HANG_UP:
                signal.raise_signal(signal.SIGHUP)
            else:
                await queue.nudge(what)
    finally:
        pipe.close()
        orphaned()
