"""Checks of links: each can pass and fail, and is not judged without evidence."""

from typing import Any

import pytest

from agent.checks_links import LINK_CHECKS
from agent.figures import Look, Unmeasured
from tests.agent.readings import MIB, blank, evidence
from tools.clients import Clients
from tools.cluster import Cluster, SlotRow
from tools.replication import Replication
from tools.stats import ErrorRow, ErrorStats, Stats


def errors(code: str, rate: float) -> ErrorStats:
    return blank(ErrorStats, errors=[ErrorRow(code=code, count=50, per_second=rate)])


def backlog(active: int, written: float) -> tuple[Any, ...]:
    return (
        blank(Replication, repl_backlog_active=active, repl_backlog_size=MIB),
        blank(Stats, replicated_bytes_per_second=written),
    )


def fullest(share: float) -> Cluster:
    row = SlotRow(slot=7, keys=900, share_of_keys=share, prefix="{cart}:")
    return blank(Cluster, enabled=True, fullest=[row])


@pytest.mark.parametrize(
    ("name", "well", "ill"),
    [
        (
            "primary_reached",
            [blank(Replication, role="slave", master_link_status="up")],
            [blank(Replication, role="slave", master_link_status="down")],
        ),
        ("backlog_outlasts", backlog(1, MIB / 100), backlog(1, MIB / 10)),
        # Without a backlog the offset may count commands: that is no stream of bytes.
        ("backlog_outlasts", backlog(0, 10.0 * MIB), backlog(1, 10.0 * MIB)),
        (
            "syncs_rare",
            [blank(Stats, sync_full=3, sync_full_per_second=0.0)],
            [blank(Stats, sync_full=3, sync_full_per_second=0.2)],
        ),
        (
            "connections_left",
            [blank(Clients, connected=80, maxclients=100)],
            [blank(Clients, connected=95, maxclients=100)],
        ),
        ("access_granted", [errors("NOPERM", 0.0)], [errors("NOPERM", 3.0)]),
        ("writes_accepted", [errors("READONLY", 0.0)], [errors("READONLY", 3.0)]),
        ("slots_even", [fullest(0.01)], [fullest(0.5)]),
    ],
)
def test_each_check_passes_and_fails(name: str, well: list[Any], ill: list[Any]) -> None:
    assert LINK_CHECKS[name](Look(evidence(*well)))[0] == "pass"
    assert LINK_CHECKS[name](Look(evidence(*ill)))[0] == "fail"


def test_slots_that_could_not_be_counted_are_not_called_even() -> None:
    nothing: dict[str, Any] = {"enabled": True, "fullest": []}
    with pytest.raises(Unmeasured):
        LINK_CHECKS["slots_even"](Look(evidence(blank(Cluster, **nothing, keys=9))))
    with pytest.raises(Unmeasured):
        LINK_CHECKS["slots_even"](Look(evidence(blank(Cluster, **nothing))))
    empty = Look(evidence(blank(Cluster, **nothing, keys=0)))
    off = Look(evidence(blank(Cluster, enabled=False, fullest=[])))
    assert LINK_CHECKS["slots_even"](empty)[0] == "pass"
    assert LINK_CHECKS["slots_even"](off)[0] == "pass"


@pytest.mark.parametrize("name", LINK_CHECKS)
def test_nothing_is_judged_unseen(name: str) -> None:
    with pytest.raises(Unmeasured):
        LINK_CHECKS[name](Look([]))
