"""The entries of the YAML file that REDIS_ONCALL_CONFIG names. Errors never repeat a value."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from agent.context import Target
from agent.incident import Role
from agent.policy import POLICY, Policy
from agent.windows import Window
from api.entries import Credential, Duration, Entry, Name, Sha256, listed
from api.gate_config import PagesEntry, PolicyEntry, WindowEntry
from api.http_config import HttpEntry
from api.intake_config import IntakeEntry
from api.model_settings import ModelEntry
from api.notifications_config import RouteEntry
from api.retention_config import RetentionEntry
from api.sizing_config import PrometheusEntry, ResizeHookEntry, WatchEntry
from api.source_config import SourceEntry
from tools.replicas import WalkOn
from tools.target_url import deployment_of

_UNITS = {"": 1, "b": 1, "k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2,
          "g": 1000**3, "gb": 1024**3}  # fmt: skip


def _bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+)\s*([kmg]?b?)\s*", value.lower())
    if match is None:
        raise ValueError("a size in bytes is expected, such as 536870912 or 512mb")
    return int(match[1]) * _UNITS[match[2]]


def _redis_url(value: SecretStr) -> SecretStr:
    deployment_of(value.get_secret_value())
    return value


def check_port(url: str) -> None:
    """A `/` or `#` in a password makes the rest of it the port, and errors would print that."""
    try:
        urlsplit(url).port  # noqa: B018 - it raises
    except ValueError:
        because = "not a URL: write / ? # @ : in a password as %2F %3F %23 %40 %3A"
        raise ValueError(because) from None


RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]


class TargetEntry(Entry):
    """A server we may look at."""

    name: Name
    url: RedisUrl
    remedy_url: RedisUrl | None = None
    environment: Name = "production"
    memory_limit: Annotated[int | None, BeforeValidator(_bytes)] = None
    match: dict[str, str] = Field(default_factory=dict)
    walk_on: WalkOn = "primary"
    """Where walks over the keyspace go: `replica` where they may never go to the primary."""
    part_of: Name | None = None
    """What it is a replica or a shard of: alerts on targets of the same join one incident."""
    series: dict[str, str] = Field(default_factory=dict, max_length=20)
    """The labels of its series in Prometheus; none: those of `match`."""
    host_series: dict[str, str] = Field(default_factory=dict, max_length=20)
    """The labels of its machine's series of node_exporter."""
    data_mount: str | None = Field(default=None, max_length=200)
    """Where the disk with its data is mounted, as node_exporter calls it."""
    container_series: dict[str, str] = Field(default_factory=dict, max_length=20)
    """The labels of its container's series of cAdvisor."""
    resize_hook: ResizeHookEntry | None = None

    def target(self) -> Target:
        """For the agent."""
        url = self.url.get_secret_value()
        return Target(
            name=self.name,
            url=url,
            walk_on=self.walk_on,
            has_several_nodes=deployment_of(url).kind != "node" or self.walk_on != "primary",
            remedy_url=self.remedy_url.get_secret_value() if self.remedy_url else None,
            environment=self.environment,
            memory_limit=self.memory_limit,
            match=self.match,
            part_of=self.part_of or "",
        )


NOT_PEOPLE = frozenset({"policy", "service", "unknown"})
"""Names that the audit trail has for what no person did."""


class TokenEntry(Credential):
    """Who may do what. `sha256` is that of the whole token; the token itself is nowhere."""

    name: Name
    role: Role | Literal["source"]
    """source: may post alerts, and nothing else."""
    sha256: Sha256
    id: str | None = None
    """The token's public id, the middle part of `roc_<id>_<secret>`."""
    person: Name | None = None
    """Whose it is, where one person has several; None: whoever has its name."""

    @field_validator("name", "person")
    @classmethod
    def _is_a_person(cls, name: str | None) -> str | None:
        if name is not None and name.casefold() in NOT_PEOPLE:
            raise ValueError(f"'{name}' stands for redis-oncall itself in the audit trail")
        return name

    @property
    def who(self) -> str:
        """The person, as approvals and the audit trail name them."""
        return self.person or self.name


@dataclass
class Credentials:
    """Who is let in now: read again while the service runs (`api/rotation.py`)."""

    tokens: Sequence[TokenEntry]
    sources: Sequence[SourceEntry]


class BackupsEntry(Entry):
    """Where remedies keep what they remove, for how long, and how much of it."""

    folder: Path | None = None
    """None: `backups` in the data folder."""
    keep: Annotated[Duration, Field(ge=timedelta(hours=1), le=timedelta(days=365))] = timedelta(
        days=7
    )
    most_bytes: Annotated[int, Field(ge=1024**2), BeforeValidator(_bytes)] = 10 * 1024**3


class AuditEntry(Entry):
    """How long the audit trail is kept."""

    keep: Annotated[Duration, Field(ge=timedelta(days=1))] | None = None
    """None: for ever."""


