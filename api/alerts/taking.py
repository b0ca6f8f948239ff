"""Messages become incidents: all that wait in one transaction, each answered after its commit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from agent.context import Target
from agent.incident import Alert
from agent.redaction import redact_tree
from agent.windows import Window
from api.alerts.parsed import Parsed
from api.alerts.placing import place_of, target_for
from api.alerts.silencing import Silencing
from api.store import alerts as store
from api.store import audit, deliveries, incidents, occurrences
from api.store.audit import Person
from api.store.database import Database
from api.store.group_commit import GroupCommit
from api.store.homes import Homes
from api.store.place import Place
from api.store.tables import AlertRow, IncidentRow


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
    traceparent: str = ""
    """Of the request: it is stored by whoever writes for all that wait."""


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

    def add(self, other: "Taken") -> None:
        """What became of another part of the same message."""
        self.rows |= other.rows
        self.opened |= other.opened
        self.shed += other.shed
        self.seen_before = self.seen_before and other.seen_before

    @property
    def to_start(self) -> dict[str, int]:
        """Which a worker should hear of, with the numbers of their next jobs.

        Others that wait were announced when they began to.
        """
        return {
            row.id: row.nudges
            for row in self.rows.values()
            if row.status == "queued" and (row.id in self.opened or row.attempt > 1)
        }


class _Item(NamedTuple):
    """One alert of a message, and where it belongs."""

    number: int
    """Its message's."""
    parsed: Parsed
    target: Target | None
    place: Place

    @property
    def lock(self) -> str:
        return self.place.lock(self.parsed.alert.fingerprint)

    @property
    def locks(self) -> set[str]:
        return self.place.locks(self.parsed.alert.fingerprint)


class Intake:
    """Stores messages. One per process."""

    def __init__(
        self,
        database: Database,
        targets: Sequence[Target],
        most_queued: int,
        silencing: Sequence[Window] = (),
    ) -> None:
        self._database = database
        self._targets = targets
        self._most_queued = most_queued
        self._windows = silencing
        self._commits = GroupCommit[Message, Taken](database, self._store, urgent=True)

    async def take(self, message: Message) -> Taken:
        """What became of it, once that is committed. Raises Overloaded."""
        return await self._commits.commit(message, max(1, len(message.parsed)))

    async def _store(self, session: AsyncSession, messages: Sequence[Message]) -> list[Taken]:
        found, new = await self._met(session, messages)
        items = self._in_order(new)
        await self._database.exclude(
            session, *sorted({one for item in items for one in item.locks})
        )
        alerts = [item.parsed.alert for item in items]
        seen = await occurrences.seen(session, alerts)
        again = [alert for alert in alerts if (alert.source, alert.fingerprint) in seen]
        stored = await occurrences.all_times(session, again)
        homes = await Homes.of(session, {item.place for item in items})
        room = self._most_queued
        if not all(homes.on(item.place) for item in items):  # another may be opened
            room -= await incidents.queued(session)
        silencing = await Silencing.now(session, self._windows)
        for item in items:
            taken, alert = found[item.number], item.parsed.alert
            key = (alert.source, alert.fingerprint)
            # Of one that this transaction has touched the store has to say.
            times = stored.pop(key, None) if key in seen else ()
            seen.add(key)
            try:
                row, opened = await self._take(
                    session, item, silencing, homes, times, full=room <= 0
                )
            except store.QueueFull:
                taken.shed += 1
                continue
            if row is not None:
                taken.rows[row.id] = row
            if row is not None and opened:
                taken.opened.add(row.id)
                row.traceparent = messages[item.number].traceparent
                room -= row.status == "queued"
        await store.end(session, homes)
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

    def _in_order(self, messages: dict[int, Message]) -> list[_Item]:
        """As every transaction takes its locks; under one of them, firing before resolved."""
        items = []
        for number, message in messages.items():
            for parsed in message.parsed:
                target = self._target(parsed)
                items.append(_Item(number, parsed, target, place_of(target, self._targets)))
        return sorted(items, key=lambda item: (item.lock, item.parsed.alert.status))

    def _target(self, parsed: Parsed) -> Target | None:
        if parsed.problem:
            return None
        if parsed.target:
            return next((known for known in self._targets if known.name == parsed.target), None)
        return target_for(parsed.alert, self._targets)

    async def _take(
        self,
        session: AsyncSession,
        item: _Item,
        silencing: Silencing,
        homes: Homes,
        times: Sequence[AlertRow] | None,
        *,
        full: bool,
    ) -> tuple[IncidentRow | None, bool]:
        alert, said = _without_secrets(item.parsed.alert), item.parsed
        if said.occurrence and times != ():
            alert = await deliveries.since_it_began(session, alert, said.occurrence)
        if alert.status == "resolved":
            return await store.resolved(session, alert, item.place, homes, times), False
        problem = said.problem or ("" if item.target else _unmatched(alert))
        silence = silencing.of(alert, item.target)
        return await store.firing(
            self._database, session, alert, item.place, problem,
            silence=silence, homes=homes, full=full, times=times,
        )  # fmt: skip


def _unmatched(alert: Alert) -> str:
    labels = ", ".join(f"{name}={value}" for name, value in sorted(alert.labels.items())[:8])
    return f"no configured target's `match` fits this alert ({labels or 'it has no labels'})"


def _without_secrets(alert: Alert) -> Alert:
    """As it is kept: exporters put the URL they scrape into labels, with its password."""
    told: dict[str, Any] = redact_tree(alert.model_dump(include={"name", "labels", "annotations"}))
    return alert.model_copy(update=told)
