"""Recordings of investigations: the newest are kept, the rest makes room."""

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from api.store.tables import RecordingRow, VerdictRow


async def keep(session: AsyncSession, recording: RecordingRow, most: int) -> None:
    """Keep a recording, and of all of them the `most` newest."""
    await session.merge(recording)
    await session.flush()
    newest_first = select(RecordingRow.taken_at).order_by(RecordingRow.taken_at.desc())
    last = await session.scalar(newest_first.offset(most).limit(1))
    if last is not None:
        await session.execute(delete(RecordingRow).where(RecordingRow.taken_at <= last))


async def verdict_on(session: AsyncSession, incident_id: str) -> VerdictRow | None:
    """The last word on what it was."""
    return await session.scalar(
        select(VerdictRow)
        .where(VerdictRow.incident_id == incident_id)
        .order_by(VerdictRow.id.desc())
        .limit(1)
    )


async def judged(session: AsyncSession, incident_id: str, at: datetime) -> RecordingRow | None:
    """The recording that a verdict of that time is about: the last one made before it.

    A later attempt saw another server, perhaps one that is well again.
    """
    return await session.scalar(
        select(RecordingRow)
        .where(RecordingRow.incident_id == incident_id, RecordingRow.taken_at <= at)
        .order_by(RecordingRow.attempt.desc())
        .limit(1)
    )
