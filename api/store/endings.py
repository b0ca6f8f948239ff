"""What follows when an action has another status: its batch stops or waits, people are called."""

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import CALLS_PEOPLE
from api.store import incidents, pages
from api.store.events import publish
from api.store.tables import ActionRow, IncidentRow

ENDED_BADLY = ("rejected", "lapsed", "rolled_back", "rollback_failed", "outcome_unknown", "failed")
"""What stops the rest of those that were approved together."""


def set_status(kept: ActionRow, status: str, comment: str) -> None:
    """Also in its body."""
    kept.status = status
    kept.body = {**kept.body, "status": status, "comment": comment}


async def put_off(session: AsyncSession, kept: ActionRow, until: datetime | None) -> None:
    """An approved action waits until then; those of its batch that come after it do, too."""
    kept.not_before = until
    if until is None or not kept.batch or kept.status != "approved":
        return
    await session.execute(
        update(ActionRow)
        .where(
            ActionRow.incident_id == kept.incident_id,
            ActionRow.attempt == kept.attempt,
            ActionRow.batch == kept.batch,
            ActionRow.position > kept.position,
            ActionRow.status == "approved",
        )
        .values(not_before=until)
    )


async def end(
    session: AsyncSession, row: IncidentRow, kept: ActionRow, status: str, comment: str
) -> None:
    """Another last status; those approved together with it go no further."""
    set_status(kept, status, comment)
    await session.flush()
    await after_its_end(session, row, kept)


async def after_its_end(session: AsyncSession, row: IncidentRow, kept: ActionRow) -> None:
    """What follows from an action's new status: its batch stops, and people are called."""
    if kept.status in CALLS_PEOPLE:
        why = str(kept.body.get("comment", ""))
        said = f"{kept.id} ({kept.body.get('title', kept.id)}) ended as {kept.status}: {why}"
        await pages.call(session, said, incidents.now(), row)
    if not kept.batch or kept.status not in ENDED_BADLY:
        return
    rest = await session.scalars(
        select(ActionRow)
        .where(
            ActionRow.incident_id == kept.incident_id,
            ActionRow.attempt == kept.attempt,
            ActionRow.batch == kept.batch,
            ActionRow.status.in_(("proposed", "approved")),
        )
        .order_by(ActionRow.position)
        .with_for_update()
    )
    for other in rest.all():
        ended = kept.status.replace("_", " ")
        set_status(other, "lapsed", f"{kept.id}, approved together with it, ended as {ended}")
        if kept.attempt == row.attempt:
            await publish(session, row, "action", other.body)
