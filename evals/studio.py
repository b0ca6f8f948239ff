"""Recording many takes side by side: each in a process of its own, so that none spoils another.

A take is made in a folder of its own and moved into place whole, recording and truth together.
"""

import asyncio
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from evals import servers
from evals.record import Take, fault_of, record, takes
from evals.truth import INCIDENTS, RECORDING_SUFFIX, SUITES, TRUTH_SUFFIX
from tools.capture import CAPTURE_BYTES

ATTEMPTS = 2
TAKE_SECONDS = 180.0
"""Longest a take may last: causing the fault (20 s a wait), and the capture."""
_END_SECONDS = 15.0
"""To stop its servers in, once it is told to."""
_OF_A_TAKE = re.compile(
    rf"[a-z]+-[a-z]+-[0-9a-f]{{2}}({re.escape(RECORDING_SUFFIX)}|{re.escape(TRUTH_SUFFIX)})"
)

Outcome = Literal["recorded", "kept", "left out", "failed"]


@dataclass(frozen=True)
class Made:
    """What became of a take."""

    take: Take
    outcome: Outcome
    bytes: int = 0
    why: str = ""


@dataclass(frozen=True)
class Session:
    """A whole recording session."""

    made: tuple[Made, ...]
    """In the order of the takes."""
    leftovers: tuple[Path, ...]
    """Files of recordings that no take claims any more."""

    @property
    def failed(self) -> list[Made]:
        """Takes that could not be made although everything they need is here."""
        return [made for made in self.made if made.outcome == "failed"]


def record_all(
    wanted: Sequence[Take],
    *,
    again: bool = False,
    jobs: int = 2,
    directory: Path = INCIDENTS,
    on_done: Callable[[Made], None] | None = None,
) -> Session:
    """Make these takes, `jobs` at a time. One that fails is tried once more, and ends no other."""
    directory.mkdir(parents=True, exist_ok=True)
    made: dict[Take, Made] = {}
    interrupted = threading.Event()
    with _crew(jobs, interrupted) as crew:
        started = {crew.submit(_make, take, directory, again, interrupted): take for take in wanted}
        for future in as_completed(started):
            made[started[future]] = result = future.result()
            if on_done is not None:
                on_done(result)
    return Session(tuple(made[take] for take in wanted), tuple(leftovers(directory)))


@contextmanager
def _crew(jobs: int, interrupted: threading.Event) -> Iterator[ThreadPoolExecutor]:
    """Threads that each watch one take at a time; interrupted, no further take begins."""
    crew = ThreadPoolExecutor(jobs, "take")
    try:
        yield crew
    except BaseException:
        interrupted.set()
        crew.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        crew.shutdown()


def leftovers(directory: Path = INCIDENTS) -> Iterator[Path]:
    """Files of recordings that no take of the lab claims; incidents of production are none."""
    claimed = {name for suite in SUITES for take in takes(suite=suite) for name in take.files}
    for path in sorted(directory.iterdir()):
        if _OF_A_TAKE.fullmatch(path.name) and path.name not in claimed:
            yield path


def _make(take: Take, directory: Path, again: bool, interrupted: threading.Event) -> Made:
    path = directory / take.files[0]
    if all((directory / name).exists() for name in take.files) and not again:
        return Made(take, "kept", path.stat().st_size)
    if servers.binary(take.build) is None:
        return Made(take, "left out", why=f"{take.build} is not installed here")
    if fault_of(take).root_only and os.geteuid() != 0:
        return Made(take, "left out", why="causing it needs root")
    why = ""
    for _ in range(ATTEMPTS):
        if interrupted.is_set():
            return Made(take, "failed", why="interrupted")
        if not (why := _attempt(take, directory)):
            return Made(take, "recorded", path.stat().st_size)
    return Made(take, "failed", why=f"{why} (tried {ATTEMPTS} times)")


def _attempt(take: Take, directory: Path) -> str:
    """Make it in a folder and a process of its own; why it failed, or empty."""
    spawning = multiprocessing.get_context("spawn")
    receiving, sending = spawning.Pipe(duplex=False)
    folder = Path(tempfile.mkdtemp(prefix="redis-oncall-take-"))
    try:
        process = spawning.Process(target=_in_process, args=(take, folder, sending), name=take.name)
        process.start()
        sending.close()
        why = _watched(process, receiving)
        if not why:
            for name in reversed(take.files):  # never a recording without its truth
                shutil.move(folder / name, directory / name)
        return why
    finally:
        receiving.close()
        shutil.rmtree(folder, ignore_errors=True)


def _watched(process: Any, receiving: Connection) -> str:
    """Wait for what the process says; it is ended if it says nothing for too long."""
    try:
        if not receiving.poll(TAKE_SECONDS):
            return f"not done after {TAKE_SECONDS:.0f} s"
        return str(receiving.recv())
    except EOFError:
        process.join(_END_SECONDS)
        return f"its process ended with {process.exitcode}"
    finally:
        process.join(1.0)
        if process.is_alive():
            process.terminate()
        process.join(_END_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()


def _in_process(take: Take, folder: Path, sending: Connection) -> None:
    """The take itself: sends why it failed, or nothing but an empty text."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its servers are stopped
    try:
        path = asyncio.run(record(take, folder))
        size = path.stat().st_size
        why = f"{size} bytes, more than {CAPTURE_BYTES}" if size > CAPTURE_BYTES else ""
    except KeyboardInterrupt:
        why = "interrupted"
    except Exception as error:  # noqa: BLE001 - told to the session, which goes on
        why = f"{type(error).__name__}: {error}"
    sending.send(why)
    sending.close()
