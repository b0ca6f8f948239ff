"""Working without the queue: what a sweep finds is worked on by the process that found it.

The queue's server may be the very one the alert is about. Leases keep workers apart all the same.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

log = structlog.get_logger(__name__)


class Unqueued:
    """The incidents this process has taken up by itself, at most so many at a time."""

    def __init__(self, advance: Callable[[str], Awaitable[object]], most: int) -> None:
        self._advance = advance
        self._most = most
        self._running: dict[str, asyncio.Task[None]] = {}

    def take(self, incident_ids: Iterable[str]) -> None:
        """Get on with as many of them as there is room for; the others' turn comes again."""
        for incident_id in incident_ids:
            if len(self._running) >= self._most:
                return
            if incident_id not in self._running:
                task = asyncio.create_task(self._run(incident_id))
                self._running[incident_id] = task

    async def _run(self, incident_id: str) -> None:
        try:
            await self._advance(incident_id)
        except Exception:
            log.exception("unqueued_run_failed", incident=incident_id)
        finally:
            self._running.pop(incident_id, None)

    async def close(self) -> None:
        """Stop them; another process goes on from their checkpoints."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
