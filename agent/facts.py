"""Facts: paths into evidence, the numbers computed from them, and how those are printed.

Pure. The model names a path; this module looks, calculates and prints.
"""

import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from agent.incident import Fact, FactDraft, FactOperation
from agent.units import MOMENTS, UNITS, dimension, fitting, mixture
from agent.wording import reads_like_a_number
from tools.reading import Evidence, printable

__all__ = [
    "UNITS",
    "FactRefused",
    "Index",
    "Scalar",
    "all_paths",
    "compute",
    "dimension",
    "index",
    "leaves",
    "paths",
    "print_bytes",
    "print_microseconds",
    "print_seconds",
    "print_share",
    "printed",
    "resolve",
]

Scalar: TypeAlias = float | int | str | bool
Index: TypeAlias = Mapping[str, Evidence]

LONGEST_PATH = 200
MOST_PATHS = 2_000
"""How many paths of one reading are walked, for listings and suggestions."""
MOST_COMPARED = 200
"""How many of them a misspelt path is compared with."""
LONGEST_TEXT = 120
"""Characters of a name or text that are printed into a sentence."""
MOST_WORDS_OF_A_NAME = 3
LARGEST = 10**21
"""No counter of 64 bits comes near it."""
_OTHER_EVIDENCE = re.compile(r"(E\d{1,6}):(.*)", re.DOTALL)
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
_PATHS_NEEDED: dict[FactOperation, tuple[int, int, str]] = {
    "value": (1, 1, "one path"),
    "ratio": (2, 2, "two paths, [a, b] = a / b"),
    "difference": (2, 2, "two paths, [a, b] = a - b"),
    "sum": (1, 12, "one path or more"),
    "rate": (3, 3, "three paths, [last, first, seconds]"),
}


class FactRefused(Exception):
    """The fact does not hold; the text says exactly why."""


def index(evidence: Sequence[Evidence]) -> dict[str, Evidence]:
    """Evidence by id."""
    return {piece.id: piece for piece in evidence}


def compute(draft: FactDraft, evidence: Index) -> Fact:
    """The fact with its value. Raises FactRefused."""
    fewest, most, wanted = _PATHS_NEEDED[draft.op]
    if not fewest <= len(draft.of) <= most:
        raise FactRefused(f"{draft.op} takes {wanted}, not {len(draft.of)}")
    if draft.unit not in UNITS:
        known = ", ".join(unit for unit in UNITS if unit)
        raise FactRefused(f"unknown unit {_quoted(draft.unit)}; use one of {known}")
    leaves = [resolve(path, draft.evidence, evidence) for path in draft.of]
    value = leaves[0]
    if draft.op != "value":
        pieces = [_start(path, draft.evidence, evidence)[0] for path in draft.of]
        value = _calculated(draft, leaves, pieces)
    if isinstance(value, int | float) and abs(value) >= LARGEST:
        raise FactRefused(f"the {draft.op} is no number that a server counts to")
    return Fact(**(draft.model_dump() | {"unit": _unit(draft, value)}), value=value)


def resolve(path: str, evidence_id: str, evidence: Index) -> Scalar:
    """What a dotted path (`prefixes.0.bytes`, `E3:used_memory`) points at. Raises FactRefused."""
    piece, steps = _start(path, evidence_id, evidence)
    if not piece.measured:
        raise FactRefused(f"{piece.id} was not measured: {_reason(piece.reading)}")
    at: Any = piece.reading
    while steps and not _is_not_measured(at):
        at, steps = _down(at, steps, path, piece)
    return _scalar(at, path, piece)


def _start(path: str, evidence_id: str, evidence: Index) -> tuple[Evidence, list[str]]:
    other = _OTHER_EVIDENCE.fullmatch(path)
    name, rest = (other[1], other[2]) if other else (evidence_id, path)
    if name not in evidence:
        known = ", ".join(list(evidence)[:40]) or "none"
        raise FactRefused(f"there is no evidence {_quoted(name)}; there is: {known}")
    if not rest or len(rest) > LONGEST_PATH:
        raise FactRefused(f"a path has 1 to {LONGEST_PATH} characters")
    return evidence[name], rest.split(".")


