"""The outbox: what each address is to be told, kept in the transaction of what it is about.

`api/notifications.py` sends it. What an address is to be told of one incident is one message, and
so is all that is left once it had as many as it takes.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, event, func, inspect, select
from sqlalchemy.ext.asyncio import AsyncSession

from api import news
from api.routes import Routes
from api.store import audit, deeds
from api.store.appends import append
from api.store.notice_table import NoticeRow
from api.store.tables import IncidentRow, PageRow

MOST_TRIES = 12
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(minutes=10)
"""After a first failure; then twice that each time: twelve tries take about an hour."""
CLAIMED = timedelta(minutes=1)
"""How long a try may take before somebody else makes the next."""
AT_ONCE = 10
"""Messages that an address may get at once."""
MOST_READ = 1_000
MOST_PAGES = 20
STRANGE_AFTER = timedelta(minutes=10)
"""Another process may know an address that this one does not: so long it may send to it."""
_OPENED, _WORSE = "opened", "worse"
_UNTRIED: dict[str, Any] = {
    "tries": 0, "failure": "", "sent_at": None, "full_at": None, "conversation": "",
}  # fmt: skip


@dataclass(frozen=True)
class Notice:
    """One thing to tell."""

    id: int
    incident_id: str | None
    page_id: int | None
    kind: str
    facts: dict[str, Any]
    rank: int
    at: datetime
    tries: int


@dataclass(frozen=True)
class Claim:
    """One message to one address, claimed by whoever sends it now."""

    address: str
    notices: Sequence[Notice]

    @property
    def about(self) -> list[str | None]:
        """The incidents, the most urgent first; None: it is about none."""
        return list(dict.fromkeys(notice.incident_id for notice in self.notices))


def opened(session: AsyncSession, row: IncidentRow) -> None:
    """There is an incident more: told at the end of the transaction, if anybody wants to know."""
    session.info.setdefault(_OPENED, []).append(row)


@event.listens_for(IncidentRow.severity, "set", active_history=True)
def _became(row: IncidentRow, value: str, before: Any, _: Any) -> None:
    session = inspect(row).session
    if session is not None and value != before:
        session.info.setdefault(_WORSE, []).append((row, before))


async def keep_news(session: AsyncSession, routes: Routes) -> None:
    """Keep what this transaction has to tell. Called at its end, when all is in place."""
    new: Sequence[IncidentRow] = session.info.pop(_OPENED, ())
    worse: Sequence[tuple[IncidentRow, str]] = session.info.pop(_WORSE, ())
    if not routes.routes:
        return
    for made in new:
        _keep(session, routes, made, news.of_incident(made, "", made.status))
    for row, before, after in deeds.changes(session):
        if isinstance(row, IncidentRow):
            _keep(session, routes, row, news.of_incident(row, before, after))
        elif told := list(news.of_action(row, after)):
            whole = await session.get_one(IncidentRow, row.incident_id)
            _keep(session, routes, whole, told)
    for row, before in worse:
        _keep(session, routes, row, news.of_worse(row, before), but_not=before)


def _keep(
    session: AsyncSession,
    routes: Routes,
    row: IncidentRow,
    told: Iterable[news.News],
    but_not: str = "",
) -> None:
    """`but_not`: not for those who are told of what has that severity."""
    at, in_production = datetime.now(UTC), routes.in_production(row.target)
    for one in told:
        about = {
            "incident_id": row.id,
            "page_id": None,
            "kind": one.kind,
            "facts": one.facts,
            "rank": news.rank_of(one.kind, in_production=in_production),
            "at": at,
            "due_at": at + news.PATIENCE.get(one.kind, news.LITTLE_PATIENCE),
        }
        know = routes.to(one.kind, but_not, row.target) if but_not else ()
        for address in routes.to(one.kind, row.severity, row.target):
            if address in know:
                continue
            append(session, NoticeRow, address=address, **about, **_UNTRIED)


async def address_pages(
    session: AsyncSession, addresses: Sequence[str], at: datetime
) -> list[PageRow]:
    """See to it that each page goes to each of these; those of no address, which are over.

    Looked at again for as long as not all have it: an address that did not work may have been
    replaced by another meanwhile.
    """
    due = await session.scalars(
        select(PageRow)
        .where(PageRow.sent_at.is_(None), PageRow.due_at <= at)
        .order_by(PageRow.id)
        .limit(MOST_PAGES)
        .with_for_update(skip_locked=True)
    )
    for_nobody = []
    for page in due.all():
        known = select(NoticeRow.address).where(NoticeRow.page_id == page.id)
        have = {*page.delivered, *await session.scalars(known)}
        missing = [address for address in addresses if address not in have]
        page.due_at, page.tries = at + CLAIMED, page.tries + 1
        for address in missing:
            append(
                session, NoticeRow, incident_id=page.incident_id, page_id=page.id, address=address,
                kind="page", facts={"because": page.reason}, rank=news.PAGE, at=page.at, due_at=at,
                **_UNTRIED,
            )  # fmt: skip
        if not missing:
            await _end_page(session, page.id, at)
        if not addresses and not have:
            for_nobody.append(page)
    return for_nobody


async def due(session: AsyncSession, at: datetime) -> list[str]:
    """The addresses that something is due for."""
    waiting = (NoticeRow.sent_at.is_(None), NoticeRow.due_at <= at)
    return list(await session.scalars(select(NoticeRow.address).where(*waiting).distinct()))


async def claim(session: AsyncSession, address: str, per_hour: int, at: datetime) -> Claim | None:
    """The next message to that address, for one sender alone: others see it as under way.

    A sender that dies with it leaves it for the next try, so it may arrive twice and never be lost.
    """
    rows = await session.scalars(
        select(NoticeRow)
        .where(NoticeRow.sent_at.is_(None), NoticeRow.address == address)
        .order_by(NoticeRow.rank, NoticeRow.id)
        .limit(MOST_READ)
        .with_for_update(skip_locked=True)
    )
    groups = _ready(rows.all(), at)
    full = await session.scalar(
        select(func.max(NoticeRow.full_at)).where(
            NoticeRow.address == address, NoticeRow.full_at > at
        )
    )
    every = timedelta(hours=1) / per_hour
    taken = chosen(groups, room(full, every, at))
    if not taken:
        return None
    counts_as = timedelta() if taken[0].rank == news.PAGE else every
    for row in taken:
        # What goes along with something newer before its own next try has that still before it.
        row.tries += row.due_at <= at or not row.tries
        row.due_at, row.failure = at + CLAIMED, ""
        row.full_at = max(full or at, at) + counts_as
    return Claim(address, [_notice(row) for row in taken])


def _ready(rows: Sequence[NoticeRow], at: datetime) -> list[list[NoticeRow]]:
    """What goes out as one message each: all of one incident, once something of it is due.

    While a message about an incident is under way, the next one has to wait: they keep their order.
    """
    groups = defaultdict[Any, list[NoticeRow]](list)
    for row in rows:
        groups[row.incident_id or row.id].append(row)

    def under_way(row: NoticeRow) -> bool:
        return row.tries > 0 and not row.failure and row.due_at > at

    return [
        group
        for group in groups.values()
        if any(row.due_at <= at for row in group) and not any(map(under_way, group))
    ]


def room(full: datetime | None, every: timedelta, at: datetime) -> int:
    """How many messages an address may get now: a bucket of AT_ONCE that one drips into at a time.

    `full`: when it would be full again by itself.
    """
    missing = max(full - at, timedelta()) if full else timedelta()
    return AT_ONCE - math.ceil(missing / every)


def chosen(groups: Sequence[list[NoticeRow]], left: int) -> list[NoticeRow]:
    """What the next message tells: of one incident, or, in the last one for now, of all.

    A page is sent whatever came before.
    """
    if not groups:
        return []
    if groups[0][0].rank == news.PAGE or left > 1 or (left == 1 and len(groups) == 1):
        return groups[0]
    return [row for group in groups for row in group] if left == 1 else []


async def conversation(session: AsyncSession, claim: Claim) -> str:
    """What the address's service calls the last one about that incident; empty: there is none."""
    known = select(NoticeRow.conversation).where(
        NoticeRow.incident_id == claim.about[0],
        NoticeRow.address == claim.address,
        NoticeRow.conversation != "",
    )
    return await session.scalar(known.order_by(NoticeRow.sent_at.desc()).limit(1)) or ""


