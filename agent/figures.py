"""Numbers out of evidence, by path: `memory_info.used_memory_peak`. Pure.

The newest evidence of the tool that holds the path answers. What is missing says why.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agent.facts import UNITS, FactRefused, Scalar, resolve
from agent.facts import printed as printed_fact
from agent.incident import Fact
from tools.reading import Evidence, printable
from tools.samples import growth_noise

MIB = 1024 * 1024
WARNING_SHARE = 0.75
"""Of the limit: runbooks/memory-pressure.md."""
MOST_LOOKS = 50
"""How many looks of one tool are searched, newest first."""


@dataclass(frozen=True)
class Figure:
    """One value and the evidence it was read from."""

    value: Scalar
    evidence: tuple[str, ...]


class Unmeasured(Exception):
    """The value is not in the evidence; the text says why."""

    def __init__(self, because: str, evidence: tuple[str, ...] = ()) -> None:
        super().__init__(because)
        self.evidence = evidence


def look_up(evidence: Sequence[Evidence], path: str) -> Figure:
    """The value at `<tool>.<path>`, or a derived one. Raises Unmeasured."""
    if (derive := DERIVED.get(path)) is not None:
        return derive(evidence)
    tool, _, rest = path.partition(".")
    refused: Unmeasured | None = None
    for piece in _looks(evidence, tool):
        try:
            return Figure(resolve(rest, piece.id, {piece.id: piece}), (piece.id,))
        except FactRefused as why:
            refused = refused or Unmeasured(str(why), (piece.id,))  # the newest look's reason
    raise refused or Unmeasured(f"{tool} was not run")


def _looks(evidence: Sequence[Evidence], tool: str) -> list[Evidence]:
    return [piece for piece in evidence if piece.tool == tool][: -MOST_LOOKS - 1 : -1]


class Look:
    """Reads figures for one judgement and remembers which evidence it rests on."""

    def __init__(self, evidence: Sequence[Evidence]) -> None:
        self._evidence = evidence
        self.used: list[str] = []

    def value(self, path: str) -> Scalar:
        """The value. Raises Unmeasured."""
        try:
            figure = look_up(self._evidence, path)
        except Unmeasured as missing:
            self._remember(missing.evidence)
            raise
        self._remember(figure.evidence)
        return figure.value

    def number(self, path: str) -> float:
        """The value as a number. Raises Unmeasured."""
        value = self.value(path)
        try:
            return float(value)
        except ValueError:
            raise Unmeasured(f"{path} is not a number") from None

    def number_or_none(self, path: str) -> float | None:
        """The value as a number, None when it was not measured."""
        try:
            return self.number(path)
        except Unmeasured:
            return None

    def text(self, path: str) -> str:
        """The value as bounded text. Raises Unmeasured."""
        return printable(str(self.value(path)))

    def text_or_none(self, path: str) -> str | None:
        """The value as text, None when it was not measured."""
        try:
            return self.text(path)
        except Unmeasured:
            return None

    def rows(self, path: str) -> list[dict[str, Any]]:
        """A list of rows in the newest evidence that has it. Raises Unmeasured."""
        tool, _, field = path.partition(".")
        for piece in _looks(self._evidence, tool):
            found = piece.reading.get(field)
            if isinstance(found, list):
                self._remember((piece.id,))
                return [row for row in found if isinstance(row, dict)]
            because = printable(str(piece.reading.get("because", f"no {field} in it")), 300)
            raise Unmeasured(f"{piece.id} ({tool}): {because}", (piece.id,))
        raise Unmeasured(f"{tool} was not run")

    def _remember(self, ids: tuple[str, ...]) -> None:
        self.used += [i for i in ids if i not in self.used]


def _headroom(evidence: Sequence[Evidence]) -> Figure:
    """Bytes until the limit."""
    look = Look(evidence)
    room = look.number("memory_info.limit") - look.number("memory_info.counted_memory")
    return Figure(max(room, 0.0), tuple(look.used))


def _peak_share(evidence: Sequence[Evidence]) -> Figure:
    """Peak over the limit, a fraction."""
    look = Look(evidence)
    limit = look.number("memory_info.limit")
    if limit <= 0:
        raise Unmeasured("no memory limit is known", tuple(look.used))
    return Figure(look.number("memory_info.used_memory_peak") / limit, tuple(look.used))


def _seconds_to_full(evidence: Sequence[Evidence]) -> Figure:
    """Seconds until the limit if the growth between the two samples went on."""
    look = Look(evidence)
    growth, seconds = look.number("stats.used_memory_per_second"), look.number("stats.seconds")
    limit = look.number("memory_info.limit")
    if growth * seconds < growth_noise(limit):
        because = f"no growth beyond noise within the {seconds:.0f} s between two samples"
        raise Unmeasured(because, tuple(look.used))
    room = max(limit - look.number("memory_info.counted_memory"), 0.0)
    return Figure(room / growth, tuple(look.used))


def _size_for_target(evidence: Sequence[Evidence]) -> Figure:
    """The limit at which the peak would stay at 75 %, the seed's warning threshold.

    Unmeasured where it does already: that is no reason to make a server smaller.
    """
    look = Look(evidence)
    peak = look.number("memory_info.used_memory_peak")
    limit = look.number_or_none("memory_info.limit")
    if limit and peak <= WARNING_SHARE * limit:
        raise Unmeasured("the peak is within 75 % of the limit", tuple(look.used))
    return Figure(peak / WARNING_SHARE, tuple(look.used))


DERIVED: dict[str, Callable[[Sequence[Evidence]], Figure]] = {
    "capacity.headroom_bytes": _headroom,
    "capacity.peak_share": _peak_share,
    "capacity.seconds_to_full": _seconds_to_full,
    "capacity.limit_for_75_percent": _size_for_target,
}
"""Figures computed from several readings; paths like any other."""


def printed(value: Scalar, unit: str = "") -> str:
    """A value as people read it; names from Redis are quoted."""
    known = unit if unit in UNITS else ""
    return printed_fact(Fact(name="figure", evidence="", of=["figure"], unit=known, value=value))
