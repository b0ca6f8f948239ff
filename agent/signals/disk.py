"""Signals of the disk: snapshots and appends that fail, rewrites in a loop, fsyncs that stall."""

from agent.incident import Culprit
from agent.signals.limits import stalled
from agent.signals.seen import (
    MIB,
    Finding,
    Look,
    Seen,
    Unmeasured,
    measured,
    scaled,
    signal,
)
from tools.configuration import Configuration
from tools.latency import LatencyEvents
from tools.persistence import Persistence
from tools.reading import NotMeasured, number
from tools.stats import ErrorStats, Stats

REWRITES_LEAST = 5
REWRITE_EACH_SECONDS = 60.0
"""FAILURE_MODES 27: rewrites and forks that climb each minute."""
REWRITE_SHARE = 0.5
"""Of all forks: the rest may be snapshots and full syncs."""
EAGER_PERCENTAGE = 50
"""redis.conf: auto-aof-rewrite-percentage 100. At 0 there are no automatic rewrites."""
EAGER_BYTES = 16 * MIB
"""redis.conf: auto-aof-rewrite-min-size 64mb."""
FSYNC_EVENTS = (
    "aof-fsync-always", "aof-write-pending-fsync", "aof-write", "aof-write-alone",
    "aof-write-active-child",
)  # fmt: skip
"""Names of aof.c; each is time in which the server answered nobody."""
FSYNC_MILLISECONDS = 20
"""Under appendfsync always every write waits so long: twice what the slow log calls slow."""
DELAYED_EACH_SECONDS = 600.0
"""Each delayed fsync made writes wait for two seconds (aof.c): more often hurts."""


@signal("symptom")
def snapshot_failed(seen: Seen) -> Finding | None:
    """The last snapshot failed."""
    return _failed(seen, "rdb_last_bgsave_status", "The last snapshot ended with {status}.")


@signal("symptom")
def append_failed(seen: Seen) -> Finding | None:
    """The append-only file cannot be written."""
    return _failed(
        seen, "aof_last_write_status", "The last write to the append-only file ended with {status}."
    )


@signal("symptom")
def rewrite_failed(seen: Seen) -> Finding | None:
    """The last rewrite of the append-only file failed."""
    return _failed(
        seen,
        "aof_last_bgrewrite_status",
        "The last rewrite of the append-only file ended with {status}.",
    )


def _failed(seen: Seen, field: str, text: str) -> Finding | None:
    disk = seen.look(Persistence)
    if measured(getattr(disk.reading, field)) != "err":
        return None
    return Finding(text, [disk.fact("status", field, unit="text")])


@signal("symptom")
def writes_refused_for_persistence(seen: Seen) -> Finding | None:
    """Writes are refused because the data cannot be kept on disk."""
    errors = seen.look(ErrorStats)
    for index, row in enumerate(errors.reading.errors):
        if row.code == "MISCONF" and row.per_second > 0:
            return Finding(
                "Commands are refused with {code} at {rate}, {count} since the start.",
                [
                    errors.fact("code", f"errors.{index}.code", unit="text"),
                    errors.fact("rate", f"errors.{index}.per_second", unit="per_second"),
                    errors.fact("count", f"errors.{index}.count", unit="count"),
                ],
            )
    return None


@signal("symptom")
def file_rewritten_repeatedly(seen: Seen) -> Finding | None:
    """The append-only file is rewritten again and again."""
    disk, stats = seen.look(Persistence), seen.look(Stats)
    if not measured(disk.reading.aof_enabled):
        return None
    forks, uptime = measured(stats.reading.total_forks), measured(stats.reading.uptime_in_seconds)
    rewrites = number(disk.reading.aof_rewrites)  # not on 6.2, where only forks are counted
    # Persistence is read at the first sample, forks are counted at the second.
    since = measured(stats.reading.total_forks_per_second) * stats.reading.seconds
    mostly = rewrites is None or rewrites >= REWRITE_SHARE * max(forks - since, 1)
    if forks < REWRITES_LEAST or uptime > forks * REWRITE_EACH_SECONDS or not mostly:
        return None
    if measured(stats.reading.total_forks_per_second) <= 0 and not _rewrites_now(disk):
        return None
    if rewrites is None and not _rewrites_now(disk) and _eager(seen) is None:
        return None
    return Finding(
        "Child processes were started {forks} times in {uptime}, for the append-only file of "
        "{size}.",
        [
            stats.fact("forks", "total_forks", unit="count"),
            stats.fact("uptime", "uptime_in_seconds", unit="seconds"),
            disk.fact("size", "aof_current_size", unit="bytes"),
        ],
        scaled(forks / max(uptime, 1), 1 / REWRITE_EACH_SECONDS, 1 / 20),
        _culprit(seen),
    )


