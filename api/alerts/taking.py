"""Messages become incidents: all that wait in one transaction, each answered after its commit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from agent.context import Target
from agent.incident import Alert
from agent.redaction import redact_tree
from api.alerts.parsed import Parsed
from api.store import alerts as store
from api.store import audit, deliveries, incidents
from api.store.audit import Person
from api.store.database import Database
from api.store.group_commit import GroupCommit
from api.store.tables import IncidentRow


@dataclass(frozen=True)
class Message:
    """What one request brought."""

    person: Person
    source: str
    parsed: list[Parsed]
    delivery: str = ""
    """What it is known by, if it may only count once."""
    truncated: int = 0
    """How many alerts the sender left out of it."""


@dataclass
class Taken:
    """What became of a message."""

    rows: dict[str, IncidentRow] = field(default_factory=dict)
    """Incidents its alerts went to, by id, each once."""
    opened: set[str] = field(default_factory=set)
    """Those that were opened for it."""
    shed: int = 0
    """Alerts that were not taken: there is no room for another incident."""
    seen_before: bool = False
    """It was delivered and taken already: nothing was done."""

    @property
    def to_start(self) -> list[str]:
        """Which a worker should hear of. Others that wait were announced when they began to."""
        return [
            row.id
            for row in self.rows.values()
            if row.status == "queued" and (row.id in self.opened or row.attempt > 1)
        ]


def target_for(alert: Alert, targets: Sequence[Target]) -> Target | None:
    """The target whose `match` labels the alert all carries: the most specific, then the first."""
    fits = [
        target
        for target in targets
        if target.match and target.match.items() <= alert.labels.items()
    ]
    return max(fits, key=lambda target: len(target.match), default=None)


class Intake:
    """Stores messages. One per process."""

    def __init__(self, database: Database, targets: Sequence[Target], most_queued: int) -> None:
        self._database = database
        self._targets = targets
        self._most_queued = most_queued
        self._commits = GroupCommit[Message, Taken](database, self._store)

    async def take(self, message: Message) -> Taken:
        """What became of it, once that is committed. Raises Overloaded."""
        return await self._commits.commit(message, max(1, len(message.parsed)))

    async def _store(self, session: AsyncSession, messages: Sequence[Message]) -> list[Taken]:
        room = self._most_queued - await incidents.queued(session)
        found, new = await self._met(session, messages)
        items = self._in_order(new)
        locks = {store.lock_of(item.alert, target) for target, _, item in items}
        await self._database.exclude(session, *sorted(locks))
        seen = await store.seen(session, [item.alert for _, _, item in items])
        for target, number, item in items:
            taken, key = found[number], (item.alert.source, item.alert.fingerprint)
            fresh = key not in seen
            seen.add(key)
            try:
                row, opened = await self._take(session, item, target, full=room <= 0, fresh=fresh)
            except store.QueueFull:
                taken.shed += 1
                continue
            if row is not None:
                taken.rows[row.id] = row
            if row is not None and opened:
                taken.opened.add(row.id)
                room -= row.status == "queued"
        for number, message in new.items():
            taken = found[number]
            if taken.shed and message.delivery:
                await deliveries.forget(session, message.person.name, message.delivery)
            # A flood of what is refused must not fill the trail.
            if taken.rows or not taken.shed:
                said = {"truncated": message.truncated} if message.truncated else {}
                await audit.note(
                    session, message.person, "alerts", None,
                    source=message.source, incidents=list(taken.rows), **said,
                )  # fmt: skip
        return found

    async def _met(
        self, session: AsyncSession, messages: Sequence[Message]
    ) -> tuple[list[Taken], dict[int, Message]]:
        """What becomes of each, and those that are new. Of twins here both have one answer."""
        names = [(message.person.name, message.delivery) for message in messages]
        remembered = await deliveries.remember(
            session, self._database, {name for name in names if name[1]}
        )
        found: list[Taken] = []
        new: dict[int, Message] = {}
        twins: dict[tuple[str, str], Taken] = {}
        for number, (name, message) in enumerate(zip(names, messages, strict=True)):
            taken = twins.get(name)
            if taken is None:
                taken = Taken(seen_before=bool(message.delivery) and name not in remembered)
                if not taken.seen_before:
                    new[number] = message
                if message.delivery:
                    twins[name] = taken
            found.append(taken)
        return found, new

    def _in_order(self, messages: dict[int, Message]) -> list[tuple[str, int, Parsed]]:
        """With its target's name (or "") and its message's number. Every transaction takes its
        locks in the same order: by target; of one target, firing before resolved.
        """  # noqa: D205
        placed = []
        for number, message in messages.items():
            for item in message.parsed:
                target = None if item.problem else target_for(item.alert, self._targets)
                placed.append((target.name if target else "", number, item))
        return sorted(
            placed, key=lambda one: (one[0], one[2].alert.status, one[2].alert.fingerprint)
        )

    async def _take(
        self, session: AsyncSession, item: Parsed, target: str, *, full: bool, fresh: bool
    ) -> tuple[IncidentRow | None, bool]:
        alert = _without_secrets(item.alert)
        if item.one_occurrence and not fresh and (began := await deliveries.began(session, alert)):
            alert = alert.model_copy(update={"starts_at": began})
        if alert.status == "resolved":
            return await store.resolved(session, alert), False
        problem = item.problem or ("" if target else _unmatched(alert))
        row, opened = await store.firing(
            self._database, session, alert, target or None, problem, full=full, fresh=fresh
        )
        if not opened:
            await store.worsened(session, row, alert)
        return row, opened


def _unmatched(alert: Alert) -> str:
    labels = ", ".join(f"{name}={value}" for name, value in sorted(alert.labels.items())[:8])
    return f"no configured target's `match` fits this alert ({labels or 'it has no labels'})"


def _without_secrets(alert: Alert) -> Alert:
    """As it is kept: exporters put the URL they scrape into labels, with its password."""
    told: dict[str, Any] = redact_tree(alert.model_dump(include={"name", "labels", "annotations"}))
    return alert.model_copy(update=told)
