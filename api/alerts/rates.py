"""Per-source rate limits: a token bucket for each name that posts alerts."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

MOST_SOURCES = 1_000
"""Names are those of configured tokens: a bound that is never met."""


@dataclass
class _Bucket:
    alerts: float
    at: float


@dataclass
class Rates:
    """How many alerts each source may still send. Of one process: each has its own."""

    per_second: float
    burst: int
    clock: Callable[[], float] = time.monotonic
    _buckets: dict[str, _Bucket] = field(default_factory=dict)

    def wait(self, source: str) -> int:
        """Whole seconds until it may send again; 0: now."""
        short = 1.0 - self._filled(source).alerts
        return math.ceil(short / self.per_second) if short > 0 else 0

    def spend(self, source: str, alerts: int) -> None:
        """It sent so many. A message is taken whole, so this may leave a debt."""
        self._filled(source).alerts -= max(1, alerts)

    def _filled(self, source: str) -> _Bucket:
        now = self.clock()
        bucket = self._buckets.get(source)
        if bucket is None:
            if len(self._buckets) >= MOST_SOURCES:
                self._buckets.pop(next(iter(self._buckets)))
            bucket = self._buckets[source] = _Bucket(float(self.burst), now)
        earned = (now - bucket.at) * self.per_second
        bucket.alerts, bucket.at = min(float(self.burst), bucket.alerts + earned), now
        return bucket
