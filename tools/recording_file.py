"""The file of a recording: JSON lines, gzipped when its name ends in .gz.

The first line is the header. A frame line holds one command and what came of it at a virtual
time; a known line what the installation knew besides; a keys line holds a piece of the key table by
columns. Bytes that are UTF-8 are written as
text, others as `{"b64": …}`.
"""

import base64
import gzip
import json
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from heapq import nlargest
from itertools import islice
from pathlib import Path
from typing import Any

from tools.connection import Argument, CommandFailure, Reply, worded
from tools.reading import FailureKind

FORMAT_VERSION = 1
MOST_FRAMES = 20_000
MOST_KEYS = 50_000
"""Keys held while recording; more make the key table incomplete."""
LARGEST_FILE = 64 * 1024 * 1024
"""Bytes of a recording after decompression: a bound for files from elsewhere."""
_KEYS_PER_LINE = 1_000

Words = tuple[bytes, ...]
"""A command, normalised: command words upper case, every part bytes."""


class RecordingUnreadable(ValueError):
    """The file is not a recording, or not a whole one; the text says which and where."""


@dataclass(frozen=True)
class Header:
    """Where and when a recording was made."""

    captured_at: str
    """ISO 8601, UTC"""
    flavour: str
    """`redis 7.0.15`, `valkey 9.1.2`, or `unknown`"""
    node: str
    hashed: bool = False
    memory_limit: int | None = None
    alert: dict[str, Any] | None = None
    """What fired: name, severity, labels, annotations."""
    dropped: int = 0
    """Commands that did not fit within MOST_FRAMES."""
    redis_oncall_recording: int = FORMAT_VERSION


@dataclass(frozen=True)
class Failure:
    """A CommandFailure, kept."""

    kind: FailureKind
    text: str
    remedy: str = ""
    tried: str = ""

    def raised_for(self, command: tuple[Argument, ...]) -> CommandFailure:
        """The failure as the live connection raised it."""
        return CommandFailure(self.kind, self.tried or worded(command), self.text, self.remedy)


Outcome = Reply | Failure


@dataclass
class KeyTable:
    """What single keys answered, in the order in which SCAN first showed them."""

    keys: dict[bytes, dict[str, Reply]] = field(default_factory=dict)
    """key -> {command without the key: reply}"""
    scanned: set[bytes] = field(default_factory=set)
    """Keys that a SCAN without a filter showed; others were asked for by name or type."""
    complete: set[str] = field(default_factory=set)
    """Filters whose scan ran to its end: `` for none, else a type."""
    failures: dict[str, Failure] = field(default_factory=dict)
    """Command without the key -> how it failed, where it failed."""


@dataclass
class Recording:
    """A whole recording in memory."""

    header: Header
    frames: dict[Words, list[tuple[float, Outcome]]] = field(default_factory=dict)
    """Outcomes of a command by virtual time, earliest first."""
    table: KeyTable = field(default_factory=KeyTable)
    known: dict[str, Any] = field(default_factory=dict)
    """Arguments that the installation filled, by name: tools/known.py."""
    others: "dict[str, Recording | Failure]" = field(default_factory=dict)
    """What other nodes of the deployment answered, by host:port; or why they were not reached."""

    def add(self, words: Words, at: float, outcome: Outcome) -> None:
        """Keep an outcome. The first one at a virtual time stands."""
        outcomes = self.frames.setdefault(words, [])
        place = bisect_right(outcomes, at, key=lambda frame: frame[0])
        if not place or outcomes[place - 1][0] != at:
            outcomes.insert(place, (at, outcome))

    def at(self, words: Words, when: float) -> tuple[Outcome] | None:
        """The latest outcome at or before a virtual time, else the earliest; None: not recorded."""
        outcomes = self.frames.get(words)
        if not outcomes:
            return None
        place = bisect_right(outcomes, when + 1e-6, key=lambda frame: frame[0])
        return (outcomes[max(0, place - 1)][1],)


