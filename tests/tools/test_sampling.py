"""Are shares of all keys within the bounds that a sample of them tells? Also with heavy tails."""

import random

import pytest

from tools.sampling import LEAST_SAMPLE, estimated

KEYS, DRAWN, SPACES = 60_000, 12_000, 100


def keyspace(seed: int) -> list[tuple[str, int]]:
    """Groups and bytes, shuffled: each group with a distribution of its own, some without end."""
    draw = random.Random(seed)
    groups = draw.randint(3, 20)
    weights = [1 / (place + 1) ** draw.uniform(0.3, 1.5) for place in range(groups)]
    tails = [draw.uniform(1.05, 2.5) if draw.random() < 0.6 else 0.0 for _ in range(groups)]
    means = [draw.uniform(3, 7) for _ in range(groups)]
    found = []
    for group in draw.choices(range(groups), weights, k=KEYS):
        tail = tails[group]
        size = 20 * draw.paretovariate(tail) if tail else draw.lognormvariate(means[group], 1.2)
        found.append((f"g{group}", 60 + min(int(size), 500_000_000)))
    found += [
        (f"g{draw.randrange(groups)}", draw.randint(100_000, 20_000_000))
        for _ in range(draw.choice((0, draw.randint(1, 20))))
    ]
    draw.shuffle(found)
    return found


def told(space: list[tuple[str, int]], sample: list[tuple[str, int]], dataset: int = 0) -> bool:
    """Whether all that is said of the sample's keyspace is true."""
    dataset = dataset or sum(size for _, size in space)
    said = estimated(
        sample, len(space), dataset, lambda most: sum(size for _, size in sample if size > most)
    )
    assert said is not None
    of_group: dict[str, int] = {}
    for group, size in space:
        if size <= said.threshold:
            of_group[group] = of_group.get(group, 0) + size
    body = sum(of_group.values())
    shares = [
        bound.low <= of_group.get(group, 0) / body <= bound.high
        for group, bound in said.shares.items()
    ]
    return said.body.low <= body <= said.body.high and all(shares)


@pytest.mark.soak
def test_the_truth_is_within_the_bounds_of_all_groups_at_once() -> None:
    spaces = map(keyspace, range(SPACES))
    assert sum(told(space, space[:DRAWN]) for space in spaces) >= 95


def test_bounds_are_of_use() -> None:
    """Not so wide that anything fits."""
    space = keyspace(5)
    wrong = [("g0", size) for _, size in space[:DRAWN]]
    assert not told(space, wrong)
    said = estimated(space[:DRAWN], KEYS, sum(size for _, size in space), lambda _: 0)
    assert said is not None
    first = next(iter(said.shares.values()))
    assert first.high - first.low < 0.25


@pytest.mark.parametrize(("large", "hides"), [(0, False), (30_000_000, True)])
def test_what_no_sample_has_met_is_told(large: int, hides: bool) -> None:
    draw = random.Random(3)
    space = [("a", 100 + int(draw.expovariate(1 / 500))) for _ in range(KEYS)]
    dataset = sum(size for _, size in space) + large
    said = estimated(space[:DRAWN], KEYS + 1, dataset, lambda _: 0)
    assert said is not None
    assert said.hides_large_keys is hides
    assert said.unseen == pytest.approx(large, abs=3_000_000)


def test_too_few_say_nothing() -> None:
    assert estimated([("a", 1)] * (LEAST_SAMPLE - 1), 10_000, 1, lambda _: 0) is None
    assert estimated([("a", 1)] * LEAST_SAMPLE, 0, 1, lambda _: 0) is None
