"""`bench scan`: our walk over a keyspace beside redis-cli's, on the same servers, in the same run.

Fast: wall time and the server's CPU of sizing every key, and of asking its type, length and TTL as
well. Gentle: what a probing client notices of it. Sampled: how long it takes.
"""

import asyncio
import contextlib
import ctypes.util
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from evals import servers
from evals.bench.mixed_keys import mixed_keys
from evals.bench.options import Options, Tell, machine
from evals.bench.processes import cpu_seconds
from evals.pouring import pour
from tools.bigkeys import BigKeysArguments, bigkeys
from tools.connection import LiveConnection, read_info
from tools.keyspace import BigKeys
from tools.survey import SPARE

BUILDS = ("redis-7.0", "redis-8.2", "valkey-9.1")
USE_LIBC = ("valkey-9.1",)
"""Wheels that were built with the C library's allocator; those who run servers have jemalloc."""
PROBED = 5
"""Times that a client probes each walk; the median counts."""
PROBE_SECONDS = 3.0
IDLE_TRIES = 40
TICK = 1 / os.sysconf("SC_CLK_TCK")
"""Seconds: the system counts no less of a process's time."""
BEGIN_SECONDS = 1.0
"""What runs beside a probe has begun by then."""
_TYPE = re.compile(rb"^\d+ \w+ with (\d+) bytes", re.MULTILINE)


async def bench_scan(options: Options, tell: Tell) -> dict[str, Any]:
    """On each build that is installed. Raises LookupError without redis-cli or any of them."""
    cli = shutil.which("redis-cli")
    if cli is None:
        raise LookupError("no redis-cli is installed here to compare with (redis-tools)")
    found = [build for build in BUILDS if servers.binary(build) is not None]
    if not found:
        raise LookupError("no server is installed here: " + ", ".join(BUILDS))
    runs = []
    for name, build, preload in _variants(found):
        tell(f"{name}: {options.keys:,} keys are written")
        with servers.running(build, preload=preload) as server:
            await asyncio.to_thread(pour, server.port, mixed_keys(options.keys))
            runs.append(await _Run(name, server, cli, options.runs or PROBED, tell).measured())
    ratios = {
        f"{key}_{run['build']}": run[key]
        for run in runs
        for key in (
            "sizes_faster_than_memkeys", "all_faster_than_memkeys", "sizes_cpu_over_memkeys",
            "all_cpu_over_memkeys", "gentle_p99_over_idle", "memkeys_p99_over_idle",
        )
    }  # fmt: skip
    version = await asyncio.to_thread(_told, [cli, "--version"])
    return {
        "name": "scan",
        "runs": runs,
        "ratios": ratios,
        "machine": machine(version.decode().strip()),
    }