def encoded(reply: Reply) -> Any:
    """A reply as JSON."""
    if isinstance(reply, bytes):
        try:
            return reply.decode("utf-8")
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(reply).decode("ascii")}
    return [encoded(part) for part in reply] if isinstance(reply, list) else reply


def decoded(value: Any) -> Reply:
    """JSON as a reply. Raises RecordingUnreadable."""
    if isinstance(value, str):
        return value.encode("utf-8")
    if isinstance(value, list):
        return [decoded(part) for part in value]
    if isinstance(value, dict) and isinstance(value.get("b64"), str):
        return base64.b64decode(value["b64"])
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise RecordingUnreadable(f"{type(value).__name__} is not a reply")


def write(path: Path, recording: Recording, limit: int | None = None) -> None:
    """Write the file whole or not at all; `limit` bounds its compressed size: keys are left out."""
    if limit is not None:
        recording = fitting(recording, limit)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(packed(recording, compress=path.name.endswith(".gz")))
    partial.replace(path)


def packed(recording: Recording, *, compress: bool = True) -> bytes:
    """The bytes of the file; the same recording gives the same bytes."""
    data = ("\n".join(_lines(recording)) + "\n").encode()
    return gzip.compress(data, 9, mtime=0) if compress else data


def fitting(recording: Recording, limit: int) -> Recording:
    """The same with as many keys as fit into `limit` bytes of a compressed file."""
    for _ in range(8):
        size = len(packed(recording))
        if size <= limit or not recording.table.keys:
            break
        frames = len(packed(shortened(recording, 0)))
        room = max(0, limit - frames) / max(1, size - frames)
        recording = shortened(recording, int(len(recording.table.keys) * min(0.95, room * 0.98)))
    return recording


MOST_USED = 10
SHARE_WORTH_KEEPING = 0.2
"""A key of this share of all known bytes stays in a shortened table: FAILURE_MODES.md 2."""


def shortened(recording: Recording, most: int) -> Recording:
    """The same with at most `most` scanned keys, and those that are known for themselves.

    A sample of the first keys is fair (SCAN order is random), so only a key that holds a large
    share of all bytes, the ten used most, and keys that frames speak of, are kept besides them.
    """
    table = recording.table
    if len(table.keys) <= most:
        return recording
    sizes = {key: _size(cells) for key, cells in table.keys.items()}
    large = SHARE_WORTH_KEEPING * max(1, sum(sizes.values()))
    named = {part for words in recording.frames for part in words[1:]}
    used = nlargest(MOST_USED, table.keys, key=lambda key: _frequency(table.keys[key]))
    hot = {key for key in used if _frequency(table.keys[key]) > 0}
    first = set(islice((key for key in table.keys if key in table.scanned), most))
    kept = {
        key: cells
        for key, cells in table.keys.items()
        if key in first or key in named or key in hot or sizes[key] >= large
    }
    if len(kept) == len(table.keys):
        return recording
    left = {key for key in table.scanned if key in kept}
    smaller = KeyTable(kept, left, table.complete - {""}, table.failures)
    return Recording(recording.header, recording.frames, smaller, recording.known, recording.others)


def _frequency(cells: dict[str, Reply]) -> int:
    counted = cells.get("OBJECT FREQ")
    return counted if isinstance(counted, int) else 0


def _size(cells: dict[str, Reply]) -> int:
    return max((v for k, v in cells.items() if k.startswith("MEMORY") and isinstance(v, int)),
               default=0)  # fmt: skip


def _lines(recording: Recording) -> Iterator[str]:
    yield _json(asdict(recording.header))
    yield from _content(recording)
    for address, other in recording.others.items():
        if isinstance(other, Failure):
            yield _json({"at": address, "e": asdict(other)})
        else:
            yield _json({"at": address, "header": asdict(other.header)})
            yield from _content(other)


