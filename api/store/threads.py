"""Threads of chat: what a person asked and was answered. Everybody sees only their own."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from api.store.tables import MessageRow

MOST_KEPT = 5_000
"""Questions of one person that are kept, newest first."""
LONGEST_TITLE = 120


class Thread(BaseModel):
    """A conversation: what it is about, and how it began."""

    id: str
    incident_id: str | None
    target: str | None
    title: str
    """The first question."""
    turns: int
    at: datetime
    """Of the last answer."""


async def turns(
    session: AsyncSession, by: str, thread_id: str, limit: int, before: int | None = None
) -> list[MessageRow]:
    """The last turns of a thread of theirs, newest first; with `before`, those before that one."""
    query = (
        select(MessageRow)
        .where(MessageRow.thread_id == thread_id, MessageRow.by == by)
        .order_by(MessageRow.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(MessageRow.id < before)
    return list(await session.scalars(query))


async def listed(
    session: AsyncSession, by: str, limit: int, before: str | None = None
) -> list[Thread]:
    """Their threads, the one that went on last first; with `before`, those after that one."""
    last = func.max(MessageRow.id).label("last")
    grouped = (
        select(
            MessageRow.thread_id,
            last,
            func.min(MessageRow.id).label("first"),
            func.count().label("turns"),
        )
        .where(MessageRow.by == by)
        .group_by(MessageRow.thread_id)
        .order_by(last.desc())
        .limit(limit)
    )
    if before is not None:
        end = select(func.max(MessageRow.id)).where(
            MessageRow.by == by, MessageRow.thread_id == before
        )
        grouped = grouped.having(last < end.scalar_subquery())
    found = (await session.execute(grouped)).all()
    ids = {number for row in found for number in (row.first, row.last)}
    rows = await session.scalars(select(MessageRow).where(MessageRow.id.in_(ids)))
    messages = {row.id: row for row in rows}
    return [
        _thread(row.thread_id, messages[row.first], messages[row.last], row.turns) for row in found
    ]


def _thread(thread_id: str, first: MessageRow, last: MessageRow, count: int) -> Thread:
    return Thread(
        id=thread_id,
        incident_id=last.incident_id,
        target=last.target,
        title=first.question[:LONGEST_TITLE],
        turns=count,
        at=last.at,
    )


async def keep(session: AsyncSession, message: MessageRow) -> None:
    """Add a turn; the person's oldest ones beyond the bound go."""
    session.add(message)
    oldest = (
        select(MessageRow.id)
        .where(MessageRow.by == message.by)
        .order_by(MessageRow.id.desc())
        .offset(MOST_KEPT)
        .limit(1)
    )
    await session.flush()
    await session.execute(
        delete(MessageRow).where(
            MessageRow.by == message.by, MessageRow.id <= oldest.scalar_subquery()
        )
    )


def as_history(rows: Sequence[MessageRow]) -> list[dict[str, str]]:
    """Turns, oldest first, as messages."""
    pairs = ((("user", row.question), ("assistant", row.answer)) for row in rows)
    return [{"role": role, "content": content} for pair in pairs for role, content in pair]
