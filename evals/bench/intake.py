"""`bench intake`: a storm of alerts on a real service whose targets answer from recordings.

One alert a request, authenticated, while investigations run. Counted in the database: each alert
that was answered 202 is in exactly one incident, each target has one. Beside it, before it, on the
same machine: the least that could answer 202 after a commit (`bare.py`), under the same senders.
"""

import asyncio
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evals import postgresql, servers
from evals.bench import processes
from evals.bench.options import Options, Tell, machine
from evals.bench.processes import Process
from evals.bench.senders import Answers, Senders, wire
from evals.bench.tally import Tally
from evals.truth import INCIDENTS, RECORDING_SUFFIX
from tools import recording_file

RECORDINGS = (
    "amber-badger-c3", "amber-harbor-90", "amber-inlet-7f", "amber-kettle-00",
    "amber-orchard-be", "amber-pebble-70", "amber-umber-a5", "brisk-dune-06",
)  # fmt: skip
"""Incidents all, of every build: the targets in turn answer as these did."""
SEVERITIES = ("critical", "warning", "warning", "info")
BARE_SECONDS = 20.0
"""The bare loop is sent the same number a second, for no longer than this."""
DRAIN_SECONDS = 1_800.0
TOKEN = "roc_bench01_" + "b" * 43


async def bench_intake(options: Options, tell: Tell) -> dict[str, Any]:
    """The storm, as often as told (once). Raises LookupError if a server is not installed."""
    measured = []
    for number in range(options.runs or 1):
        tell(f"run {number + 1}: {options.requests} requests, {options.targets} targets, "
             f"{options.seconds:g} s, {options.database}")  # fmt: skip
        with ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="oncall-bench-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            measured.append(await _Run(options, tell, folder, stack).measured())
    p99, bare = (sorted(run[key] for run in measured) for key in ("p99_ms", "bare_p99_ms"))
    cpu, bare_cpu = (sorted(run[key] for run in measured) for key in ("cpu_ms", "bare_cpu_ms"))
    middle = len(measured) // 2
    return {
        "name": "intake",
        "runs": measured,
        "ratios": {
            "p99_over_bare_fastapi_and_commit": round(p99[middle] / bare[middle], 2),
            "cpu_over_bare_fastapi_and_commit": round(cpu[middle] / bare_cpu[middle], 2),
        },
        "machine": machine(options.database),
    }


