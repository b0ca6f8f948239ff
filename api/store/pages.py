"""The outbox of pages: kept in the transaction of what they are about, sent by `api/paging.py`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from agent.redaction import redact
from api.store import audit
from api.store.events import publish
from api.store.tables import IncidentRow, PageRow

AGAIN = timedelta(hours=1)
"""The same words about the same incident are one page for so long."""
MOST_TRIES = 12
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(minutes=10)
"""After a first failure; then twice that each time: twelve tries take about an hour."""
CLAIMED = timedelta(minutes=1)
"""How long a try may take before somebody else makes the next."""
LONGEST_REASON = 1_000


@dataclass(frozen=True)
class Page:
    """One page, claimed by whoever sends it now."""

    id: int
    reason: str
    incident_id: str | None
    target: str
    title: str
    at: datetime
    tries: int
    delivered: frozenset[str]


async def call(
    session: AsyncSession, reason: str, at: datetime, row: IncidentRow | None = None
) -> None:
    """People have to come: keep a page; whoever watches the incident (locked) sees it, too."""
    reason = redact(reason)[:LONGEST_REASON]
    known = select(PageRow.id).where(
        PageRow.incident_id == (row.id if row else None),
        PageRow.reason == reason,
        PageRow.at > at - AGAIN,
    )
    if (await session.scalar(known.limit(1))) is not None:
        return
    session.add(
        PageRow(
            incident_id=row.id if row else None,
            reason=reason,
            at=at,
            tries=0,
            due_at=at,
            delivered=[],
            failure="",
        )
    )
    who = audit.service("service")
    await audit.note(session, who, "page", row.id if row else None, reason=reason)
    if row is not None:
        await publish(session, row, "status", {"status": row.status, "page": reason})


async def claim(session: AsyncSession, at: datetime) -> Page | None:
    """The oldest page that is due, for one sender alone: others see it as not due any more.

    A sender that dies with it leaves it for the next try, so it may arrive twice and never be lost.
    """
    found = await session.scalar(
        select(PageRow)
        .where(PageRow.sent_at.is_(None), PageRow.due_at <= at)
        .order_by(PageRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if found is None:
        return None
    found.tries += 1
    found.due_at = at + CLAIMED
    incident = await session.get(IncidentRow, found.incident_id) if found.incident_id else None
    return Page(
        id=found.id,
        reason=found.reason,
        incident_id=found.incident_id,
        target=incident.target if incident else "",
        title=incident.title if incident else "",
        at=found.at,
        tries=found.tries,
        delivered=frozenset(found.delivered),
    )


async def settle(
    session: AsyncSession, page: Page, delivered: Sequence[str], at: datetime, failure: str = ""
) -> bool:
    """What came of a try; it is over when there is no `failure`, or after the last try."""
    over = not failure or page.tries >= MOST_TRIES
    await session.execute(
        update(PageRow)
        .where(PageRow.id == page.id)
        .values(
            delivered=sorted(page.delivered | set(delivered)),
            failure=failure,
            due_at=at + min(FIRST_PAUSE * 2 ** (page.tries - 1), LONGEST_PAUSE),
            sent_at=at if over else None,
        )
    )
    if delivered or over:
        await audit.note(session, audit.service("service"), "page_sent", page.incident_id,
                         page=page.id, delivered=list(delivered), failure=failure)  # fmt: skip
    return over


async def counts(session: AsyncSession) -> dict[str, int]:
    """How many are sent, waiting, and given up."""
    total, open_ones, failed = (
        await session.execute(
            select(
                func.count(),
                func.count().filter(PageRow.sent_at.is_(None)),
                func.count().filter(PageRow.sent_at.is_not(None), PageRow.failure != ""),
            )
        )
    ).one()
    return {"sent": total - open_ones - failed, "waiting": open_ones, "given_up": failed}
