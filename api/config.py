"""The entries of the YAML file that REDIS_ONCALL_CONFIG names. Errors never repeat a value."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from agent.context import Target
from agent.incident import Risk, Role
from agent.policy import Policy, Rule, is_production
from api.model_settings import ModelEntry

_UNITS = {"": 1, "b": 1, "k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2,
          "g": 1000**3, "gb": 1024**3}  # fmt: skip
_SECONDS = {"m": 60, "h": 3600, "d": 86_400}
SourceKind = Literal["alertmanager", "grafana", "generic"]


def _bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+)\s*([kmg]?b?)\s*", value.lower())
    if match is None:
        raise ValueError("a size in bytes is expected, such as 536870912 or 512mb")
    return int(match[1]) * _UNITS[match[2]]


def _duration(value: Any) -> Any:
    match = re.fullmatch(r"\s*(\d{1,6})\s*([mhd])\s*", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a time is expected, such as 30m, 24h or 7d")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _redis_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("use redis://, rediss:// or unix://")
    check_port(url)
    return value


def check_port(url: str) -> None:
    """A `/` or `#` in a password makes the rest of it the port, and errors would print that."""
    try:
        urlsplit(url).port  # noqa: B018 - it raises
    except ValueError:
        because = "not a URL: write / ? # @ : in a password as %2F %3F %23 %40 %3A"
        raise ValueError(because) from None


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$"), BeforeValidator(lambda v: str(v).lower())]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]


class Entry(BaseModel):
    """Frozen, and strict about names."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class TargetEntry(Entry):
    """A server we may look at."""

    name: Name
    url: RedisUrl
    remedy_url: RedisUrl | None = None
    environment: Name = "production"
    memory_limit: Annotated[int | None, BeforeValidator(_bytes)] = None
    match: dict[str, str] = Field(default_factory=dict)

    def target(self) -> Target:
        """For the agent."""
        return Target(
            name=self.name,
            url=self.url.get_secret_value(),
            remedy_url=self.remedy_url.get_secret_value() if self.remedy_url else None,
            environment=self.environment,
            memory_limit=self.memory_limit,
            match=self.match,
        )


class TokenEntry(Entry):
    """Who may do what. `sha256` is that of the whole token; the token itself is nowhere."""

    name: Name
    role: Role | Literal["source"]
    """source: may post alerts, and nothing else."""
    sha256: Sha256
    id: str | None = None
    """The token's public id, the middle part of `roc_<id>_<secret>`."""


class SourceEntry(Entry):
    """A token that may post alerts of one kind, and nothing else."""

    name: Name
    kind: SourceKind
    sha256: Sha256
    id: str | None = None


class RuleEntry(Entry):
    """What it takes to approve actions of a risk in an environment."""

    risk: Annotated[list[Risk], Field(min_length=1), BeforeValidator(_listed)]
    environment: Name | None = None
    """`production`: whatever counts as production. None: every environment."""
    role: Literal["responder", "approver", "admin"]
    approvals: int = Field(default=1, ge=1, le=9)

    def rules(self) -> Iterator[Rule]:
        """As rows of the agent's table."""
        name = self.environment.lower() if self.environment else None
        exact = None if name == "production" else name
        for production in (True, False) if name is None else (is_production(name),):
            yield Rule(frozenset(self.risk), production, self.role, self.approvals, exact)


class PolicyEntry(Entry):
    """Rules that are tried before the built-in ones, and how long an action can be approved."""

    rules: list[RuleEntry] = Field(default_factory=list)
    expires: Annotated[
        timedelta,
        Field(ge=timedelta(minutes=1), le=timedelta(days=30)),
        BeforeValidator(_duration),
    ] = Policy().expires


class BackupsEntry(Entry):
    """Where remedies keep what they remove, for how long, and how much of it."""

    folder: Path | None = None
    """None: `backups` in the data folder."""
    keep: Annotated[
        timedelta, Field(ge=timedelta(hours=1), le=timedelta(days=365)), BeforeValidator(_duration)
    ] = timedelta(days=7)
    most_bytes: Annotated[int, Field(ge=1024**2), BeforeValidator(_bytes)] = 10 * 1024**3


class Config(Entry):
    """The YAML file."""

    targets: list[TargetEntry] = Field(default_factory=list)
    tokens: list[TokenEntry] = Field(default_factory=list)
    sources: list[SourceEntry] = Field(default_factory=list)
    policy: PolicyEntry = PolicyEntry()
    runbooks: list[Path] = Field(default_factory=list)
    model: ModelEntry = ModelEntry()
    backups: BackupsEntry = BackupsEntry()
    recordings: int = Field(default=500, ge=0, le=100_000)
    """How many recordings of investigations are kept, newest first; 0 keeps none."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for field in ("targets", "tokens", "sources"):
            names = [entry.name for entry in getattr(self, field)]
            if doubles := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{field}: the name {doubles[0]} is used twice; choose another")
        return self
