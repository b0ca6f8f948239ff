"""Growth fitted from samples: a cycle is no growth, a flush no shrinking, few days no trend."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.growth import History, MemorySample, Trend, fit
from tools.reading import NotMeasured

MIB = 1 << 20
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def history(levels: Sequence[float], minutes: int = 60) -> History:
    """One sample every so many minutes, the last of them now."""
    last = len(levels) - 1
    return History(
        source="watch",
        samples=[
            MemorySample(
                at=NOW - timedelta(minutes=minutes * (last - place)), used_bytes=round(level)
            )
            for place, level in enumerate(levels)
        ],
    )


def trend(levels: Sequence[float], minutes: int = 60) -> Trend:
    found = fit(history(levels, minutes), NOW)
    assert isinstance(found, Trend), found
    return found


hours_of_a_day = st.lists(st.integers(0, 200), min_size=24, max_size=24)


@given(
    day=hours_of_a_day,
    slope=st.integers(-4, 20),
    days=st.integers(5, 13),
    noise=st.randoms(use_true_random=False),
)
def test_a_daily_cycle_of_any_shape_is_no_growth(
    day: list[int], slope: int, days: int, noise: random.Random
) -> None:
    base = 4_000
    levels = [(base + day[hour % 24] + slope * hour / 24) * MIB for hour in range(days * 24)]
    found = trend(levels)
    assert found.bytes_per_day == pytest.approx(slope * MIB, abs=2)
    assert found.low_bytes_per_day <= found.bytes_per_day <= found.high_bytes_per_day
    assert found.grows is (slope > 0)
    blurred = trend([level + noise.uniform(-3, 3) * MIB for level in levels])
    assert blurred.bytes_per_day == pytest.approx(slope * MIB, abs=3 * MIB)


@given(week=st.lists(st.integers(0, 300), min_size=7, max_size=7), slope=st.integers(0, 9))
def test_from_two_weeks_on_quiet_weekends_are_no_growth(week: list[int], slope: int) -> None:
    levels = [(4_000 + week[hour // 24 % 7] + slope * hour / 24) * MIB for hour in range(17 * 24)]
    found = trend(levels)
    assert found.season == "week"
    assert found.bytes_per_day == pytest.approx(slope * MIB, abs=2)


@given(
    scale=st.integers(1, 1000),
    shift=st.integers(0, 1 << 40),
    seed=st.integers(0, 1000),
)
def test_it_does_not_depend_on_units_or_on_what_is_there_already(
    scale: int, shift: int, seed: int
) -> None:
    noise = random.Random(seed)
    levels = [1_000 * MIB + hour * 3 * MIB + noise.uniform(0, 9) * MIB for hour in range(8 * 24)]
    levels = [float(round(level)) for level in levels]
    one = trend(levels)
    # Large levels only: what counts as a break is a share of the level.
    other = trend([level * scale + shift for level in levels])
    for name in ("bytes_per_day", "low_bytes_per_day", "high_bytes_per_day"):
        assert getattr(other, name) == pytest.approx(getattr(one, name) * scale, rel=1e-6)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(60):
        noise = random.Random(seed)
        daily = [noise.gauss(0, 40) for _ in range(10)]  # each day is a little fuller or emptier
        levels = [
            (2_000 + 12 * hour / 24 + daily[hour // 24] + noise.gauss(0, 10)) * MIB
            for hour in range(10 * 24)
        ]
        found = trend(levels)
        held += found.low_bytes_per_day <= 12 * MIB <= found.high_bytes_per_day
    assert held >= 48  # 90 % of 60 is 54; 48 or fewer come about once in a hundred


@pytest.mark.parametrize("at", [3 * 24, 5 * 24 + 7, 7 * 24 + 13])
def test_after_a_flush_the_story_begins_anew(at: int) -> None:
    levels = [(2_000 + 48 * hour / 24) * MIB for hour in range(12 * 24)]
    flushed = [level - (2_000 * MIB if hour >= at else 0) for hour, level in enumerate(levels)]
    found = trend(flushed)
    assert found.breaks == 1
    assert found.bytes_per_day == pytest.approx(48 * MIB, rel=0.01)


def test_a_deploy_that_doubles_memory_once_is_no_growth() -> None:
    found = trend([(1_000 if hour < 6 * 24 else 2_000) * MIB for hour in range(12 * 24)])
    assert (found.bytes_per_day, found.breaks) == (0, 1)
    small = trend([(1_000 if hour < 5 * 24 else 1_100) * MIB for hour in range(12 * 24)])
    assert (small.breaks, small.grows) == (0, False)


def test_a_purge_every_night_is_how_it_lives() -> None:
    levels = [(500 + 100 * (hour % 24) + 30 * (hour // 24)) * MIB for hour in range(9 * 24)]
    found = trend(levels)
    assert found.breaks == 0
    assert found.bytes_per_day == pytest.approx(30 * MIB)


def test_a_restart_of_some_minutes_is_not_even_seen() -> None:
    levels = [(1_000 + 24 * minute / 1_440) * MIB for minute in range(6 * 1_440)]
    for minute in range(4_000, 4_010):
        levels[minute] = MIB
    found = trend(levels, minutes=1)
    assert found.breaks == 0
    assert found.bytes_per_day == pytest.approx(24 * MIB, rel=0.01)


@pytest.mark.parametrize(
    ("levels", "minutes", "said"),
    [
        ([], 60, "no samples are kept"),
        ([MIB, 2 * MIB], 1, "5 are needed to tell growth from a daily cycle"),
        ([1_000 * MIB + hour * MIB for hour in range(4 * 24)], 60, "daily cycle"),
    ],
)
def test_too_little_is_unknown(levels: Sequence[float], minutes: int, said: str) -> None:
    found = fit(history(levels, minutes), NOW)
    assert isinstance(found, NotMeasured)
    assert said in found.because


def test_samples_that_ended_days_ago_say_nothing_of_today() -> None:
    found = fit(history([1_000 * MIB] * 200), NOW + timedelta(days=3))
    assert isinstance(found, NotMeasured)
    assert "2026-11-01" in found.because


@given(
    st.lists(
        st.tuples(st.integers(0, 40 * 86_400), st.integers(0, 1 << 50)), min_size=1, max_size=300
    )
)
def test_any_samples_in_any_order_give_a_trend_or_a_reason(rows: list[tuple[int, int]]) -> None:
    samples = [MemorySample(at=NOW - timedelta(seconds=ago), used_bytes=u) for ago, u in rows]
    found = fit(History(source="watch", samples=samples), NOW)
    if isinstance(found, Trend):
        assert found.low_bytes_per_day <= found.bytes_per_day <= found.high_bytes_per_day
    else:
        assert found.because
