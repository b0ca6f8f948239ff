"""Signals of replication, connections, access and the cluster: thresholds and their look-alikes."""

from collections.abc import Sequence

import pytest

from agent.incident import Culprit
from agent.signals import SIGNALS, Seen, Signal
from tests.agent.readings import (
    MIB,
    UNSEEN,
    bigkeys,
    blank,
    clients,
    config,
    errors,
    evidence,
    prefix,
    replication,
    stats,
)
from tools.access import AclDenial, AclLog
from tools.clients import ClientGroup
from tools.cluster import Cluster, SlotRow, slot_of
from tools.reading import NotMeasured, Reading
from tools.replication import ReplicaRow
from tools.stats import CommandRow, CommandStats


def group(key: str, count: int, idle: int = 0, age: int = 600) -> ClientGroup:
    return blank(
        ClientGroup, key=key, count=count, median_idle_seconds=idle, median_age_seconds=age
    )


def pool(
    count: int, idle: int, *, connected: int = 98, name: str = "orders", **given: object
) -> Reading:
    groups = [group(name, count, idle), group("web", connected - count)]
    host = [group("10.0.0.7", connected, idle)]
    return clients(connected=connected, maxclients=100, by_name=groups, by_address=host, **given)


def waiting(blocked: int, command: str = "blpop") -> Reading:
    return clients(connected=60, blocked=blocked, by_command=[group(command, blocked, 9)])


def called(command: str, calls: int, rate: float) -> Reading:
    row = blank(CommandRow, command=command, calls=calls, calls_per_second=rate)
    return blank(CommandStats, seconds=5.0, commands=[row])


def denied(count: int, age: float, user: str = "billing", client: str = "billing-1a2b") -> Reading:
    entry = blank(
        AclDenial, count=count, reason="command", object="set", username=user,
        client_name=client, client_address="10.0.0.9:50000", age_seconds=age,
    )  # fmt: skip
    return AclLog(entries=[entry], total_denials=count)


def node(share: float, keys: int = 9_000, *, owned: int = 5_461, fair: float = 1.0) -> Reading:
    row = SlotRow(slot=slot_of(b"{cart}"), keys=keys, share_of_keys=share, prefix="")
    return blank(
        Cluster, enabled=True, slots_owned=owned, slots_assigned=16_384, size=3,
        fair_share_of_slots=fair, keys=int(keys / share), fullest=[row],
    )  # fmt: skip


def replica(state: str = "online") -> ReplicaRow:
    return ReplicaRow(address="10.0.0.8:6379", state=state, offset=9, lag_seconds=0, lag_bytes=0)


def synced(full: int, rate: float, uptime: int = 9_000, **given: object) -> Reading:
    return stats(sync_full=full, sync_full_per_second=rate, uptime_in_seconds=uptime, **given)


def writing(rate: float, **given: object) -> Reading:
    return stats(replicated_bytes_per_second=rate, **given)


LOST = {"role": "slave", "primary": "10.0.0.8:6379", "slave_read_only": 1}
DOWN = replication(**LOST, master_link_status="down", master_link_down_since_seconds=90)
FOLLOWS = replication(**LOST, master_link_status="up")
LIMITS = "normal 0 0 0 slave {} pubsub 33554432 8388608 60"
SMALL = config(client_output_buffer_limit=LIMITS.format("1048576 524288 1"))
USUAL = config(client_output_buffer_limit=LIMITS.format("268435456 67108864 60"))
NONE = config(client_output_buffer_limit=LIMITS.format("0 0 0"))

