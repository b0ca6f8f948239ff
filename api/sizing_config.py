"""The `watch:`, `prometheus:` and `targets.resize_hook:` sections of the configuration."""

import re
from datetime import timedelta
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from api.entries import Duration, Entry, Name, listed

MOST_ARGUMENTS = 64


def _web_url(value: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(value.get_secret_value())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("use http:// or https://, with a host")
    return value


WebUrl = Annotated[SecretStr, AfterValidator(_web_url)]


def _header(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]*", value.get_secret_value()):
        raise ValueError("a token is made of visible ASCII characters, without spaces")
    return value


Token = Annotated[SecretStr, AfterValidator(_header)]


class WatchEntry(Entry):
    """How often a target's memory is looked at for its trend, how long that is kept, and whether
    thresholds raise alerts.
    """  # noqa: D205

    enabled: bool = True
    every: Annotated[Duration, Field(ge=timedelta(minutes=1), le=timedelta(hours=1))] = timedelta(
        minutes=1
    )
    keep: Annotated[Duration, Field(ge=timedelta(days=1), le=timedelta(days=365))] = timedelta(
        days=30
    )
    baselines: bool = True
    """Whether what a target looks like when nothing is wrong is kept, to tell what changed since:
    every 15 minutes, and of a sample of its keys every hour."""
    alerts: bool | None = None
    """Whether the runbooks' own thresholds raise alerts. None: where nobody else sends any."""
    skip_targets: Annotated[list[Name], BeforeValidator(listed)] = Field(default_factory=list)
    """On which they raise none."""
    skip_thresholds: Annotated[list[str], BeforeValidator(listed)] = Field(
        default_factory=list, max_length=200
    )
    """Which are not watched, as runbooks write them after `when`."""


class PrometheusEntry(Entry):
    """Where the trend of a target's memory may be asked for."""

    url: WebUrl
    token: Token | None = None
    """Sent as a bearer token."""
    metric: str = Field(
        default="redis_memory_used_bytes", pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]{0,199}$"
    )
    days: int = Field(default=30, ge=1, le=90)
    """How far back."""


class ResizeHookEntry(Entry):
    """The user's own way to resize a target: a command, or a webhook."""

    command: list[str] | None = Field(default=None, min_length=1, max_length=MOST_ARGUMENTS)
    """The program and its arguments; no shell. It reads the order as JSON on standard input."""
    environment: dict[str, SecretStr] = Field(default_factory=dict, max_length=100)
    """All that the command finds in its environment, besides PATH."""
    url: WebUrl | None = None
    """Gets the order as a POST of JSON, signed with `secret`."""
    secret: SecretStr | None = Field(default=None, min_length=16)
    answer: Annotated[Duration, Field(ge=timedelta(minutes=1), le=timedelta(hours=1))] = timedelta(
        minutes=5
    )
    """How long the hook itself may take."""
    wait: Annotated[Duration, Field(ge=timedelta(minutes=1), le=timedelta(hours=6))] = timedelta(
        minutes=30
    )
    """How long the server may take to show its new limit, counted from the order."""
    keeps_data: bool = False
    """It keeps the data even where the server has neither a replica nor a file."""
    undo: bool = False
    """The hook can also order the old, smaller size."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("give either command or url")
        if self.url is not None and self.secret is None:
            raise ValueError("a webhook is signed: give a secret of 16 characters or more")
        if self.url is not None and self.environment:
            raise ValueError("environment is for a command")
        return self
