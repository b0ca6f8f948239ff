"""What the endpoints work with; made once, when the application starts."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from fastapi import Request
from prometheus_client import CollectorRegistry

from agent.context import Target
from agent.runbook import Library
from api.alerts.rates import Rates
from api.alerts.taking import Intake
from api.exposition import asking
from api.one_try import OneTry
from api.outlooks import Outlooks
from api.problems import Problem
from api.queue import Announcements, Nudges
from api.readiness import Readiness
from api.seen import Seen
from api.settings import Settings
from api.store.database import Database
from api.store.incidents import now
from api.store.processes import process_name

LOOKS_AT_A_TIME = 2
"""At one target: an agent asks for several at once, and each walks over keys."""


@dataclass(frozen=True)
class Service:
    """The parts of a running service."""

    settings: Settings
    database: Database
    queue: Nudges
    library: Library
    targets: Sequence[Target]
    name: str = field(default_factory=process_name)
    began: datetime = field(default_factory=now)
    looking: defaultdict[str, asyncio.Semaphore] = field(init=False)
    """By target: whoever wants to look at it for somebody waits here."""
    seen: Seen = field(init=False)
    outlooks: Outlooks = field(init=False)
    intake: Intake = field(init=False)
    rates: Rates = field(init=False)
    readiness: Readiness = field(init=False)
    standing: OneTry[CollectorRegistry] = field(init=False)
    announcements: Announcements = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seen", Seen(self.database))
        object.__setattr__(self, "outlooks", Outlooks(self.settings, self.database))
        gentle = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(LOOKS_AT_A_TIME))
        object.__setattr__(self, "looking", gentle)
        bounds, silencing = self.settings.config.intake, self.settings.config.silencing()
        object.__setattr__(
            self, "intake", Intake(self.database, self.targets, bounds.queue, silencing)
        )
        object.__setattr__(self, "rates", Rates(bounds.per_second, bounds.burst))
        readiness = Readiness(self.settings, self.database, self.queue, self.name)
        object.__setattr__(self, "readiness", readiness)
        object.__setattr__(self, "standing", asking(self.database))
        object.__setattr__(self, "announcements", Announcements(self.queue))

    @staticmethod
    async def of(request: Request) -> "Service":
        """The service of this application: a dependency. Async, or each call takes a thread."""
        service: Service = request.app.state.service
        return service

    def target(self, name: str) -> Target:
        """A configured target, by its name. Raises Problem."""
        for target in self.targets:
            if target.name == name:
                return target
        known = ", ".join(target.name for target in self.targets) or "none"
        message = f"not a configured target (configured: {known})"
        raise Problem(422, "the target is not configured", [("target", message)])

    def environment(self, target: str) -> str:
        """The environment of a target; one that is no longer configured counts as production."""
        found = (known.environment for known in self.targets if known.name == target)
        return next(found, "production")
