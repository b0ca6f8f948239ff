"""The audit trail a page at a time, newest first."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from api.store.chain import Anchor, Entry, Keyring, Walk
from api.store.tables import AuditHeadRow, AuditRow
from api.store.trail import UNREADABLE, anchor_of, entry_of

ROWS = 100
MOST_LOOKED_THROUGH = 50_000
"""Rows that one page looks through for a person or a deed, for which there is no index."""


@dataclass(frozen=True)
class Wanted:
    """Which rows; empty: any."""

    by: str = ""
    what: str = ""
    incident_id: str = ""

    @property
    def anything(self) -> bool:
        """All of them."""
        return not (self.by or self.what or self.incident_id)


@dataclass(frozen=True)
class TrailPage:
    """Rows in descending order; of one that cannot be read, its number."""

    rows: Sequence[Entry | int]
    head: int
    """The number of the last row there is; 0: none."""
    anchor: Anchor
    """The last row that was pruned."""
    older: int | None
    """The number before which there is more to look through."""
    found: str
    """What is wrong with these rows; empty: nothing, or `checked` is 0."""
    checked: int
    """Of how many of them the chain was followed."""


async def page(
    session: AsyncSession, keys: Keyring | None, wanted: Wanted, before: int | None
) -> TrailPage:
    """At most `ROWS` of those before that number. Without a filter their chain is followed, too."""
    head = await session.scalar(select(AuditHeadRow.seq)) or 0
    anchor = await anchor_of(session)
    top = head + 1 if before is None else min(before, head + 1)
    chosen = select(AuditRow).where(AuditRow.id < top).order_by(AuditRow.id.desc())
    for column, value in (
        (AuditRow.by, wanted.by), (AuditRow.what, wanted.what),
        (AuditRow.incident_id, wanted.incident_id),
    ):  # fmt: skip
        if value:
            chosen = chosen.where(column == value)
    floor = 0
    if (wanted.by or wanted.what) and not wanted.incident_id:
        floor = max(0, top - 1 - MOST_LOOKED_THROUGH)
        chosen = chosen.where(AuditRow.id > floor)
    # One more: the last one's MAC covers that of the row before it.
    rows = await _read(session, chosen.limit(ROWS + 1))
    shown, more = rows[:ROWS], rows[ROWS:]
    older = _number(shown[-1]) if more else floor + 1 if floor > anchor.seq else None
    found, checked = "", 0
    if wanted.anything and keys is not None and shown:
        found, checked = _followed(keys, anchor, shown, more), len(shown)
    return TrailPage(shown, head, anchor, older, found, checked)


async def _read(session: AsyncSession, chosen: Select[AuditRow]) -> list[Entry | int]:
    try:
        return [entry_of(row) for row in await session.scalars(chosen)]
    except UNREADABLE:
        numbers = await session.scalars(chosen.with_only_columns(AuditRow.id))
        return [await _one(session, number) for number in list(numbers)]


async def _one(session: AsyncSession, number: int) -> Entry | int:
    try:
        row = await session.scalar(select(AuditRow).where(AuditRow.id == number))
        return number if row is None else entry_of(row)
    except UNREADABLE:
        return number


def _number(row: Entry | int) -> int:
    return row if isinstance(row, int) else row.seq


def _followed(
    keys: Keyring, anchor: Anchor, shown: Sequence[Entry | int], more: Sequence[Entry | int]
) -> str:
    """The first thing that is wrong with these rows."""
    walk = Walk(keys, anchor)
    before = more[0] if more else None
    if isinstance(before, Entry):
        walk.seq, walk.mac = before.seq, before.mac
    elif before is not None:
        walk.seq, walk.mac = before, ""
    for row in reversed(shown):
        if isinstance(row, int):
            walk.unreadable(row)
        else:
            walk.step(row)
    return walk.findings[0].text if walk.findings else ""
