"""Signals of streams: length, growth, and what was delivered but never acknowledged."""

from agent.incident import Culprit
from agent.signals.keys import NEARLY_ALL, dominating, refuse_partial
from agent.signals.memory import memory_grows
from agent.signals.seen import MIB, Finding, Look, Seen, Unmeasured, measured, scaled, signal
from tools.keyspace import BigKeys
from tools.memory import MemoryInfo
from tools.reading import NotMeasured, number
from tools.stats import CommandStats
from tools.streams import StreamRow, Streams

STREAM_SHARE = 0.2
"""As for any single key, FAILURE_MODES 2."""
STREAM_FLOOR = MIB
GROWS_PER_SECOND = 1.0
GROWS_SHARE = 0.5
"""Of what is added: MAXLEN ~ trims whole nodes of 100 entries, so a bounded length swings too."""
GROWS_ANYWAY = 200.0
PENDING_FLOOR = 1_000
PENDING_BYTES = 84
"""FAILURE_MODES 6: measured bytes per pending entry."""
PENDING_SHARE = 0.5
"""Pending entries per entry of the stream."""
PENDING_FEW = 0.1
ACKNOWLEDGED_FEW = 0.1
READS_SOME, ADDS_MANY = 5, 100
OLD_SECONDS = 60.0
"""A consumer that works acknowledges within seconds; a minute is far beyond that."""


def _largest(seen: Seen) -> tuple[Look[Streams], int, StreamRow] | None:
    """The stream with most bytes (then most entries and pending), and its index."""
    streams = _all_read(seen)
    rows = enumerate(streams.reading.streams)
    best = max(rows, key=lambda item: (number(item[1].bytes) or 0, _weight(item[1])), default=None)
    return None if best is None else (streams, *best)


def _all_read(seen: Seen) -> Look[Streams]:
    """The look at the streams, if it left out none that matters."""
    streams = seen.look(Streams)
    for left_out in streams.reading.unread:
        if (number(left_out.bytes) or STREAM_FLOOR) >= STREAM_FLOOR:
            raise Unmeasured(
                NotMeasured(not_measured=f"stream {left_out.key}", because=left_out.because)
            )
    return streams


def _weight(row: StreamRow) -> int:
    return row.length + row.pending


@signal("trait")
def stream_dominates(seen: Seen) -> Finding | None:
    """One stream holds a large share of the memory."""
    memory = seen.look(MemoryInfo)
    used = max(measured(memory.reading.used_memory), 1)
    found = _from_keys(seen) or _from_streams(seen)
    if found is None or found[3] < max(STREAM_FLOOR, STREAM_SHARE * used):
        if seen.optional(Streams) is None:
            refuse_partial(seen, NEARLY_ALL)
        return None
    look, at, name, size = found
    name_of, holds = look.fact("key", f"{at}.key", unit="text"), f"{at}.bytes"
    return dominating("The stream {key}", [name_of], look, holds, memory, size / used).by(
        Culprit(kind="stream", name=name)
    )


Found = tuple[Look[BigKeys] | Look[Streams], str, str, int]


def _from_keys(seen: Seen) -> Found | None:
    keys = seen.optional(BigKeys)
    if keys is None:
        return None
    rows = [
        (index, row.key, row.bytes)
        for index, row in enumerate(keys.reading.top_by_bytes)
        if row.type == "stream" and isinstance(row.bytes, int)
    ]
    best = max(rows, key=lambda row: row[2], default=None)
    return None if best is None else (keys, f"top_by_bytes.{best[0]}", best[1], best[2])


def _from_streams(seen: Seen) -> Found | None:
    # Where the keyspace was measured and holds no large stream, that is an answer.
    if (streams := seen.optional(Streams)) is None:
        seen.look(BigKeys)
        return None
    rows = [
        (index, row.key, row.bytes)
        for index, row in enumerate(streams.reading.streams)
        if isinstance(row.bytes, int)
    ]
    best = max(rows, key=lambda row: row[2], default=None)
    return None if best is None else (streams, f"streams.{best[0]}", best[1], best[2])


@signal("trait")
def stream_grows(seen: Seen) -> Finding | None:
    """The largest stream gets longer."""
    if (found := _largest(seen)) is None:
        return None
    streams, index, row = found
    rate = measured(row.length_per_second)
    if rate < max(GROWS_PER_SECOND, min(GROWS_SHARE * _added_per_second(seen), GROWS_ANYWAY)):
        return None
    return Finding(
        "{key} has {length} entries and grows by {rate}.",
        [
            streams.fact("key", f"streams.{index}.key", unit="text"),
            streams.fact("length", f"streams.{index}.length", unit="count"),
            streams.fact("rate", f"streams.{index}.length_per_second", unit="per_second"),
        ],
    )