def _servers(address: RedisUrl) -> list[str]:
    """What it is reached by, whoever asks: hosts and ports, or the path of a socket."""
    url = address.get_secret_value()
    named = deployment_of(url)
    return [f"{one.lower()}{named.master_name}" for one in named.addresses] or [urlsplit(url).path]


class Config(Entry):
    """The YAML file."""

    targets: list[TargetEntry] = Field(default_factory=list)
    tokens: list[TokenEntry] = Field(default_factory=list)
    sources: list[SourceEntry] = Field(default_factory=list)
    policy: PolicyEntry = PolicyEntry()
    freezes: list[WindowEntry] = Field(default_factory=list)
    """When nothing is changed."""
    maintenance: list[WindowEntry] = Field(default_factory=list)
    """When rows of the policy with `only_in_window` let something be changed."""
    mode: Literal["live", "dry_run"] = "live"
    """dry_run: everything but the writing."""
    pages: PagesEntry = PagesEntry()
    notifications: Annotated[list[RouteEntry], Field(max_length=50), BeforeValidator(listed)] = (
        Field(default_factory=list)
    )
    """Who is told what becomes of incidents."""
    intake: IntakeEntry = IntakeEntry()
    http: HttpEntry = HttpEntry()
    runbooks: list[Path] = Field(default_factory=list)
    model: ModelEntry = ModelEntry()
    backups: BackupsEntry = BackupsEntry()
    audit: AuditEntry = AuditEntry()
    retention: RetentionEntry = RetentionEntry()
    watch: WatchEntry = WatchEntry()
    prometheus: PrometheusEntry | None = None
    sizes: Path | None = None
    """A catalogue of instance sizes that replaces `tools/instance_sizes.yaml`."""
    recordings: int = Field(default=500, ge=0, le=100_000)
    """How many recordings of investigations are kept, newest first; 0 keeps none."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for field in ("targets", "tokens", "sources"):
            names = [entry.name.casefold() for entry in getattr(self, field)]
            if doubles := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{field}: the name {doubles[0]} is used twice; choose another")
        return self

    @model_validator(mode="after")
    def _one_name_writes_to_a_server(self) -> Self:
        """Leases, freezes and the policy's own limits are kept by the target's name."""
        writers: dict[str, str] = {}
        for target in self.targets:
            if target.remedy_url is None:
                continue
            for server in _servers(target.remedy_url):
                other = writers.setdefault(server, target.name)
                if other != target.name:
                    raise ValueError(
                        f"targets: {other} and {target.name} both have a remedy_url of {server}: "
                        "two could write to it at once; leave it out of one of them"
                    )
        return self

    @model_validator(mode="after")
    def _watch_skips_what_there_is(self) -> Self:
        known = {target.name for target in self.targets}
        if unknown := sorted(set(self.watch.skip_targets) - known):
            raise ValueError(f"watch.skip_targets: {unknown[0]} is not a configured target")
        return self

    @property
    def watches_thresholds(self) -> bool:
        """Do the runbooks' own thresholds raise alerts? By default where nobody else sends any."""
        if self.watch.alerts is not None:
            return self.watch.enabled and self.watch.alerts
        others = self.sources or any(token.role == "source" for token in self.tokens)
        return self.watch.enabled and not others

    @model_validator(mode="after")
    def _windows_are_about_something(self) -> Self:
        """A freeze of a target that is spelt otherwise would freeze nothing; so for routes."""
        targets = {target.name for target in self.targets}
        environments = {target.environment.lower() for target in self.targets} | {"production"}
        for field in ("freezes", "maintenance", "notifications"):
            for place, entry in enumerate(getattr(self, field)):
                where = f"{field}.{place}"
                if unknown := sorted(set(entry.targets) - targets):
                    raise ValueError(f"{where}.targets: {unknown[0]} is not a configured target")
                if unknown := sorted({e.lower() for e in entry.environments} - environments):
                    raise ValueError(f"{where}.environments: no target is in {unknown[0]}")
        return self

    def silencing(self) -> tuple[Window, ...]:
        """When alerts start nothing."""
        return tuple(
            entry.window() for entry in (*self.freezes, *self.maintenance) if entry.silence
        )

    def in_force(self, at: datetime, *, dry_run: bool) -> Policy:
        """The file's rules and then the built-in ones, who has a token, and when nothing changes.

        Of a person with several tokens the highest role counts that holds at that time.
        """
        ranks = {role: rank for rank, role in enumerate(get_args(Role))}
        people: dict[str, Role] = {}
        for token in self.tokens:
            if token.role != "source" and token.holds(at):
                known = people.get(token.who.casefold(), token.role)
                people[token.who.casefold()] = max(known, token.role, key=ranks.__getitem__)
        return Policy(
            (*(rule for entry in self.policy.rules for rule in entry.rules()), *POLICY),
            self.policy.expires,
            self.policy.verify_for,
            freezes=tuple(entry.window() for entry in self.freezes),
            maintenance=tuple(entry.window() for entry in self.maintenance),
            people=people if self.tokens or self.sources else None,
            automatic=self.policy.automatic.limits(),
            dry_run=dry_run or self.mode == "dry_run",
        )
