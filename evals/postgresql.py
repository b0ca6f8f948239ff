"""A throwaway PostgreSQL server on a free loopback port, for tests and benchmarks."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evals import servers

START_SECONDS = 20.0
STOP_SECONDS = 15.0
_CARELESS = ("-c", "fsync=off", "-c", "autovacuum=off", "-c", "full_page_writes=off")
"""Nothing of it is kept, and nothing of it grows old."""


def binaries() -> Path | None:
    """The folder of the newest server that is installed here (Debian package postgresql)."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


@contextlib.contextmanager
def running(*, durable: bool = False) -> Iterator[str]:
    """The URL of its database `postgres`. Raises LookupError if none is installed.

    `durable`: commits wait for the disk, as in production.
    """
    programs = binaries()
    if programs is None:
        raise LookupError("no PostgreSQL server is installed here (Debian package postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="oncall-pg-", dir="/tmp"))
    # PostgreSQL refuses to run as root.
    user = pwd.getpwnam("postgres") if os.getuid() == 0 else None
    identity: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid} if user else {}
    if user:
        os.chown(folder, user.pw_uid, user.pw_gid)
    data, port = folder / "data", servers.free_port()
    process: subprocess.Popen[bytes] | None = None
    try:
        subprocess.run(  # noqa: S603
            [programs / "initdb", "-D", data, "-U", "oncall", "-A", "trust", "--no-sync"],
            check=True, capture_output=True, cwd=folder, **identity,
        )  # fmt: skip
        process = subprocess.Popen(  # noqa: S603
            [programs / "postgres", "-D", data, "-p", str(port), "-k", folder,
             "-c", "listen_addresses=127.0.0.1", *(() if durable else _CARELESS)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **identity,
        )  # fmt: skip
        _await_ready(programs / "pg_isready", port, process)
        yield f"postgresql://oncall@127.0.0.1:{port}/postgres"
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # fast shutdown
            process.wait(timeout=STOP_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


def _await_ready(probe: Path, port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    ready = [str(probe), "-h", "127.0.0.1", "-p", str(port), "-q"]
    while subprocess.run(ready, check=False).returncode:  # noqa: S603
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("PostgreSQL did not start")
