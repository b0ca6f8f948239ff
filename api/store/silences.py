"""Silences: alerts that start nothing for a while, because a person said so."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import Alert
from agent.policy import spoken_time
from api.store.tables import AlertRow
from api.store.target_tables import SilenceRow

MOST = 200
"""Silences in force at a time."""


class NoSuchSilence(LookupError):
    """There is no silence with that number, or it is over."""


class TooMany(Exception):
    """So many are in force that another would not be read."""


@dataclass(frozen=True)
class Silence:
    """Why nothing is started for an alert, and until when."""

    by: str
    until: datetime
    reason: str

    def __str__(self) -> str:
        """`silenced by ann until 05:00 UTC: the rack is moved`."""
        return f"silenced by {self.by} until {spoken_time(self.until)}: {self.reason}"


def covers(row: SilenceRow, alert: Alert, target: str) -> bool:
    """Is it about this alert? Labels as they are kept; its name counts as `alertname`."""
    labels = {"alertname": alert.name} | alert.labels
    return row.target in (None, target) and row.labels.items() <= labels.items()


async def declare(
    session: AsyncSession,
    target: str | None,
    labels: dict[str, str],
    reason: str,
    by: str,
    at: datetime,
    until: datetime,
) -> SilenceRow:
    """From now on such alerts start nothing. Raises TooMany."""
    count = select(func.count()).select_from(SilenceRow).where(SilenceRow.until > at)
    if (await session.scalar(count) or 0) >= MOST:
        raise TooMany(MOST)
    row = SilenceRow(
        target=target, labels=labels, reason=reason, by=by, at=at, until=until, lifted_by=""
    )
    session.add(row)
    await session.flush()
    return row


async def in_force(session: AsyncSession, at: datetime) -> list[SilenceRow]:
    """Those that are not over, oldest first."""
    return list(await session.scalars(_IN_FORCE, {"at": at}))


_IN_FORCE = (
    select(SilenceRow).where(SilenceRow.until > bindparam("at")).order_by(SilenceRow.id).limit(MOST)
)


async def lift(session: AsyncSession, number: int, by: str, at: datetime) -> SilenceRow:
    """It is over: what it silenced and still fires is looked at next. Raises NoSuchSilence."""
    row = await session.get(SilenceRow, number, with_for_update=True)
    if row is None or row.until <= at:
        raise NoSuchSilence(number)
    row.until, row.lifted_by = at, by
    # Whichever another silence covers is found silenced again when it is looked at.
    quiet = AlertRow.silenced_until > at, AlertRow.status == "firing"
    # In the order in which others lock them.
    await session.scalars(select(AlertRow.id).where(*quiet).order_by(AlertRow.id).with_for_update())
    await session.execute(update(AlertRow).where(*quiet).values(silenced_until=at))
    return row
