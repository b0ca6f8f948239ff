"""What the keys are: counts, expiry, prefixes, big keys."""

from pydantic import Field

from tools.reading import Measured, Reading


class DatabaseKeys(Reading):
    """One line of INFO keyspace."""

    db: int
    keys: int
    expires: int
    avg_ttl_seconds: float


class PrefixTtl(Reading):
    """Expiry of one prefix's keys, from the sample."""

    prefix: str
    """Ends with its separator (`session:`); keys without one are `(no prefix)` together."""
    keys: int
    without_ttl: int
    without_ttl_share: float
    median_ttl_seconds: float | None
    """Of the keys that expire."""


class Keyspace(Reading):
    """Keys, expires, and TTL share by prefix. Source: INFO keyspace, SCAN and PTTL of a sample."""

    databases: list[DatabaseKeys]
    keys: int
    """Over all databases."""
    expires: int
    expires_share: float | None
    """expires / keys; None without keys."""
    sampled: int
    prefixes: list[PrefixTtl]
    """Most sampled keys first."""
    sample_stopped_because: str


class KeyRow(Reading):
    """One key. `bytes`: MEMORY USAGE; `elements`: its length (characters of a string)."""

    key: str
    type: str
    bytes: Measured[int]
    bytes_are: str
    """`estimated` (MEMORY USAGE, 5 samples) or `exact`."""
    elements: Measured[int]
    ttl_seconds: Measured[float]
    """-1: never expires."""
    encoding: Measured[str]
    idle_seconds: Measured[int]
    share_of_dataset: Measured[float]
    """bytes / used_memory_dataset, a fraction."""


class PrefixRow(Reading):
    """All scanned keys of one prefix."""

    prefix: str
    keys: int
    bytes: int
    share_of_bytes: float
    """Of the bytes scanned, a fraction."""
    mean_bytes: float
    types: list[str]
    without_ttl_share: float
    median_idle_seconds: Measured[float]


class TypeRow(Reading):
    """All scanned keys of one type."""

    type: str
    keys: int
    bytes: int
    share_of_bytes: float


class BigKeys(Reading):
    """Keys by size, from a budgeted SCAN with MEMORY USAGE, TYPE, length, TTL, encoding, idle time.

    Sizes are estimates; `coverage` says how much of the keyspace was seen.
    """

    keys_total: Measured[int]
    """DBSIZE"""
    keys_seen: int
    coverage: Measured[float]
    """keys_seen / keys_total, at most 1."""
    complete: bool
    """The scan ended by itself, not by its budget."""
    stopped_because: str
    seconds: float
    bytes_seen: int
    dataset_bytes: Measured[int]
    """used_memory_dataset"""
    mean_value_bytes: Measured[float]
    """Mean STRLEN of scanned strings."""
    mean_key_bytes: Measured[float]
    """bytes_seen / keys_seen: what a key costs with its overhead."""
    without_ttl_share: float | None
    top_by_bytes: list[KeyRow] = Field(max_length=100)
    top_by_elements: list[KeyRow] = Field(max_length=100)
    prefixes: list[PrefixRow]
    """Most bytes first."""
    types: list[TypeRow]
    """Most bytes first."""
