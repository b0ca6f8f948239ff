"""What the installation knows of a target that no look at it could tell: its memory over days."""

import asyncio
from dataclasses import dataclass
from typing import Any

from api import prometheus
from api.config import TargetEntry
from api.settings import Settings
from api.store import samples
from api.store.database import Database
from tools.growth import History
from tools.reads import READS


@dataclass(frozen=True)
class Past:
    """Of one target."""

    settings: Settings
    database: Database
    target: str

    async def known(self, tool: str) -> dict[str, Any]:
        """Arguments of a tool that only the installation can fill."""
        if "history" not in READS[tool].args.model_fields:
            return {}
        found: dict[str, Any] = {"history": await self.history()}
        if (sizes := self.settings.config.sizes) is not None:
            found["catalogue"] = str(sizes)
        return found

    async def history(self) -> History:
        """Whichever goes back further: our own samples, or those of Prometheus."""
        entry = next((t for t in self.settings.config.targets if t.name == self.target), None)
        own, other = await asyncio.gather(self._watched(), self._prometheus(entry))
        if other is None or (own.samples and _days(own) >= _days(other)):
            return own
        if not other.samples and own.samples:
            return own
        if not other.samples:
            return other.model_copy(update={"because": f"{own.because}; {other.because}"})
        return other

    async def _watched(self) -> History:
        async with self.database.reading() as session:
            found = await samples.newest(session, self.target)
        because = "" if found else "no samples are kept for this target yet"
        if not found and not self.settings.config.watch.enabled:
            because = "`watch` is switched off"
        return History.model_construct(source="watch", samples=found, because=because)

    async def _prometheus(self, target: TargetEntry | None) -> History | None:
        entry = self.settings.config.prometheus
        if entry is None or target is None:
            return None
        return await prometheus.history(entry, target.series or target.match)


def _days(history: History) -> float:
    if not history.samples:
        return 0.0
    return (history.samples[-1].at - history.samples[0].at).total_seconds()
