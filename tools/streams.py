"""Streams, their groups and what is pending. Source: XINFO STREAM, XINFO GROUPS, XLEN."""

from tools.reading import Measured, Reading


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
    length: int
    length_per_second: Measured[float]
    """Between two XLEN reads at least 5 s apart."""
    entries_added: Measured[int]
    first_entry_age_seconds: Measured[float]
    """From the id of the first entry, when ids are milliseconds."""
    pending: int
    """Over all groups."""
    pending_share: float
    """pending / length (0 for an empty stream without pending; at most 10)."""
    groups: list[GroupRow]


class Streams(Reading):
    """Streams asked for by name, or the largest found by a budgeted SCAN TYPE stream."""

    streams: list[StreamRow]
    """Most bytes first, at most 20."""
    found: int
    stopped_because: str