# name, what fires it, what looks like it and does not
TABLE: tuple[tuple[str, Sequence[Reading], Sequence[Reading]], ...] = (
    ("replication_link_down", [DOWN], [FOLLOWS]),
    (  # it has never been up; it was up a moment ago
        "replication_link_down",
        [replication(**LOST, master_link_status="down", master_link_down_since_seconds=-1)],
        [replication(**LOST, master_link_status="down", master_link_down_since_seconds=3)],
    ),
    (  # old errors, from before the roles were put right
        "writes_meet_a_replica",
        [FOLLOWS, errors(("READONLY", 90, 9.0))],
        [FOLLOWS, errors(("READONLY", 90, 0.0))],
    ),
    (
        "writes_meet_a_replica",
        [FOLLOWS, errors(("NOPERM", 90, 9.0), ("READONLY", 90, 9.0))],
        [replication(), errors(("READONLY", 90, 9.0))],
    ),
    (  # two new replicas need one synchronisation each
        "full_syncs_repeat",
        [replication(replica()), synced(2, 0.2)],
        [replication(replica(), replica()), synced(2, 0.4)],
    ),
    (  # a bad hour; a year of restarts
        "full_syncs_repeat",
        [replication(replica()), synced(6, 0.0, 3_000)],
        [replication(replica()), synced(6, 0.0, 90_000)],
    ),
    (  # a replica with another history is refused once
        "partial_syncs_fail",
        [stats(sync_partial_err=3, sync_full=4)],
        [stats(sync_partial_err=1, sync_full=1)],
    ),
    (
        "backlog_is_short",
        [replication(repl_backlog_size=MIB), writing(1e6)],
        [replication(repl_backlog_size=64 * MIB), writing(1e6)],
    ),
    (  # nearly nothing is written
        "backlog_is_short",
        [replication(repl_backlog_size=256 * 1024), writing(20_000.0)],
        [replication(repl_backlog_size=256 * 1024), writing(5_000.0)],
    ),
    ("replica_limit_is_short", [SMALL, writing(1e6)], [USUAL, writing(1e6)]),
    ("replica_limit_is_short", [USUAL, writing(9e6)], [NONE, writing(9e6)]),
    ("replica_mid_sync", [replication(replica("wait_bgsave"))], [replication(replica())]),
    ("replica_online", [replication(replica())], [replication(replica("send_bulk"))]),
    (
        "clients_cut_off",
        [stats(client_output_buffer_limit_disconnections=4)],
        [stats(client_output_buffer_limit_disconnections=0)],
    ),
    ("slots_held_idle", [pool(70, 590)], [pool(70, 2)]),  # a busy pool
    ("slots_held_idle", [pool(70, 590)], [pool(12, 590)]),  # idle, and one of many
    ("slots_held_idle", [pool(70, 590)], [pool(60, 590, connected=61)]),  # plenty is left
    ("slots_held_idle", [pool(70, 590)], [pool(70, 590, blocked=60)]),  # workers that wait
    ("slots_held_idle", [pool(70, 590)], [pool(70, 590, pubsub=60)]),
    ("workers_wait", [waiting(12)], [waiting(5)]),
    ("workers_wait", [waiting(12)], [waiting(12, "wait")]),
    (  # jobs still come, if slowly
        "producers_silent",
        [waiting(12), called("rpush", 9_000, 0.0), stats(uptime_in_seconds=3_600)],
        [waiting(12), called("rpush", 9_000, 0.4), stats(uptime_in_seconds=3_600)],
    ),
    (  # a queue that is idle for hours each day
        "producers_silent",
        [waiting(12), called("lpush", 9_000, 0.0), stats(uptime_in_seconds=3_600)],
        [waiting(12), called("lpush", 9_000, 0.0), stats(uptime_in_seconds=900_000)],
    ),
    (  # what is called does not wake those who wait
        "producers_silent",
        [waiting(12, "xread"), called("xadd", 9_000, 0.0), stats(uptime_in_seconds=3_600)],
        [waiting(12, "xread"), called("lpush", 9_000, 0.0), stats(uptime_in_seconds=3_600)],
    ),
    ("access_refused", [denied(9, 2.0), errors()], [denied(1, 2.0), errors()]),  # a typing error
    ("access_refused", [denied(9, 2.0), errors()], [denied(9, 9_000.0), errors()]),
    (  # our own looks, refused
        "access_refused",
        [denied(9, 2.0), errors()],
        [denied(9, 2.0, "sre", "redis-oncall"), errors(("NOPERM", 40, 4.0))],
    ),
    ("access_refused", [errors(("WRONGPASS", 40, 4.0))], [errors(("NOPERM", 40, 4.0))]),
    ("refusals_counted", [errors(("NOPERM", 40, 4.0))], [errors(("NOPERM", 40, 0.0))]),
    ("slots_skewed", [node(0.9)], [node(0.02)]),
    ("slots_skewed", [node(0.9)], [node(0.9, 40)]),  # of few keys one slot may have most
    ("slots_skewed", [node(0.9)], [node(0.9, owned=3)]),
    ("slots_skewed", [node(0.01, fair=2.0)], [node(0.01, fair=1.1)]),
    (
        "slots_skewed",
        [node(0.01), bigkeys([], [prefix("{cart}:", 900, 9 * MIB, 0.8, 0.0)])],
        [node(0.01), bigkeys([], [prefix("cart:", 900, 9 * MIB, 0.8, 0.0)])],
    ),
    ("slots_skewed", [node(0.9)], [blank(Cluster, enabled=False)]),
)  # fmt: skip


