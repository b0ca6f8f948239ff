"""What a fault is: something wrong with a server, and what a good diagnosis says about it."""

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal

import redis

from evals import servers
from evals.faults.alerts import SUMMARIES
from evals.faults.workload import (
    MIB,
    READS,
    Actor,
    Application,
    Traffic,
    connect,
    everyday_traffic,
)
from evals.servers import Server
from tools.recording_file import Recording

WARM_UP_SECONDS = 0.6
"""Traffic after the traces of the injector are gone, so that counters are the workload's."""
SLOWEST_SECONDS = 20.0
"""Longest that setting up waits for anything."""


@dataclass(frozen=True)
class Expected:
    """The truth about a server, as a good diagnosis would state it."""

    root_cause: frozenset[str]
    """Any of these is right."""
    culprit: frozenset[tuple[str, str]] = frozenset({("none", "")})
    """(kind, name); any of these is right."""
    contributing: frozenset[str] = frozenset()
    """May be named as contributing."""
    also: frozenset[str] = frozenset()
    """Second faults: each has to be named, as root cause or as contributing."""
    is_incident: bool = True
    alert: dict[str, Any] = field(default_factory=dict)
    """What fired: the only part of this the agent may see."""
    memory_limit: int | None = None
    """Bytes the operator says the container may use; recorded with the capture."""
    url: str = ""
    """What to look through, if not the server's own URL: a user who may see less."""


@dataclass
class Lab:
    """One server being made ill: its application, and a client that leaves before anyone looks."""

    server: Server
    seed: int
    random: Random
    scale: float
    app: Application
    admin: "redis.Redis"
    stack: contextlib.ExitStack
    actors: list[Actor] = field(default_factory=list)
    everyday_reads: float = READS
    """Share of reads in the everyday traffic: 1 on a replica, where its application only reads."""

    def node(self, *arguments: str) -> Server:
        """Another server of the same build, for a replica, a primary or a shard of a cluster."""
        # A server chosen by the user is no known build: the same binary, then.
        build = self.server.build
        known = servers.binary(build) if build in servers.BUILDS else None
        running = Path(f"/proc/{self.server.pid}/exe").resolve()
        another = servers.start(build, known or running, arguments)
        self.stack.callback(servers.stop, another)
        return another

    def info(self, name: str) -> int:
        """An integer INFO field, 0 if the build lacks it."""
        return int(self.admin.info("everything").get(name, 0))

    def used(self) -> int:
        """used_memory, bytes."""
        return self.info("used_memory")

    def counted(self) -> int:
        """What counts against maxmemory, bytes."""
        info = self.admin.info("memory")
        return int(info["used_memory"]) - int(info.get("mem_not_counted_for_evict", 0))

    def megabytes(self, count: float) -> int:
        """Bytes at this lab's scale: faults state theirs for scale 0.5."""
        return int(count * 2 * MIB * self.scale)

    def configure(self, **parameters: object) -> None:
        """CONFIG SET; `_` stands for `-`."""
        for name, value in parameters.items():
            self.admin.config_set(name.replace("_", "-"), str(value))

    def limit_at(self, pressure: float) -> int:
        """Set maxmemory, in whole megabytes, so that about this share of it is used."""
        limit = max(1, round(self.counted() / pressure / MIB)) * MIB
        self.configure(maxmemory=limit)
        return limit

    def until(self, done: Callable[[], bool], what: str) -> None:
        """Wait for the server to get there. Raises TimeoutError."""
        deadline = time.monotonic() + SLOWEST_SECONDS
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.server.build}: {what} did not happen")
            time.sleep(0.02)

    def act(self, per_second: float, step: Callable[[Any], object], name: str = "") -> None:
        """A client that goes on doing this while people look."""
        client = connect(self.server.port, name or self.app.client_name())
        self.stack.callback(client.close)
        self.actors.append(Actor(client, per_second, step))


Kind = Literal[
    "single", "look-alike", "healthy", "by-design", "two-faults", "missing-evidence",
    "red-herring", "uncatalogued", "production", "faint",
]  # fmt: skip
"""What makes an incident hard; production: the service worked it, a person judged; faint: every
sign is just above its floor."""


