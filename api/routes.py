"""Who is told of what: the routes of the configuration, and the addresses they lead to. Pure."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from agent.policy import is_production

if TYPE_CHECKING:
    from api.config import Config


@dataclass(frozen=True)
class Route:
    """A filter that is empty lets all through."""

    addresses: Sequence[str]
    severities: Collection[str] = ()
    targets: Collection[str] = ()
    environments: Collection[str] = ()
    kinds: Collection[str] = ()
    per_hour: int = 60

    def fits(self, kind: str, severity: str, target: str, environment: str) -> bool:
        """Is it told of that?"""
        return (
            (not self.kinds or kind in self.kinds)
            and (not self.severities or severity in self.severities)
            and (not self.targets or target in self.targets)
            and (not self.environments or self._is_about(environment))
        )

    def _is_about(self, environment: str) -> bool:
        """`production` is all that counts as production."""
        named = environment in self.environments
        return named or ("production" in self.environments and is_production(environment))


@dataclass(frozen=True)
class Routes:
    """All of them. An address is known by its mark: what it says is secret."""

    routes: Sequence[Route] = ()
    environments: Mapping[str, str] = field(default_factory=dict)
    """Of the targets."""

    @classmethod
    def of(cls, config: "Config") -> Self:
        """As configured."""
        routes = [
            Route(
                [mark_of(url.get_secret_value()) for url in entry.to],
                entry.severities,
                entry.targets,
                [name.lower() for name in entry.environments],
                entry.events,
                entry.per_hour,
            )
            for entry in config.notifications
        ]
        return cls(routes, {one.name: one.environment.lower() for one in config.targets})

    def to(self, kind: str, severity: str, target: str) -> list[str]:
        """The addresses that are told of it, each once."""
        where = self.environments.get(target, "production")
        fit = (route for route in self.routes if route.fits(kind, severity, target, where))
        return list(dict.fromkeys(mark for route in fit for mark in route.addresses))

    def in_production(self, target: str) -> bool:
        """Is it a target of production? One that nobody configured is."""
        return is_production(self.environments.get(target, "production"))

    def per_hour(self, address: str) -> int:
        """How many messages it takes: the most that any of its routes says."""
        return max((r.per_hour for r in self.routes if address in r.addresses), default=60)


def mark_of(url: str) -> str:
    """What an address is known by in the store."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def addresses(config: "Config") -> Iterator[tuple[str, str]]:
    """Every Apprise URL with the field it is in, those of pages first."""
    for place, url in enumerate(config.pages.to):
        yield f"pages.to.{place}", url.get_secret_value()
    for number, entry in enumerate(config.notifications):
        for place, url in enumerate(entry.to):
            yield f"notifications.{number}.to.{place}", url.get_secret_value()
