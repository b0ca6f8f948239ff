"""One mode on a live server: cause it, investigate, approve, apply, and see if it helped.

What helped is judged by `evals/symptoms.py` with the workload still running, and what was harmed
by `evals/faults/canaries.py`: both look at the server themselves and never ask the agent.
"""

import asyncio
import contextlib
import secrets
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import redis
from langgraph.checkpoint.memory import InMemorySaver

from agent.context import Context, Target
from agent.graph import Graph, build_graph
from agent.incident import Action, Alert, Approval, Incident
from agent.memory_journal import MemoryJournal
from agent.rules import Rules
from agent.run import advance
from agent.runbook import Library
from evals import servers
from evals.faults import FAULTS, Expected
from evals.faults.canaries import Canaries, Losses, bystanders
from evals.faults.workload import connect
from evals.live_owner import has_mended_disk, with_owners_word
from evals.result import Result
from evals.score import recomputed
from evals.servers import Server
from evals.symptoms import PATIENCE, Look, Watched, look, number, remaining
from evals.truth import truth_of
from tools.backups import BackupFolder
from tools.opening import open_for_reading, open_for_remedies

SCALE = 0.4
MODE_SECONDS = 240.0
"""Longest that one mode may take after its fault is there."""
SETTLE_SECONDS = 9.0
"""Longest an applied remedy may take to show."""
CALM_SECONDS = 3.0
"""How long the symptom has to stay away, with the workload running."""
BASELINE_SECONDS = 1.0
MOST_ACTIONS = 6
APPROVER = "eval-harness"
WITHOUT_EXPIRY = frozenset({"volatile-policy-no-ttl"})
"""Faults whose point is that no key expires: there, no canary does."""
KEYED = frozenset({"single-bigkey", "stream-unbounded", "stream-pel-growth"})
"""Faults that are one key, whose size is looked at."""
REPLICATED = frozenset({
    "missing-ttl-prefix-leak", "slow-pubsub-cob", "monitor-left-on", "noeviction-oom",
    "bigkey-delete-stall", "lua-script-cache", "stream-unbounded", "stream-pel-growth",
    "single-bigkey",
})  # fmt: skip
"""Faults that a replica beside them does not change: there, one is watched as well."""


@dataclass(frozen=True)
class Mode:
    """One fault on one build."""

    fault: str
    build: str
    seed: int

    @property
    def name(self) -> str:
        """What it is called in the report."""
        return f"{self.fault}@{self.build}#{self.seed}"


@dataclass
class Outcome:
    """What became of one mode."""

    mode: Mode
    result: Result
    remaining: list[str] = field(default_factory=lambda: ["not reached"])
    collateral: list[str] = field(default_factory=list)
    lost_to_fault: list[str] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    """Those that were approved."""
    seconds: float = 0.0
    """From the fault being there to the judgement."""

    @property
    def mitigated(self) -> bool:
        """The symptom is gone, and a remedy of ours was applied."""
        return not self.remaining and any(action.status == "verified" for action in self.actions)


def play(mode: Mode, library: Library, scale: float = SCALE) -> Outcome:
    """One mode from fault to judgement. Whatever goes wrong in it is part of its outcome."""
    fault = FAULTS[mode.fault]
    expected = Expected(frozenset({mode.fault}))
    outcome: Outcome | None = None
    try:
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(
                servers.running(mode.build, *fault.arguments_for(mode.build))
            )
            canaries = stack.enter_context(
                bystanders(
                    server,
                    f"{fault.id}/{mode.seed}",
                    expiring=fault.id not in WITHOUT_EXPIRY,
                    replicated=fault.id in REPLICATED,
                )
            )
            watch = stack.enter_context(contextlib.closing(connect(server.port)))
            watch.ping()  # connected before the fault: at maxclients, nobody comes in later
            expected = stack.enter_context(fault.prepare(server, mode.seed, scale))
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="redis-oncall-live-"))
            key = secrets.token_bytes(32)
            backups = BackupFolder(
                Path(folder), lambda: key, keep=timedelta(hours=1), most_bytes=2**30
            )
            has_mended_disk(mode.fault, watch, server)
            run = _Run(mode, expected, scale, server, canaries, watch, library, backups)
            outcome = asyncio.run(run.play())
    except Exception as error:  # noqa: BLE001 - a crash is a failure of this mode, not of the run
        failure = f"{type(error).__name__}: {error}"
        outcome = Outcome(mode, _result(mode, expected, scale, failure=failure))
    return outcome


def _result(mode: Mode, expected: Expected, scale: float, **found: Any) -> Result:
    truth = truth_of(expected, FAULTS[mode.fault], mode.build, mode.seed, scale)
    return Result(mode.name, truth, held_back=False, **{"diagnosis": None, **found})


