"""What the endpoints work with; made once, when the application starts."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request

from agent.context import Target
from agent.runbook import Library
from api.queue import Queue
from api.settings import Settings
from api.store.database import Database


@dataclass(frozen=True)
class Service:
    """The parts of a running service."""

    settings: Settings
    database: Database
    queue: Queue
    library: Library
    targets: Sequence[Target]

    @staticmethod
    def of(request: Request) -> "Service":
        """The service of this application: a dependency."""
        service: Service = request.app.state.service
        return service

    def environment(self, target: str) -> str:
        """The environment of a target; one that is no longer configured counts as production."""
        found = (known.environment for known in self.targets if known.name == target)
        return next(found, "production")