def _rewrites_now(disk: Look[Persistence]) -> bool:
    return bool(measured(disk.reading.aof_rewrite_in_progress))


def _eager(seen: Seen) -> tuple[Look[Configuration], str] | None:
    """The parameter that makes rewrites start early."""
    config = seen.optional(Configuration)
    if config is None:
        return None
    values = config.reading.parameters
    if values.get("appendonly") != "yes":
        return None
    percentage, size = (values.get(f"auto-aof-rewrite-{name}", "") for name in _EAGER)
    if percentage.isdigit() and 0 < int(percentage) < EAGER_PERCENTAGE:
        return config, "auto-aof-rewrite-percentage"
    if size.isdigit() and int(size) < EAGER_BYTES and percentage != "0":
        return config, "auto-aof-rewrite-min-size"
    return None


_EAGER = ("percentage", "min-size")


def _culprit(seen: Seen) -> Culprit | None:
    found = _eager(seen)
    return Culprit(kind="config", name=found[1]) if found else None


@signal("trait")
def rewrite_is_eager(seen: Seen) -> Finding | None:
    """A rewrite of the append-only file starts after little growth."""
    seen.look(Configuration)
    if (found := _eager(seen)) is None:
        return None
    config, name = found
    return Finding(
        "Rewrites start early: the threshold is set to {value}.",
        [
            config.fact(
                "value", f"parameters.{name}", unit="bytes" if name.endswith("size") else "count"
            )
        ],
        1.0,
        Culprit(kind="config", name=name),
    )


@signal("symptom")
def fsync_stalls(seen: Seen) -> Finding | None:
    """Writes wait for the disk to take what was appended."""
    disk, stats = seen.look(Persistence), seen.look(Stats)
    if not measured(disk.reading.aof_enabled):
        return None
    culprit = Culprit(kind="config", name="appendfsync") if _always(seen) else None
    latency = seen.optional(LatencyEvents)
    text = "Writing the append-only file stalled the server for {longest}."
    if (
        latency is not None
        and (finding := stalled(latency, FSYNC_EVENTS, text, FSYNC_MILLISECONDS)) is not None
    ):
        return finding.by(culprit)
    delayed = measured(disk.reading.aof_delayed_fsync)
    uptime = measured(stats.reading.uptime_in_seconds)
    if not delayed or uptime > delayed * DELAYED_EACH_SECONDS:
        if latency is None or not measured(latency.reading.threshold_milliseconds):
            raise Unmeasured(_monitor_off())
        return None
    return Finding(
        "An fsync in progress made writes wait {delayed} times in {uptime}.",
        [
            disk.fact("delayed", "aof_delayed_fsync", unit="count"),
            stats.fact("uptime", "uptime_in_seconds", unit="seconds"),
        ],
        0.8,
        culprit,
    )


def _monitor_off() -> NotMeasured:
    return NotMeasured(
        not_measured="stalls of the append-only file",
        because="the latency monitor is off or was not read",
        failure="disabled",
        remedy="CONFIG SET latency-monitor-threshold 100",
    )


def _always(seen: Seen) -> bool:
    config = seen.optional(Configuration)
    return config is not None and config.reading.parameters.get("appendfsync") == "always"


@signal("trait")
def fsync_every_write(seen: Seen) -> Finding | None:
    """Every write waits for its fsync."""
    disk, config = seen.look(Persistence), seen.look(Configuration)
    if not measured(disk.reading.aof_enabled) or not _always(seen):
        return None
    return Finding(
        "Every write is synced to disk before it is answered: {setting}.",
        [config.fact("setting", "parameters.appendfsync", unit="text")],
        1.0,
        Culprit(kind="config", name="appendfsync"),
    )
