"""Fractions with the interval that goes with them. Pure."""

import math
from collections.abc import Iterable

Z95 = 1.96
Rate = tuple[float, float, float]
"""A fraction with its Wilson interval: value, low, high."""


def wilson(hits: int, total: int, z: float = Z95) -> Rate:
    """The fraction and its Wilson interval; (0, 0, 1) of nothing."""
    if total == 0:
        return 0.0, 0.0, 1.0
    share = hits / total
    centre = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    # At the edges the interval ends at the value; rounding must not put it beyond.
    low = 0.0 if hits == 0 else min(share, (centre - half) / scale)
    high = 1.0 if hits == total else max(share, (centre + half) / scale)
    return share, low, high


def rate_of(marks: Iterable[bool]) -> Rate:
    """How many of these hold."""
    listed = list(marks)
    return wilson(sum(listed), len(listed))
