"""One seed: a scene, a blow, as many executors as it takes, and what an observer makes of it."""

import asyncio
import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import func, select

from agent.incident import Action, Approval, Plan, fingerprint
from agent.work import identify
from api.store import incidents, leases
from api.store.database import Database, database_url
from api.store.journal import SqlJournal
from api.store.migrate import migrate
from api.store.tables import DecisionRow, IntentRow, PageRow
from evals import servers
from tests.torture import hand, scenes
from tests.torture.proxy import ERRORS, Bad, Proxy
from tests.torture.scenes import Scene, Stage, State
from tools.opening import open_for_reading
from tools.remedies.catalogue import REMEDIES

BADS: tuple[Bad, ...] = (
    "drop", "delay", "duplicate", "error", "error_after", "cut_before", "cut_after",
    "cut_in_reply", "drip", "outage", "elsewhere",
)  # fmt: skip
BLOWS = ("proxy", "proxy", "journal", "journal", "server", "demoted")
SIGNALS = {"killed": signal.SIGKILL, "frozen": signal.SIGSTOP, "terminated": signal.SIGTERM}
MOST_PROCESSES = 4
FREEZE_SECONDS = 12.0
"""Far longer than the lease, and shorter than anybody's patience."""
_WRITES = {
    "CONFIG SET", "CLIENT KILL", "PEXPIREAT", "PERSIST", "UNLINK", "RESTORE", "XTRIM", "XACK",
    "XADD", "LTRIM", "ZREMRANGEBYRANK", "SCRIPT FLUSH", "MULTI", "EXEC", "RPUSH", "LPUSH", "ZADD",
    "ZREM", "LPOP", "EVAL",
}  # fmt: skip
_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload(["tests.torture.hand"])


@dataclass
class Blow:
    """What strikes the first executor, where."""

    name: str
    proxy: dict[str, Any] = field(default_factory=dict)
    order: dict[str, Any] = field(default_factory=dict)
    how: str = ""
    """killed, frozen or terminated; empty: the process is let alone."""


@dataclass
class Result:
    """What came of one seed."""

    seed: int
    scene: str
    blow: str
    undo: bool
    status: str
    comment: str
    processes: int
    broken: list[str]
    """Invariants that did not hold; empty: all did."""


class Bench:
    """Two servers, a template of the database, and the steps an undisturbed run takes."""

    def __init__(self, build: str) -> None:
        path = servers.binary(build)
        if path is None:
            raise LookupError(f"{build} is not installed here")
        self.build = build
        self.server, self.other = servers.start(build, path), servers.start(build, path)
        self.stage = Stage(_client(self.server.port), self.server.port)
        self.folder = Path(tempfile.mkdtemp(prefix="torture-"))
        self.steps: dict[tuple[int, bool], tuple[list[tuple[str, ...]], int]] = {}
        asyncio.run(_migrated(self.folder / "template"))

    def close(self) -> None:
        """Stop everything."""
        self.stage.clear()
        for server in (self.server, self.other):
            servers.stop(server)
        shutil.rmtree(self.folder, ignore_errors=True)

    def seed(self, number: int, scene_at: int | None = None) -> Result:
        """One run. The same seed is the same blow at the same step."""
        chance = random.Random(number)
        which = number % len(scenes.SCENES) if scene_at is None else scene_at
        scene, undo = scenes.SCENES[which], chance.random() < 0.5
        undo = undo and scene.undone
        if (which, undo) not in self.steps:
            calm = Run(self, scene, undo, Blow("calm"))
            result = calm.result(-1)
            if result.broken or result.status != ("rolled_back" if undo else "verified"):
                raise RuntimeError(f"undisturbed, {scene.kind} ends: {result}")
            self.steps[which, undo] = calm.proxy.seen, calm.journal_calls
        blow = _blow(chance, *self.steps[which, undo], self.other.port)
        return Run(self, scene, undo, blow).result(number)


def _blow(chance: random.Random, commands: list[tuple[str, ...]], calls: int, other: int) -> Blow:
    kind = chance.choice(BLOWS)
    how = chance.choice(list(SIGNALS))
    if kind == "journal":
        at, after = chance.randrange(calls), chance.random() < 0.5
        order = {"at": at, "after": after, "by": SIGNALS[how]}
        return Blow(f"{how} {'after' if after else 'before'} journal call", {}, order, how)
    writes = [
        number
        for number, (words) in enumerate(commands)
        if words[0] in _WRITES or " ".join(words) in _WRITES
    ]
    at = (
        chance.choice(writes)
        if writes and chance.random() < 0.7
        else chance.randrange(len(commands))
    )
    if kind == "server":
        after = chance.random() < 0.6
        where = "the server did a command" if after else "a command reached the server"
        words = f"{how} {'when' if after else 'before'} {where}"
        return Blow(words, {"at": at, "hook": "after" if after else "before"}, {}, how)
    if kind == "demoted":
        return Blow("demoted before a command", {"at": at, "hook": "before"})
    bad = chance.choice(BADS)
    proxy = {"at": at, "bad": bad, "error": chance.choice(ERRORS), "elsewhere": other}
    return Blow(f"proxy: {bad.replace('_', ' ')}", proxy | {"seconds": chance.uniform(0.1, 2.0)})


