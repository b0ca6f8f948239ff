"""Does a fact tell this server from a healthy one? Pure; defined in SCORING.md.

The reference is what the same tools saw on the healthy recordings of the suite, whoever reasons.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agent.incident import Culprit, Fact
from evals.scoring_facts import calculated

SIMILAR = 0.05
"""A fact tells them apart if at most this share of healthy servers is as extreme."""
FEWEST = 5
"""Healthy servers to compare with; below that, nothing is said."""
CARRIED = 2
"""Facts of the same claim that one telling fact speaks for: what its number was made of."""
_LISTS_WHAT_HAPPENED = frozenset({"errors", "events", "groups"})
"""Tables in which a row that is missing says that it never happened, not that nobody looked."""
MOST_ROWS = 4_000
_NAMED_ROWS = {"commands": "command", "errors": "code", "events": "event", "groups": "command"}
"""Tables in which a row is known by its name; other rows are compared with every row."""

Readings = Mapping[str, Mapping[str, Any]]
"""What was seen on a server, by tool."""
_Side = Literal["above", "below", "other"]
"""In which way a value is unlike others: as a number, or as a word."""
_Step = str | tuple[str, str] | None
"""A name; a row by its name (field, value); None: every row."""
_Path = tuple[str, tuple[_Step, ...]]
"""A tool, and the steps into its reading."""
_Signature = tuple[str, tuple[_Path, ...]]


@dataclass(frozen=True)
class Span:
    """One fact on one server, over all rows it could be about."""

    lowest: float
    """Of its numbers; nan if there are none, and then nothing is as extreme."""
    highest: float
    texts: frozenset[str]

    @classmethod
    def of(cls, values: Sequence[Any]) -> "Span":
        """From the values."""
        numbers = [v for value in values if isinstance(v := _plain(value), float)]
        texts = frozenset(v for value in values if isinstance(v := _plain(value), str))
        return cls(min(numbers, default=math.nan), max(numbers, default=math.nan), texts)

    @property
    def extremes(self) -> list[Any]:
        """If none of these is unlike the healthy ones, no row is."""
        return [*self.texts, *([] if math.isnan(self.lowest) else [self.lowest, self.highest])]


@dataclass(frozen=True)
class Spread:
    """One fact over the servers on which it was measured, by id."""

    spans: dict[str, Span]

    def unlike(self, value: Any, but: str = "") -> frozenset[_Side] | None:
        """In which way hardly any server (other than `but`) is so; None: too few to compare."""
        others = [span for name, span in self.spans.items() if name != but]
        if len(others) < FEWEST:
            return None
        few, value = SIMILAR * len(others), _plain(value)
        if isinstance(value, str):
            kinds = frozenset[str]().union(*(span.texts for span in others))
            # What is different on every server is a name, and a name is no measurement.
            named = len(kinds) > len(others) / 2
            shown = sum(value in span.texts for span in others)
            return frozenset({"other"} if shown <= few and not named else ())
        above = sum(span.highest >= value for span in others) <= few
        below = sum(span.lowest <= value for span in others) <= few
        sides: tuple[tuple[_Side, bool], ...] = (("above", above), ("below", below))
        return frozenset(side for side, is_so in sides if is_so)


@dataclass
class Reference:
    """Servers to compare with, by id."""

    healthy: Mapping[str, Readings]
    sick: Mapping[str, Readings] = field(default_factory=dict)
    _spreads: dict[tuple[str, _Signature], Spread] = field(default_factory=dict)
    _sick_sides: dict[_Signature, frozenset[_Side]] = field(default_factory=dict)

    @property
    def enough(self) -> bool:
        """Whether anything can be said, also of a server that is one of the healthy ones."""
        return len(self.healthy) > FEWEST

    def spread(self, which: Literal["healthy", "sick"], signature: _Signature) -> Spread:
        """The fact on the healthy or on the sick servers."""
        known = self._spreads.get((which, signature))
        if known is None:
            servers = self.healthy if which == "healthy" else self.sick
            found = {name: _values(signature, seen) for name, seen in servers.items()}
            known = Spread({name: Span.of(v) for name, v in found.items() if v is not None})
            self._spreads[which, signature] = known
        return known

    def sick_sides(self, signature: _Signature) -> frozenset[_Side]:
        """In which ways more than a few of the sick servers are unlike the healthy ones."""
        if signature not in self._sick_sides:
            healthy, sick = (self.spread(which, signature) for which in ("healthy", "sick"))
            found = Counter(
                side
                for span in sick.spans.values()
                for side in frozenset[_Side]().union(
                    *(healthy.unlike(one) or () for one in span.extremes)
                )
            )
            many = SIMILAR * len(sick.spans)
            self._sick_sides[signature] = frozenset(s for s, n in found.items() if n > many)
        return self._sick_sides[signature]


@dataclass(frozen=True)
class Answer:
    """Of a diagnosis, what decides which way its facts have to tell."""

    id: str
    """The server it is about: never compared with itself."""
    is_incident: bool
    plain: bool
    """It says `no-incident`, not one of the catalogued false alarms."""
    culprits: Sequence[Culprit]
    """Of the truth."""


Cited = Mapping[str, tuple[str, Mapping[str, Any]]]
"""Tool and reading by evidence id."""


def with_carried(telling: int, facts: int) -> int:
    """How many facts of a claim count as telling, if so many of them do on their own.

    Each speaks for CARRIED more: "28.0 MiB of 30.0 MiB: 93 %" is one observation in three facts.
    More than that is padding.
    """
    return min(facts, telling * (1 + CARRIED))


def tells(fact: Fact, cited: Cited, answer: Answer, reference: Reference) -> bool:
    """Whether this fact on its own tells this server from healthy ones (or from sick ones)."""
    if _names(fact, answer.culprits):
        return True
    signature = _signature(fact, cited)
    if signature is None:
        return False
    healthy = reference.spread("healthy", signature)
    unlike = healthy.unlike(fact.value, answer.id)
    if unlike is None:
        return False
    if answer.is_incident or (unlike and not answer.plain):
        return bool(unlike)
    return bool(reference.sick_sides(signature) - unlike)


def _names(fact: Fact, culprits: Sequence[Culprit]) -> bool:
    for culprit in culprits:
        if culprit.kind == "config":
            spellings = {culprit.name, culprit.name.replace("-", "_")}
            if any(path.rpartition(".")[2].rpartition(":")[2] in spellings for path in fact.of):
                return True
        elif culprit.name and fact.value == culprit.name:
            return True
    return False


# -- the same fact elsewhere ----------------------------------------------------------------


def _signature(fact: Fact, cited: Cited) -> _Signature | None:
    paths = []
    for path in fact.of:
        name, separator, rest = path.partition(":")
        other = bool(separator) and name in cited
        evidence = name if other else fact.evidence
        if evidence not in cited:
            return None
        tool, reading = cited[evidence]
        paths.append((tool, tuple(_steps(reading, rest if other else path))))
    return fact.op, tuple(paths)


def _steps(reading: Any, path: str) -> Iterator[_Step]:
    at, table = reading, ""
    for step in path.split("."):
        if isinstance(at, list) and step.isdigit() and int(step) < len(at):
            at = at[int(step)]
            known = _NAMED_ROWS.get(table)
            named = known is not None and isinstance(at, dict) and known in at
            yield (known, str(at[known])) if known is not None and named else None
        else:
            at = at.get(step) if isinstance(at, dict) else None
            table = step
            yield step


def _values(signature: _Signature, seen: Readings) -> list[Any] | None:
    """The fact at every row of this server it could be about; None where it was not measured."""
    operation, paths = signature
    if any("not_measured" in seen.get(tool, {"not_measured": ""}) for tool, _ in paths):
        return None
    tables: dict[tuple[str, tuple[_Step, ...]], int] = {}
    for tool, steps in paths:
        for place, step in enumerate(steps):
            if step is None:
                rows = _down(seen[tool], steps[:place], {})
                tables[tool, steps[:place]] = len(rows) if isinstance(rows, list) else 0
    found = []
    chosen = itertools.product(*(range(count) for count in tables.values()))
    for rows in itertools.islice(chosen, MOST_ROWS):
        at = dict(zip(tables, rows, strict=True))
        leaves = [_single(_down(seen[tool], steps, _rows_of(tool, at))) for tool, steps in paths]
        value = None if None in leaves else calculated(operation, leaves)
        if value is not None:
            found.append(value)
    empty = any(count == 0 for count in tables.values()) or any(
        table in _LISTS_WHAT_HAPPENED and isinstance(row, tuple)
        for _, steps in paths
        for table, row in itertools.pairwise(steps)
    )
    return found if found or empty else None


def _rows_of(
    tool: str, at: Mapping[tuple[str, tuple[_Step, ...]], int]
) -> dict[tuple[_Step, ...], int]:
    return {table: row for (of, table), row in at.items() if of == tool}


def _down(reading: Any, steps: Sequence[_Step], rows: Mapping[tuple[_Step, ...], int]) -> Any:
    at = reading
    for place, step in enumerate(steps):
        if isinstance(step, str):
            at = at.get(step) if isinstance(at, dict) else None
        elif not isinstance(at, list):
            return None
        elif step is None:
            row = rows.get(tuple(steps[:place]), 0)
            at = at[row] if row < len(at) else None
        else:
            # A command that was never called has no row: its numbers are zero there.
            at = next((r for r in at if str(r.get(step[0])) == step[1]), _NOTHING)
    return at


class _Nothing(dict[str, int]):
    def get(self, key: object, default: object = None) -> int:
        return 0


_NOTHING = _Nothing()


def _single(at: Any) -> Any:
    return None if isinstance(at, dict | list) else at


def _plain(value: Any) -> float | str:
    """A number, also where it is printed as text (as CONFIG GET does); else text."""
    try:
        return str(value) if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return str(value)