def _variants(builds: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Name, build, and the library to start it with."""
    library = ctypes.util.find_library("jemalloc")
    for build in builds:
        yield build, build, ""
        if build in USE_LIBC and library is not None:
            yield f"{build}-jemalloc", build, library


@dataclass(frozen=True)
class _Walked:
    """One walk."""

    seconds: float
    cpu: float
    """The server's, seconds."""
    bytes: int
    keys: int = 0


@dataclass
class _Run:
    name: str
    server: servers.Server
    cli: str
    probed: int
    tell: Tell

    async def measured(self) -> dict[str, Any]:
        memkeys = await asyncio.to_thread(self._cli, "--memkeys")
        self.tell(f"redis-cli --memkeys: {memkeys.seconds:.1f} s")
        cli_bigkeys = await asyncio.to_thread(self._cli, "--bigkeys")
        self.tell(f"redis-cli --bigkeys: {cli_bigkeys.seconds:.1f} s")
        sizes = await self._ours(pace="fast")
        every = await self._ours(pace="fast", every_key=True)
        self.tell(f"ours: {sizes.seconds:.1f} s, with type, length and TTL {every.seconds:.1f} s")
        gentle, sampled = await self._ours(), await self._ours(mode="sampled")
        idle, noticed, cli_noticed = await asyncio.to_thread(self._probed)
        return {
            "build": self.name,
            "keys": sizes.keys,
            "bytes": sizes.bytes,
            "bytes_by_memkeys": memkeys.bytes,
            "memkeys_s": round(memkeys.seconds, 2),
            "bigkeys_s": round(cli_bigkeys.seconds, 2),
            "sizes_s": round(sizes.seconds, 2),
            "all_s": round(every.seconds, 2),
            "gentle_s": round(gentle.seconds, 2),
            "sampled_s": round(sampled.seconds, 2),
            "sizes_faster_than_memkeys": round(memkeys.seconds / sizes.seconds, 2),
            "sizes_faster_than_bigkeys": round(cli_bigkeys.seconds / sizes.seconds, 2),
            "all_faster_than_memkeys": round(memkeys.seconds / every.seconds, 2),
            "sizes_cpu_over_memkeys": round(sizes.cpu / max(memkeys.cpu, TICK), 3),
            "all_cpu_over_memkeys": round(every.cpu / max(memkeys.cpu, TICK), 3),
            "idle_p99_ms": round(statistics.median(idle), 3),
            "gentle_p99_over_idle": _over(noticed, idle),
            "memkeys_p99_over_idle": _over(cli_noticed, idle),
        }

    def _cli(self, mode: str) -> _Walked:
        cpu, began = cpu_seconds(self.server.pid), time.perf_counter()
        command = [self.cli, "-p", str(self.server.port), mode]
        told = _told(command)
        seconds = time.perf_counter() - began
        sizes = sum(map(int, _TYPE.findall(told)))
        return _Walked(seconds, cpu_seconds(self.server.pid) - cpu, sizes)

    async def _ours(self, **how: Any) -> _Walked:
        await self._is_idle()
        args = BigKeysArguments(seconds=120, keys=10_000_000, **how)
        connection = LiveConnection(self.server.url)
        await connection.open()
        try:
            cpu, began = cpu_seconds(self.server.pid), time.perf_counter()
            reading = await bigkeys(connection, args)
            seconds = time.perf_counter() - began
            cpu = cpu_seconds(self.server.pid) - cpu
        finally:
            await connection.close()
        if not isinstance(reading, BigKeys) or reading.pace != args.pace:
            raise RuntimeError(f"it was not walked as it should be: {reading}")
        return _Walked(seconds, cpu, reading.bytes_seen, reading.keys_seen)

    async def _is_idle(self) -> None:
        """A server that was busy a moment ago is not walked fast: so it says, until it forgets."""
        connection = LiveConnection(self.server.url)
        await connection.open()
        try:
            for _ in range(IDLE_TRIES):
                await asyncio.to_thread(pour, self.server.port, [("CONFIG", "RESETSTAT")])
                await asyncio.sleep(0.25)  # it counts anew every tenth of a second
                info = await read_info(connection, "stats")
                if int(info["instantaneous_ops_per_sec"]) < SPARE / 2:
                    return
        finally:
            await connection.close()

    def _probed(self) -> tuple[list[float], list[float], list[float]]:
        """p99 of a probing client in ms: beside nothing, our gentle walk, redis-cli's."""
        found: tuple[list[float], list[float], list[float]] = ([], [], [])
        cli = [self.cli, "-p", str(self.server.port), "--memkeys"]
        ours = [sys.executable, "-m", "evals.bench.walking", self.server.url]
        for number in range(self.probed):
            for command, p99 in zip(([], ours, cli), found, strict=True):
                with _beside(command):
                    p99.append(self._probe())
            self.tell(f"probed {number + 1}: idle {found[0][-1]:.2f} ms, beside ours "
                      f"{found[1][-1]:.2f}, beside redis-cli {found[2][-1]:.2f}")  # fmt: skip
        return found

    def _probe(self) -> float:
        command = [sys.executable, "-m", "evals.bench.probe"]
        command += [str(self.server.port), str(PROBE_SECONDS)]
        return float(_told(command))


def _told(command: list[str]) -> bytes:
    return subprocess.run(command, capture_output=True, check=True).stdout  # noqa: S603


def _over(during: list[float], idle: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(during, idle, strict=True)), 2)


@contextlib.contextmanager
def _beside(command: list[str]) -> Iterator[None]:
    """That runs meanwhile, over and over."""
    if not command:
        yield
        return
    again = ["sh", "-c", f"while :; do {shlex.join(command)}; done"]
    process = subprocess.Popen(again, stdout=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    try:
        time.sleep(BEGIN_SECONDS)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