def _content(recording: Recording) -> Iterator[str]:
    for words, outcomes in recording.frames.items():
        for at, outcome in outcomes:
            line: dict[str, Any] = {"t": at, "c": [encoded(word) for word in words]}
            if isinstance(outcome, Failure):
                line["e"] = asdict(outcome)
            else:
                line["r"] = encoded(outcome)
            yield _json(line)
    if recording.known:
        yield _json({"known": recording.known})
    table = recording.table
    failures = {name: asdict(failure) for name, failure in table.failures.items()}
    yield _json({"complete": sorted(table.complete), "failures": failures})
    rows = iter(table.keys.items())
    while piece := list(islice(rows, _KEYS_PER_LINE)):
        yield _json(_columns(piece, table.scanned))


def _columns(piece: list[tuple[bytes, dict[str, Reply]]], scanned: set[bytes]) -> dict[str, Any]:
    names = sorted({name for _, cells in piece for name in cells})
    return {
        "keys": [encoded(key) for key, _ in piece],
        "unscanned": [place for place, (key, _) in enumerate(piece) if key not in scanned],
        "cells": {
            name: [_cell(cells, name) for _, cells in piece] for name in names
        },
    }  # fmt: skip


def _cell(cells: dict[str, Reply], name: str) -> Any:
    """null: not asked; `{"nil": 1}`: the server answered nil."""
    if name not in cells:
        return None
    return {"nil": 1} if cells[name] is None else encoded(cells[name])


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def read(path: Path) -> Recording:
    """Load a recording. Raises RecordingUnreadable, OSError."""
    lines = _text(path).split("\n")
    try:
        recording = Recording(_header(json.loads(lines[0])))
    except (ValueError, TypeError, AttributeError) as error:
        raise RecordingUnreadable(f"{path.name} is not a recording: {error}") from None
    node = recording
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue
        try:
            content = json.loads(line)
            if "at" in content:
                node = _other(recording, content)
            else:
                _take_in(node, content)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise RecordingUnreadable(f"{path.name}, line {number}: {error!r}") from None
    return recording


def _text(path: Path) -> str:
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise RecordingUnreadable(f"{path.name} is larger than {LARGEST_FILE} bytes")
        return data.decode("utf-8")
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        raise RecordingUnreadable(f"{path.name} is cut off or damaged: {error}") from None


def _header(value: dict[str, Any]) -> Header:
    version = value.get("redis_oncall_recording")
    if version != FORMAT_VERSION:
        raise RecordingUnreadable(f"format version {version!r}; this build reads {FORMAT_VERSION}")
    return Header(**{f.name: value[f.name] for f in fields(Header) if f.name in value})


def _other(recording: Recording, line: dict[str, Any]) -> Recording:
    """What the lines that follow are of."""
    failed = "e" in line
    other = Recording(recording.header if failed else _header(line["header"]))
    recording.others[str(line["at"])] = Failure(**line["e"]) if failed else other
    return other


def _take_in(recording: Recording, line: dict[str, Any]) -> None:
    if "c" in line:
        words = tuple(_bytes(part) for part in line["c"])
        outcome = Failure(**line["e"]) if "e" in line else decoded(line["r"])
        recording.add(words, float(line["t"]), outcome)
    elif "known" in line:
        recording.known = dict(line["known"])
    elif "complete" in line:
        recording.table.complete = set(line["complete"])
        recording.table.failures = {n: Failure(**f) for n, f in line["failures"].items()}
    else:
        _take_in_keys(recording.table, line)


def _take_in_keys(table: KeyTable, line: dict[str, Any]) -> None:
    unscanned = set(line["unscanned"])
    for place, encoded_key in enumerate(line["keys"]):
        key = _bytes(encoded_key)
        table.keys[key] = {
            name: None if column[place] == {"nil": 1} else decoded(column[place])
            for name, column in line["cells"].items()
            if column[place] is not None
        }
        if place not in unscanned:
            table.scanned.add(key)


def _bytes(value: Any) -> bytes:
    part = decoded(value)
    if not isinstance(part, bytes):
        raise RecordingUnreadable(f"{value!r} is not a word")
    return part
