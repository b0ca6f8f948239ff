"""Each time an alert fires is a row, under a unique key: source, fingerprint and start."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import Alert
from api.store import incidents
from api.store.appends import append, written
from api.store.tables import AlertRow

FLAP_WINDOW = timedelta(hours=1)
"""An alert that was over and fires again within it flaps. Alertmanager tells the changes of a group
at most every five minutes (`group_interval`), so this sees a dozen; routers, too, hold a flapping
route down for an hour at most (RFC 2439; `max-suppress-time`)."""
CLOCKS_APART = timedelta(minutes=5)
"""How far ahead of ours a sender's clock is believed to be."""
LATE = timedelta(minutes=5)
"""So long after an alert was told to be over, what says that it fires was sent before: Alertmanager
tries each message for `group_interval`. Later it fires again, whatever start is given."""
MOST_TIMES = 100
"""Of one alert, as many are looked at, back from the last."""


async def seen(session: AsyncSession, alerts: Sequence[Alert]) -> set[tuple[str, str]]:
    """Source and fingerprint of those of which anything is in the store, whenever it was."""
    fingerprints = list({alert.fingerprint for alert in alerts})
    sources = list({alert.source for alert in alerts})
    found = await session.execute(_SEEN, {"fingerprints": fingerprints, "sources": sources})
    return {(source, fingerprint) for source, fingerprint in found}


_SEEN = select(AlertRow.source, AlertRow.fingerprint).where(
    AlertRow.fingerprint.in_(bindparam("fingerprints", expanding=True)),
    AlertRow.source.in_(bindparam("sources", expanding=True)),
)


async def find(session: AsyncSession, alert: Alert, times: Sequence[AlertRow]) -> AlertRow | None:
    """This very one; `times`: those of the same rule and labels, as `times` says."""
    known = next((row for row in times if row.starts_at == alert.starts_at), None)
    if known is not None or len(times) < MOST_TIMES:
        return known
    same_start = AlertRow.starts_at == alert.starts_at
    return await session.scalar(select(AlertRow).where(*_same(alert), same_start))


async def times(session: AsyncSession, alert: Alert) -> Sequence[AlertRow]:
    """All of the same rule and labels, the last one first."""
    await written(session)
    query = select(AlertRow).where(*_same(alert)).order_by(AlertRow.id.desc()).limit(MOST_TIMES)
    return (await session.scalars(query)).all()


async def all_times(
    session: AsyncSession, alerts: Sequence[Alert]
) -> dict[tuple[str, str], list[AlertRow]]:
    """`times` of each, by source and fingerprint."""
    wanted = {
        "fingerprints": list({alert.fingerprint for alert in alerts}),
        "sources": list({alert.source for alert in alerts}),
    }
    found: dict[tuple[str, str], list[AlertRow]] = {}
    rows = (await session.scalars(_ALL_TIMES, wanted)).all() if alerts else ()
    for row in sorted(rows, key=lambda row: row.id, reverse=True):
        found.setdefault((row.source, row.fingerprint), []).append(row)
    return found


_BACK = func.row_number().over(
    partition_by=(AlertRow.source, AlertRow.fingerprint), order_by=AlertRow.id.desc()
)
_NEWEST = (
    select(AlertRow.id, _BACK.label("back"))
    .where(
        AlertRow.fingerprint.in_(bindparam("fingerprints", expanding=True)),
        AlertRow.source.in_(bindparam("sources", expanding=True)),
    )
    .subquery()
)
_ALL_TIMES = select(AlertRow).where(
    AlertRow.id.in_(select(_NEWEST.c.id).where(_NEWEST.c.back <= MOST_TIMES))
)


async def still_fires(session: AsyncSession, incident_id: str) -> bool:
    """Is any alert of an incident not over? A silenced one calls nobody, and keeps nothing open."""
    await written(session)
    loud = AlertRow.status == "firing", AlertRow.silenced_until.is_(None)
    firing = select(AlertRow.id).where(AlertRow.incident_id == incident_id, *loud).limit(1)
    return await session.scalar(firing) is not None


def ended_by(alert: Alert, times: Sequence[AlertRow]) -> list[AlertRow]:
    """Which of them a resolution ends: every earlier one whose end nobody told, too.

    Some sources send another start with it than before, and two Prometheus servers give one alert
    two starts. Never one that began after the end: that is its next time, the message came late.
    """
    return [
        row
        for row in times
        if row.status == "firing"
        and (
            row.starts_at == alert.starts_at or row.starts_at <= (alert.ends_at or alert.starts_at)
        )
    ]


def is_over(alert: Alert, times: Sequence[AlertRow]) -> bool:
    """Did its end come first, with another start? Told by one clock, the sender's.

    Of an end in the future no more is believed: whatever fires until then would start nothing.
    """
    return any(
        row.incident_id is None
        and row.ends_at is not None
        and may_be_late(row)
        and min(row.ends_at, row.received_at + CLOCKS_APART) >= alert.starts_at
        for row in times
    )


def may_be_late(row: AlertRow) -> bool:
    """Of one that is over: may a message that it fires be from before that?"""
    return row.over_at is None or row.over_at + LATE > incidents.now()


async def is_new_here(session: AsyncSession, incident_id: str, alert: Alert) -> bool:
    """Has no other alert of the incident its name?"""
    another = (AlertRow.source != alert.source) | (AlertRow.fingerprint != alert.fingerprint)
    same_name = AlertRow.incident_id == incident_id, AlertRow.name == alert.name
    return await session.scalar(select(AlertRow.id).where(*same_name, another).limit(1)) is None


def flaps(times: Sequence[AlertRow]) -> int:
    """How often it was looked at and over within the window. A pair's two starts have one end."""
    since = incidents.now() - FLAP_WINDOW
    return len(
        {
            row.over_at
            for row in times
            if row.over_at is not None
            and row.over_at > since
            and row.incident_id is not None
            and row.silenced_until is None
        }
    )


def keep(
    session: AsyncSession,
    alert: Alert,
    incident_id: str | None,
    over_at: datetime | None = None,
) -> None:
    """Keep one that is new. The caller holds its lock."""
    at = incidents.now()
    fields = alert.model_dump()
    append(session, AlertRow, incident_id=incident_id, received_at=at, over_at=over_at, **fields)


def _same(alert: Alert) -> tuple[ColumnElement[bool], ...]:
    return (AlertRow.source == alert.source, AlertRow.fingerprint == alert.fingerprint)
