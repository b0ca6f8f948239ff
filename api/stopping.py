"""Ending in order, within a bound.

A run that only looks is stopped at once: its checkpoint continues it elsewhere. One that has begun
to write to a server may end what it does; after a while a remedy of many batches ends after its
present one; at the bound it is cut off, and the next process settles it by reading the target.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import structlog

HTTP_SECONDS = 5
"""For requests under way. Streams of events end at once."""
BATCH_AFTER_SECONDS = 8.0
"""Until then a remedy under way may end as a whole; then after its present batch."""
WRITES_SECONDS = 18.0
"""Until then what was begun has to be over."""
CUT_SECONDS = 2.0
"""For runs that were cut off to let go of their target."""
PROCESS_SECONDS = 30.0
"""After the signal the process is over, whatever hangs."""
LOOK_SECONDS = 0.05
OVERDUE = 75
"""Exit code of a process that did not end in time."""
STOPPED = "redis-oncall is being stopped; the rest was not begun"
log = structlog.get_logger(__name__)


class Writer(Protocol):
    """Knows whether something is being written to a target."""

    @property
    def writing(self) -> bool:
        """An intent is noted and its outcome is not."""


class RunStopped(Exception):
    """The process ends; the run goes on in another one."""


class Stopping:
    """The runs of this process, and whether they have to end."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._runs: dict[asyncio.Future[None], Writer] = {}

    @property
    def begun(self) -> bool:
        """Nothing new may start."""
        return self._since is not None

    def reason(self) -> str:
        """Why a remedy of many batches ends after its present one; empty: it goes on."""
        since = self._since
        return "" if since is None or time.monotonic() - since < BATCH_AFTER_SECONDS else STOPPED

    @contextmanager
    def holding(self, run: "asyncio.Future[None]", writer: Writer) -> Iterator[None]:
        """For the block, `run` is one of those that have to end. Raises RunStopped."""
        if self.begun:
            run.cancel()
            raise RunStopped
        self._runs[run] = writer
        try:
            yield
        except asyncio.CancelledError:
            if self.begun and run.cancelled():
                raise RunStopped from None
            raise
        finally:
            del self._runs[run]

    async def stop(self) -> None:
        """End every run, within WRITES_SECONDS and CUT_SECONDS. Repeatable."""
        since = self._since = self._since or time.monotonic()
        cut: set[asyncio.Future[None]] = set()
        while self._runs and time.monotonic() - since < WRITES_SECONDS + CUT_SECONDS:
            over = time.monotonic() - since >= WRITES_SECONDS
            for run, writer in self._runs.items():
                if run not in cut and (over or not writer.writing):
                    cut.add(run)
                    log.info("run_stopped", in_the_middle=writer.writing)
                    run.cancel()
            await asyncio.sleep(LOOK_SECONDS)


def exit_in_time(seconds: float = PROCESS_SECONDS) -> None:
    """From now on the process has so long left."""

    def overdue() -> None:
        sys.stderr.write('{"event": "stop_overdue", "level": "error"}\n')
        sys.stderr.flush()
        os._exit(OVERDUE)

    timer = threading.Timer(seconds, overdue)
    timer.daemon = True
    timer.start()
    # Where Python itself is ending, no thread runs any more: the kernel's own clock does.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds + 1.0)
