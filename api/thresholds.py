"""The runbooks' own alerts, for those without Prometheus: judged at every look of `watch`.

A threshold that has been crossed for as long as its runbook says is an alert of source `watch`,
which takes the way of every alert. Since when it is crossed, and what was told of that, is in the
database: a restart, or another worker's turn, loses nothing.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from agent.context import Target
from agent.incident import Alert
from agent.reaching import open_target
from agent.runbook import AlertThreshold, Library
from agent.thresholds import crossing, declared, is_back, spoken
from api.alerts.intake import accept
from api.alerts.parsed import Parsed
from api.entries import duration
from api.observed_connection import ObservedConnection
from api.problems import Problem
from api.service import Service
from api.sizing_config import WatchEntry
from api.store import audit, crossings, incidents
from api.store.crossings import SOURCE, Crossing
from tools.connection import Connection
from tools.reading import Evidence, NotMeasured
from tools.reads import READS

ONE_LOOK = ("memory_info", "persistence", "replication")
"""Tools that read INFO once (and TIME): what fits into a look every minute."""
_COUNTED = "it counts from the server's start on: one look cannot tell what is new"
_BARE = "a ratio without a floor of bytes: every small server crosses it (MEMORY DOCTOR has one)"
UNFIT = {
    "persistence.aof_delayed_fsync": _COUNTED,
    "persistence.aof_rewrites": _COUNTED,
    "persistence.rdb_saves": _COUNTED,
    "memory_info.allocator_frag_ratio": _BARE,
    "memory_info.allocator_rss_ratio": _BARE,
}
"""What such a look reads, and cannot judge."""
MOST_NAMED = 20
"""Runbooks that an alert names."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Rule:
    """A threshold, and whether it is watched."""

    key: str
    threshold: AlertThreshold
    runbooks: tuple[str, ...]
    """Which ask for it."""
    lasts: timedelta
    """For how long it has to be crossed."""
    because: str = ""
    """Why it is not watched; empty: it is."""


def rules(library: Library, entry: WatchEntry) -> list[Rule]:
    """Every threshold of the runbooks, each once, watched or not."""
    found = []
    for key, (threshold, books) in declared(library.runbooks).items():
        lasts, because = timedelta(), _not_watched(threshold, entry)
        try:
            lasts = duration(threshold.for_)
        except ValueError as error:
            because = because or f"for: {error}"
        digest = hashlib.sha256(key.encode()).hexdigest()[:32]
        found.append(Rule(digest, threshold, tuple(b.id for b in books), lasts, because))
    return found


def _not_watched(threshold: AlertThreshold, entry: WatchEntry) -> str:
    tool = threshold.when.partition(".")[0]
    if threshold.when in entry.skip_thresholds:
        return "switched off by watch.skip_thresholds"
    if tool not in ONE_LOOK:
        return f"{tool} needs more than one look at INFO"
    return UNFIT.get(threshold.when, "")


@dataclass(frozen=True)
class Due:
    """An alert that is to be sent: a threshold is crossed for as long as its runbook says."""

    rule: Rule
    since: datetime
    because: str


@dataclass(frozen=True)
class Moves:
    """What a look changes."""

    begun: list[str]
    """Keys of thresholds that are crossed now and were not."""
    due: list[Due]
    over: list[Crossing]


def moves(
    watched: Mapping[str, Rule],
    known: Mapping[str, Crossing],
    evidence: Sequence[Evidence],
    now: datetime,
    every: timedelta,
) -> Moves:
    """What changes by a look. What it could not measure stays as it was known. Pure.

    An alert that was sent is over when its value is clearly back, or its threshold is not watched
    any more, as with a rule that was deleted.
    """
    said = {
        key: crossing(rule.runbooks[0], rule.threshold, evidence) for key, rule in watched.items()
    }
    begun, due = [], []
    for key, one in said.items():
        if one.state != "fired":
            continue
        before = known.get(key)
        if before is None:
            begun.append(key)
        since = now if before is None else before.since
        # Looks come once an interval: half of one is the nearest.
        lasted = timedelta() if before is None else now - since + every / 2
        if lasted >= watched[key].lasts and not (before and before.told):
            due.append(Due(watched[key], since, one.because))
    over = [
        before
        for key, before in known.items()
        if key not in watched
        or (not before.told and said[key].state == "quiet")
        or is_back(watched[key].threshold, evidence)
    ]
    return Moves(begun, due, over)


