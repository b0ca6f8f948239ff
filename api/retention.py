"""Deleting what is old, while the service runs: by one worker process at a time."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from api.settings import Settings
from api.store import audit, retention
from api.store.checkpoints import forget_finished
from api.store.database import Database
from api.store.leases import acquire
from api.store.space import give_back

EVERY_SECONDS = 600.0
MOST_BATCHES = 100
"""Of each kind in one round; what is left is for the next."""
PAUSE_SECONDS = 0.05
"""Between two batches: whoever waits to write gets their turn."""
log = structlog.get_logger(__name__)


@dataclass
class Retention:
    """The rounds of one worker process."""

    settings: Settings
    database: Database
    checkpoints: Any
    """The graph's checkpointer."""
    holder: str
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def forever(self) -> None:
        """Round after round; whatever fails in one is tried again in the next."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                # No target's name has a slash: this is the lease of no investigation.
                name, seconds = "sweep/retention", EVERY_SECONDS * 0.9
                if await acquire(self.database, name, "", self.holder, seconds) is not None:
                    await self.round()
            except Exception:
                log.exception("retention_failed")

    async def round(self) -> dict[str, int]:
        """Delete what is old enough; how many rows of which table, on record as well."""
        kept, now = self.settings.config.retention, self.clock()
        before = now - kept.incidents
        judged = None if kept.judged is None else now - kept.judged
        targets = [target.name for target in self.settings.config.targets]
        gone = Counter(checkpoints=await forget_finished(self.database, self.checkpoints, now))
        gone += await self._batches(lambda s: retention.forget_incidents(s, before, judged))
        gone += await self._batches(lambda s: retention.forget_aged(s, before, now, targets))
        if not gone:
            return {}
        async with self.database.writing() as session:
            who = audit.service("service")
            await audit.note(session, who, "forgotten", before=before.isoformat(), rows=gone)
        log.info("forgotten", **gone)
        if self.database.is_sqlite:
            await asyncio.to_thread(give_back, self.database)
        return dict(gone)

    async def _batches(
        self, batch: Callable[[AsyncSession], Awaitable[Mapping[str, int]]]
    ) -> Counter[str]:
        """Until one finds nothing, each in a transaction of its own."""
        gone = Counter[str]()
        for _ in range(MOST_BATCHES):
            async with self.database.writing() as session:
                found = +Counter(await batch(session))
            if not found:
                break
            gone += found
            await asyncio.sleep(PAUSE_SECONDS)
        return gone