async def settle(
    session: AsyncSession, claim: Claim, at: datetime, failure: str = "", began: str = ""
) -> bool:
    """What came of a try; anything is given up only after its last one. Was anything?

    `began`: the conversation that the message began.
    """
    ids = [notice.id for notice in claim.notices]
    given_up = False
    # Whoever comes so late that another has sent it changes nothing of that.
    still = (NoticeRow.id.in_(ids), NoticeRow.sent_at.is_(None))
    for row in await session.scalars(select(NoticeRow).where(*still)):
        over = not failure or row.tries >= MOST_TRIES
        given_up = given_up or (over and bool(failure))
        row.failure, row.sent_at, row.conversation = failure, at if over else None, began
        row.due_at = at + min(FIRST_PAUSE * 2 ** (row.tries - 1), LONGEST_PAUSE)
    await session.flush()
    for notice in claim.notices:
        if notice.page_id is not None and (given_up or not failure):
            await audit.note(session, audit.service("service"), "page_sent", notice.incident_id,
                             page=notice.page_id, delivered=[] if failure else [claim.address],
                             failure=failure)  # fmt: skip
            await _end_page(session, notice.page_id, at)
    return given_up


async def _end_page(session: AsyncSession, page_id: int, at: datetime) -> None:
    """A page is over once it is for everybody."""
    page = await session.scalar(select(PageRow).where(PageRow.id == page_id).with_for_update())
    rows = (await session.scalars(select(NoticeRow).where(NoticeRow.page_id == page_id))).all()
    if page is not None and page.sent_at is None and all(row.sent_at for row in rows):
        page.sent_at = at
        page.failure = ", ".join(dict.fromkeys(row.failure for row in rows if row.failure))