def outcome(name: str, *readings: Reading) -> object:
    return SIGNALS[name](Seen(evidence(*readings)))


@pytest.mark.parametrize(
    ("name", "there", "not_there"), TABLE, ids=[f"{n}-{c[0]}" for n, c in enumerate(TABLE)]
)
def test_threshold(name: str, there: Sequence[Reading], not_there: Sequence[Reading]) -> None:
    assert isinstance(outcome(name, *there), Signal)
    assert outcome(name, *not_there) is None


NAMED: tuple[tuple[str, Sequence[Reading], Culprit], ...] = (
    ("replication_link_down", [DOWN], Culprit(kind="host", name="10.0.0.8:6379")),
    ("slots_held_idle", [pool(70, 590)], Culprit(kind="client", name="orders")),
    # Connections without a name are known by their host.
    (
        "slots_held_idle",
        [pool(70, 590, name="(unnamed)")],
        Culprit(kind="client", name="10.0.0.7"),
    ),
    ("access_refused", [denied(9, 2.0)], Culprit(kind="client", name="billing")),
    (
        "access_refused",
        [denied(9, 2.0, "default")],
        Culprit(kind="client", name="billing-1a2b"),
    ),
    (
        "access_refused",
        [denied(9, 2.0, "default", "")],
        Culprit(kind="client", name="10.0.0.9:50000"),
    ),
    # The slot's keys were not met in the sample: the scan of bytes knows the tag.
    (
        "slots_skewed",
        [node(0.9), bigkeys([], [prefix("{cart}:", 900, 9 * MIB, 0.8, 0.0)])],
        Culprit(kind="prefix", name="{cart}:"),
    ),
)


@pytest.mark.parametrize(("name", "readings", "culprit"), NAMED)
def test_who_did_it(name: str, readings: Sequence[Reading], culprit: Culprit) -> None:
    found = outcome(name, *readings)
    assert isinstance(found, Signal)
    assert found.culprit == culprit


@pytest.mark.parametrize(
    ("name", "readings"),
    [
        ("full_syncs_repeat", [replication(), stats(sync_full=UNSEEN)]),
        ("backlog_is_short", [replication(repl_backlog_size=MIB), stats()]),
        ("clients_cut_off", [stats(client_output_buffer_limit_disconnections=UNSEEN)]),
        ("slots_held_idle", [clients(maxclients=UNSEEN)]),
        ("producers_silent", [waiting(12)]),
        ("slots_skewed", []),
    ],
)
def test_silence_is_not_health(name: str, readings: Sequence[Reading]) -> None:
    assert isinstance(outcome(name, *readings), NotMeasured)