class Run:
    """One action, from its approval to its end."""

    def __init__(self, bench: Bench, scene: Scene, undo: bool, blow: Blow) -> None:
        self.bench, self.scene, self.undo, self.blow = bench, scene, undo, blow
        self.stage = bench.stage
        self.folder = Path(tempfile.mkdtemp(prefix="run-", dir=bench.folder))
        shutil.copytree(bench.folder / "template", self.folder, dirs_exist_ok=True)
        self.proxy = Proxy(bench.server.port)
        self.journal_calls = 0
        self.processes: list[Any] = []
        self.before: State = {}
        self.canaries: State = {}

    def result(self, seed: int) -> Result:
        """Carry it out and look."""
        try:
            return asyncio.run(self._result(seed))
        finally:
            for process in self.processes:
                if process.is_alive():
                    process.kill()
                process.join()
            shutil.rmtree(self.folder, ignore_errors=True)

    async def _result(self, seed: int) -> Result:
        scenes.reset(self.stage)
        _client(self.bench.other.port).flushall()
        scenes.plant(self.stage)
        arguments = self.scene.prepare(self.stage)
        self.before, self.canaries = self.scene.state(self.stage), scenes.canaries(self.stage)
        sets = self._config_sets()
        self.database = await hand.open_database(str(self.folder))
        self.incident = await _approved(
            self.database, self.bench.server.url, self.scene.kind, arguments
        )
        await self._carried_out()
        action = await hand.action_of(self.database, self.incident)
        if (calls := self.folder / hand.CALLS).exists():
            self.journal_calls = int(calls.read_text())
        broken = [*self._ended(action), *await self._journaled(action)]
        broken += self._seen(action) + self._canaries()
        if self._config_sets() - sets > 1 + self.undo + ("duplicate" in self.blow.name):
            broken.append("CONFIG SET was sent more often than once each way")
        broken += await self._awake(action)
        await self.proxy.close()
        await self.database.close()
        name = self.scene.kind
        return Result(
            seed, name, self.blow.name, self.undo, action.status, action.comment,
            len(self.processes), broken,
        )  # fmt: skip

    def _config_sets(self) -> int:
        stats = self.stage.client.info("commandstats")
        return int(stats.get("cmdstat_config|set", {}).get("calls", 0))

    async def _carried_out(self) -> None:
        told = dict(self.blow.proxy)
        hook = told.pop("hook", "")
        for name, value in told.items():
            setattr(self.proxy, name, value)
        if hook:
            setattr(self.proxy, hook, self._strike)
        await self.proxy.start()
        order = self.blow.order
        for _ in range(MOST_PROCESSES):
            process = self._start(**order)
            order = {}
            await self._gone_or_frozen(process)
            if (await hand.action_of(self.database, self.incident)).status not in hand.OPEN:
                return

    async def _gone_or_frozen(self, process: Any) -> None:
        """One that is frozen inside of a transaction keeps SQLite's lock: then it has to go on."""
        patience = asyncio.get_running_loop().time() + FREEZE_SECONDS

        def over() -> bool:
            if asyncio.get_running_loop().time() > patience:
                for other in self.processes:
                    if other is not process and other.is_alive():
                        with contextlib.suppress(ProcessLookupError):  # it has just ended
                            os.kill(other.pid, signal.SIGCONT)
            return not process.is_alive() or _is_stopped(process.pid)

        await self._until(over)

    def _start(self, **order: Any) -> Any:
        url = f"redis://127.0.0.1:{self.proxy.port}"
        told = hand.Order(
            str(self.folder), self.incident, self.bench.server.url, url, self.undo, **order
        )
        process = _fork.Process(target=hand.work_as, args=(told,), daemon=True)
        process.start()
        self.processes.append(process)
        return process

    async def _strike(self) -> None:
        if not self.blow.how:
            await asyncio.to_thread(self.stage.client.replicaof, "127.0.0.1", 1)
            return
        os.kill(self.processes[0].pid, SIGNALS[self.blow.how])
        process = self.processes[0]
        if self.blow.how == "frozen":
            await self._until(lambda: _is_stopped(process.pid))
        else:
            await self._until(lambda: not process.is_alive())

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(hand.LONGEST_SECONDS + 10):
            while not holds():
                await asyncio.sleep(0.01)

    async def _awake(self, action: Action) -> list[str]:
        """The frozen one goes on: nothing may change any more."""
        frozen = [one for one in self.processes if one.is_alive()]
        if not frozen:
            return []
        before, canaries = self.scene.state(self.stage), scenes.canaries(self.stage)
        for process in frozen:
            os.kill(process.pid, signal.SIGCONT)
            await self._until(partial(_is_gone, process))
        after = await hand.action_of(self.database, self.incident)
        broken = []
        if (self.scene.state(self.stage), scenes.canaries(self.stage)) != (before, canaries):
            broken.append("a frozen executor woke up and wrote to the server")
        if after != action:
            broken.append(f"a frozen executor woke up and changed the record to {after.status}")
        return broken

    def _ended(self, action: Action) -> list[str]:
        ends = ("verified", "failed", "lapsed", "rolled_back", "rollback_failed", "outcome_unknown")
        broken = [] if action.status in ends else [f"it has no end: {action.status}"]
        if action.status != "verified" and not action.comment:
            broken.append("its end has no reason")
        return broken

    async def _journaled(self, action: Action) -> list[str]:
        broken = []
        async with self.database.reading() as session:
            open_ = (
                select(func.count()).select_from(IntentRow).where(IntentRow.settled_at.is_(None))
            )
            if await session.scalar(open_):
                broken.append("an intent is open though the action has its end")
            pages = await session.scalar(select(func.count()).select_from(PageRow)) or 0
        if (action.status in ("outcome_unknown", "rollback_failed")) != (pages == 1):
            broken.append(f"{action.status}, and {pages} pages")
        return broken

    def _seen(self, action: Action) -> list[str]:
        """Does the record say what the server shows?"""
        now, done = self.scene.state(self.stage), action.outcome.get("done", {})
        whole = self.scene.complete(self.stage, self.before)
        untouched = now == self.before
        if action.status in ("failed", "lapsed") and not untouched:
            return [f"{action.status}, but the server has changed"]
        if action.status == "rolled_back" and self.scene.undone and not untouched:
            return ["rolled_back, but the server is not as before"]
        settled = "settled by reading the target" in action.comment
        said = bool(done.get("stopped_because")) or settled
        if action.status == "verified" and not whole and not said:
            return ["applied, but not whole, and nothing says so"]
        if action.status in ("verified", "outcome_unknown") and self.scene.reported:
            told, is_ = done.get(self.scene.reported), self.scene.actual(self.stage, self.before)
            if told is None and is_ and action.status == "verified" and not settled:
                return [f"{is_} done, and no count of it"]
            if told is not None and told > is_:
                return [f"{told} reported, {is_} done"]
        return []

    def _canaries(self) -> list[str]:
        now = scenes.canaries(self.stage)
        return [f"canary {name} changed" for name, was in self.canaries.items() if now[name] != was]