async def give_up_strangers(session: AsyncSession, addresses: Collection[str], at: datetime) -> int:
    """What is for addresses that are not configured any more goes nowhere; how much that was."""
    rows = await session.scalars(
        select(NoticeRow)
        .where(
            NoticeRow.sent_at.is_(None),
            NoticeRow.address.not_in(list(addresses)),
            NoticeRow.due_at <= at - STRANGE_AFTER,
        )
        .limit(MOST_READ)
        .with_for_update(skip_locked=True)
    )
    strange = rows.all()
    for row in strange:
        row.sent_at, row.failure = at, "the address is no longer configured"
    return len(strange)


async def counts(session: AsyncSession) -> dict[str, int]:
    """How many notifications are sent, waiting, and given up."""
    return await by_state(session, NoticeRow, NoticeRow.page_id.is_(None))


async def by_state(
    session: AsyncSession, row: type[NoticeRow | PageRow], *which: ColumnElement[bool]
) -> dict[str, int]:
    """Of an outbox."""
    total, waiting, failed = (
        await session.execute(
            select(
                func.count(),
                func.count().filter(row.sent_at.is_(None)),
                func.count().filter(row.sent_at.is_not(None), row.failure != ""),
            ).where(*which)
        )
    ).one()
    return {"sent": total - waiting - failed, "waiting": waiting, "given_up": failed}


def _notice(row: NoticeRow) -> Notice:
    return Notice(**{field.name: getattr(row, field.name) for field in fields(Notice)})
