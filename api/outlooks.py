"""When targets will be full. Each takes a month of samples to tell: it is kept for an hour."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from api.past import Past
from api.settings import Settings
from api.store import glances, incidents
from api.store.database import Database
from tools.growth import History, fit, seconds_until
from tools.reading import NotMeasured

KEPT_SECONDS = 3_600.0
"""A slope over days does not change within one."""
MOST_KEPT = 10_000
DAY_KEPT_SECONDS = 30.0
MOST_DAYS = 500
"""Of 144 points each."""
MOST_AT_ONCE = 10
"""Worked out after one page."""
T = TypeVar("T")
Points = Sequence[tuple[datetime, float]]
log = structlog.get_logger(__name__)


class Kept(Generic[T]):
    """What was worked out lately, by name."""

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds, self._most = seconds, most
        self._kept: OrderedDict[str, tuple[float, T]] = OrderedDict()

    def get(self, name: str) -> T | None:
        """None: it was not, or too long ago."""
        at, value = self._kept.get(name, (float("-inf"), None))
        return value if time.monotonic() - at < self._seconds else None

    def put(self, name: str, value: T) -> None:
        """Keep it."""
        self._kept[name] = (time.monotonic(), value)
        self._kept.move_to_end(name)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)


@dataclass(frozen=True)
class Outlook:
    """Seconds until a target's memory meets its limit, with the 90 % interval of its growth."""

    at: datetime
    source: str
    """Who kept the samples: `watch` or `Prometheus`."""
    days: float | None = None
    """That they cover."""
    per_day: float | None = None
    """Bytes."""
    low_per_day: float | None = None
    high_per_day: float | None = None
    about: float | None = None
    """At its growth; None: `because` says why there is none."""
    soonest: float | None = None
    """Not before that, at the upper end of the interval; None: never, or not known."""
    because: str = ""


def outlook_of(history: History, limit: float | None, now: datetime) -> Outlook:
    """What the samples say. Pure. A growth that may be none fills nothing."""
    trend = fit(history, now)
    if isinstance(trend, NotMeasured):
        return Outlook(now, history.source, because=trend.because)

    def until(per_day: float) -> float | None:
        return seconds_until(limit, trend.level_bytes, per_day) if limit else None

    about = until(trend.bytes_per_day) if trend.grows else None
    because = ""
    if not limit:
        because = "no limit is known: maxmemory is 0"
    elif not trend.grows:
        because = "it does not grow beyond what days and weeks bring"
    elif about is None:
        because = "not within ten years"
    return Outlook(
        at=now,
        source=trend.source,
        days=trend.days,
        per_day=trend.bytes_per_day,
        low_per_day=trend.low_bytes_per_day,
        high_per_day=trend.high_bytes_per_day,
        about=about,
        soonest=until(trend.high_bytes_per_day),
        because=because,
    )


class Outlooks:
    """Of all targets, as far as anybody wanted to know lately."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._database = settings, database
        self._kept: Kept[Outlook] = Kept(KEPT_SECONDS, MOST_KEPT)
        self._days: Kept[Points] = Kept(DAY_KEPT_SECONDS, MOST_DAYS)
        self._filling = False

    async def last_day(self, session: AsyncSession, names: Sequence[str]) -> dict[str, Points]:
        """used_memory of the last 24 hours, read twice a minute at most."""
        known = {name: points for name in names if (points := self._days.get(name)) is not None}
        wanted = [name for name in names if name not in known]
        if wanted:
            found = await glances.spans(session, wanted, incidents.now() - timedelta(days=1))
            for name in wanted:
                known[name] = found.get(name, [])
                self._days.put(name, known[name])
        return known

    def known(self, name: str, limit: float | None) -> Outlook | None:
        """None: nobody has wanted it lately, or its limit was another then."""
        return self._kept.get(f"{name} {limit}")

    async def of(self, name: str, limit: float | None) -> Outlook:
        """Known, or worked out now."""
        if (known := self.known(name, limit)) is not None:
            return known
        history = await Past(self._settings, self._database, name).history()
        found = await asyncio.to_thread(outlook_of, history, limit, incidents.now())
        self._kept.put(f"{name} {limit}", found)
        return found

    async def fill(self, limits: Mapping[str, float | None]) -> None:
        """A few of those that are not known yet; by one page at a time, after it was answered."""
        if self._filling:
            return
        self._filling = True
        try:
            unknown = [name for name, limit in limits.items() if self.known(name, limit) is None]
            for name in unknown[:MOST_AT_ONCE]:
                await self.of(name, limits[name])
        except SQLAlchemyError as error:
            log.warning("outlook_failed", error=type(error).__name__)
        finally:
            self._filling = False
