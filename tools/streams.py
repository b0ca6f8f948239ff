"""Streams, their groups and what is pending. Source: XLEN, XINFO GROUPS, XPENDING.

Never XINFO STREAM: its first and last entry are values.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import Field

from tools.catalogue import Arguments
from tools.census import Census
from tools.connection import Command, CommandFailure, Connection, Reply, read_info
from tools.reading import Measured, NotMeasured, Reading, printable
from tools.replies import integer, items, mapping, measured_integer, text
from tools.scanner import (
    CAME_HOME,
    Answer,
    ScanArguments,
    Walk,
    by_key,
    each,
    in_round_trips,
    leaves_idle_time,
    would_touch,
)

MOST_STREAMS = 20
MOST_GROUPS = 50
MOST_REASONS = 3
MOST_FOUND = 10_000
MOST_ASKED = 50
"""Largest keys asked for their type, a keyspace hit each, where SCAN TYPE would hit them all."""
LONGEST_KEY = 4_096


class GroupRow(Reading):
    """One consumer group."""

    name: str
    consumers: int
    pending: int
    lag: Measured[int]
    """Entries not delivered yet (7.0+; NotMeasured when the server cannot tell)."""
    longest_idle_seconds: Measured[float]
    """Of the oldest pending entry (XPENDING)."""
    last_delivered_id: str


class StreamRow(Reading):
    """One stream."""

    key: str
    bytes: Measured[int]
    share_of_dataset: Measured[float]
    """bytes / used_memory_dataset, at most 1 (bytes are an estimate, on 6.2 often too high)."""
    length: int
    length_per_second: Measured[float]
    """Between two XLEN reads at least 5 s apart."""
    pending: int
    """Over all groups."""
    pending_share: float
    """pending / length (0 for an empty stream without pending; at most 10)."""
    groups: list[GroupRow]


class UnreadStream(Reading):
    """A stream that was found and not looked into."""

    key: str
    bytes: Measured[int]
    because: str


class Streams(Reading):
    """Streams asked for by name, or the largest found by a budgeted SCAN TYPE stream."""

    streams: list[StreamRow]
    """Most bytes first, at most 20."""
    found: int
    stopped_because: str
    unread: list[UnreadStream] = Field(default_factory=list)
    """Found or asked for, but not looked into."""
    lookups: int = 0
    """Commands the server counts as keyspace hits (XLEN, XINFO, TYPE), whoever asks."""


class StreamInfoArguments(Arguments):
    """Which streams, and how far apart the two reads of their length are."""

    keys: list[str] = Field(
        default_factory=list,
        max_length=MOST_STREAMS,
        description="Names of streams; none: the largest ones are found by a budgeted scan.",
    )
    seconds: float = Field(
        default=5.0, ge=0, le=60, description="Between the two XLEN reads, in seconds; 0: one read."
    )
    scan_seconds: float = Field(default=4.0, gt=0, le=60, description="Longest scan, in seconds.")


@dataclass
class _Stream:
    key: bytes
    bytes: Measured[int]
    length: Answer = None
    later: Answer = None
    groups: list[Reply] = field(default_factory=list)
    oldest: list[Answer] = field(default_factory=list)
    failure: NotMeasured | None = None


@dataclass
class _Found:
    streams: list[_Stream]
    stopped_because: str
    total: int
    lookups: int = 0


async def stream_info(connection: Connection, args: StreamInfoArguments) -> Streams | NotMeasured:
    """Length, growth per second, consumer groups, pending entries and lag of streams.

    Sizes in bytes, times in seconds. On servers without CLIENT NO-TOUCH (before 7.2) only streams
    in use this very second are looked into: any other look would reset their idle time.
    Source: XLEN twice, XINFO GROUPS, XPENDING, MEMORY USAGE.
    """
    may_touch = await leaves_idle_time(connection)
    if args.keys:
        found = await _named(connection, args.keys)
    elif may_touch:
        found = await _by_type(connection, args)
    else:
        found = await _among_largest(connection, args)
    readable = await _readable(connection, found, may_touch)
    seconds = await _look_into(connection, found, readable, args.seconds)
    return await _reading(connection, found, readable, seconds)


async def _named(connection: Connection, keys: Sequence[str]) -> _Found:
    """Streams by name. A missing key is found out by MEMORY USAGE, which counts no miss."""
    names = [key.encode("utf-8", "surrogateescape") for key in dict.fromkeys(keys)]
    streams = [await _sized(connection, name) for name in names]
    return _Found(streams, "the streams asked for were looked at", len(streams))


async def _sized(connection: Connection, key: bytes) -> _Stream:
    shown = printable(key)
    if len(key) > LONGEST_KEY or re.search(r"…\(\d+ characters\)\Z", shown):
        return _unreadable(key, "the name was cut when it was shown: it cannot be asked for")
    (size,) = await connection.execute_many([("MEMORY", "USAGE", key)])
    if size is None and re.search(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|[nrt])", shown):
        return _unreadable(key, "no such key: the name was escaped when it was shown")
    if size is None:
        return _unreadable(key, "no such key")
    if isinstance(size, CommandFailure):
        return _Stream(key, size.as_not_measured())
    return _Stream(key, measured_integer(size, "MEMORY USAGE"))


def _unreadable(key: bytes, because: str) -> _Stream:
    why = NotMeasured(not_measured=f"stream {printable(key)}", because=because)
    return _Stream(key, why, failure=why)


async def _by_type(connection: Connection, args: StreamInfoArguments) -> _Found:
    budget = ScanArguments(seconds=args.scan_seconds, keys=MOST_FOUND)
    walk = Walk(connection, budget, only_type="stream")
    found: list[_Stream] = []
    async for page in walk.pages(each(("MEMORY", "USAGE"))):
        for key, (size,) in by_key(page):
            if isinstance(size, CommandFailure):
                found.append(_Stream(key, size.as_not_measured()))
            elif isinstance(size, int):
                found.append(_Stream(key, size))
    found.sort(key=lambda stream: -(stream.bytes if isinstance(stream.bytes, int) else 0))
    return _Found(found[:MOST_STREAMS], walk.stopped_because, len(found))


async def _among_largest(connection: Connection, args: StreamInfoArguments) -> _Found:
    """Where SCAN TYPE counts a keyspace hit for every key (before 7.2): ask the largest only."""
    census = Census(expected=0, sizes_only=True)
    walk = Walk(connection, ScanArguments(seconds=args.scan_seconds))
    async for page in walk.pages(census.ask):
        if (stopper := census.take(page)) is not None:
            walk.stopped_because = str(stopper)
            break
    if census.failure is not None and not census.keys:
        raise census.failure
    largest = census.largest()[:MOST_ASKED]
    kinds = await in_round_trips(connection, [("TYPE", key) for key, _ in largest])
    streams = [
        _Stream(key, size)
        for (key, size), kind in zip(largest, kinds, strict=True)
        if kind == b"stream"
    ]
    stopped = walk.stopped_because or CAME_HOME
    if len(largest) < census.keys:
        stopped += f"; looked for among the {len(largest)} largest of {census.keys} keys"
    return _Found(streams[:MOST_STREAMS], stopped, len(streams), len(largest))


async def _readable(connection: Connection, found: _Found, may_touch: bool) -> list[_Stream]:
    """Those that a look does not change. Everything else says why not."""
    streams = [stream for stream in found.streams if stream.failure is None]
    if may_touch:
        return streams
    idles = await in_round_trips(
        connection, [("OBJECT", "IDLETIME", stream.key) for stream in streams]
    )
    found.lookups += len(idles)
    for stream, idle in zip(streams, idles, strict=True):
        if isinstance(idle, CommandFailure):
            stream.failure = idle.as_not_measured()
        elif idle != 0:
            stream.failure = would_touch(f"XLEN {printable(stream.key)}")
    return [stream for stream in streams if stream.failure is None]


async def _look_into(
    connection: Connection, found: _Found, streams: list[_Stream], seconds: float
) -> float:
    """Lengths, groups, the oldest pending entry of each group; then lengths again."""
    if not streams:
        return 0.0
    commands: list[Command] = []
    for stream in streams:
        commands += [("XLEN", stream.key), ("XINFO", "GROUPS", stream.key)]
    answers = await in_round_trips(connection, commands)
    first_read = connection.now()
    for place, stream in enumerate(streams):
        stream.length, groups = answers[2 * place : 2 * place + 2]
        _keep(stream, groups)
    pending = [
        (stream, ("XPENDING", stream.key, _raw_name(group), "-", "+", 1))
        for stream in streams
        for group in stream.groups
    ]
    oldest = await in_round_trips(connection, [command for _, command in pending])
    for (stream, _), answer in zip(pending, oldest, strict=True):
        stream.oldest.append(answer)
    found.lookups += len(commands) + len(pending)
    if not seconds:
        return 0.0
    await connection.wait(seconds)
    lengths = await in_round_trips(connection, [("XLEN", stream.key) for stream in streams])
    for stream, length in zip(streams, lengths, strict=True):
        stream.later = length
    found.lookups += len(lengths)
    return (connection.now() - first_read).total_seconds()


def _keep(stream: _Stream, groups: Answer) -> None:
    if isinstance(stream.length, CommandFailure):
        stream.failure = stream.length.as_not_measured()
    elif isinstance(groups, CommandFailure):
        stream.failure = groups.as_not_measured()
    else:
        stream.groups = items(groups)[:MOST_GROUPS]


def _raw_name(group: Reply) -> bytes:
    flat = items(group)
    name = dict(zip(map(text, flat[::2]), flat[1::2], strict=False)).get("name")
    return name if isinstance(name, bytes) else b""


async def _reading(
    connection: Connection, found: _Found, readable: list[_Stream], seconds: float
) -> Streams | NotMeasured:
    unread = [
        UnreadStream(key=printable(stream.key), bytes=stream.bytes, because=stream.failure.because)
        for stream in found.streams
        if stream.failure is not None
    ]
    read = [stream for stream in readable if stream.failure is None]
    if found.streams and not read:
        failures = [stream.failure for stream in found.streams if stream.failure is not None]
        sizes = [each.bytes for each in found.streams if isinstance(each.bytes, NotMeasured)]
        # A size that was refused is told here or nowhere: the stream has no row.
        reasons = list(dict.fromkeys(each.because for each in [*sizes, *failures]))[:MOST_REASONS]
        return failures[-1].model_copy(update={"because": "; ".join(reasons)})
    dataset = await _dataset(connection)
    rows = [_row(stream, dataset, seconds) for stream in read]
    rows.sort(key=lambda row: -(row.bytes if isinstance(row.bytes, int) else 0))
    return Streams(
        streams=rows,
        found=found.total,
        stopped_because=found.stopped_because,
        unread=unread,
        lookups=found.lookups,
    )


async def _dataset(connection: Connection) -> Measured[int]:
    value = (await read_info(connection, "memory")).get("used_memory_dataset", "")
    return measured_integer(value.encode(), "INFO memory used_memory_dataset")


def _row(stream: _Stream, dataset: Measured[int], seconds: float) -> StreamRow:
    length = integer(stream.length) if isinstance(stream.length, int) else 0
    groups = [
        _group(mapping(group), oldest)
        for group, oldest in zip(stream.groups, stream.oldest, strict=True)
    ]
    pending = sum(group.pending for group in groups)
    return StreamRow(
        key=printable(stream.key),
        bytes=stream.bytes,
        share_of_dataset=_share(stream.bytes, dataset),
        length=length,
        length_per_second=_growth(stream, length, seconds),
        pending=pending,
        pending_share=min(pending / length, 10.0) if length else (10.0 if pending else 0.0),
        groups=groups,
    )


def _share(size: Measured[int], dataset: Measured[int]) -> Measured[float]:
    if isinstance(size, NotMeasured):
        return size
    if isinstance(dataset, NotMeasured):
        return dataset
    return min(size / dataset, 1.0) if dataset else 0.0


def _growth(stream: _Stream, length: int, seconds: float) -> Measured[float]:
    if isinstance(stream.later, int) and seconds > 0:
        return (stream.later - length) / seconds
    because = "only one read was asked for"
    if isinstance(stream.later, CommandFailure):
        because = str(stream.later)
    return NotMeasured(not_measured="second XLEN", because=because)


def _group(group: dict[str, Reply], oldest: Answer) -> GroupRow:
    return GroupRow(
        name=text(group.get("name")),
        consumers=integer(group.get("consumers")),
        pending=integer(group.get("pending")),
        lag=measured_integer(group.get("lag"), "XINFO GROUPS lag"),
        longest_idle_seconds=_oldest_idle(oldest),
        last_delivered_id=text(group.get("last-delivered-id")),
    )


def _oldest_idle(oldest: Answer) -> Measured[float]:
    if isinstance(oldest, CommandFailure):
        return oldest.as_not_measured()
    entry = items(items(oldest)[0]) if items(oldest) else []
    if len(entry) < 3:
        return NotMeasured(not_measured="XPENDING", because="nothing is pending")
    return integer(entry[2]) / 1000
