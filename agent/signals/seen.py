"""What has been seen, typed; and what a signal is. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar, cast

from pydantic import BaseModel, ValidationError

from agent.incident import ClaimDraft, Culprit, FactDraft, FactOperation
from tools.catalogue import Tool
from tools.keyspace import BigKeys, Keyspace
from tools.reading import Evidence, Measured, NotMeasured, Reading
from tools.reads import READS
from tools.streams import Streams

Role = Literal["symptom", "trend", "trait"]
"""symptom: something that hurts, or a fault by itself; it wants an explanation.
trend: makes a composition a problem, but is nothing to be woken up for alone.
trait: composition, settings and habits; healthy servers have them too."""

KIB = 1024
MIB = 1024 * KIB

R = TypeVar("R", bound=Reading)
T = TypeVar("T")


class Unmeasured(Exception):
    """Ends a signal whose question could not be answered."""

    def __init__(self, reading: NotMeasured) -> None:
        super().__init__(reading.because)
        self.reading = reading


def measured(value: Measured[T]) -> T:
    """The value, or the end of the signal. Silence is not health."""
    if isinstance(value, NotMeasured):
        raise Unmeasured(value)
    return value


def _at(reading: Any, path: str) -> Any:
    """What a dotted path points at, or the first thing on the way that was not measured."""
    for step in path.split("."):
        if isinstance(reading, NotMeasured):
            break
        if isinstance(reading, BaseModel):
            reading = getattr(reading, step)
        else:
            reading = reading[int(step) if isinstance(reading, list) else step]
    return reading


@dataclass(frozen=True)
class Look(Generic[R]):
    """A reading and the id of the evidence it was kept under."""

    evidence: str
    reading: R

    def fact(
        self, name: str, *of: str, unit: str = "", op: FactOperation | None = None
    ) -> FactDraft:
        """A number or name of this reading; two paths are a ratio unless `op` says otherwise.

        Ends the signal if one was not measured: a claim says nothing that cannot be computed.
        """
        for path in of:
            if not path.startswith("E") or ":" not in path:
                measured(_at(self.reading, path))
        operation: FactOperation = op or ("ratio" if len(of) == 2 else "value")
        return FactDraft(name=name, evidence=self.evidence, op=operation, of=list(of), unit=unit)

    def path(self, path: str) -> str:
        """A path of this reading, for a fact of another."""
        measured(_at(self.reading, path))
        return f"{self.evidence}:{path}"


class Seen:
    """Typed view over evidence: of each kind of reading, the latest that was measured."""

    def __init__(self, evidence: Sequence[Evidence]) -> None:
        self._looks: dict[type[Reading], Look[Reading]] = {}
        self._failures: dict[str, NotMeasured] = {}
        for piece in evidence:
            self._keep(piece)

    def _keep(self, piece: Evidence) -> None:
        tool = READS.get(piece.tool)
        if tool is None:
            return
        reading = _parsed(tool, piece)
        if isinstance(reading, NotMeasured):
            self._failures[piece.tool] = reading
            return
        kind = type(reading)
        earlier = self._looks.get(kind)
        if earlier is None or not _tells_more(earlier.reading, reading):
            self._looks[kind] = Look(piece.id, reading)

    def look(self, kind: type[R]) -> Look[R]:
        """The look of this kind. Ends the signal if there is none."""
        found = self._looks.get(kind)
        if found is None:
            raise Unmeasured(self._why_not(kind))
        return cast("Look[R]", found)

    def optional(self, kind: type[R]) -> Look[R] | None:
        """The look of this kind, where a signal can do without it."""
        return cast("Look[R] | None", self._looks.get(kind))

    def failures(self) -> dict[str, NotMeasured]:
        """Tools of which no look was measured, and why."""
        kinds = {tool: READS[tool].reading for tool in self._failures}
        return {tool: why for tool, why in self._failures.items() if kinds[tool] not in self._looks}

    def _why_not(self, kind: type[Reading]) -> NotMeasured:
        tool = next((name for name, tool in READS.items() if tool.reading is kind), kind.__name__)
        return self._failures.get(tool) or NotMeasured(
            not_measured=tool, because="nobody has looked yet"
        )


def _parsed(tool: Tool, piece: Evidence) -> Reading | NotMeasured:
    try:
        return tool.parse(piece.reading)
    except ValidationError:
        return NotMeasured(
            not_measured=piece.tool,
            because=f"{piece.id} is of a shape this version does not know",
            failure="error",
        )


def _tells_more(earlier: Reading, later: Reading) -> bool:
    """A narrower second look (one prefix, one name) must not hide the first."""
    if isinstance(earlier, BigKeys) and isinstance(later, BigKeys):
        return earlier.keys_seen > later.keys_seen
    if isinstance(earlier, Keyspace) and isinstance(later, Keyspace):
        return earlier.sampled > later.sampled
    if isinstance(earlier, Streams) and isinstance(later, Streams):
        return bool(earlier.streams) and not later.streams
    return False


@dataclass(frozen=True)
class Finding:
    """What a signal function saw: a sentence, its facts, how strong, and who did it."""

    text: str
    facts: list[FactDraft]
    strength: float = 1.0
    culprit: Culprit | None = None

    def by(self, culprit: Culprit | None) -> "Finding":
        """The same, and who did it."""
        return replace(self, culprit=culprit)


@dataclass(frozen=True)
class Signal:
    """A finding by name. `strength` is between 0 and 1."""

    name: str
    claim: ClaimDraft
    culprit: Culprit | None
    strength: float


Outcome = Signal | NotMeasured | None
"""None: measured, and not there."""


@dataclass(frozen=True)
class SignalSpec:
    """One entry of the catalogue: a pure function of what was seen."""

    name: str
    role: Role
    says: str
    """One sentence for people, from the function's docstring."""
    function: Callable[[Seen], Finding | None]

    def __call__(self, seen: Seen) -> Outcome:
        """Fired, absent (None) or not measured. Never raises for what was not measured."""
        try:
            finding = self.function(seen)
        except Unmeasured as unmeasured:
            return unmeasured.reading
        if finding is None:
            return None
        claim = ClaimDraft(text=finding.text, facts=finding.facts)
        return Signal(self.name, claim, finding.culprit, clamp(finding.strength))


def signal(role: Role) -> Callable[[Callable[[Seen], Finding | None]], SignalSpec]:
    """Make a catalogue entry of a function; its name and docstring are the entry's."""

    def make(function: Callable[[Seen], Finding | None]) -> SignalSpec:
        says = (function.__doc__ or "").strip().partition("\n")[0].rstrip(".")
        return SignalSpec(function.__name__, role, says, function)

    return make


@dataclass(frozen=True)
class Signals:
    """What detection found. Every name of the catalogue is in exactly one of the three."""

    fired: dict[str, Signal] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    not_measured: dict[str, NotMeasured] = field(default_factory=dict)


def clamp(value: float, low: float = 0.0, high: float = 1.0) -> float:
    """The value within its bounds."""
    return max(low, min(high, value))


def scaled(value: float, weak: float, strong: float) -> float:
    """Strength by size: 0.5 at the threshold, 1 where nothing is left to doubt."""
    if strong <= weak:
        return 1.0
    return clamp(0.5 + 0.5 * (value - weak) / (strong - weak), 0.5, 1.0)
