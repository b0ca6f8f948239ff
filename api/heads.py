"""The head of the audit trail, noted outside the database: it catches who cuts the trail short.

One line each: time, number, MAC, key, database. Somebody who may write this file and the database
could change both; the log, sent elsewhere, has the same heads. After a restore another history
goes on from an earlier row: its line says so, and heads beyond it count no more.
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

_RESTORED = "restored"


def heads_file(settings: Settings) -> Path:
    """Where the heads of this machine are."""
    return settings.data_folder / "audit-heads.log"


def append(settings: Settings, head: Head, *, another_history: bool = False) -> None:
    """Add a line, durably. Blocks on the disk. Raises OSError.

    `another_history`: the trail goes on from this row, whatever was noted beyond it.
    """
    path = heads_file(settings)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    mark = f" {_RESTORED}" * another_history
    line = f"{now} {head.seq} {head.mac} {head.key_id} {_place(settings)}{mark}\n"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, line.encode("ascii"))
        os.fsync(handle)
    finally:
        os.close(handle)


def noted(settings: Settings) -> dict[int, str]:
    """The MACs by number that were noted of this database. Blocks. Raises OSError."""
    place, found = _place(settings), dict[int, str]()
    for seq, mac, restored in _lines(heads_file(settings), place):
        if restored:
            found = {known: noted for known, noted in found.items() if known <= seq}
        # The first word stands: a later line about the same row cannot make another true.
        found.setdefault(seq, mac)
        if len(found) > MOST_HEADS:
            del found[next(iter(found))]
    return found


def _lines(path: Path, place: str) -> Iterator[tuple[int, str, bool]]:
    try:
        file = path.open(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            parts = line.split()
            # A line that a crash cut short says nothing.
            restored = parts[5:] == [_RESTORED]
            whole = len(parts) == 5 or restored
            if whole and parts[1].isdigit() and len(parts[2]) == 64 and parts[4] == place:
                yield int(parts[1]), parts[2], restored


def _place(settings: Settings) -> str:
    """Which database, without its credentials: several may share a data folder."""
    url = database_url(settings.database_url.get_secret_value())
    text = f"{url.get_backend_name()} {url.host}:{url.port}/{url.database}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
