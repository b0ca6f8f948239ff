"""Values of metrics over time, at equal intervals, as whoever keeps them handed them over. Pure."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from tools.reading import Reading

LARGEST = 2e19
"""Servers and kernels count in 64 bits: whatever is beyond, or below zero, is no sample."""
MOST_VALUES = 1_000
MOST_SERIES = 400
MOST_EXACT = 16
"""Different values in a series."""
DIGITS = 5
"""Significant ones of a value: more are noise, and cost room in a recording."""


class Range(Reading):
    """One metric at `start`, `start + step`, … in seconds of the epoch."""

    metric: str = Field(max_length=100)
    """Our name of it, with its unit."""
    of: str = Field(default="", max_length=200)
    """Which part of the server or host: a database, a mount point."""
    start: float
    step: float = Field(gt=0)
    values: list[Annotated[float, Field(ge=0, le=LARGEST)] | None] = Field(max_length=MOST_VALUES)
    """None where nothing was sampled."""

    def at(self, place: int) -> float:
        """When a value was sampled."""
        return self.start + place * self.step

    def points(self) -> list[tuple[float, float]]:
        """Time and value of whatever was sampled."""
        return [(self.at(n), value) for n, value in enumerate(self.values) if value is not None]


class Ranges(Reading):
    """What somebody kept of a server or its host; or why nobody did."""

    source: str = Field(default="nobody", max_length=40)
    """Who kept it: `watch` or `Prometheus`."""
    series: list[Range] = Field(default_factory=list, max_length=MOST_SERIES)
    because: str = Field(default="", max_length=500)
    """Why there are none, or which are missing."""


def sample(said: str | float) -> float | None:
    """A value as somebody wrote it; None where it is none. Raises ValueError, TypeError."""
    value = float(said)
    return value if 0 <= value <= LARGEST else None


def per_second(values: Sequence[float | None], step: float) -> list[float | None]:
    """The rate of a counter. A counter that fell began again at zero, as Prometheus' rate has it.

    A gap is averaged over; the first value has no rate.
    """
    rates: list[float | None] = []
    last: tuple[int, float] | None = None
    for place, value in enumerate(values):
        if value is None or last is None:
            rates.append(None)
        else:
            rise = value - last[1] if value >= last[1] else value
            rates.append(rise / ((place - last[0]) * step))
        last = last if value is None else (place, value)
    return rates


def increase(values: Sequence[float | None]) -> float | None:
    """What a counter rose by in all; None with fewer than two samples."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return None
    return sum(later - earlier if later >= earlier else later for earlier, later in pairwise(known))


def rounded(values: Sequence[float | None]) -> list[float | None]:
    """To as many digits as tell something; what hardly ever changes, as limits, is exact."""
    if len(set(values)) <= MOST_EXACT:
        return list(values)
    return [value if value is None or value == 0 else _rounded(value, DIGITS) for value in values]


def _rounded(value: float, digits: int) -> float:
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))
