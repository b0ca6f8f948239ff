"""Times in which nothing may be changed (freezes), or only in which (maintenance). Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Weekly:
    """From one wall-clock time to another, every week or every day, in a time zone."""

    begins: time
    ends: time
    """Not after `begins` on the same day: that of the next day, or of the next week."""
    day: int | None = None
    """0: Monday. None: every day."""
    last_day: int | None = None
    zone: str = "UTC"

    def near(self, at: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Begin and end of each one from a week before that moment to a week after it."""
        zone = ZoneInfo(self.zone)
        today = at.astimezone(zone).date()
        for days in range(-8, 9):
            date = today + timedelta(days=days)
            if self.day is not None and date.weekday() != self.day:
                continue
            last = date + timedelta(days=self._length())
            yield (
                datetime.combine(date, self.begins, zone).astimezone(UTC),
                datetime.combine(last, self.ends, zone).astimezone(UTC),
            )

    def _length(self) -> int:
        """Days from the date it begins to the date it ends."""
        if self.day is None or self.last_day is None:
            return int(self.ends <= self.begins)
        days = (self.last_day - self.day) % 7
        return 7 if days == 0 and self.ends <= self.begins else days


@dataclass(frozen=True)
class Window:
    """Some time, once or again and again, for some targets or for all."""

    reason: str
    targets: frozenset[str] = frozenset()
    environments: frozenset[str] = frozenset()
    """Neither: every target."""
    begins: datetime | None = None
    ends: datetime | None = None
    weekly: tuple[Weekly, ...] = ()
    """Empty: once, from `begins` to `ends`; else only between these, where they are given."""

    def covers(self, target: str, environment: str, *, production: bool) -> bool:
        """Is it about that target? `production`: it counts as production."""
        if not self.targets and not self.environments:
            return True
        name = environment.strip().lower()
        by_environment = name in self.environments or (
            production and "production" in self.environments
        )
        return target in self.targets or by_environment

    def open_until(self, at: datetime) -> datetime | None:
        """When what is open at that moment ends; None: it is not open."""
        return next((end for begin, end in self._near(at) if begin <= at < end), None)

    def opens_after(self, at: datetime) -> datetime | None:
        """When it begins next; None: not within a week (or never)."""
        return min((begin for begin, _ in self._near(at) if begin > at), default=None)

    def _near(self, at: datetime) -> Iterator[tuple[datetime, datetime]]:
        first = self.begins or datetime.min.replace(tzinfo=UTC)
        last = self.ends or datetime.max.replace(tzinfo=UTC)
        if not self.weekly:
            yield first, last
            return
        # One that begins later repeats from then on.
        start = max(at, min(first, last))
        for span in self.weekly:
            for begin, end in span.near(start):
                if begin < last and end > first:
                    yield max(begin, first), min(end, last)


def joined_end(windows: Iterable[Window], at: datetime) -> datetime | None:
    """When nothing of these is open any more; None: nothing is at that moment.

    Where one follows another without a gap, the end of the last one within about a week.
    """
    known, latest = list(windows), at
    while latest < at + _WEEK:
        ends = [end for window in known if (end := window.open_until(latest)) is not None]
        if not ends:
            break
        latest = max(ends)
    return latest if latest > at else None
