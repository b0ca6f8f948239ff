"""A few seeds of what `python -m tests.chaos` runs by the hundreds."""

import pytest

from tests.chaos import plan
from tests.chaos.__main__ import KILLS, survived

SEEDS = {"forgetful queue": [0, 2, 5], "persistent queue": [1, 3, 6], "sqlite": [4, 9, 24]}


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.long
@pytest.mark.parametrize("variant", SEEDS)
async def test_whatever_is_killed_no_alert_is_lost_and_every_incident_ends(
    variant: plan.Variant,
) -> None:
    """Not one of the invariants of `invariants.py` breaks."""
    plans = [plan.plan_of(seed) for seed in SEEDS[variant]]
    assert {one.variant for one in plans} == {variant}
    try:
        results = await survived(variant, plans)
    except LookupError as missing:
        pytest.skip(str(missing))
    assert [(one.seed, one.broken) for one in results if one.broken] == []
    assert all(one.kills or one.frozen for one in results), "blows that found nobody"


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
