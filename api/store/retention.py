"""Deleting what is over for long enough: whole incidents, and what has an age of its own.

A call deletes one batch in the caller's transaction: on SQLite nobody else writes meanwhile.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    and_,
    delete,
    exists,
    inspect,
    or_,
    select,
    tuple_,
)
from sqlalchemy import Table as SqlTable
from sqlalchemy.ext.asyncio import AsyncSession

from api.store import baselines, deliveries
from api.store.incidents import AT_WORK, CLOSED
from api.store.notice_table import NoticeRow
from api.store.tables import (
    ActionRow,
    AlertRow,
    DeliveryRow,
    ExchangeRow,
    IncidentRow,
    IntentRow,
    MessageRow,
    PageRow,
    Table,
    VerdictRow,
)
from api.store.target_tables import BaselineRow, CrossingRow, FreezeRow, SilenceRow

INCIDENTS_AT_ONCE = 20
ROWS_AT_ONCE = 1_000


async def forget_incidents(
    session: AsyncSession, before: datetime, judged_before: datetime | None
) -> dict[str, int]:
    """Delete some that nothing has happened to since; how many rows of which table.

    One that waits for a person is not over. One with an intent nobody settled, with an action at
    work or with a page nobody got is kept whatever its age.
    """
    ids = list(
        await session.scalars(
            select(IncidentRow.id)
            .where(_over(before, judged_before))
            .order_by(IncidentRow.updated_at)
            .limit(INCIDENTS_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
    )
    if not ids:
        return {}
    gone = {"messages": await _delete(session, MessageRow, MessageRow.incident_id.in_(ids))}
    for table in parts():
        gone[table.name] = await _delete(session, table, table.c.incident_id.in_(ids))
    gone["incidents"] = await _delete(session, IncidentRow, IncidentRow.id.in_(ids))
    return gone


def parts() -> list[SqlTable]:
    """The tables whose rows belong to an incident, those that others hang on last."""
    whole = IncidentRow.__table__
    return [
        table
        for table in reversed(Table.metadata.sorted_tables)
        if any(key.column.table is whole for key in table.foreign_keys)
    ]


def _over(before: datetime, judged_before: datetime | None) -> ColumnElement[bool]:
    def has(row: Any, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
        return exists().where(row.incident_id == IncidentRow.id, *conditions)

    not_judged = ~has(VerdictRow)
    if judged_before is not None:
        not_judged = or_(not_judged, IncidentRow.updated_at < judged_before)
    return and_(
        IncidentRow.status.in_(CLOSED),
        IncidentRow.updated_at < before,
        ~has(IntentRow, IntentRow.settled_at.is_(None)),
        ~has(ActionRow, ActionRow.status.in_((*AT_WORK, "approved"))),
        ~has(PageRow, PageRow.sent_at.is_(None)),
        not_judged,
    )


async def forget_aged(
    session: AsyncSession, before: datetime, now: datetime, targets: Collection[str]
) -> dict[str, int]:
    """Delete some of what belongs to no incident; how many rows of which table.

    `targets`: the configured ones. A threshold that another has crossed is watched by nobody.
    """
    aged = {
        AlertRow: and_(AlertRow.incident_id.is_(None), AlertRow.received_at < before),
        MessageRow: MessageRow.at < before,
        ExchangeRow: and_(ExchangeRow.incident_id.is_(None), ExchangeRow.at < before),
        PageRow: and_(
            PageRow.incident_id.is_(None), PageRow.sent_at.is_not(None), PageRow.at < before
        ),
        NoticeRow: and_(
            NoticeRow.incident_id.is_(None), NoticeRow.sent_at.is_not(None), NoticeRow.at < before
        ),
        FreezeRow: FreezeRow.until < before,
        SilenceRow: SilenceRow.until < before,
        DeliveryRow: DeliveryRow.at < now - deliveries.KEEP,
        CrossingRow: CrossingRow.target.not_in(list(targets)),
        BaselineRow: or_(
            BaselineRow.target.not_in(list(targets)), BaselineRow.at < now - baselines.KEEP
        ),
    }
    gone = {}
    for row, condition in aged.items():
        key = inspect(row).primary_key
        some = select(*key).where(condition).limit(ROWS_AT_ONCE)
        gone[row.__tablename__] = await _delete(session, row, tuple_(*key).in_(some))
    return gone


async def _delete(session: AsyncSession, row: Any, condition: ColumnElement[bool]) -> int:
    found = delete(row).where(condition).execution_options(synchronize_session=False)
    return cast("CursorResult[Any]", await session.execute(found)).rowcount
