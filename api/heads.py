"""The head of the audit trail, noted outside the database: it catches who cuts the trail short.

One line each: time, number, MAC, key, database. Somebody who may write this file and the database
could change both; the log, sent elsewhere, has the same heads.
"""

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from api.settings import Settings
from api.store.database import database_url
from api.store.trail import Head

MOST_HEADS = 200_000
"""Lines that are believed, the newest: more than twenty years of hours."""


def heads_file(settings: Settings) -> Path:
    """Where the heads of this machine are."""
    return settings.data_folder / "audit-heads.log"


def append(settings: Settings, head: Head) -> None:
    """Add a line, durably. Blocks on the disk. Raises OSError."""
    path = heads_file(settings)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = f"{now} {head.seq} {head.mac} {head.key_id} {_place(settings)}\n"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, line.encode("ascii"))
        os.fsync(handle)
    finally:
        os.close(handle)


def noted(settings: Settings) -> dict[int, str]:
    """The MACs by number that were noted of this database. Blocks. Raises OSError."""
    place, found = _place(settings), dict[int, str]()
    for seq, mac in _lines(heads_file(settings), place):
        # The first word stands: a later line about the same row cannot make another true.
        found.setdefault(seq, mac)
        if len(found) > MOST_HEADS:
            del found[next(iter(found))]
    return found


def _lines(path: Path, place: str) -> Iterator[tuple[int, str]]:
    try:
        file = path.open(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            parts = line.split()
            # A line that a crash cut short says nothing.
            if len(parts) == 5 and parts[1].isdigit() and len(parts[2]) == 64 and parts[4] == place:
                yield int(parts[1]), parts[2]


def _place(settings: Settings) -> str:
    """Which database, without its credentials: several may share a data folder."""
    url = database_url(settings.database_url.get_secret_value())
    text = f"{url.get_backend_name()} {url.host}:{url.port}/{url.database}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
