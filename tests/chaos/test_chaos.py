"""A few seeds of what `python -m tests.chaos` runs by the hundreds."""

import pytest

from tests.chaos import plan
from tests.chaos.__main__ import KILLS, survived

QUICK = {"forgetful queue": 5, "sqlite": 24}


@pytest.mark.long
@pytest.mark.parametrize("variant", QUICK)
async def test_whatever_is_killed_no_alert_is_lost_and_every_incident_ends(
    variant: plan.Variant,
) -> None:
    """Not one of the invariants of `invariants.py` breaks."""
    seed = plan.plan_of(QUICK[variant])
    assert seed.variant == variant
    try:
        (result,) = await survived(variant, [seed])
    except LookupError as missing:
        pytest.skip(str(missing))
    assert result.broken == []
    assert sum(result.kills.values()) == len(seed.blows)


def test_the_seeds_of_the_command_strike_every_process_in_every_way() -> None:
    """Always the same ones, and at least 200 times with SIGKILL."""
    plans = plan.plans_with(KILLS, 0)
    assert plans == [plan.plan_of(seed) for seed in range(len(plans))]
    blows = [blow for one in plans for blow in one.blows]
    assert sum("killed" in blow.how for blow in blows) >= KILLS
    assert {(blow.kind, blow.how) for blow in blows} >= {
        (kind, how)
        for kind in ("serve", "worker", "queue", "database")
        for how in ("killed", "frozen")
    }
    assert {(blow.kind, blow.since) for blow in blows} >= {
        ("serve", "approval"), ("worker", "approval"), ("database", "approval"),
    }  # fmt: skip
    assert all(any(blow.how == "killed" for blow in one.blows) for one in plans)
