"""What counts as worse, and what does not: looks made by hand around a write at second 0."""

from collections.abc import Callable, Mapping
from random import Random

import pytest

from agent.pulse_points import cost_of_calls, points, series, typical
from agent.regressions import regressions
from agent.watched_metrics import METRICS, REFUSALS, metric_of
from tools.pulse import Pulse

Value = Callable[[float], float | None]
MIB = 1024 * 1024


def look(at: float, gauges: Mapping[str, Value], rates: Mapping[str, Value]) -> Pulse:
    """A server with these gauges and, since second -100, these counts."""
    quiet = {"errors": 0.0, "evicted_keys": 0.0, "hits": 500 * (at + 100), "misses": 0.0}
    counts = {name: value(at) for name, value in rates.items()}
    steady: dict[str, float | None] = {"round_trip_ms": 0.4, "connected_clients": 100.0}
    calls = int(1000 * (at + 100))
    return Pulse(
        at=at,
        run_id="r",
        role="master",
        gauges=steady | {name: value(at) for name, value in gauges.items()},
        counters={**quiet, **counts},
        commands={"get": [calls, 3 * calls], "set": [calls // 4, calls]},
    )


def found(
    gauges: Mapping[str, Value] | None = None,
    rates: Mapping[str, Value] | None = None,
    disturbs: frozenset[str] = frozenset(),
    *,
    hold: int = 30,
    clearly: bool = False,
) -> list[str]:
    before = [look(at, gauges or {}, rates or {}) for at in range(-10, 1, 2)]
    after = [look(at, gauges or {}, rates or {}) for at in range(1, hold + 1)]
    since = [before[-1], *after]
    return [one.metric for one in regressions(before, since, disturbs, clearly=clearly)]


def from_zero(before: float, after: float) -> Value:
    """A gauge that steps at the write."""
    return lambda at: before if at <= 0 else after


def counted(before: float, after: float) -> Value:
    """A counter whose rate steps at the write."""
    return lambda at: before * (at + 100) + max(0.0, at) * (after - before)


WORSE = {
    "round_trip_ms": from_zero(0.4, 12.0),
    "worst_round_trip_ms": from_zero(2.0, 60.0),
    "pressure": from_zero(0.6, 0.7),
    "used_memory_rss": from_zero(500 * MIB, 900 * MIB),
    "connected_clients": from_zero(100, 60),
    "replicas_online": from_zero(2, 1),
    "replica_lag_bytes": from_zero(MIB, 40 * MIB),
    "primary_link_down": from_zero(0, 1),
    "saves_failing": from_zero(0, 1),
}
MORE = {
    "evicted_keys": counted(0, 50),
    "rejected_connections": counted(0, 2),
    "buffer_disconnections": counted(0, 1),
    "connections": counted(1, 12),
    "full_syncs": counted(0, 0.2),
    "errors.WRONGTYPE": counted(0.1, 5),
}


@pytest.mark.parametrize("name", [*WORSE, *MORE])
def test_each_metric_is_held_against_a_change_unless_it_is_predicted(name: str) -> None:
    gauges = {name: WORSE[name]} if name in WORSE else {}
    rates = {name: MORE[name]} if name in MORE else {}
    assert found(gauges, rates) == [name]
    assert found(gauges, rates, frozenset({name.partition(".")[0]})) == []


def test_every_judged_metric_has_a_test_here() -> None:
    here = {*WORSE, *MORE, "refused_writes", "miss_share", "microseconds_per_call", "commands"}
    judged = {name for name, metric in METRICS.items() if metric.worse}
    assert judged - {"errors.*"} == here - {"errors.WRONGTYPE"}
    assert [name for name, metric in METRICS.items() if not metric.why] == []


def test_writes_that_are_refused_count_together_and_few_are_enough() -> None:
    assert found(rates={"errors.OOM": lambda at: 6.0 if at > 3 else 0.0}) == ["refused_writes"]
    assert found(rates={"errors.ERR": lambda at: 6.0 if at > 3 else 0.0}) == []
    assert [metric_of(name) for name in REFUSALS] == [None] * len(REFUSALS)


def test_misses_are_judged_by_their_share_and_only_of_many_lookups() -> None:
    missing: dict[str, Value] = {"hits": counted(500, 250), "misses": counted(0, 250)}
    assert found(rates=missing) == ["miss_share"]
    few: dict[str, Value] = {"hits": counted(5, 1), "misses": counted(0, 4)}
    assert found(rates=few) == []


def test_slower_commands_are_worse_and_another_mix_of_them_is_not() -> None:
    before = [look(at, {}, {}) for at in range(-10, 1, 2)]
    before = [
        Pulse(p.at, "r", "master", p.gauges, p.counters,
              {"get": [1000 * (i + 1), 3000 * (i + 1)], "set": [100 * (i + 1), 10_000 * (i + 1)]})
        for i, p in enumerate(before)
    ]  # fmt: skip

    def after(get: int, sets: int) -> list[Pulse]:
        last = before[-1].commands
        return [
            Pulse(at, "r", "master", before[-1].gauges, before[-1].counters,
                  {"get": [last["get"][0] + 500 * at, last["get"][1] + 500 * at * get],
                   "set": [last["set"][0] + sets * at, last["set"][1] + sets * at * 100]})
            for at in range(1, 31)
        ]  # fmt: skip

    slower = regressions(before, [before[-1], *after(get=400, sets=50)])
    assert [one.metric for one in slower] == ["microseconds_per_call"]
    assert regressions(before, [before[-1], *after(get=3, sets=5_000)]) == []


def test_traffic_that_stops_is_worse_and_traffic_that_falls_is_not() -> None:
    def stopped(at: float, share: float) -> Pulse:
        pulse = look(min(at, 0.0) + share * max(at, 0.0), {}, {})
        return Pulse(at, "r", "master", pulse.gauges, pulse.counters, pulse.commands)

    before = [look(at, {}, {}) for at in range(-10, 1, 2)]
    for share, worse in ((0.01, ["commands"]), (0.4, [])):
        after = [stopped(at, share) for at in range(1, 31)]
        assert [one.metric for one in regressions(before, [before[-1], *after])] == worse


@pytest.mark.parametrize(
    ("gauges", "rates"),
    [
        ({"pressure": lambda at: 0.5 + 0.01 * (at + 10)}, {}),
        ({"replica_lag_bytes": lambda at: (at + 10) * MIB}, {}),
        ({}, {"evicted_keys": lambda at: 20 * (at + 10) ** 2}),
        ({}, {"errors.ERR": counted(30, 30)}),
        ({}, {"evicted_keys": counted(200, 220)}),
    ],
)
def test_what_was_already_getting_worse_at_the_same_pace_is_not_blamed(
    gauges: dict[str, Value], rates: dict[str, Value]
) -> None:
    assert found(gauges, rates) == []


def test_what_gets_worse_much_faster_than_before_is() -> None:
    def faster(at: float) -> float:
        return 0.5 + 0.002 * (at + 10) + 0.01 * max(0.0, at)

    assert found({"pressure": faster}) == ["pressure"]


def test_a_stall_of_a_second_is_no_verdict_and_one_that_stays_is_clear_soon() -> None:
    assert found({"round_trip_ms": lambda at: 80.0 if at in (5, 6) else 0.4}) == []
    stays = {"round_trip_ms": from_zero(0.4, 40.0)}
    assert found(stays, hold=3, clearly=True) == []
    assert found(stays, hold=6, clearly=True) == ["round_trip_ms"]
    barely = {"round_trip_ms": from_zero(0.4, 6.0)}
    assert (found(barely, clearly=True), found(barely)) == ([], ["round_trip_ms"])


def test_what_happened_once_at_the_write_is_judged_at_the_end() -> None:
    once: dict[str, Value] = {"evicted_keys": lambda at: 68_000.0 if at > 0 else 0.0}
    assert (found(rates=once, clearly=True), found(rates=once)) == ([], ["evicted_keys"])


def test_what_is_not_measured_is_not_judged() -> None:
    assert found({"pressure": lambda at: None if at > 0 else 0.5}) == []
    assert found(rates={"evicted_keys": lambda at: None}) == []
    assert regressions([], [look(1, {}, {})]) == []
    one = look(0, {}, {})
    assert regressions([one], [one, look(1, WORSE, {}), look(2, WORSE, {})]) == []


def test_counters_that_were_reset_meanwhile_say_nothing() -> None:
    def reset(at: float) -> float:
        return 40 * (at + 100) if at <= 10 else 2 * (at - 10)

    assert found(rates={"evicted_keys": reset, "errors.ERR": reset}) == []


def test_a_baseline_of_long_ago_judges_nobody() -> None:
    before = [look(at, WORSE, {}) for at in range(-10, 1, 2)]
    after = [look(at, WORSE, {}) for at in range(1, 31)]
    assert regressions(before, [before[-1], *after])
    later = [Pulse(p.at + 7_200, "r", "master", p.gauges, p.counters, p.commands) for p in after]
    assert regressions(before, [before[-1], *later]) == []


def test_noise_is_no_regression() -> None:
    """40 quiet holds: every gauge and rate scatters, some with spikes; nothing changes."""
    random = Random(11)
    blamed = []
    for _ in range(40):
        totals = dict.fromkeys(("errors.ERR", "evicted_keys", "misses", "connections"), 0.0)

        def pulse(at: float, totals: dict[str, float] = totals) -> Pulse:
            for name in totals:  # once in half a second, on the average
                totals[name] += sum(random.random() < 0.02 for _ in range(200 if at <= 0 else 100))
            return Pulse(
                at, "r", "master",
                {
                    "round_trip_ms": random.lognormvariate(0, 0.8)
                    + (40 if random.random() < 0.1 else 0),
                    "worst_round_trip_ms": random.lognormvariate(1.5, 1.0),
                    "pressure": 0.8 + random.gauss(0, 0.01),
                    "connected_clients": 100 + random.gauss(0, 3),
                    "replica_lag_bytes": abs(random.gauss(0, MIB)),
                },
                {**totals, "errors": 0.0, "hits": 500 * (at + 100)},
                {"get": [int(1000 * (at + 100)), int(3000 * (at + 100) * random.uniform(1, 1.01))]},
            )  # fmt: skip

        before = [pulse(at) for at in range(-10, 1, 2)]
        after = [pulse(at) for at in range(1, 31)]
        for end in range(4, 31):
            blamed += regressions(before, [before[-1], *after[:end]], clearly=True)
        blamed += regressions(before, [before[-1], *after])
    assert blamed == []


def test_a_chart_has_at_most_sixty_rows_from_the_first_to_the_last_look() -> None:
    before = [look(at, {}, {}) for at in range(-10, 1, 2)]
    after = [look(at, {}, {}) for at in range(1, 601)]
    drawn = series(before, after)
    assert len(drawn["rows"]) == 60
    assert (drawn["rows"][0][0], drawn["rows"][-1][0]) == (-8, 600)
    assert "replica_lag_bytes" not in drawn["columns"]
    usual = typical(points(before, cost_of_calls(before)))
    assert usual["commands"] == 1250
