"""`redis-oncall` in processes of its own that begin at once: forked from one that has loaded it.

A process that starts from nothing spends two seconds of a core on reading modules. Whatever a
test does with the program, but not how it starts, is done with these; that it starts is shown by
the tests of the demo, of each command, of upgrades and of the whole installation.
"""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.close_samples import LONGEST_WAIT, shortened

FORK = multiprocessing.get_context("forkserver")
LOADED = ("tests.forked_program", "tests.forked_worker", "tests.chaos.member", "tests.torture.hand")
"""Loaded once in each process that runs tests, when it first forks."""
FORK.set_forkserver_preload(list(LOADED))


class Forked:
    """A running `redis-oncall …`; of `subprocess.Popen` what tests use of it."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        stdout: Path,
        stderr: Path | None = None,
        *,
        forks_worker: bool = True,
    ) -> None:
        """`forks_worker`: what is beside a `serve` begins at once, too (tests/forked_worker.py)."""
        files = (str(stdout), str(stderr or stdout))
        told = (list(arguments), dict(environment), *files, forks_worker)
        self._process = FORK.Process(target=begin, args=told)
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """What it ended with, or None."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """What it ends with. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired("redis-oncall", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Nothing if it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def begin(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    stdout: str,
    stderr: str,
    forks_worker: bool,
) -> None:
    """The program, in the new process."""
    from api.cli.main import main
    from tests.forked_worker import fork_workers

    for number, path in ((1, stdout), (2, stderr)):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(handle, number)
        os.close(handle)
    # Whoever began the tests in the background ignores Ctrl-C, and so would all that they fork.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    counts = Path(stdout).with_name("counts")
    counts.mkdir(exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(counts)
    os.environ.update(environment)
    tempfile.tempdir = None
    random.seed()
    if longest := environment.get(LONGEST_WAIT):
        shorten_waits(float(longest))
    if forks_worker and "serve" in arguments and "--no-worker" not in arguments:
        fork_workers()
    sys.argv = ["redis-oncall", *arguments]
    main()


def shorten_waits(longest: float) -> None:
    """As `close_samples` (tests/conftest.py) does, for the rest of this process."""
    from tools.connection import LiveConnection

    waits = shortened(LiveConnection.wait, longest)
    LiveConnection.wait = waits  # type: ignore[assignment,method-assign]
