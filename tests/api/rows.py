"""Rows of every table there is, made from the database's own description of its columns."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, MetaData, String, Table, insert, select
from sqlalchemy import types as sql

AT = datetime(2026, 1, 31, 3, tzinfo=UTC)
INCIDENTS = ("inc-a", "inc-b")
_FOREIGN = ("alembic_version", "checkpoint", "unsettled_copy")


def tables(connection: Connection) -> list[Table]:
    """As they are in the database now, those that others hang on first."""
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if not table.name.startswith(_FOREIGN)]


def _value(column: Column[Any], number: int) -> Any:
    if column.name == "incident_id" or (column.table.name, column.name) == ("incidents", "id"):
        return INCIDENTS[number]
    if column.nullable and number:
        return None
    kind = column.type
    if isinstance(kind, sql.JSON):
        return {"number": number, "text": "ü\u2028\x7f", "list": [1, None, 2.5]}
    if isinstance(kind, sql.Boolean):
        return bool(number)
    if isinstance(kind, sql.Float | sql.Numeric):
        return number + 0.5
    if isinstance(kind, sql.Integer):
        return number + 1
    if isinstance(kind, sql.LargeBinary):
        return bytes(range(256))
    if isinstance(kind, sql.DateTime):
        return AT + timedelta(hours=number)
    if isinstance(kind, sql.Date):
        return date(2026, 1, 31)
    assert isinstance(kind, String), (column, kind)
    return f"{column.name} {number} ü"[: kind.length]


def fill(connection: Connection) -> None:
    """Two rows in every table: one with all it can hold, one with what it must."""
    for table in tables(connection):
        for number in range(2):
            values = {column.name: _value(column, number) for column in table.columns}
            connection.execute(insert(table).values(values))


def content(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """What every table holds, in the order of its key."""
    return {
        table.name: [
            dict(row._mapping)
            for row in connection.execute(select(table).order_by(*table.primary_key.columns))
        ]
        for table in tables(connection)
    }


def kept(before: dict[str, list[dict[str, Any]]], after: dict[str, list[dict[str, Any]]]) -> None:
    """What tables and columns of both hold is the same."""
    assert set(before) & set(after) >= {"incidents", "alerts", "audit"}
    for name in set(before) & set(after):
        common = set(before[name][0]) & set(after[name][0]) if after[name] else set()
        assert common, f"{name} lost its rows"
        shown = [
            [{key: row[key] for key in sorted(common)} for row in rows]
            for rows in (before[name], after[name])
        ]
        assert shown[0] == shown[1], name
