"""Targets as their pages show them: at a glance, in few statements however many there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from agent.context import Target
from agent.policy import is_production
from agent.signals.memory import PRESSURE_ALERT, PRESSURE_HIGH
from agent.windows import Window
from api import freezes as freeze_api
from api.console.drawing import Trend, trend
from api.freezes import Freeze
from api.outlooks import Outlook
from api.service import Service
from api.store import freezes, glances, incidents
from api.store.glances import LastSample, Newest, OpenIncident
from api.store.tables import EvidenceRow
from api.store.target_tables import FreezeRow, SilenceRow
from tools.connection import display_url
from tools.reading import number
from tools.target_url import SCHEMES

A_PAGE = 50
MOST_OPEN = 3
"""Open incidents of a target that are named at a glance."""
SILENT_AFTER = 3
"""Intervals of `watch` without a sample."""
DAY = timedelta(days=1)
_SEVERITIES = ("critical", "warning", "info")


@dataclass(frozen=True)
class Standing:
    """Whether anything was heard of a target. Silence is not health."""

    word: str
    tone: str
    because: str = ""

    @property
    def is_silent(self) -> bool:
        """Something should have been heard."""
        return self.tone == "bad"


@dataclass(frozen=True)
class Saved:
    """What a look at persistence said: snapshots and append-only file."""

    seen_at: datetime
    at: datetime | None
    """Of the last snapshot that succeeded; None: `because` says why it is not known."""
    status: str
    """Of the last attempt: `ok`, `err`, or empty."""
    append_only: bool | None
    because: str
    incident_id: str
    evidence: str


@dataclass(frozen=True)
class Glance:
    """One target."""

    target: Target
    standing: Standing
    severity: str
    """The worst of open incidents; empty: there is none."""
    sample: LastSample | None
    watched: bool = False
    """Do thresholds of the runbooks raise alerts on it?"""
    open: Sequence[OpenIncident] = ()
    newest: Newest | None = None
    saved: Saved | None = None
    curve: Trend | None = None
    outlook: Outlook | None = None
    quiet: Sequence[Freeze] = ()
    """Freezes on it."""

    @property
    def name(self) -> str:
        """The target's."""
        return self.target.name

    @property
    def environment(self) -> str:
        """The target's."""
        return self.target.environment

    @property
    def address(self) -> str:
        """Without credentials."""
        return display_url(self.target.url)

    @property
    def remedies(self) -> bool:
        """Is there a second identity to apply approved actions with?"""
        return self.target.remedy_url is not None

    @property
    def limit(self) -> int | None:
        """Bytes that it may use, as far as is known."""
        return (self.sample.limit_bytes if self.sample else None) or self.target.memory_limit

    @property
    def share(self) -> float | None:
        """Of the limit, what is used."""
        return self.sample.used_bytes / self.limit if self.sample and self.limit else None

    @property
    def failed(self) -> int:
        """Items of the production checklist."""
        checklist = self.newest.checklist if self.newest else ()
        return sum(item.get("result") == "fail" for item in checklist)

    @property
    def rank(self) -> tuple[int, float, str]:
        """Worst first: what burns, what is silent, what is nearly full."""
        share = self.share or 0.0
        found = 4 if share >= PRESSURE_HIGH else 5 if share >= PRESSURE_ALERT else 6
        if self.severity == "critical":
            found = 0
        elif self.standing.is_silent:
            found = 1
        elif self.severity:
            found = 2 if self.severity == "warning" else 3
        return found, -share, self.name


@dataclass(frozen=True)
class Overview:
    """A page of targets, and how all of them are."""

    shown: Sequence[Glance]
    number: int
    pages: int
    all_of_them: int
    matching: int
    burning: int
    silent: int