@dataclass
class _Run:
    """One mode while its fault is there."""

    mode: Mode
    expected: Expected
    scale: float
    server: Server
    canaries: Canaries
    watch: "redis.Redis"
    library: Library
    backups: BackupFolder
    first: Look | None = None
    rates: dict[str, float] = field(default_factory=dict)

    async def play(self) -> Outcome:
        """Investigate, then approve one action after another until the symptom is gone."""
        started = time.monotonic()
        async with asyncio.timeout(MODE_SECONDS), self._context() as context:
            graph = build_graph(InMemorySaver())
            async with _beating(self.canaries):
                await advance(graph, context, await context.journal.incident())
            outcome = await self._diagnosed(context, time.monotonic() - started)
            await asyncio.to_thread(self._before)
            async with _beating(self.canaries):
                await self._remedy(graph, context, outcome)
            try:
                losses = await asyncio.to_thread(
                    self.canaries.after_remedies, self._culprits(), _settings_of(outcome.actions)
                )
            except redis.RedisError as error:  # nothing seen is not nothing harmed
                losses = Losses(collateral=[f"bystanders could not be looked at: {error}"])
        outcome.collateral, outcome.lost_to_fault = losses.collateral, losses.by_fault
        outcome.seconds = time.monotonic() - started
        return outcome

    @contextlib.asynccontextmanager
    async def _context(self) -> AsyncIterator[Context]:
        url = self.expected.url or self.server.url
        connection = await open_for_reading(url)
        library = with_owners_word(self.library, self.mode.fault, self.expected, self.watch)
        try:
            yield Context(
                target=Target(
                    "cache-1", url, url, "staging", memory_limit=self.expected.memory_limit
                ),
                connection=connection,
                open_for_remedies=lambda: open_for_remedies(url),
                journal=MemoryJournal(_opened(self.expected.alert)),
                library=library,
                rules=Rules(library),
                backups=self.backups,
            )
        finally:
            await connection.close()

    async def _diagnosed(self, context: Context, seconds: float) -> Outcome:
        incident, evidence = await context.journal.incident(), await context.journal.evidence()
        readings = {piece.id: piece.reading for piece in evidence}
        claims = incident.diagnosis.claims if incident.diagnosis else []
        result = _result(
            self.mode,
            self.expected,
            self.scale,
            diagnosis=incident.diagnosis,
            actions=tuple(incident.plan.actions),
            facts=tuple(recomputed(fact, readings) for claim in claims for fact in claim.facts),
            readings={piece.tool: piece.reading for piece in reversed(evidence)},
            evidence=tuple(evidence),
            usage=incident.usage,
            seconds=seconds,
        )
        return Outcome(self.mode, result, remaining=["nothing that can be applied was proposed"])

    async def _remedy(self, graph: Graph, context: Context, outcome: Outcome) -> None:
        """Least risk first, as the plan has it; what is not needed any more is not applied."""
        for _ in range(MOST_ACTIONS):
            incident = await context.journal.incident()
            action = next((a for a in incident.plan.actions if _open(a)), None)
            if action is None:
                return
            approval = Approval(by=APPROVER, role="approver", at=datetime.now(UTC))
            approved = {"status": "approved", "approvals": [approval]}
            await context.journal.save_action(action.model_copy(update=approved))
            await advance(graph, context, incident)
            plan = (await context.journal.incident()).plan
            outcome.actions.append(next(a for a in plan.actions if a.id == action.id))
            outcome.remaining = await self._until_gone()
            if not outcome.remaining:
                return

    async def _until_gone(self) -> list[str]:
        """Look until nothing was wrong for a while, or patience is at its end."""
        deadline = time.monotonic() + PATIENCE.get(self.mode.fault, SETTLE_SECONDS)
        earlier = await asyncio.to_thread(self._look)
        while True:
            await asyncio.sleep(CALM_SECONDS)
            now = await asyncio.to_thread(self._look)
            left = remaining(self.mode.fault, self._watched(earlier, now))
            if not left or time.monotonic() > deadline:
                return left
            earlier = now

    def _before(self) -> None:
        earlier = self._look()
        if not earlier.busy:  # a server that answers nothing: then all that is lost is ours
            self.canaries.before_remedies()
        time.sleep(BASELINE_SECONDS)
        self.first = self._look()
        seconds = self.first.at - earlier.at
        if earlier.busy:
            return
        for name in self.first.info:
            self.rates[name] = (number(self.first, name) - number(earlier, name)) / seconds

    def _look(self) -> Look:
        keys = {name for kind, name in self.expected.culprit if kind in ("key", "stream")}
        return look(self.watch, self.mode.fault, keys if self.mode.fault in KEYED else ())

    def _watched(self, earlier: Look, now: Look) -> Watched:
        return Watched(
            self.first or earlier,
            lambda name: self.rates.get(name, 0.0),
            earlier,
            now,
            frozenset(self._culprits()),
            self.expected.memory_limit,
        )

    def _culprits(self) -> set[str]:
        return {name for kind, name in self.expected.culprit if kind in ("client", "replica")}


def _settings_of(actions: list[Action]) -> dict[str, str]:
    """What may differ afterwards: settings of actions that stand."""
    return {
        action.arguments["parameter"]: action.arguments["value"]
        for action in actions
        if action.kind == "set_config" and action.status == "verified"
    }


def _open(action: Action) -> bool:
    return action.executable and action.status == "proposed"


@contextlib.asynccontextmanager
async def _beating(canaries: Canaries) -> AsyncIterator[None]:
    """The canaries' clients do what clients do, meanwhile."""

    async def beat() -> None:
        while True:
            await asyncio.to_thread(canaries.beat)
            await asyncio.sleep(1.0)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _opened(fired: dict[str, Any]) -> Incident:
    now = datetime.now(UTC)
    alert = Alert(
        source="eval",
        name=fired["name"],
        fingerprint="live",
        starts_at=now,
        severity=fired["severity"],
        labels=fired["labels"],
        annotations=fired["annotations"],
    )
    return Incident(
        id="live",
        status="queued",
        severity=alert.severity,
        title=alert.name,
        target="cache-1",
        alerts=[alert],
        opened_at=now,
        updated_at=now,
    )
