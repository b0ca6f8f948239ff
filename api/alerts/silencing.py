"""What starts nothing for a while: by a silence that a person declared, or a configured window."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import func, or_, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession

from agent.context import Target
from agent.incident import Alert
from agent.policy import is_production
from agent.windows import Window
from api.alerts.placing import place_of
from api.store import alerts, incidents, silences
from api.store.database import Database
from api.store.silences import Silence
from api.store.tables import AlertRow
from api.store.target_tables import SilenceRow

MOST_EXAMINED = 1_000
RACE = timedelta(minutes=1)
"""So long after a silence was lifted, an alert may be stored by whoever still knew it."""
CONFIGURED = "the configuration"
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Silencing:
    """What is silenced at a moment."""

    declared: Sequence[SilenceRow]
    windows: Sequence[Window]
    at: datetime

    @classmethod
    async def now(cls, session: AsyncSession, windows: Sequence[Window]) -> "Silencing":
        """As it is in force now; `windows`: the configured ones."""
        at = incidents.now()
        return cls(await silences.in_force(session, at), windows, at)

    def of(self, alert: Alert, target: Target | None) -> Silence | None:
        """The silence that lasts longest of those that cover an alert."""
        found = [
            Silence(row.by, row.until, row.reason)
            for row in self.declared
            if silences.covers(row, alert, target.name if target else "")
        ]
        found += self._by_windows(target) if target else []
        return max(found, key=lambda silence: silence.until, default=None)

    def _by_windows(self, target: Target) -> list[Silence]:
        production = is_production(target.environment)
        return [
            Silence(CONFIGURED, until, window.reason)
            for window in self.windows
            if window.covers(target.name, target.environment, production=production)
            and (until := window.open_until(self.at)) is not None
        ]


async def wake(
    database: Database,
    targets: Sequence[Target],
    windows: Sequence[Window],
    *,
    everything: bool = False,
) -> list[str]:
    """Look at what was silenced, is not any more, and was not told to be over.

    Not every sender repeats itself. `everything`: other windows may be configured than when it was
    silenced. Returns the incidents that wait for a worker now.
    """
    by_name = {target.name: target for target in targets}
    due: list[Alert] = []
    longer: dict[int, datetime] = {}
    async with database.reading() as session:
        silencing = await Silencing.now(session, windows)
        lifted = select(func.max(SilenceRow.until)).where(
            SilenceRow.lifted_by != "", SilenceRow.until > silencing.at - RACE
        )
        ends = or_(
            AlertRow.silenced_until <= silencing.at,
            AlertRow.received_at < lifted.scalar_subquery(),
        )
        silenced = AlertRow.silenced_until.is_not(None)
        rows = await session.scalars(
            select(AlertRow)
            .where(AlertRow.status == "firing", silenced if everything else ends)
            .order_by(AlertRow.silenced_until)
            .limit(MOST_EXAMINED)
        )
        for kept in rows:
            alert = incidents.to_alert(kept)
            silence = silencing.of(alert, by_name.get(alert.target))
            if silence is None:
                due.append(alert)
            elif silence.until != kept.silenced_until:
                longer[kept.id] = silence.until
    if longer:  # by another one: not to be examined again before that ends
        async with database.writing() as session:
            for number, until in sorted(longer.items()):
                still = update(AlertRow).where(AlertRow.id == number, silenced)
                await session.execute(still.values(silenced_until=until))
    started = []
    for alert in due:
        target = by_name.get(alert.target)
        problem = "" if target else _nowhere(alert)
        try:
            async with database.writing() as session:
                incident, _ = await alerts.firing(
                    database, session, alert, place_of(target, targets), problem
                )
        except (OperationalError, PoolTimeout):
            raise  # so it would be with all of them
        except Exception:
            # One that cannot be stored must not hold up those behind it.
            log.exception("not_woken", alert=alert.name, target=alert.target)
            continue
        if incident is not None and incident.status == "queued":
            started.append(incident.id)
    return started


def _nowhere(alert: Alert) -> str:
    if alert.target:
        return f"{alert.target} is not configured any more"
    return "it is not silenced any more, and no configured target fits it"
