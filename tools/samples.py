"""Two INFO samples some seconds apart, and honest rates between them."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field

from tools.catalogue import Arguments
from tools.connection import Connection, read_info
from tools.reading import Measured, NotMeasured
from tools.replies import absent

LEAST_GROWTH = 1 << 20
"""Bytes between two samples, for a server to grow: our own looks' buffers alone moved used_memory
by up to 424 KiB on the four builds."""
LEAST_GROWTH_SHARE = 0.001
"""Of the limit, to extrapolate over days: the larger the server, the more its buffers move."""


def growth_noise(limit: float | None) -> float:
    """Growth between two samples that is less than this, in bytes, is not extrapolated."""
    return max(LEAST_GROWTH, LEAST_GROWTH_SHARE * (limit or 0))


class SampleArguments(Arguments):
    """How far apart the two samples are taken."""

    seconds: float = Field(default=5.0, ge=1.0, le=60.0)
    """Between the two samples."""


@dataclass(frozen=True)
class Samples:
    """INFO's fields twice."""

    first: dict[str, str]
    last: dict[str, str]
    seconds: float

    def growth(self, name: str) -> Measured[float]:
        """Change per second of a gauge; negative when it shrinks."""
        if (broken := self.restarted()) is not None:
            return broken
        return self._slope(name)

    def rate(self, name: str) -> Measured[float]:
        """Increase per second of a counter."""
        if (broken := self.restarted() or self.counters_reset()) is not None:
            return broken
        return self._slope(name)

    def _slope(self, name: str) -> Measured[float]:
        first, last = _number(self.first, name), _number(self.last, name)
        if isinstance(first, NotMeasured):
            return first
        return last if isinstance(last, NotMeasured) else (last - first) / self.seconds

    def restarted(self) -> NotMeasured | None:
        """Why the samples cannot be compared: another process, or no time between them."""
        if self.seconds <= 0:
            return _no_rate("no time passed between the samples", "error")
        if self.first.get("run_id") != self.last.get("run_id") or _fell(self, "uptime_in_seconds"):
            return _no_rate("the server was restarted or replaced between the samples")
        return None

    def counters_reset(self) -> NotMeasured | None:
        """CONFIG RESETSTAT sets all counters back together: one that fell condemns all."""
        fell = any(_fell(self, name) for name in _COUNTERS)
        return _no_rate("a counter was reset between the samples") if fell else None


# Counters of INFO stats that tick on any server somebody talks to, and those of the other tools.
_COUNTERS = frozenset(
    {
        "total_connections_received", "total_commands_processed", "total_net_input_bytes",
        "total_net_output_bytes", "total_reads_processed", "total_writes_processed",
        "total_error_replies", "expired_keys", "evicted_keys", "keyspace_hits",
        "keyspace_misses", "rejected_connections", "sync_full", "sync_partial_ok",
        "sync_partial_err", "total_forks", "evicted_clients", "evicted_scripts",
    }
)  # fmt: skip


def _fell(samples: Samples, name: str) -> bool:
    first, last = _number(samples.first, name), _number(samples.last, name)
    return isinstance(first, float) and isinstance(last, float) and last < first


def _number(info: Mapping[str, str], name: str) -> Measured[float]:
    try:
        return float(info[name])
    except (KeyError, ValueError):
        return absent(f"INFO {name}")


def _no_rate(because: str, failure: str = "absent") -> NotMeasured:
    return NotMeasured.model_validate(
        {"not_measured": "rates between two samples", "because": because, "failure": failure}
    )


async def take_samples(connection: Connection, seconds: float, *sections: str) -> Samples:
    """INFO of the sections twice; `server` and `stats` are always among them.

    They show a restart or a reset of the counters. Raises CommandFailure.
    """
    wanted = ("server", "stats", *sections)
    first, began = await read_info(connection, *wanted), connection.now()
    await connection.wait(seconds)
    last, ended = await read_info(connection, *wanted), connection.now()
    return Samples(first, last, (ended - began).total_seconds())
