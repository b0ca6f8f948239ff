"""Signals of what makes commands wait: recent, recurring, and with a floor."""

from collections.abc import Sequence

import pytest

from tests.agent.readings import (
    MIB,
    UNSEEN,
    blank,
    config,
    errors,
    memory,
    stats,
)
from tests.agent.test_signals import event, fires
from tools.hotkeys import HotKey, HotKeys
from tools.latency import LatencyDoctor
from tools.reading import Reading
from tools.scripts import Scripts
from tools.slowlog import SlowCommand, SlowCommandGroup, Slowlog
from tools.stats import CommandRow, CommandStats

GIB = 1024 * MIB


def slow(command: str, count: int, longest: int, age: int = 5) -> Slowlog:
    entry = SlowCommand(
        id=1, started_at=1, microseconds=longest, command=command, key="k", argument_count=1,
        client="127.0.0.1:5", client_name="report-1",
    )  # fmt: skip
    group = SlowCommandGroup(
        command=command, count=count, total_microseconds=count * longest,
        longest_microseconds=longest, newest_age_seconds=age,
    )  # fmt: skip
    return Slowlog(threshold_microseconds=10_000, entries=[entry], groups=[group], total=count)


def called(command: str, per_second: float, each: float, share: float) -> CommandStats:
    row = blank(
        CommandRow, command=command, calls=900, calls_per_second=per_second, usec_per_call=each,
        cpu_share=share,
    )  # fmt: skip
    return blank(CommandStats, seconds=5.0, commands=[row])


def hot(*frequencies: int) -> HotKeys:
    rows = [HotKey(key=f"k{n}", frequency=f) for n, f in enumerate(frequencies)]
    return HotKeys(keys_seen=900, complete=True, stopped_because="", lookups=900, hottest=rows)


NOTHING = called("get", 90.0, 2.0, 0.5)
TABLE: tuple[tuple[str, Sequence[Reading], Sequence[Reading]], ...] = (
    (
        "whole_collections_read",
        [called("keys", 2.0, 40_000.0, 0.9), slow("KEYS", 4, 40_000)],
        [called("keys", 2.0, 40.0, 0.9), slow("GET", 4, 40_000)],
    ),
    (  # what was slow last week
        "whole_collections_read",
        [NOTHING, slow("SMEMBERS", 9, 60_000)],
        [NOTHING, slow("SMEMBERS", 9, 60_000, age=7 * 86_400)],
    ),
    (  # once
        "whole_collections_read",
        [NOTHING, slow("SORT", 3, 60_000)],
        [NOTHING, slow("SORT", 1, 60_000)],
    ),
    ("freeing_stalls", [slow("DEL", 3, 60_000)], [slow("DEL", 3, 11_000), event("command", 1, 90)]),
    (
        "freeing_stalls",
        [slow("GET", 1, 11_000), event("expire-del", 9, 90)],
        [slow("GET", 1, 11_000), event("expire-del", 9_000, 90)],
    ),
    (
        "lazy_freeing_off",
        [config(**{"lazyfree-lazy-user-del": "no"})],
        [config(**{"lazyfree-lazy-user-del": "yes"})],
    ),
    ("one_key_is_hot", [hot(199, 20)], [hot(199, 150)]),
    ("one_key_is_hot", [hot(120)], [hot(20, 2)]),
    (
        "cpu_busy",
        [stats(cpu_cores=0.7, commands_per_second=90.0)],
        [stats(cpu_cores=0.3, commands_per_second=90.0)],
    ),
    (
        "cpu_busy",
        [stats(cpu_cores=0.4, commands_per_second=400_000.0)],
        [stats(cpu_cores=0.4, commands_per_second=40_000.0)],
    ),
    (
        "script_blocks_server",
        [blank(Scripts, blocked_by="BUSY", running_script=UNSEEN), errors()],
        [blank(Scripts, running_script=""), errors(("BUSY", 9, 0.0))],
    ),
    ("script_blocks_server", [errors(("BUSY", 9, 3.0))], [errors(("OOM", 9, 3.0))]),
    (
        "memory_swapped",
        [memory(2 * GIB, used_memory_rss=GIB, mem_clients_normal=MIB)],
        [memory(50 * MIB, used_memory_rss=40 * MIB, mem_clients_normal=MIB)],
    ),
    (  # Valkey 9 counts replies that it sends by reference
        "memory_swapped",
        [memory(2 * GIB, used_memory_rss=GIB, mem_clients_normal=MIB)],
        [memory(2 * GIB, used_memory_rss=GIB, mem_clients_normal=GIB)],
    ),
    (
        "fork_is_slow",
        [memory(4 * GIB), stats(latest_fork_usec=400_000)],
        [memory(40 * GIB), stats(latest_fork_usec=400_000)],
    ),
    (
        "huge_pages_in_use",
        [LatencyDoctor(text="uses anonymous huge pages"), stats(latest_fork_usec=9)],
        [LatencyDoctor(text="I have no latency problem to report"), stats(latest_fork_usec=9)],
    ),
)  # fmt: skip


@pytest.mark.parametrize(("name", "there", "not_there"), TABLE)
def test_a_latency_signal_fires_only_where_it_hurts(
    name: str, there: Sequence[Reading], not_there: Sequence[Reading]
) -> None:
    assert fires(name, *there)
    assert not fires(name, *not_there)
