"""What a server's own HOTKEYS command has counted. It is read and never started.

Redis 8.6 counts while somebody has it do so (HOTKEYS START); Valkey, in a version after 9.1, if its
configuration says so (`hotkey-top-k`). None of the servers that the tests start has it: the replies
are as the documentation has them (redis.io/commands/hotkeys-get, valkey-doc pull request 460).
"""

from tools.connection import CommandFailure, Connection, Reply
from tools.reading import Measured, NotMeasured, Reading
from tools.replies import decimal, items, mapping, text

MOST = 50
"""Rows of a reply that are read."""


class CountedKey(Reading):
    """One key, with what the server counted of it: None is what it does not count."""

    key: str
    db: int | None = None
    cpu_microseconds: float | None = None
    net_bytes: float | None = None
    calls_per_second: float | None = None


async def counted_by_server(connection: Connection) -> Measured[list[CountedKey]]:
    """Most used first. Source: COMMAND INFO, HOTKEYS GET."""
    try:
        known = await connection.execute("COMMAND", "INFO", "hotkeys")
        if not any(items(known)):  # asking for it would count as an error of the server
            return NotMeasured(
                not_measured="HOTKEYS",
                because="this server has no HOTKEYS command (Redis has it since 8.6)",
                failure="unknown_command",
            )
        reply = await connection.execute("HOTKEYS", "GET")
    except CommandFailure as failure:
        return failure.as_not_measured()
    rows = read_rows(reply)
    if rows:
        return rows
    return NotMeasured(
        not_measured="HOTKEYS GET",
        because="nothing was counted: on Redis, HOTKEYS START METRICS 1 CPU DURATION 10 counts for "
        "10 seconds; on Valkey, hotkey-top-k has to be above 0",
        failure="disabled",
        remedy="start it yourself: redis-oncall only reads what was counted",
    )


def read_rows(reply: Reply) -> list[CountedKey]:
    """From the reply of either server; what cannot be read is left out. Pure."""
    outer = items(reply)
    first = items(outer[0]) if outer else []
    if first and text(first[0]) == "key":  # Valkey: a list of rows
        return [row for one in outer[:MOST] if (row := _row(one)) is not None]
    # Redis: names and values; a list of them, one for each range of slots, in RESP3's shape
    told = mapping(first if first else outer)
    rows: dict[str, CountedKey] = {}
    for name, field in (("by-cpu-time-us", "cpu_microseconds"), ("by-net-bytes", "net_bytes")):
        flat = items(told.get(name))[: 2 * MOST]
        for key, value in zip(flat[::2], flat[1::2], strict=False):
            shown = text(key)
            row = rows.get(shown, CountedKey(key=shown))
            rows[shown] = row.model_copy(update={field: decimal(value)})
    return list(rows.values())


def _row(reply: Reply) -> CountedKey | None:
    told = mapping(reply)
    if "key" not in told:
        return None
    db = decimal(told.get("db"))
    return CountedKey(
        key=text(told["key"]),
        db=None if db is None else int(db),
        calls_per_second=decimal(told.get("qps")),
    )