@dataclass
class _Run:
    options: Options
    tell: Tell
    folder: Path
    stack: ExitStack

    def __post_init__(self) -> None:
        self.names = [f"bench-{number:04}" for number in range(self.options.targets)]
        self.paths = [str(INCIDENTS / f"{name}{RECORDING_SUFFIX}") for name in RECORDINGS]
        self.requests = [wire(body, TOKEN) for body in self._messages()]
        if self.options.database == "postgresql":
            self.database = self.stack.enter_context(postgresql.running(durable=True))
        else:
            self.database = f"sqlite:///{self.folder / 'oncall.db'}"

    @property
    def each(self) -> int:
        """Investigations at a time of one process: with PostgreSQL there are two that work."""
        return -(-self.options.concurrency // (2 if self.options.database == "postgresql" else 1))

    async def measured(self) -> dict[str, Any]:
        bare, bare_cpu = await self._bare()
        self.tell(f"bare FastAPI and commit: p99 {bare.percentile(0.99):.1f} ms")
        with self._service() as service:
            serving = [process for process in service if process.port is not None]
            ports = [process.port for process in serving if process.port is not None]
            before = sum(process.cpu_seconds() for process in serving)
            began = time.perf_counter()
            watching = asyncio.create_task(self._watch())
            answers = await Senders(ports, self.requests, self.options.seconds).run()
            cpu = sum(process.cpu_seconds() for process in serving) - before
            stormed = time.perf_counter() - began
            self.tell(f"{len(answers.accepted)} accepted, p99 {answers.percentile(0.99):.1f} ms")
            await watching
            drained = time.perf_counter() - began
            peaks = [process.peak_mb() for process in service]
            running = sum(len(process.with_children) for process in service)
        tally = Tally.of(self.database, {self._fingerprint(n) for n in answers.accepted})
        return {
            "accepted": len(answers.accepted),
            "lost": tally.lost,
            "incidents": tally.incidents,
            "most_of_a_target": tally.most_of_a_target,
            "diagnosed": tally.diagnosed,
            "p50_ms": round(answers.percentile(0.5), 1),
            "p99_ms": round(answers.percentile(0.99), 1),
            "worst_ms": round(answers.percentile(1.0), 1),
            "rss_mb": round(max(peaks)),
            "rss_mb_by_process": [round(peak) for peak in peaks],
            "storm_s": round(stormed, 1),
            "drain_s": round(drained - stormed, 1),
            "answers": {str(code): count for code, count in sorted(answers.codes.items())},
            "cpu_ms": round(1_000 * cpu / len(self.requests), 2),
            "senders_cpu_ms": round(1_000 * answers.cpu_seconds / len(self.requests), 2),
            "bare_p99_ms": round(bare.percentile(0.99), 1),
            "bare_cpu_ms": round(bare_cpu, 2),
            "conditions": f"{self.options.database}, {running} processes, "
            f"{self.each} investigations at a time in each that works, recorded "
            "targets that wait as long as real ones; the load comes from this machine too",
        }

    async def _bare(self) -> tuple[Answers, float]:
        """Answers, and CPU milliseconds a request."""
        seconds = min(self.options.seconds, BARE_SECONDS)
        number = max(1, int(len(self.requests) * seconds / self.options.seconds))
        file = self.database if "postgresql" in self.database else str(self.folder / "bare.db")
        port = servers.free_port()
        process = processes.start("bare", ["evals.bench.bare", str(port), file], self.folder, port)
        try:
            process.await_ready("/")
            before = process.cpu_seconds()
            answers = await Senders([port], self.requests[:number], seconds).run()
            return answers, 1_000 * (process.cpu_seconds() - before) / number
        finally:
            process.stop()

    @contextmanager
    def _service(self) -> Iterator[list[Process]]:
        """On SQLite `serve` with its worker beside it; else two of each, and a server queues."""
        environment = {
            "REDIS_ONCALL_CONFIG": str(self._configuration()),
            "REDIS_ONCALL_DATA": str(self.folder / "data"),
            "REDIS_ONCALL_WORKERS": str(self.each),
            "DATABASE_URL": self.database,
        }
        parts = ["serve"]
        if self.options.database == "postgresql":
            queue = self.stack.enter_context(servers.running("valkey-9.1"))
            environment["REDIS_ONCALL_QUEUE"] = f"{queue.url}/0"
            parts = ["worker", "worker", "serve-only", "serve-only"]
        started: list[Process] = []
        try:
            for number, part in enumerate(parts):
                port = servers.free_port() if part != "worker" else None
                arguments = ["api.cli.recorded_service", part, str(port or 0), *self.paths]
                name = f"{part}-{number}"
                process = processes.start(name, arguments, self.folder, port, **environment)
                started.append(process)
                if port is not None:
                    process.await_ready("/readyz")
            yield started
        finally:
            for process in started:
                process.stop()

    def _configuration(self) -> Path:
        (self.folder / "data").mkdir()
        targets = [
            {"name": name, "url": "redis://127.0.0.1:1", "match": {"instance": name}}
            for name in self.names
        ]
        source = {
            "name": "bench", "kind": "alertmanager",
            "sha256": hashlib.sha256(TOKEN.encode()).hexdigest(),
        }  # fmt: skip
        content = {
            "targets": targets, "sources": [source], "watch": {"enabled": False},
            "tokens": [{"name": "nobody", "role": "viewer", "sha256": "0" * 64}],
        }  # fmt: skip
        path = self.folder / "oncall.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    def _messages(self) -> Iterator[bytes]:
        """Of each target as many, and of all targets at any time."""
        fired = [recording_file.read(Path(path)).header.alert or {} for path in self.paths]
        for number in range(self.options.requests):
            place = number % len(self.names)
            alert = {
                "status": "firing",
                "labels": {
                    "alertname": str(fired[place % len(fired)].get("name", "RedisMemoryHigh")),
                    "instance": self.names[place], "job": "redis", "number": str(number),
                    "severity": SEVERITIES[place % len(SEVERITIES)],
                },
                "annotations": {
                    "summary": f"an alert of {self.names[place]}",
                    "description": "A sentence or two that says what is wrong, as rules have it.",
                },
                "startsAt": "2026-01-31T03:00:00.123Z", "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prometheus.example/graph",
                "fingerprint": self._fingerprint(number),
            }  # fmt: skip
            message = {
                "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing",
                "receiver": "redis-oncall", "groupLabels": {}, "commonLabels": {},
                "commonAnnotations": {}, "externalURL": "http://alertmanager.example",
                "alerts": [alert],
            }  # fmt: skip
            yield json.dumps(message).encode()

    @staticmethod
    def _fingerprint(number: int) -> str:
        return f"{number:016x}"

    async def _watch(self) -> None:
        """Until every target's incident has its diagnosis, and nothing is under way any more."""
        deadline = time.monotonic() + self.options.seconds + DRAIN_SECONDS
        told, wanted = 0.0, min(self.options.targets, self.options.requests)
        while time.monotonic() < deadline:
            opened, ended = await asyncio.to_thread(Tally.progress, self.database)
            if ended == opened >= wanted:
                return
            if time.monotonic() - told > 10:
                told = time.monotonic()
                self.tell(f"{opened} incidents, {ended} of them diagnosed")
            await asyncio.sleep(0.5)