def _down(at: Any, steps: list[str], path: str, piece: Evidence) -> tuple[Any, list[str]]:
    """One step down and the steps that are left; a name with dots in it takes several."""
    if isinstance(at, dict):
        for length in range(len(steps), 0, -1):
            if (name := ".".join(steps[:length])) in at:
                return at[name], steps[length:]
    step = steps[0]
    if isinstance(at, list) and step.isascii() and step.isdigit() and len(step) < 7:
        if int(step) < len(at):
            return at[int(step)], steps[1:]
        raise FactRefused(f"{piece.id} has no {_quoted(path)}: that list has {len(at)} entries")
    raise FactRefused(f"{piece.id} ({piece.tool}) has no {_quoted(path)}{_hint(path, piece)}")


def _hint(path: str, piece: Evidence) -> str:
    """The path that may have been meant. A list's first rows stand for all: they are alike."""
    wanted = path.rpartition(":")[2]
    last = wanted.rpartition(".")[2]
    known = all_paths(piece.reading)
    alike = [one for one in known if one.rpartition(".")[2] == last] or known
    close = difflib.get_close_matches(wanted, alike[:MOST_COMPARED], 1, 0.5)
    return f"; did you mean {printable(close[0], LONGEST_PATH)}?" if close else ""


def _scalar(at: Any, path: str, piece: Evidence) -> Scalar:
    where = f"{_quoted(path)} of {piece.id}"
    if _is_not_measured(at):
        raise FactRefused(f"{where} was not measured: {_reason(at)}")
    if isinstance(at, dict | list):
        raise FactRefused(f"{where} is not a single value: name a path inside it")
    if at is None:
        raise FactRefused(f"{where} holds nothing on this server")
    if isinstance(at, float) and not math.isfinite(at):
        raise FactRefused(f"{where} is not a finite number")
    value: Scalar = at
    # CONFIG GET prints numbers as text; a key called "42" stays a name.
    if isinstance(at, str) and _in_parameters(path) and _WHOLE_NUMBER.fullmatch(at):
        value = int(at)
    return value


def _in_parameters(path: str) -> bool:
    return path.rpartition(":")[2].startswith("parameters.")


def _is_not_measured(at: Any) -> bool:
    return isinstance(at, dict) and "not_measured" in at and "because" in at


def _reason(at: Any) -> str:
    return printable(str(at.get("because", "no reason recorded")), 160)


def _quoted(text: str) -> str:
    return f"'{printable(text, 80)}'"


# -- calculation ----------------------------------------------------------------------------


def _calculated(draft: FactDraft, leaves: list[Scalar], pieces: list[Evidence]) -> float | int:
    numbers = [_number(leaf, path) for leaf, path in zip(leaves, draft.of, strict=True)]
    _refuse_mixture(draft, pieces)
    try:
        result = _OPERATIONS[draft.op](numbers)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise FactRefused(f"the {draft.op} is not a finite number")
    return result


def _number(leaf: Scalar, path: str) -> float | int:
    if isinstance(leaf, bool) or not isinstance(leaf, int | float):
        raise FactRefused(f"{_quoted(path)} is not a number: it cannot be calculated with")
    return leaf


def _refuse_mixture(draft: FactDraft, pieces: list[Evidence]) -> None:
    """What is of different kinds, servers or moments is not one calculation."""
    servers = sorted({piece.node.partition(" ")[0] for piece in pieces})
    if len(servers) > 1:
        raise FactRefused(f"{servers[0]} and {servers[1]} are different servers")
    of = draft.of
    places = {(piece.id, _place(path)) for piece, path in zip(pieces, of, strict=True)}
    if len(places) < len(of):
        raise FactRefused(f"a {draft.op} of the same path twice says nothing")
    if draft.op == "rate":
        if len({piece.id for piece in pieces}) > 1:
            raise FactRefused("the three paths of a rate belong to one piece of evidence")
        if dimension(of[2]) != "seconds":
            raise FactRefused(f"the third path of a rate is in seconds, {_quoted(of[2])} is not")
        of = of[:2]
    if draft.op != "ratio" and (mixed := mixture(of)):
        raise FactRefused(f"{mixed[0]} and {mixed[1]} cannot be added or subtracted")