def _added_per_second(seen: Seen) -> float:
    """XADD calls, over all streams."""
    if (commands := seen.optional(CommandStats)) is None:
        return 0.0
    return sum(r.calls_per_second for r in commands.reading.commands if r.command == "xadd")


@signal("trend")
def stream_fills_memory(seen: Seen) -> Finding | None:
    """The largest stream gets longer, and memory grows."""
    finding = stream_grows.function(seen)
    return finding if finding is not None and memory_grows.function(seen) is not None else None


@signal("trait")
def stream_is_consumed(seen: Seen) -> Finding | None:
    """Nothing of the largest stream waits for an acknowledgement."""
    if (found := _largest(seen)) is None:
        return None
    streams, index, row = found
    if row.pending_share >= PENDING_FEW or not row.length:
        return None
    return Finding(
        "{key} keeps {length} entries, of which {pending} are delivered and not acknowledged: no "
        "consumer holds it back.",
        [
            streams.fact("key", f"streams.{index}.key", unit="text"),
            streams.fact("length", f"streams.{index}.length", unit="count"),
            streams.fact("pending", f"streams.{index}.pending", unit="count"),
        ],
    )


def _most_pending(seen: Seen) -> tuple[Look[Streams], int, StreamRow] | None:
    streams = _all_read(seen)
    best = max(enumerate(streams.reading.streams), key=lambda item: item[1].pending, default=None)
    return None if best is None else (streams, *best)


@signal("trait")
def pending_dominates(seen: Seen) -> Finding | None:
    """Most of a stream was delivered and never acknowledged."""
    memory = seen.look(MemoryInfo)
    used = max(measured(memory.reading.used_memory), 1)
    if (found := _most_pending(seen)) is None:
        return None
    streams, index, row = found
    size = max(number(row.bytes) or 0, row.pending * PENDING_BYTES)
    if row.pending < PENDING_FLOOR or row.pending_share < PENDING_SHARE:
        return None
    if size < STREAM_FLOOR or size / used < STREAM_SHARE:
        return None
    return Finding(
        "{pending} entries of {key} were delivered and never acknowledged; the stream itself has "
        "{length}.",
        [
            streams.fact("pending", f"streams.{index}.pending", unit="count"),
            streams.fact("key", f"streams.{index}.key", unit="text"),
            streams.fact("length", f"streams.{index}.length", unit="count"),
        ],
        scaled(row.pending_share, PENDING_SHARE, 0.9),
        Culprit(kind="stream", name=row.key),
    )


@signal("trait")
def pending_is_old(seen: Seen) -> Finding | None:
    """The oldest pending entry has waited for long."""
    if (found := _most_pending(seen)) is None:
        return None
    streams, index, row = found
    ages = {
        at: age
        for at, group in enumerate(row.groups)
        if (age := number(group.longest_idle_seconds)) is not None
    }
    if not ages:
        if row.groups:
            measured(row.groups[0].longest_idle_seconds)
        return None
    at = max(ages, key=lambda group: ages[group])
    if ages[at] < OLD_SECONDS:
        return None
    group = f"streams.{index}.groups.{at}"
    return Finding(
        "The oldest pending entry of {group} has waited {age}.",
        [
            streams.fact("group", f"{group}.name", unit="text"),
            streams.fact("age", f"{group}.longest_idle_seconds", unit="seconds"),
        ],
    )


@signal("trait")
def deliveries_not_acknowledged(seen: Seen) -> Finding | None:
    """Consumer groups read streams and acknowledge nothing."""
    commands = seen.look(CommandStats)
    rows = {row.command: (index, row) for index, row in enumerate(commands.reading.commands)}
    if "xreadgroup" not in rows or "xadd" not in rows:
        return None
    index, reads = rows["xreadgroup"]
    adds, acks = rows["xadd"][1], rows["xack"][1] if "xack" in rows else None
    now = min(reads.calls_per_second, adds.calls_per_second)
    if now > 0:
        few = (acks.calls_per_second if acks else 0.0) < ACKNOWLEDGED_FEW * now
        field, unit, strength = "calls_per_second", "per_second", 1.0
    else:  # nobody reads at the moment: counts since the start tell what they did
        many = reads.calls >= READS_SOME and adds.calls >= ADDS_MANY
        few = many and (acks.calls if acks else 0) < ACKNOWLEDGED_FEW * reads.calls
        field, unit, strength = "calls", "count", 0.9
    if not few:
        return None
    return Finding(
        "Consumer groups read ({reads} of XREADGROUP), and hardly anything is acknowledged.",
        [commands.fact("reads", f"commands.{index}.{field}", unit=unit)],
        strength,
    )
