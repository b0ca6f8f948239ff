"""The processes of an installation, each to be killed or frozen, and started again."""

import asyncio
import contextlib
import multiprocessing
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import psutil
import psycopg

from evals import servers
from tests.chaos import member

START_SECONDS = 300.0
AGAIN_SECONDS = 0.3
"""Until whoever supervises a process that ended by itself starts it again."""
_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload(["tests.chaos.member"])


class Process(Protocol):
    """Something that can be struck."""

    def start(self) -> None:
        """Begin, without waiting until it serves."""

    def kill(self) -> bool:
        """SIGKILL, and wait until nothing of it is left. False: it was not running."""

    def pids(self) -> list[int]:
        """Of all its processes, the first one first."""


async def strike(process: Process, how: str, away: float) -> bool:
    """Kill it and start it again later, or freeze it for so long. False: nothing was running."""
    if how == "frozen":
        frozen = process.pids()
        has_hit = _signal(frozen, signal.SIGSTOP)
        await asyncio.sleep(away)
        _signal(frozen, signal.SIGCONT)
    elif how == "a child killed":
        has_hit = _signal(process.pids()[-1:], signal.SIGKILL)
    else:
        has_hit = await asyncio.to_thread(process.kill)
        await asyncio.sleep(away)
        await asyncio.to_thread(process.start)
    return has_hit


def _signal(pids: Sequence[int], number: signal.Signals) -> bool:
    """Whether any of them was there to get it."""
    reached = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            reached += 1
    return reached > 0


class Member:
    """A `serve` or a `worker`, under a supervisor that starts it again when it ends by itself."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._told = (list(arguments), dict(environment), str(log))
        self._process: Any = None
        self.is_wanted = False
        self.ended_by_itself = 0

    def start(self) -> None:
        """Fork it."""
        self._process = _fork.Process(target=member.main, args=self._told, daemon=True)
        self._process.start()
        self.is_wanted = True

    def kill(self) -> bool:
        """SIGKILL."""
        self.is_wanted = False
        self._process.kill()
        self._process.join()
        return bool(self._process.exitcode == -signal.SIGKILL)

    def pids(self) -> list[int]:
        """The one."""
        return [self._process.pid] if self._process.is_alive() else []

    async def supervise(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(AGAIN_SECONDS)
            if self.is_wanted and not self._process.is_alive():
                self.ended_by_itself += 1
                self.start()


class QueueServer:
    """Valkey or Redis for the queue, on one port for its whole life."""

    def __init__(self, folder: Path, *, persistent: bool) -> None:
        found = servers.binary("valkey-9.1")
        if found is None:
            raise LookupError("valkey-9.1 is not installed here")
        self.port = servers.free_port()
        self._command = [
            str(found), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder),
            "--save", "", "--appendonly", "yes" if persistent else "no",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it."""
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(self._command, stdout=quiet, stderr=quiet)

    def kill(self) -> bool:
        """SIGKILL."""
        if self._process is None:
            return False
        self._process.kill()
        return self._process.wait() == -signal.SIGKILL

    def pids(self) -> list[int]:
        """The one."""
        return [self._process.pid] if self._process else []


class Postgres:
    """A PostgreSQL server with a folder of its own. It starts however it was ended."""

    def __init__(self, log: Path) -> None:
        self._log = log
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        if not found:
            raise LookupError("no PostgreSQL server is installed here (Debian: postgresql)")
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-pg-", dir="/tmp"))
        self.port = servers.free_port()
        # PostgreSQL refuses to run as root.
        user = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        self._as: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid} if user else {}
        if user:
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        self._binaries, data = found[-1].parent, self.folder / "data"
        subprocess.run(
            [self._binaries / "initdb", "-D", data, "-U", "oncall", "-A", "trust", "--no-sync"],
            check=True, capture_output=True, cwd=self.folder, **self._as,
        )  # fmt: skip
        self._command = [
            str(self._binaries / "postgres"), "-D", str(data), "-p", str(self.port),
            "-k", str(self.folder), "-c", "listen_addresses=127.0.0.1",
            "-c", "fsync=off",  # no power is cut here: what was written is in the kernel's cache
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its database."""
        return f"postgresql://oncall@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Run it, as often as it takes: what is left of one that was killed is in its way."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command, stdout=log, stderr=log, cwd=self.folder, **self._as
                )
            while self._process.poll() is None:
                if self._answers():
                    return
                time.sleep(0.05)
            time.sleep(0.1)
        raise RuntimeError("PostgreSQL does not start")

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> bool:
        """SIGKILL of all its processes, the first one first: nobody cleans up."""
        pids = self.pids()
        was_running = _signal(pids, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], 10)
        return was_running

    def stop(self) -> None:
        """Orderly and at once: it cuts every connection."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)

    def pids(self) -> list[int]:
        """Of the server and of those who serve its connections."""
        if self._process is None or self._process.poll() is not None:
            return []
        children = psutil.Process(self._process.pid).children(recursive=True)
        return [self._process.pid, *(child.pid for child in children)]

    def close(self) -> None:
        """Leave nothing behind."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


async def answers(port: int) -> None:
    """Wait until somebody listens there."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            await asyncio.sleep(0.05)