def _place(path: str) -> tuple[str, ...]:
    """The steps of a path, spelt in one way."""
    steps = path.rpartition(":")[2].split(".")
    return tuple(str(int(step)) if step.isdecimal() else step for step in steps)


def _ratio(numbers: list[float | int]) -> float:
    if numbers[1] == 0:
        raise FactRefused("the denominator is zero")
    return numbers[0] / numbers[1]


def _rate(numbers: list[float | int]) -> float:
    last, first, seconds = numbers
    if seconds <= 0:
        raise FactRefused("no time passed between the two samples")
    if last < first:
        raise FactRefused("the counter went down between the samples (a reset): there is no rate")
    return (last - first) / seconds


_OPERATIONS: dict[FactOperation, Callable[[list[float | int]], float | int]] = {
    "ratio": _ratio,
    "difference": lambda numbers: numbers[0] - numbers[1],
    "sum": sum,
    "rate": _rate,
}


# -- units ----------------------------------------------------------------------------------


def _unit(draft: FactDraft, value: Scalar) -> str:
    """The unit to print the value in: what its paths are measured in, not what was wished for."""
    if isinstance(value, str | bool):
        if draft.unit not in ("text", ""):
            raise FactRefused(f"{_quoted(draft.of[0])} is text: it has no unit '{draft.unit}'")
        return draft.unit
    if draft.unit == "text":
        raise FactRefused(f"{_quoted(draft.of[0])} is a number: give its unit, or none")
    fits = fitting(draft.op, draft.of)
    if draft.unit == "":
        return fits[0] if "" not in fits else ""
    if draft.unit not in fits:
        is_in = fits[0] or "no unit that is known"
        raise FactRefused(f"the result is in {is_in}: it cannot be printed as {draft.unit}")
    return draft.unit


# -- printing -------------------------------------------------------------------------------


def printed(fact: Fact) -> str:
    """The value as a person reads it: `96.1 MiB`, `87.5 %`, `3 min 20 s`, `"session:"`."""
    if isinstance(fact.value, bool):
        return "yes" if fact.value else "no"
    if isinstance(fact.value, str):
        return _printed_moment(fact) or _printed_text(fact.value)
    return _PRINTERS[fact.unit](fact.value)


def _printed_moment(fact: Fact) -> str:
    """`2026-11-30 03:07 UTC`; empty if the path's name does not say that it is one."""
    try:
        at = datetime.fromisoformat(str(fact.value)).astimezone(UTC)
    except (ValueError, OverflowError):
        return ""
    return f"{at:%Y-%m-%d %H:%M UTC}" if fact.of[0].rpartition(".")[2] in MOMENTS else ""


def _printed_text(value: str) -> str:
    """Quoted and bounded; what reads like a number or a sentence is said to be somebody's text."""
    quoted = '"' + printable(value, LONGEST_TEXT).replace('"', '\\"') + '"'
    prose = len(value.split()) > MOST_WORDS_OF_A_NAME
    return f"the text {quoted}" if prose or reads_like_a_number(value) else quoted


def print_share(value: float) -> str:
    """`87.5 %`."""
    return f"{value * 100:,.1f} %"


def print_bytes(value: float) -> str:
    """`512 bytes`, `96.1 MiB`."""
    size, units = float(value), iter(("KiB", "MiB", "GiB", "TiB", "PiB"))
    if abs(size) < 1024:
        return f"{_plain(value)} {'byte' if abs(value) == 1 else 'bytes'}"
    unit = "bytes"
    # Compared as printed, so that 1023.99 KiB does not come out as `1024.0 KiB`.
    while round(abs(size), 1) >= 1024 and (following := next(units, "")):
        size, unit = size / 1024, following
    return f"{size:,.1f} {unit}"


