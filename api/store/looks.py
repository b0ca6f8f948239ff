"""When an alert that joins an incident makes it be looked at again: at once, or a little later."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import Alert
from api.store import decisions, incidents, occurrences
from api.store.database import Database
from api.store.occurrences import FLAP_WINDOW
from api.store.place import Place
from api.store.tables import EventRow, IncidentRow

AGAIN_AFTER = timedelta(minutes=5)
"""How long after the last look another may begin, of an incident that waits for a person: what
belongs together comes within one `group_interval`."""
PLAN_IS_OLD_AFTER = timedelta(hours=1)
"""The same of an incident whose plan waits, and nobody has decided upon any of it: a plan may be
read and discussed for a while before a new alert replaces it."""
STILL_FIRES_AFTER = timedelta(hours=1)
"""So long after its incident was resolved, an alert that is still sent has it looked at once more:
what was found or done was not it. Alertmanager repeats every four hours (`repeat_interval`)."""
WAITING = ("needs_human", "awaiting_approval")
"""Statuses in which an incident waits for nobody but people."""
UNDER_WAY = ("investigating", "remediating", "verifying")
"""Statuses in which a look is under way, or something is done because of one."""
MOST_AT_ONCE = 100


def may_be_asked(row: IncidentRow) -> bool:
    """Could an alert that joins make it be looked at any sooner?

    An incident that is looked at, or is about to be, is looked at with it. That of a plan that
    waits is postponed for the plan, whichever alert asks.
    """
    if row.status not in WAITING or not row.target:
        return False
    is_noted = row.look_at is not None and row.look_at > incidents.now()
    return not (is_noted and row.status == "awaiting_approval")


def resolved_too_soon(row: IncidentRow) -> bool:
    """Of an alert that is still sent, if this is its incident. A person's closing is not undone."""
    return row.status == "resolved" and row.updated_at + STILL_FIRES_AFTER <= incidents.now()


async def ask(session: AsyncSession, row: IncidentRow, alert: Alert, last: datetime) -> None:
    """Look again because of an alert that joined, as soon as it is time. The row is locked.

    `last`: when the last look ended.
    """
    due = last + (FLAP_WINDOW if alert.flaps else AGAIN_AFTER)
    row.look_at = due if row.look_at is None else min(row.look_at, due)
    await begin(session, row)


async def ask_after_this(
    session: AsyncSession, row: IncidentRow, alert: Alert, *, is_worse: bool
) -> None:
    """An alert joined while it is looked at or worked on: what is new about it may be missed.

    So it is looked at again afterwards if the alert still fires then. The row is locked.
    """
    if row.status in UNDER_WAY and (
        is_worse or await occurrences.is_new_here(session, row.id, alert)
    ):
        due = incidents.now() + (FLAP_WINDOW if alert.flaps else AGAIN_AFTER)
        row.look_at = due if row.look_at is None else min(row.look_at, due)


async def begin(session: AsyncSession, row: IncidentRow) -> bool:
    """Begin it if its time has come, and say whether it began. The row is locked.

    One that was resolved meanwhile may begin again: its place is locked, and nothing is open there.
    """
    now = incidents.now()
    if row.look_at is None or row.look_at > now or row.status not in (*WAITING, "resolved"):
        return False
    row.look_at = await _postponed(session, row)
    if row.look_at is None or row.look_at > now:
        return False
    because = "another alert came after the last look"
    await decisions.lapse_all(session, row, f"{because}; it is looked at again")
    await incidents.begin_attempt(session, row, because)
    return True


async def _postponed(session: AsyncSession, row: IncidentRow) -> datetime | None:
    """When it is really to begin. None: its alerts are over."""
    if not await occurrences.still_fires(session, row.id):
        return None
    if row.status == "resolved":  # that its alerts are over is told only after a while
        return row.updated_at + AGAIN_AFTER
    if row.status != "awaiting_approval":
        return row.look_at
    if not await decisions.untouched(session, row):  # people are deciding
        return incidents.now() + AGAIN_AFTER
    return (await last_looks(session, [row]))[row.id] + PLAN_IS_OLD_AFTER


async def begin_due(database: Database, place_of: Callable[[str], Place]) -> list[str]:
    """Those whose time has come; which wait for a worker now. `place_of`: of a target's name."""
    async with database.reading() as session:
        due = await session.execute(
            select(IncidentRow.id, IncidentRow.target)
            .where(
                IncidentRow.look_at <= incidents.now(),
                IncidentRow.status.in_((*WAITING, "resolved")),
            )
            .order_by(IncidentRow.look_at)
            .limit(MOST_AT_ONCE)
        )
        found = due.all()
    begun = []
    for incident_id, target in found:
        async with database.writing() as session:
            place = place_of(target)
            await database.exclude(session, place.lock())
            row = await incidents.lock(session, incident_id)
            if row.status == "resolved" and await _is_open_on(session, place):
                row.look_at = None  # what is open there is looked at
            elif await begin(session, row):
                begun.append(incident_id)
    return begun


async def _is_open_on(session: AsyncSession, place: Place) -> bool:
    still = IncidentRow.status.not_in(incidents.CLOSED)
    there = IncidentRow.target.in_((place.target, *place.related))
    return await session.scalar(select(IncidentRow.id).where(there, still).limit(1)) is not None


async def last_looks(session: AsyncSession, rows: Sequence[IncidentRow]) -> dict[str, datetime]:
    """When the last look at each ended, by its id; at one that nobody looked at, when it began."""
    ended = (
        select(EventRow.incident_id, func.max(EventRow.at))
        .where(
            EventRow.incident_id.in_([row.id for row in rows]), EventRow.kind.in_(("plan", "end"))
        )
        .group_by(EventRow.incident_id)
    )
    with session.no_autoflush:  # what is told in this transaction ends no look
        found = await session.execute(ended)
    return {row.id: row.opened_at for row in rows} | {key: at for key, at in found}
