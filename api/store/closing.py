"""Incidents that end by themselves: all their alerts are over, and nothing is pending there."""

from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import CALLS_PEOPLE
from api.store import incidents, occurrences
from api.store.database import Database
from api.store.incidents import AT_WORK
from api.store.occurrences import FLAP_WINDOW
from api.store.tables import ActionRow, AlertRow, IncidentRow, MessageRow

ASK_AGAIN = timedelta(minutes=1)
"""Of an incident with an action that waits."""
PEOPLE_ARE_AT_IT = timedelta(minutes=30)
"""So long after the last message of a chat about it."""
MOST_AT_ONCE = 100
OVER = "all its alerts are resolved"


async def consider(session: AsyncSession, row: IncidentRow) -> None:
    """One of its alerts is over: if all are, note from when on it may close, and close it then.

    The row is locked by the caller.
    """
    if await occurrences.still_fires(session, row.id):
        return
    # The end of one that flaps is believed once it has been quiet for as long.
    flapped = select(func.max(AlertRow.over_at)).where(
        AlertRow.incident_id == row.id, AlertRow.flaps > 0
    )
    now, last = incidents.now(), await session.scalar(flapped)
    row.closes_at = now if last is None else max(now, last + FLAP_WINDOW)
    await close(session, row)


async def close(session: AsyncSession, row: IncidentRow) -> None:
    """End it if its time has come and nothing is pending. The row is locked.

    Pending are an action that waits for an approval or for its time, or is at work, and people who
    talk about it. An incident that a person asked a question in is theirs to close, and so is one
    with an action that left the server as nobody chose.
    """
    now = incidents.now()
    if row.closes_at is None or row.closes_at > now or row.status != "needs_human":
        return
    found = await session.execute(
        select(ActionRow.status, ActionRow.attempt).where(
            ActionRow.incident_id == row.id, ActionRow.executable.is_(True)
        )
    )
    actions = [(str(status), int(attempt)) for status, attempt in found]
    statuses = {status for status, _ in actions}
    talked = select(func.max(MessageRow.at)).where(MessageRow.incident_id == row.id)
    talked_at = await session.scalar(talked)
    if row.question or statuses & CALLS_PEOPLE:
        row.closes_at = None
    elif statuses & set(AT_WORK) or ("proposed", row.attempt) in actions:
        row.closes_at = now + ASK_AGAIN
    elif talked_at is not None and talked_at + PEOPLE_ARE_AT_IT > now:
        row.closes_at = talked_at + PEOPLE_ARE_AT_IT
    elif ("verified", row.attempt) in actions:
        because = f"an approved action was applied and verified, and {OVER}"
        await incidents.move(session, row, "resolved", because)
    else:
        await incidents.move(session, row, "closed", OVER)


async def close_due(database: Database) -> None:
    """Those whose time has come, each in a transaction of its own: nobody waits for two locks."""
    async with database.reading() as session:
        due = await session.scalars(
            select(IncidentRow.id)
            .where(IncidentRow.closes_at <= incidents.now(), IncidentRow.status == "needs_human")
            .order_by(IncidentRow.closes_at)
            .limit(MOST_AT_ONCE)
        )
        ids = due.all()
    for incident_id in ids:
        async with database.writing() as session:
            await close(session, await incidents.lock(session, incident_id))
