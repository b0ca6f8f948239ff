"""What is different from healthy times, as readings; and the comparison that fills them. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from tools import departures
from tools.departures import FLOORS, Departure, Look
from tools.reading import NotMeasured, Reading
from tools.shape import FLOWS, KeyShape, ServerShape

MOST = 10
"""Changes of one kind, the newest first, of these the largest."""


class Change(Reading):
    """Between which looks it changed."""

    last_before: datetime
    first_after: datetime


class WordChange(Change):
    """From one word to another."""

    before: str
    after: str


class NodeChange(Change):
    """From one server to another: host:port."""

    node_before: str
    node_after: str


class LevelChange(Change):
    """In the unit of its name: at most `before` until then and at least `after` since, or less."""

    before: float
    after: float


class PopulationChange(Change):
    """Clients whose names differ only in numbers and the like."""

    client: str
    clients_before: float
    clients_after: float


class CommandChange(Change):
    """Calls of one command."""

    command: str
    before_per_second: float
    after_per_second: float


class DatabaseChange(Change):
    """Keys of one database."""

    db: int
    keys_before: float
    keys_after: float


class ServerChanges(Reading):
    """What is different from the looks that were kept while nothing was wrong."""

    looks: int
    """Kept ones that it was compared with."""
    since: datetime
    """The oldest of them."""
    until: datetime
    """Now."""
    restarted_at: datetime | None
    """Its process began after one of them saw another."""
    version: WordChange | None
    role: WordChange | None
    answers: NodeChange | None
    """Another server answers; where both are the same, at the same address."""
    primary: NodeChange | None
    """Of a replica."""
    parameters: dict[str, WordChange]
    levels: dict[str, LevelChange]
    """Rates of INFO stats."""
    databases: list[DatabaseChange]
    commands: list[CommandChange]
    clients: list[PopulationChange]
    not_compared: list[NotMeasured]
    """What this server refuses to show."""

    def told(self) -> list[str]:
        """What changed, by name."""
        words = ("version", "role", "answers", "primary", "restarted_at")
        return [
            *(name for name in words if getattr(self, name) is not None),
            *self.parameters,
            *self.levels,
            *(f"keys of db{row.db}" for row in self.databases),
            *(row.command for row in self.commands),
            *(row.client for row in self.clients),
        ]


class PrefixChange(Change):
    """Of the number of sampled keys."""

    prefix: str
    before_share: float
    after_share: float


class EncodingChange(WordChange):
    """Of nearly all keys of a prefix and type."""

    prefix: str
    type: str


class KeyChanges(Reading):
    """How a sample of the keys differs from those of times in which nothing was wrong."""

    looks: int
    since: datetime
    until: datetime
    sampled: int
    prefixes: list[PrefixChange]
    encodings: list[EncodingChange]
    stopped_because: str
    """Why the sample has no more keys, and what was refused."""

    def told(self) -> list[str]:
        """What changed, by name."""
        return [*(row.prefix for row in self.prefixes), *(row.prefix for row in self.encodings)]


def server_differences(
    kept: Sequence[ServerShape], now: ServerShape, newest: Sequence[ServerShape] = ()
) -> ServerChanges:
    """Pure. `newest`: two looks some seconds apart, for rates of this very moment."""
    shapes = [*kept, now]
    process = _process(shapes)
    began = process is not None and now.started_at
    # A clock of ours may be a little behind another's.
    restarted = process and began and began > process.last_before - timedelta(minutes=1)
    nodes = departures.word([Look(s.at, s.node or None) for s in shapes])
    if process and not restarted:
        nodes = nodes or replace(process, before=now.node, after=now.node)
    primaries = departures.word([Look(s.at, s.primary or None) for s in shapes])
    return ServerChanges(
        looks=len(kept),
        since=kept[0].at,
        until=now.at,
        restarted_at=began if restarted else None,
        version=_word(departures.word([Look(s.at, s.flavour or None) for s in shapes])),
        role=_word(departures.word([Look(s.at, s.role or None) for s in shapes])),
        answers=_node(nodes),
        primary=_node(primaries) if now.primary else None,
        parameters=_parameters(shapes),
        levels=_levels(shapes, newest),
        databases=_databases(shapes),
        commands=_commands(shapes, newest),
        clients=_clients(shapes),
        not_compared=now.unread,
    )


def _process(shapes: Sequence[ServerShape]) -> Departure[str] | None:
    """Another one at the same address. One that was there before is one of several behind it."""
    here = [shape for shape in shapes if shape.node == shapes[-1].node]
    change = departures.word([Look(s.at, s.run_id or None) for s in here])
    if change is None or any(s.run_id == change.after and s.at < change.last_before for s in here):
        return None
    return change


def _parameters(shapes: Sequence[ServerShape]) -> dict[str, WordChange]:
    found = {}
    for name in shapes[-1].parameters:
        change = departures.word([Look(s.at, s.parameters.get(name)) for s in shapes])
        if change is not None:
            found[name] = WordChange(**vars(change))
    newest_first = sorted(found.items(), key=lambda item: item[1].first_after, reverse=True)
    return dict(newest_first[:MOST])


def _levels(shapes: Sequence[ServerShape], newest: Sequence[ServerShape]) -> dict[str, LevelChange]:
    found: dict[str, Departure[float]] = {}
    looks = _rates(shapes, newest, departures.all_calls)
    if (change := departures.level(looks, FLOORS["per_second"], short=bool(newest))) is not None:
        found["commands_per_second"] = change
    for name in FLOWS:
        counter = partial(departures.flow, name=name)
        looks = departures.rates(shapes, counter, departures.LEAST_SECONDS)
        if (change := departures.level(looks, departures.floor_of(name))) is not None:
            found[name] = change
    return {name: LevelChange(**vars(found[name])) for name in _newest(found)}


def _databases(shapes: Sequence[ServerShape]) -> list[DatabaseChange]:
    names = departures.named(shape.keys or {} for shape in shapes)
    return [
        DatabaseChange(
            db=int(name.removeprefix("db")),
            keys_before=change.before,
            keys_after=change.after,
            **_when(change),
        )
        for name, change in _moved(
            names, lambda name: [_look(s.at, departures.keys(s, name)) for s in shapes], "keys"
        )
    ]


def _commands(shapes: Sequence[ServerShape], newest: Sequence[ServerShape]) -> list[CommandChange]:
    found: dict[str, Departure[float]] = {}
    kept = shapes[:-1]
    for name in departures.named(shape.calls for shape in [*shapes, *newest]):
        counter = partial(departures.calls, command=name)
        ours = departures.is_ours(name)
        looks = departures.rates(kept, counter) if ours else _rates(shapes, newest, counter)
        change = departures.level(looks, FLOORS["per_second"], short=bool(newest) and not ours)
        if change is not None:
            found[name] = change
    return [
        CommandChange(
            command=name,
            before_per_second=found[name].before,
            after_per_second=found[name].after,
            **_when(found[name]),
        )
        for name in _newest(found)
    ]


def _clients(shapes: Sequence[ServerShape]) -> list[PopulationChange]:
    names = departures.named([one.client for one in s.clients or ()] for s in shapes)
    return [
        PopulationChange(
            client=name,
            clients_before=change.before,
            clients_after=change.after,
            **_when(change),
        )
        for name, change in _moved(
            names, lambda name: [departures.connected(s, name) for s in shapes], "clients"
        )
    ]


def key_differences(kept: Sequence[KeyShape], now: KeyShape) -> KeyChanges:
    """Pure."""
    shapes = [*kept, now]
    names = departures.named([group.prefix for group in s.groups] for s in shapes)
    words = [
        EncodingChange(prefix=prefix, type=kind, **vars(word))
        for prefix, kind in dict.fromkeys((group.prefix, group.type) for group in now.groups)
        if (word := _encoding(shapes, prefix, kind)) is not None
    ]
    return KeyChanges(
        looks=len(kept),
        since=kept[0].at,
        until=now.at,
        sampled=now.sampled,
        prefixes=[
            PrefixChange(
                prefix=name,
                before_share=change.before,
                after_share=change.after,
                **_when(change),
            )
            for name, change in _moved(
                names, lambda name: [Look(s.at, departures.share(s, name)) for s in shapes], "share"
            )
        ],
        encodings=words[:MOST],
        stopped_because="",
    )


def _encoding(shapes: Sequence[KeyShape], prefix: str, kind: str) -> Departure[str] | None:
    looks = [Look(shape.at, departures.encoding(shape, prefix, kind)) for shape in shapes]
    return departures.word(looks)


def _rates(
    shapes: Sequence[ServerShape],
    newest: Sequence[ServerShape],
    counter: Callable[[ServerShape], int | None],
) -> list[Look[float]]:
    return [*departures.rates(shapes, counter), *departures.rates(newest, counter)]


def _moved(
    names: Sequence[str], looks: Callable[[str], list[Look[float]]], floor: str
) -> list[tuple[str, Departure[float]]]:
    """Those whose level changed."""
    changes = {name: departures.level(looks(name), FLOORS[floor]) for name in names}
    found = {name: change for name, change in changes.items() if change is not None}
    return [(name, found[name]) for name in _newest(found)]


def _look(at: datetime, value: int | None) -> Look[float]:
    return Look(at, None if value is None else float(value))


def _newest(found: dict[str, Departure[float]]) -> list[str]:
    """Their names: what changed last, and most, is first."""
    return sorted(
        found,
        key=lambda name: (
            -found[name].first_after.timestamp(),
            -abs(found[name].after - found[name].before),
        ),
    )[:MOST]


def _when(change: Departure[float]) -> dict[str, datetime]:
    return {"last_before": change.last_before, "first_after": change.first_after}


def _word(change: Departure[str] | None) -> WordChange | None:
    return None if change is None else WordChange(**vars(change))


def _node(change: Departure[str] | None) -> NodeChange | None:
    if change is None:
        return None
    return NodeChange(
        node_before=change.before,
        node_after=change.after,
        last_before=change.last_before,
        first_after=change.first_after,
    )
