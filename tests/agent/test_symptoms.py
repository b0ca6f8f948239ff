"""Symptoms of persistence and of what no known cause explains; leaks seen in a sample only."""

from collections.abc import Sequence

import pytest

from tests.agent.readings import (
    MIB,
    bigkeys,
    blank,
    commands,
    config,
    errors,
    memory,
    persistence,
    prefix,
    stats,
)
from tests.agent.test_signals import event, fires
from tools.reading import Reading
from tools.stats import CommandRow, CommandStats


def sampled(keys: int, size: int, share: float) -> Reading:
    """One key of a hundred was scanned; the rows say what those hold."""
    rows = [prefix("s:", keys, size // 10, share, 1.0), prefix("t:", 600, 50_000, 0.1, 0.0)]
    return bigkeys([], rows, 100_000, keys_seen=1_000, complete=False, dataset_bytes=45 * MIB)


def busy(rejected: float = 0.0) -> Reading:
    """GETs, of which so many are rejected each second."""
    row = blank(CommandRow, command="get", calls_per_second=90.0, rejected_per_second=rejected)
    return blank(CommandStats, seconds=5.0, commands=[row])


TABLE: tuple[tuple[str, list[Reading], list[Reading]], ...] = (
    ("snapshot_failed", [persistence(rdb_last_bgsave_status="err")], [persistence()]),
    ("append_failed", [persistence(aof_last_write_status="err")], [persistence()]),
    ("rewrite_failed", [persistence(aof_last_bgrewrite_status="err")], [persistence()]),
    (
        "writes_refused_for_persistence",
        [errors(("MISCONF", 40, 3.0))],
        [errors(("MISCONF", 40, 0.0), ("OOM", 40, 3.0))],
    ),
    (
        "file_rewritten_repeatedly",
        [
            persistence(aof_enabled=1, aof_rewrites=9, aof_current_size=MIB),
            stats(total_forks=10, uptime_in_seconds=60, total_forks_per_second=0.4),
        ],
        [
            persistence(aof_enabled=1, aof_rewrites=1, aof_current_size=MIB),
            stats(total_forks=10, uptime_in_seconds=60, total_forks_per_second=0.4),
        ],
    ),
    (
        "rewrite_is_eager",
        [config(**{"appendonly": "yes", "auto-aof-rewrite-percentage": "1"})],
        [
            config(
                **{
                    "appendonly": "yes",
                    "auto-aof-rewrite-percentage": "100",
                    "auto-aof-rewrite-min-size": str(64 * MIB),
                }
            )
        ],
    ),
    (
        "fsync_stalls",
        [
            persistence(aof_enabled=1),
            stats(uptime_in_seconds=900),
            event("aof-fsync-always", 9, 90),
        ],
        [persistence(aof_enabled=1), stats(uptime_in_seconds=900), event("command", 9, 90)],
    ),
    (  # no latency event: fsyncs that lasted two seconds, often
        "fsync_stalls",
        [
            persistence(aof_enabled=1, aof_delayed_fsync=9),
            stats(uptime_in_seconds=900),
            event("command", 9, 90),
        ],
        [
            persistence(aof_enabled=1, aof_delayed_fsync=1),
            stats(uptime_in_seconds=90_000),
            event("command", 9, 90),
        ],
    ),
    ("commands_fail", [errors(("WRONGTYPE", 90, 30.0))], [errors(("WRONGTYPE", 900, 0.0)), busy()]),
    # Our own looks meet ERR; a command of an application that is rejected does not come from us.
    ("commands_fail", [errors(("ERR", 90, 30.0)), busy(30.0)], [errors(("ERR", 90, 30.0)), busy()]),
    # Refused for memory: that has a signal of its own.
    (
        "commands_fail",
        [errors(("OOM", 90, 3.0)), busy(30.0)],
        [errors(("OOM", 90, 30.0)), busy(30.0)],
    ),
    (
        "connections_churn",
        [stats(connections_per_second=300.0), commands(90.0, 300.0)],
        [stats(connections_per_second=300.0), commands(90.0, 2_000.0)],
    ),
    (
        "connections_churn",
        [stats(connections_per_second=150.0), commands(1.0)],
        [stats(connections_per_second=9.0), commands(1.0)],
    ),
    (
        "commands_are_paused",
        [commands(9.0, **{"client|pause": 2.0})],
        [commands(9.0, **{"client|pause": 0.1})],
    ),
    # A sample of the keys: many by extrapolation, and a large key does not hide their share.
    (
        "prefix_never_expires",
        [memory(50 * MIB), sampled(400, 3 * MIB, 0.3)],
        [memory(50 * MIB), sampled(40, 3 * MIB, 0.3)],
    ),
)


@pytest.mark.parametrize(("name", "there", "not_there"), TABLE)
def test_threshold(name: str, there: Sequence[Reading], not_there: Sequence[Reading]) -> None:
    assert fires(name, *there)
    assert not fires(name, *not_there)
