"""The `policy:`, `freezes:`, `maintenance:` and `pages:` sections of the configuration."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from agent.incident import Risk
from agent.policy import MAY_BE_AUTOMATIC, AutoLimits, Policy, Rule, is_production
from agent.windows import DAYS, Weekly, Window
from api.entries import Duration, Entry, Name, listed

_USUAL = AutoLimits()
_SPAN = re.compile(
    rf"(?:({'|'.join(DAYS)})[a-z]*\s+)?(\d\d?):(\d\d)\s*(?:-|to)\s*"
    rf"(?:({'|'.join(DAYS)})[a-z]*\s+)?(\d\d?):(\d\d)"
)


class RuleEntry(Entry):
    """What it takes to approve actions of a risk in an environment."""

    risk: Annotated[list[Risk], Field(min_length=1), BeforeValidator(listed)]
    environment: Name | None = None
    """`production`: whatever counts as production. None: every environment."""
    role: Literal["responder", "approver", "admin"]
    approvals: int = Field(default=1, ge=1, le=9)
    only_in_window: bool = False
    """What is approved waits for a maintenance window."""
    auto: bool = False
    """The policy itself may approve, within `policy.automatic`."""

    @model_validator(mode="after")
    def _little_risk_is_automatic(self) -> Self:
        if self.auto and (risky := sorted(set(self.risk) - MAY_BE_AUTOMATIC)):
            raise ValueError(
                f"auto: only {' and '.join(sorted(MAY_BE_AUTOMATIC))} may be approved by the "
                f"policy alone, {' and '.join(risky)} never; give them a row of their own"
            )
        return self

    def rules(self) -> Iterator[Rule]:
        """As rows of the agent's table."""
        name = self.environment.lower() if self.environment else None
        exact = None if name == "production" else name
        for production in (True, False) if name is None else (is_production(name),):
            yield Rule(
                frozenset(self.risk),
                production,
                self.role,
                self.approvals,
                exact,
                only_in_window=self.only_in_window,
                auto=self.auto,
            )


class AutomaticEntry(Entry):
    """How far the policy may go where a row says `auto`."""

    confidence: float = Field(default=_USUAL.confidence, ge=0.5, le=1)
    """Of the diagnosis, at least."""
    per_hour: int = Field(default=_USUAL.per_hour, ge=1, le=60)
    """On one target."""
    per_day: int = Field(default=_USUAL.per_day, ge=1, le=200)

    def limits(self) -> AutoLimits:
        """For the agent."""
        return AutoLimits(self.confidence, self.per_hour, self.per_day)


class PolicyEntry(Entry):
    """Rules that are tried before the built-in ones, and how long an action can be approved."""

    rules: list[RuleEntry] = Field(default_factory=list)
    expires: Annotated[Duration, Field(ge=timedelta(minutes=1), le=timedelta(days=30))] = (
        Policy().expires
    )
    verify_for: (
        Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(hours=1))] | None
    ) = None
    """How long a server is watched after a write, whatever the remedy; None: 30 s after most in
    production and a tenth of that elsewhere."""
    automatic: AutomaticEntry = AutomaticEntry()


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("not a known time zone; write UTC, or such as Europe/Berlin") from None
    return name


def _weekly(text: Any) -> tuple[int | None, time, int | None, time]:
    """`Fri 16:00 - Mon 08:00`, or `02:00 - 04:00` for every day. Raises ValueError."""
    match = _SPAN.fullmatch(text.strip().lower()) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a time of the week is expected, such as Fri 16:00 - Mon 08:00")
    first, hour, minute, last, last_hour, last_minute = match.groups()
    if (last is not None) and first is None:
        raise ValueError("with a day at its end it needs one at its beginning")
    day = DAYS.index(first) if first else None
    last_day = DAYS.index(last) if last else day
    if (int(last_hour), int(last_minute)) == (24, 0):
        last_hour, last_day = "0", None if last_day is None else (last_day + 1) % 7
    try:
        return day, time(int(hour), int(minute)), last_day, time(int(last_hour), int(last_minute))
    except ValueError:
        raise ValueError("hours are 0 to 24 and minutes 0 to 59") from None


class WindowEntry(Entry):
    """Some time for some targets: once (`from`, `until`), or every week or day (`weekly`)."""

    reason: Annotated[str, Field(min_length=1, max_length=200)] = "configured"
    targets: Annotated[list[Name], BeforeValidator(listed)] = Field(default_factory=list)
    environments: Annotated[list[Name], BeforeValidator(listed)] = Field(default_factory=list)
    begins: datetime | None = Field(default=None, alias="from")
    until: datetime | None = None
    """The first moment it is over."""
    weekly: Annotated[list[str], BeforeValidator(listed)] = Field(default_factory=list)
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    silence: bool = False
    """Alerts of these targets start nothing meanwhile."""

    @model_validator(mode="after")
    def _it_ends(self) -> Self:
        for text in self.weekly:
            _weekly(text)
        if not self.weekly and self.until is None:
            raise ValueError("say when: `from` and `until`, or `weekly`")
        if self.begins and self.until and self._utc(self.begins) >= self._utc(self.until):
            raise ValueError("`until` must be after `from`")
        return self

    def _utc(self, moment: datetime) -> datetime:
        aware = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(self.timezone))
        return aware.astimezone(UTC)

    def window(self) -> Window:
        """For the agent."""
        spans = [_weekly(text) for text in self.weekly]
        return Window(
            reason=self.reason,
            targets=frozenset(self.targets),
            environments=frozenset(name.lower() for name in self.environments),
            begins=self._utc(self.begins) if self.begins else None,
            ends=self._utc(self.until) if self.until else None,
            weekly=tuple(
                Weekly(begins, ends, day, last_day, self.timezone)
                for day, begins, last_day, ends in spans
            ),
        )


class PagesEntry(Entry):
    """Who is called when a person has to come at once."""

    to: Annotated[list[SecretStr], Field(max_length=50), BeforeValidator(listed)] = Field(
        default_factory=list
    )
    """Apprise URLs: every one of them gets every page. They hold secrets."""
