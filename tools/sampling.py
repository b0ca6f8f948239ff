"""What a random sample of keys says of all of them: shares of memory with honest intervals. Pure.

Sizes of keys have heavy tails: a plain extrapolation of such a sample misses the total by a third,
and its usual 95 % intervals hold the truth in half of the cases. So only the *body*, the keys of at
most `threshold` bytes, is extrapolated; larger keys that were met are listed and never scaled; what
the server's own count of its data leaves over is what no sample has seen. The intervals are
empirical Bernstein bounds (Maurer and Pontil, 2009, theorem 4), which hold for any distribution
within the threshold.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LEAST_SAMPLE = 1_000
"""Keys; the intervals of fewer say nothing."""
WRONG = 0.05
"""How often any of the intervals of one sample may miss the truth."""
THRESHOLDS = (4_096, 16_384, 65_536, 262_144, 1_048_576)
"""Bytes. The one that leaves least unsaid is taken; the bounds hold for all of them at once."""
MEASURED_WITHIN = 0.15
"""MEMORY USAGE of all keys together is within this of used_memory_dataset: 0.885 on 6.2, 1.04 to
1.12 on later builds. A smaller gap means nothing."""
HIDES = 0.05
"""Of the dataset: more than that is unseen beyond doubt, so large keys exist that were not met."""


@dataclass(frozen=True)
class Interval:
    """An estimate, and the bounds that it is within."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """What a sample says of a whole keyspace. Bytes are MEMORY USAGE."""

    threshold: int
    """Bytes of the largest key of the body."""
    body: Interval
    """Bytes of all keys of at most the threshold."""
    shares: dict[str, Interval]
    """Of the body's bytes, by group; those of the sample."""
    known: int
    """Bytes of the larger keys that were met, or were known otherwise."""
    unseen: float
    """Bytes of the dataset that are neither: larger keys that were not met, and errors."""
    hides_large_keys: bool
    """More is unseen than errors explain."""


def estimated(
    sample: Sequence[tuple[str, int]], keys: int, dataset: int, known: Callable[[int], int]
) -> Estimate | None:
    """From groups and bytes of keys drawn at random, of so many; None if they are too few.

    `dataset`: used_memory_dataset. `known`: bytes of all known keys larger than a threshold.
    """
    if len(sample) < LEAST_SAMPLE or not keys:
        return None
    groups = len({group for group, _ in sample})
    found = [
        _at(threshold, sample, keys, dataset, known(threshold), groups) for threshold in THRESHOLDS
    ]
    return min(found, key=lambda one: one.body.high - one.body.low + abs(one.unseen))


def _at(
    threshold: int,
    sample: Sequence[tuple[str, int]],
    keys: int,
    dataset: int,
    known: int,
    groups: int,
) -> Estimate:
    number = len(sample)
    # Each group's share and the body itself, each from both sides, at each threshold.
    doubt = math.log(2 * (groups + 1) * len(THRESHOLDS) / WRONG)
    by_group: dict[str, _Sums] = defaultdict(_Sums)
    for group, size in sample:
        sums = by_group[group]  # also of those that have larger keys only
        if size <= threshold:
            sums.bytes += size
            sums.squares += size * size
    whole = _Sums(
        sum(sums.bytes for sums in by_group.values()),
        sum(sums.squares for sums in by_group.values()),
    )
    mean = whole.bytes / number
    variance = max(whole.squares - mean * whole.bytes, 0.0) / (number - 1)
    half = _bound(variance, number, threshold, doubt)
    least = max(mean - half, 0.0)
    body = Interval(keys * mean, keys * least, keys * (mean + half))
    shares = {
        group: _share(sums, whole, number, threshold, doubt, least)
        for group, sums in by_group.items()
    }
    unseen = max(dataset - body.value - known, 0.0)
    surely = (1 - MEASURED_WITHIN) * dataset - body.high - known
    return Estimate(
        threshold=threshold,
        body=body,
        shares=dict(sorted(shares.items(), key=lambda item: -item[1].value)),
        known=known,
        unseen=unseen,
        hides_large_keys=surely > HIDES * dataset,
    )


@dataclass
class _Sums:
    """Of keys within the threshold."""

    bytes: int = 0
    squares: int = 0


def _share(
    own: _Sums, whole: _Sums, number: int, threshold: int, doubt: float, least_mean: float
) -> Interval:
    """A group's share of the body: bounded through bytes less the share of them, of mean zero."""
    share = own.bytes / whole.bytes if whole.bytes else 0.0
    # Of size x: x (1 - share) if it is the group's, else -x share.
    variance = (1 - share) ** 2 * own.squares + share**2 * (whole.squares - own.squares)
    half = _bound(variance / (number - 1), number, threshold, doubt)
    wide = half / least_mean if least_mean > half else 1.0
    return Interval(share, max(share - wide, 0.0), min(share + wide, 1.0))


def _bound(variance: float, number: int, reach: float, doubt: float) -> float:
    """How far the mean of so many values within `reach` is from the truth, from one side."""
    return math.sqrt(2 * variance * doubt / number) + 7 * reach * doubt / (3 * (number - 1))