def print_seconds(value: float) -> str:
    """`120 ms`, `12.3 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if value < 0:
        return f"-{print_seconds(-value)}"
    if 0 < value < 1:
        return print_microseconds(value * 1e6)
    if round(value, 1) < 60:
        return f"{_trimmed(value, 1)} s"
    if round(value) < 3600:
        return _two_parts(value, 60, "min", 1, "s")
    if round(value) < 86_400:
        return _two_parts(value, 3600, "h", 60, "min")
    return _two_parts(value, 86_400, "d", 3600, "h")


def _two_parts(value: float, size: int, name: str, part: int, part_name: str) -> str:
    whole, rest = divmod(round(value / part), size // part)
    return f"{whole:,} {name}" + (f" {rest} {part_name}" if rest else "")


def print_microseconds(value: float) -> str:
    """`850 µs`, `12.3 ms`, then as seconds."""
    if abs(value) < 1000:
        return f"{_trimmed(value, 1)} µs"
    if round(abs(value) / 1000, 1) < 1000:
        return f"{_trimmed(value / 1000, 1)} ms"
    return print_seconds(round(value / 1e6, 4))


def _trimmed(value: float, digits: int) -> str:
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _plain(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if value and abs(value) < 0.01:
        return f"{value:.2g}"
    return _trimmed(value, 3 if abs(value) < 100 else 1)


_PRINTERS: dict[str, Callable[[float], str]] = {
    "bytes": print_bytes,
    "ratio": print_share,
    "seconds": print_seconds,
    "milliseconds": lambda value: print_microseconds(value * 1000),
    "microseconds": print_microseconds,
    "percentage": lambda value: print_share(value / 100),
    "bytes_per_second": lambda value: f"{print_bytes(value)}/s",
    "bytes_per_day": lambda value: f"{print_bytes(value)} a day",
    "per_second": lambda value: f"{_trimmed(value, 1 if abs(value) >= 1 else 3)}/s",
    "count": _plain,
    "": _plain,
}


# -- listing --------------------------------------------------------------------------------


def leaves(reading: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every path and what it holds; a NotMeasured inside is one leaf. Bounded."""
    stack: list[tuple[str, Any]] = [(prefix, reading)]
    for _ in range(MOST_PATHS * 4):
        if not stack:
            return
        path, at = stack.pop()
        inside: list[tuple[str, Any]] = []
        if isinstance(at, dict) and not _is_not_measured(at):
            inside = [(str(name), value) for name, value in at.items()]
        elif isinstance(at, list):
            inside = [(str(number), value) for number, value in enumerate(at)]
        else:
            yield path, at
        stack += [(f"{path}.{step}" if path else step, value) for step, value in reversed(inside)]


def all_paths(reading: Any) -> list[str]:
    """The first paths of a reading, up to a bound."""
    return [path for path, _ in zip((path for path, _ in leaves(reading)), range(MOST_PATHS))]  # noqa: B905


def paths(evidence: Evidence) -> str:
    """A compact listing: `E4 bigkeys: keys_seen, prefixes.0-9.{prefix,keys,bytes}`."""
    if not evidence.measured:
        return f"{evidence.id} {evidence.tool}: not measured ({_reason(evidence.reading)})"
    listed: list[str] = []
    for name, value in evidence.reading.items():
        listed += _listed(name, value)
    return f"{evidence.id} {evidence.tool}: {', '.join(listed)}"


def _listed(name: str, value: Any) -> list[str]:
    if _is_not_measured(value) or value is None or value in ([], {}):
        return []
    if isinstance(value, list):
        rows = name + (f".0-{len(value) - 1}" if len(value) > 1 else ".0")
        fields = ",".join(value[0]) if isinstance(value[0], dict) else ""
        return [f"{rows}.{{{fields}}}" if fields else rows]
    return [f"{name}.{{{','.join(value)}}}" if isinstance(value, dict) else name]