@dataclass
class Thresholds:
    """Judges the targets' looks: one for each worker process, one at a time for a target."""

    service: Service

    def __post_init__(self) -> None:
        config = self.service.settings.config
        self._entry = config.watch
        known = rules(self.service.library, self._entry) if config.watches_thresholds else []
        self._rules = {rule.key: rule for rule in known if not rule.because}

    async def end_unwatched(self) -> None:
        """End the alerts of targets that are not watched any more: no look may ever do so.

        Tried until it is done: the database may be away, or not take alerts at this moment.
        """
        while True:
            try:
                if await self._ended_unwatched():
                    return
            except Exception:
                log.exception("watch_failed")
            await asyncio.sleep(self._entry.every.total_seconds())

    async def _ended_unwatched(self) -> bool:
        known = {target.name for target in self.service.targets if self._rules}
        targets = known.difference(self._entry.skip_targets)
        now = incidents.now()
        async with self.service.database.reading() as session:
            told = await crossings.told_of_others(session, targets)
        for alert in map(incidents.to_alert, told):
            over = alert.model_copy(update={"status": "resolved", "ends_at": now})
            if not await self._tell(alert.target, [over]):
                return False
        async with self.service.database.writing() as session:
            await crossings.forget_others(session, targets)
        return True

    async def judge(self, target: Target) -> None:
        """Look, note what is crossed, and tell what is for long or over. Raises CommandFailure."""
        watched = {} if target.name in self._entry.skip_targets else self._rules
        async with self.service.database.reading() as session:
            known = await crossings.of(session, target.name)
        if not watched and not known:
            return
        evidence = await look(target) if watched else []
        now = incidents.now()
        found = moves(watched, known, evidence, now, self._entry.every)
        if found.begun:
            async with self.service.database.writing() as session:
                await crossings.begin(session, target.name, found.begun, now)
        alerts = [_firing(target, due) for due in found.due]
        alerts += [_resolved(target, over, now) for over in found.over if over.told]
        if alerts and not await self._tell(target.name, alerts):
            return  # the next look tells them
        if found.over:
            async with self.service.database.writing() as session:
                await crossings.end(session, target.name, [over.threshold for over in found.over])

    async def _tell(self, target: str, alerts: Sequence[Alert]) -> bool:
        parsed = [Parsed(alert, target=target) for alert in alerts]
        try:
            await accept(self.service, audit.service(SOURCE), SOURCE, parsed)
        except Problem as refused:
            log.warning("watch_not_accepted", target=target, because=str(refused))
            return False
        return True


def _firing(target: Target, due: Due) -> Alert:
    threshold, name = due.rule.threshold, spoken(due.rule.threshold)
    return Alert(
        source=SOURCE,
        name=name,
        fingerprint=crossings.fingerprint(target.name, due.rule.key),
        starts_at=due.since,
        severity=threshold.severity,
        labels={
            "alertname": name,
            "severity": threshold.severity,
            "threshold": threshold.when,
        },
        annotations={
            "summary": due.because,
            # Their words are what runbooks are chosen by.
            "runbooks": ", ".join(due.rule.runbooks[:MOST_NAMED]).replace("-", " "),
        },
    )


def _resolved(target: Target, over: Crossing, now: datetime) -> Alert:
    return Alert(
        source=SOURCE,
        name=over.told,
        status="resolved",
        fingerprint=crossings.fingerprint(target.name, over.threshold),
        starts_at=over.since,
        ends_at=now,
    )


async def look(target: Target) -> list[Evidence]:
    """What one look shows, as evidence. Raises CommandFailure where it cannot be reached."""
    limit = target.memory_limit
    opened = await open_target(target)
    connection = ObservedConnection(opened, target.name, "watch")
    try:
        return [
            await _piece(connection, target, f"E{number}", tool, limit)
            for number, tool in enumerate(ONE_LOOK, 1)
        ]
    finally:
        await connection.close()


async def _piece(
    connection: Connection, target: Target, number: str, tool: str, limit: int | None
) -> Evidence:
    args = {"memory_limit": limit} if tool == "memory_info" and limit else {}
    reading = await READS[tool].call(connection, args)
    return Evidence(
        id=number,
        tool=tool,
        args=args,
        reading=reading.model_dump(mode="json"),
        measured=not isinstance(reading, NotMeasured),
        taken_at=connection.now(),
        target=target.name,
        node=connection.node,
        summary="",
    )