async def overview(service: Service, words: str, wanted: int) -> Overview:
    """Those whose names and environments hold the words: the page of that number."""
    wanted_words = words.casefold().split()
    now = incidents.now()
    async with service.database.reading() as session:
        severities = await glances.severities(session)
        samples = await glances.last_samples(session, [one.name for one in service.targets])
        every_one = (
            _glance(service, target, samples.get(target.name), severities, now)
            for target in service.targets
        )
        found = sorted(
            (one for one in every_one if _is_about(one, wanted_words)), key=lambda one: one.rank
        )
        pages = max(1, -(-len(found) // A_PAGE))
        this_one = min(wanted, pages)
        first = (this_one - 1) * A_PAGE
        shown = await _filled(service, session, found[first : first + A_PAGE], now)
    return Overview(
        shown=shown,
        number=this_one,
        pages=pages,
        all_of_them=len(service.targets),
        matching=len(found),
        burning=sum(bool(one.severity) for one in found),
        silent=sum(one.standing.is_silent for one in found),
    )


async def glance_at(service: Service, session: AsyncSession, target: Target) -> Glance:
    """One, with everything."""
    now = incidents.now()
    samples = await glances.last_samples(session, [target.name])
    severities = await glances.severities(session)
    one = _glance(service, target, samples.get(target.name), severities, now)
    return (await _filled(service, session, [one], now))[0]


def _is_about(one: Glance, words: Sequence[str]) -> bool:
    text = f"{one.name} {one.environment}".casefold()
    return all(word in text for word in words)


def _glance(
    service: Service,
    target: Target,
    sample: LastSample | None,
    severities: Mapping[str, set[str]],
    now: datetime,
) -> Glance:
    watch, here = service.settings.config.watch, severities.get(target.name, ())
    every = watch.every if watch.enabled else None
    return Glance(
        target=target,
        standing=standing(target, sample.at if sample else None, every, now, service.began),
        severity=next((severity for severity in _SEVERITIES if severity in here), ""),
        sample=sample,
    )


def standing(
    target: Target,
    heard: datetime | None,
    every: timedelta | None,
    now: datetime,
    began: datetime,
) -> Standing:
    """Was it heard of lately? `every`: between two looks; None: nobody looks. Pure.

    `began`: the service. What was last heard of before that may be so because nobody listened.
    """
    if every is None:
        return Standing("not looked at", "dim", "`watch` is switched off: nobody looks at it")
    if SCHEMES.get(target.url.partition("://")[0]) == "cluster":
        because = "no samples are kept of a cluster: the node in trouble is not always the same"
        return Standing("not sampled", "dim", because)
    patience = SILENT_AFTER * every
    if heard is not None and now - heard <= patience:
        return Standing("heard", "good")
    if now - began <= patience:
        return Standing("not yet heard", "dim", "the service has just started: a look is due")
    because = "it cannot be reached, or does not say what it uses"
    if heard is None:
        return Standing("never heard", "bad", f"nothing was ever heard of it: {because}")
    return Standing("silent", "bad", f"nothing was heard since: {because}")


async def _filled(
    service: Service, session: AsyncSession, shown: Sequence[Glance], now: datetime
) -> list[Glance]:
    """What only those on the page need."""
    names = [one.name for one in shown]
    burning = await glances.open_on(session, [one.name for one in shown if one.severity])
    newest = await glances.newest(session, names)
    curves = await service.outlooks.last_day(session, names)
    frozen = await freezes.in_force(session, now)
    windows, config = service.settings.policy.freezes, service.settings.config
    return [
        replace(
            one,
            watched=config.watches_thresholds and one.name not in config.watch.skip_targets,
            open=worst_first([each for each in burning if each.target == one.name]),
            newest=newest.get(one.name),
            saved=saved(newest[one.name].persistence) if one.name in newest else None,
            curve=trend(curves.get(one.name, ()), one.limit),
            outlook=service.outlooks.known(one.name, one.limit),
            quiet=about(one, frozen, windows, now),
        )
        for one in shown
    ]


def worst_first(found: Sequence[OpenIncident]) -> list[OpenIncident]:
    """The newest of the same severity first."""
    return sorted(found, key=lambda one: _SEVERITIES.index(one.severity))


def about(
    one: Glance,
    declared: Sequence[FreezeRow | SilenceRow],
    windows: Sequence[Window],
    now: datetime,
) -> list[Freeze]:
    """What of it is about that target: declared by people, or configured and open now. Pure."""
    found = [
        Freeze(**freeze_api.declared(row), active=True)
        for row in declared
        if row.target in (None, one.name)
    ]
    production = is_production(one.environment)
    for window in windows:
        if window.covers(one.name, one.environment, production=production):
            shown = freeze_api.configured(window, now)
            found += [shown] if shown is not None and shown.active else []
    return found


def saved(row: EvidenceRow | None) -> Saved | None:
    """What a reading of `persistence` says. Pure."""
    if row is None:
        return None
    reading = row.reading
    age = number(reading.get("seconds_since_last_save"))
    because = "" if age is not None else _why_not(reading.get("seconds_since_last_save"))
    if age is not None and reading.get("rdb_saves") == 0:
        # Until there is one, Redis tells its own start as the time of the last one.
        age, because = None, "none since the server started"
    status, append_only = reading.get("rdb_last_bgsave_status"), reading.get("aof_enabled")
    return Saved(
        seen_at=row.taken_at,
        at=None if age is None else row.taken_at - timedelta(seconds=max(0.0, age)),
        status=status if isinstance(status, str) else "",
        append_only=bool(append_only) if isinstance(append_only, int) else None,
        because=because,
        incident_id=row.incident_id,
        evidence=f"E{row.number}",
    )


def _why_not(part: Any) -> str:
    because = part.get("because") if isinstance(part, dict) else None
    return str(because) if because else "not measured"
