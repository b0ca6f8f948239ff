"""Which sizes of keys there are, as Redis 8 counts them: elements, not bytes. INFO keysizes."""

import re
from collections.abc import Iterable

from tools.connection import CommandFailure, Connection, read_info
from tools.keyspace import NO_KEYSIZES, KeyRow, SizeBin
from tools.reading import Measured, NotMeasured
from tools.scanner import selected_database

LARGE = {"string": 1_048_576}
"""Characters of a string from which on a sample ought to have met it."""
LARGE_COLLECTION = 16_384
"""Elements."""
MOST_BINS = 64
"""Of a type: each is twice as large as the one before."""
_TYPES = {
    "strings_sizes": "string", "lists_items": "list", "sets_items": "set", "zsets_items": "zset",
    "hashes_items": "hash",
}  # fmt: skip
_BIN = re.compile(r"(\d{1,4})([KMGTPE]?)=(\d{1,18})")
_POWERS = "KMGTPE"


async def size_bins(connection: Connection) -> Measured[list[SizeBin]]:
    """Keys of the selected database by type and least number of elements (characters of strings).

    Streams and types of modules are not among them. Source: INFO keysizes (Redis 8), CLIENT INFO.
    """
    try:
        info = await read_info(connection, "keysizes")
        if not any("_distrib_" in name for name in info):
            return NO_KEYSIZES
        db = await selected_database(connection)
    except CommandFailure as failure:
        return failure.as_not_measured()
    if db is None:
        return NotMeasured(
            not_measured="CLIENT INFO db", because="the selected database is not told"
        )
    return parsed(info, db)


def parsed(info: dict[str, str], db: int) -> list[SizeBin]:
    """From `db0_distrib_lists_items` -> `2=3,1K=1`: 3 lists of 2 or 3 elements, one of 1,024 up."""
    found = []
    for name, kind in _TYPES.items():
        for part in info.get(f"db{db}_distrib_{name}", "").split(",")[:MOST_BINS]:
            if (told := _BIN.fullmatch(part)) is not None:
                power = _POWERS.find(told[2]) + 1 if told[2] else 0
                least = int(told[1]) << 10 * power
                found.append(SizeBin(type=kind, elements=least, keys=int(told[3])))
    return found


def not_met(bins: Iterable[SizeBin], looked_at: Iterable[KeyRow]) -> list[SizeBin]:
    """Large keys that have more elements than any of their type that was looked at. Pure."""
    longest: dict[str, int] = {}
    unread = set()
    for row in looked_at:
        if isinstance(row.elements, NotMeasured):
            if row.elements.failure != "absent":  # else the key was gone: it is not counted either
                unread.add(row.type)
        else:
            longest[row.type] = max(longest.get(row.type, 0), row.elements)
    return [
        each
        for each in bins
        if each.type not in unread
        and each.elements >= LARGE.get(each.type, LARGE_COLLECTION)
        and each.elements > longest.get(each.type, 0)
    ]