class Fault(ABC):
    """One failure mode, caused for real."""

    id: ClassVar[str]
    kind: ClassVar[Kind] = "single"
    recordings: ClassVar[int] = 3
    """How many of the suite's incidents are made of it, each with another seed."""
    fixture: ClassVar[str] = ""
    """Where it cannot be caused here: the document that `amend` makes the recording after."""
    builds: ClassVar[tuple[str, ...]] = servers.BUILDS
    """Builds on which it can be caused."""
    alerts: ClassVar[tuple[str, ...]] = ("RedisMemoryHigh",)
    """Names of alerts that fire for it; look-alikes share them."""
    arguments: ClassVar[tuple[str, ...]] = ()
    """Of the server it is caused on."""
    root_only: ClassVar[bool] = False
    """Whether causing it needs root (a mount, another user's directory)."""
    try_first: ClassVar[tuple[str, ...]] = ()
    """Remedies that a demonstration approves."""
    everyday: ClassVar[float] = 12
    """Megabytes of ordinary keys beside it."""

    @property
    def story(self) -> str:
        """What is wrong, in a sentence: for people only, never for the agent."""
        return (self.__doc__ or self.id).strip().splitlines()[0]

    @property
    def alert_labels(self) -> dict[str, str]:
        """Labels of the alert that a demonstration posts."""
        return {"alertname": self.alerts[0]}

    @property
    def alert_summary(self) -> str:
        """Its text: a symptom, never a cause."""
        return SUMMARIES[self.alerts[0]]

    def arguments_for(self, build: str) -> tuple[str, ...]:
        """Of the server it is caused on, where builds differ."""
        return self.arguments

    def amend(self, recording: Recording) -> None:  # noqa: B027 - a hook, empty for most
        """Change what was recorded as the fixture's document has it; most faults change nothing."""

    def before(self, lab: Lab) -> None:  # noqa: B027 - a hook, empty for most
        """What the server needs before its first key, such as the rest of its cluster."""

    @abstractmethod
    def inject(self, lab: Lab) -> Expected:
        """Cause it, and say what the truth is."""

    @contextlib.contextmanager
    def prepare(self, server: Server, seed: int = 1, scale: float = 1.0) -> Iterator[Expected]:
        """The ill server with its clients and traffic, for the length of a `with`."""
        random = Random(f"{self.id}/{seed}")
        app = Application(random)
        with contextlib.ExitStack() as stack:
            admin = stack.enter_context(contextlib.closing(connect(server.port)))
            lab = Lab(server, seed, random, scale, app, admin, stack)
            self.before(lab)
            _settings_of_the_house(lab, Random(f"settings/{self.id}/{seed}"))
            app.fill(admin, lab.megabytes(self.everyday * random.uniform(0.8, 1.2)))
            expected = self.inject(lab)
            _remove_traces(admin)
            admin.close()
            everyday = everyday_traffic(app, server.port, reads=lab.everyday_reads)
            traffic = Traffic(everyday + lab.actors)
            stack.callback(traffic.stop)
            traffic.start()
            time.sleep(WARM_UP_SECONDS)
            yield expected

    def alert(self, lab: Lab, severity: str = "warning") -> dict[str, Any]:
        """What a monitoring system says: a symptom, never a cause."""
        name = lab.random.choice(self.alerts)
        return {
            "name": name,
            "severity": severity,
            "labels": {"alertname": name, "service": lab.app.services[0]},
            "annotations": {"summary": SUMMARIES[name]},
        }


def _settings_of_the_house(lab: Lab, random: Random) -> None:
    """What owners set differently whatever goes wrong, so that no setting gives a fault away."""
    lab.configure(
        latency_monitor_threshold=random.choice([0, 0, 20, 25, 50, 100]),
        slowlog_log_slower_than=random.choice([10_000, 10_000, 5_000, 1_000]),
        save=random.choice(["", "", "3600 1", "900 1 300 10"]),
    )


def _remove_traces(admin: "redis.Redis") -> None:
    """Logs and counters that only the injector filled; counters last, they count the rest."""
    for command in (
        "SLOWLOG RESET", "LATENCY RESET", "ACL LOG RESET", "COMMANDLOG RESET large-request",
        "COMMANDLOG RESET large-reply",
    ):  # fmt: skip
        with contextlib.suppress(redis.ResponseError):  # not every build has it
            admin.execute_command(*command.split())  # type: ignore[no-untyped-call]
    admin.config_resetstat()
