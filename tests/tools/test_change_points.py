"""Steps in a series: found where they are, not seen in noise, cycles, slopes, spikes and gaps."""

import math
import random
from collections.abc import Callable, Sequence

import pytest

from tools.change_points import Change, changes

LENGTH = 288
"""A day, every five minutes."""
LEAST = 10.0
SEEDS = range(60)

Make = Callable[[random.Random], list[float]]


def each(of: Callable[[int], float]) -> list[float]:
    return [of(place) for place in range(LENGTH)]


def white(noise: random.Random) -> list[float]:
    return each(lambda _: 1_000 + noise.gauss(0, 200))


def wandering(noise: random.Random) -> list[float]:
    level = 0.0
    found = []
    for _ in range(LENGTH):
        level = 0.9 * level + noise.gauss(0, 60)
        found.append(1_000 + level)
    return found


def skewed(noise: random.Random) -> list[float]:
    return each(lambda _: 1_000 * math.exp(noise.gauss(0, 0.5)))


def day_and_night(noise: random.Random) -> list[float]:
    began = noise.uniform(0, 7)
    return each(
        lambda n: 1_000 + 600 * math.sin(2 * math.pi * n / LENGTH + began) + noise.gauss(0, 50)
    )


def office_hours(noise: random.Random) -> list[float]:
    def at(n: int) -> float:
        up, down = (1 / (1 + math.exp((edge - n) / 6)) for edge in (96, 216))
        return 1_000 + 900 * (up - down) + noise.gauss(0, 60)

    return each(at)


def counted(noise: random.Random) -> list[float]:
    return each(lambda _: float(sum(noise.random() < 0.05 for _ in range(60))))


def leaking(noise: random.Random) -> list[float]:
    return each(lambda n: 1_000 + 20 * n + noise.gauss(0, 30))


def spikes(noise: random.Random) -> list[float]:
    return each(lambda _: 1_000 + noise.gauss(0, 20) + 5_000 * (noise.random() < 0.05))


def bursts(noise: random.Random) -> list[float]:
    """So heavy a tail that it has no variance."""
    return each(lambda _: 100 * noise.paretovariate(1.5))


def noisy_hours(noise: random.Random) -> list[float]:
    """A quiet day with four hours in which the level jumps about."""
    return each(lambda n: 1_000 + noise.gauss(0, 250 if 100 <= n < 148 else 5))


def with_gaps(values: Sequence[float], noise: random.Random) -> list[float | None]:
    """One gap of an hour, and every thirtieth sample lost."""
    gap = noise.randrange(20, 250)
    return [
        None if gap <= n < gap + 12 or noise.random() < 0.03 else value
        for n, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (white, 0), (wandering, 1), (skewed, 0), (day_and_night, 0), (office_hours, 0),
        (counted, 0), (leaking, 0), (spikes, 1), (noisy_hours, 1), (bursts, 0),
    ],
)  # fmt: skip
def test_noise_cycles_slopes_and_spikes_are_no_changes(make: Make, most: int) -> None:
    """False alarms in 60 days of each, half of them with gaps."""
    false = 0
    for seed in SEEDS:
        noise = random.Random(seed)
        values = make(noise)
        false += bool(changes(with_gaps(values, noise) if seed % 2 else values, LEAST))
    assert false <= most


@pytest.mark.parametrize("after", [400.0, 1_600.0, 3_000.0])
def test_a_step_on_top_of_noise_and_a_daily_cycle_is_found_where_it_is(after: float) -> None:
    found, exactly = 0, 0
    for seed in SEEDS:
        noise = random.Random(seed)
        at = noise.randrange(12, LENGTH - 4)
        values = [
            (1_000 if n < at else after)
            + 200 * math.sin(2 * math.pi * n / LENGTH)
            + noise.gauss(0, 60)
            for n in range(LENGTH)
        ]
        steps = changes(with_gaps(values, noise) if seed % 2 else values, LEAST)
        near = [step for step in steps if abs(step.place - at) <= 3]
        found += len(near) == 1
        exactly += any(step.place == at for step in near)
        assert len(steps) <= 2
    assert found >= 0.9 * len(SEEDS)
    assert exactly >= 0.7 * len(SEEDS)


def test_without_noise_place_and_levels_are_exact() -> None:
    values = [100.0] * 40 + [300.0] * 40
    assert changes(values, LEAST) == [Change(40, 100.0, 300.0)]
    assert changes(values[::-1], LEAST) == [Change(40, 300.0, 100.0)]
    assert changes([0.0] * 20 + [50.0] * 20, LEAST) == [Change(20, 0.0, 50.0)]


def test_what_began_three_samples_ago_is_found() -> None:
    assert [step.place for step in changes([100.0] * 40 + [300.0] * 3, LEAST)] == [40]
    assert changes([100.0] * 40 + [300.0] * 2, LEAST) == []


def test_a_level_that_came_and_went_has_two_changes() -> None:
    values = [100.0] * 60 + [300.0] * 60 + [100.0] * 60
    assert [step.place for step in changes(values, LEAST)] == [60, 120]


def test_over_a_gap_the_first_sample_after_it_is_named() -> None:
    values = [100.0] * 40 + [None] * 10 + [300.0] * 40
    assert [step.place for step in changes(values, LEAST)] == [50]


def test_small_steps_few_samples_and_none_are_nothing() -> None:
    assert changes([100.0] * 40 + [125.0] * 40, LEAST) == []
    assert changes([1.0] * 40 + [9.0] * 40, LEAST) == []
    assert changes([None] * 500, LEAST) == []
    assert changes([1.0, 100.0], LEAST) == []
    assert changes([], LEAST) == []
