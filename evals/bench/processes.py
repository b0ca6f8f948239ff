"""Processes of a benchmark: started, waited for, measured, stopped."""

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60.0
STOP_SECONDS = 30.0


@dataclass
class Process:
    """One of them, with its log."""

    name: str
    log: Path
    popen: "subprocess.Popen[bytes]"
    port: int | None = None

    @property
    def with_children(self) -> list[int]:
        """Its process id, and those of the processes it has started and that run. Linux only."""
        pid = self.popen.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def cpu_seconds(self) -> float:
        """What it has taken so far without its children, user and system. Linux only."""
        return cpu_seconds(self.popen.pid)

    def peak_mb(self) -> float:
        """The most memory it and its children each had at any moment, resident, MB. Linux only."""
        told = [Path(f"/proc/{pid}/status").read_text() for pid in self.with_children]
        peaks = [line for one in told for line in one.splitlines() if line.startswith("VmHWM:")]
        return sum(int(peak.split()[1]) * 1024 / 1e6 for peak in peaks)

    def await_ready(self, path: str) -> None:
        """Until it answers there with anything but 5xx. Raises RuntimeError."""
        deadline = time.monotonic() + START_SECONDS
        while not self._answers(path):
            if self.popen.poll() is not None or time.monotonic() > deadline:
                said = self.log.read_text(errors="replace")[-2_000:]
                raise RuntimeError(f"{self.name} did not start: {said}")
            time.sleep(0.1)

    def _answers(self, path: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status < 500
        except OSError:
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """In order, else by force. Repeatable."""
        self.popen.terminate()
        try:
            self.popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


def cpu_seconds(pid: int) -> float:
    """What a process has taken so far without its children, user and system. Linux only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(
    name: str, arguments: Sequence[str], folder: Path, port: int | None = None, **environment: str
) -> Process:
    """A Python module of ours in a process of its own."""
    log = folder / f"{name}.log"
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "PYTHONPATH")}
    with log.open("ab") as out:
        popen = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", *arguments],
            env=kept | environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    return Process(name, log, popen, port)