def _client(port: int) -> "redis.Redis":
    return redis.Redis(port=port, protocol=2)


def _is_gone(process: Any) -> bool:
    return not process.is_alive()


def _is_stopped(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    return False


async def _migrated(folder: Path) -> None:
    folder.mkdir()
    database = Database(database_url(f"sqlite:///{folder}/oncall.db"))
    await migrate(database)
    await database.close()


async def _approved(database: Database, url: str, kind: str, arguments: dict[str, Any]) -> str:
    """An incident whose one action somebody approved."""
    now = datetime.now(UTC)
    connection = await open_for_reading(url)
    identity = await identify(connection)
    await connection.close()
    action = Action(
        id="A1",
        fingerprint=fingerprint(kind, arguments, identity, ["E1"]),
        kind=kind,
        title=kind,
        arguments=arguments,
        risk=REMEDIES[kind].risk,
        evidence=["E1"],
        expires_at=now + timedelta(hours=1),
        status="approved",
    )
    async with database.writing() as session:
        row = await incidents.open_incident(
            session, title=kind, target="cache-1", status="remediating"
        )
        incident_id = row.id
    lease = await leases.acquire(database, "cache-1", incident_id, "the gate")
    assert lease is not None
    await SqlJournal(database, incident_id, 1, lease).set_plan(Plan(actions=[action]))
    await leases.release(database, lease)
    ann = Approval(by="ann", role="admin", at=now)
    async with database.writing() as session:
        session.add(
            DecisionRow(
                incident_id=incident_id, attempt=1, action_id="A1", by=ann.by, role=ann.role,
                fingerprint=action.fingerprint, approves=True, comment="", at=now,
                break_glass=False, cause="",
            )
        )  # fmt: skip
    return incident_id


@contextmanager
def bench(build: str) -> Iterator[Bench]:
    """A bench for the length of a `with`."""
    made = Bench(build)
    try:
        yield made
    finally:
        made.close()
