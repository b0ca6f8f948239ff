"""Rows that are written and not changed again: at the end of their transaction, all at once.

Each statement is a round trip, and on a busy machine every one of them waits for its turn at both
ends, while others wait for what the transaction has locked. So what only adds rows is remembered,
and on PostgreSQL becomes one statement, whatever tables it is for.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Insert,
    String,
    Table,
    Text,
    Update,
    bindparam,
    column,
    func,
    insert,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase

Rows = Mapping[Table, Sequence[Mapping[str, Any]]]
"""By table; each has a value for every column that the database does not number itself."""
_APPENDED = "appended"


def table_of(row: type[DeclarativeBase]) -> Table:
    """The table of a mapped class."""
    return cast("Table", row.__table__)


def append(session: AsyncSession, row: type[DeclarativeBase], **columns: Any) -> None:
    """Add a row of that class. It is there at the end of the transaction, or once `written`."""
    session.info.setdefault(_APPENDED, {}).setdefault(table_of(row), []).append(columns)


def appended(session: AsyncSession, row: type[DeclarativeBase]) -> Sequence[Mapping[str, Any]]:
    """What is not written yet of that class, in order."""
    waiting: Rows = session.info.get(_APPENDED, {})
    return waiting.get(table_of(row), ())


def count(session: AsyncSession) -> int:
    """How many rows are not written yet."""
    waiting: Rows = session.info.get(_APPENDED, {})
    return sum(map(len, waiting.values()))


def taken(session: AsyncSession) -> Rows:
    """All that is not written yet, for the caller to write."""
    rows: Rows = session.info.pop(_APPENDED, {})
    return rows


async def written(session: AsyncSession) -> None:
    """Write it now: whoever reads such rows in a transaction that may have added some does so."""
    if rows := taken(session):
        await session.flush()  # what they refer to
        await (await session.connection()).run_sync(write, rows)


def write(
    connection: Connection,
    rows: Rows,
    then: Update | None = None,
    told: Mapping[str, Any] | None = None,
) -> None:
    """Insert the rows, and execute `then` with what it is `told`."""
    if connection.dialect.name == "sqlite":
        for table, some in rows.items():
            connection.execute(_plainly(table), some)
        if then is not None:
            connection.execute(then, dict(told or {}))
        return
    arrays = {
        _name(into): [_value(into, row[into.name]) for row in some]
        for table, some in rows.items()
        for into in _columns(table)
    }
    connection.execute(_together(tuple(rows), then), arrays | dict(told or {}))


@cache
def _plainly(table: Table) -> Insert:
    return insert(table)


@cache
def _together(tables: tuple[Table, ...], then: Update | None) -> Insert | Update:
    """One statement. The tables refer to none of each other."""
    inserts = [_of_arrays(table) for table in tables]
    last = then if then is not None else inserts.pop()
    return last.add_cte(*(one.cte(f"into_{one.table.name}") for one in inserts))


def _of_arrays(table: Table) -> Insert:
    """An array for each column: the same text, however many rows there are."""
    columns = _columns(table)
    arrays = (bindparam(_name(into), type_=ARRAY(_array_type(into))) for into in columns)
    rows = func.unnest(*arrays).table_valued(*(column(into.name) for into in columns))
    rows = rows.render_derived(name=f"of_{table.name}")
    values = [
        sql_cast(rows.c[into.name], into.type) if _is_json(into) else rows.c[into.name]
        for into in columns
    ]
    names = [into.name for into in columns]
    return insert(table).from_select(names, select(*values), include_defaults=False)


@cache
def _columns(table: Table) -> tuple[Column[Any], ...]:
    return tuple(into for into in table.columns if into is not table.autoincrement_column)


def _name(into: Column[Any]) -> str:
    return f"{into.table.name}_{into.name}"


def _is_json(into: Column[Any]) -> bool:
    return isinstance(into.type, JSON)


def _array_type(into: Column[Any]) -> Any:
    # A cast to a length would cut off what is longer; the column itself refuses it.
    return Text() if isinstance(into.type, JSON | String) else into.type


def _value(into: Column[Any], value: Any) -> Any:
    return json.dumps(value) if _is_json(into) and value is not None else value
