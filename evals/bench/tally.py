"""What the database holds after a storm: counted there, by nothing of the service."""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg


@dataclass(frozen=True)
class Tally:
    """How many."""

    lost: int
    """Alerts that were accepted, and are not in exactly one incident."""
    incidents: int
    most_of_a_target: int
    """Incidents of the target that has most."""
    diagnosed: int

    @classmethod
    def of(cls, database: str, accepted: Iterable[str]) -> "Tally":
        """`accepted`: fingerprints that were answered 202."""
        kept = Counter(
            fingerprint
            for (fingerprint,) in _rows(
                database,
                "SELECT a.fingerprint FROM alerts a JOIN incidents i ON i.id = a.incident_id",
            )
        )
        by_target = _rows(database, "SELECT count(*) FROM incidents GROUP BY target")
        return cls(
            lost=sum(kept[one] != 1 for one in accepted),
            incidents=sum(count for (count,) in by_target),
            most_of_a_target=max((count for (count,) in by_target), default=0),
            diagnosed=cls.progress(database)[1],
        )

    @staticmethod
    def progress(database: str) -> tuple[int, int]:
        """Incidents, and those that are diagnosed with nobody at work on them."""
        ((opened, ended),) = _rows(
            database,
            "SELECT count(*), coalesce(sum(CASE WHEN diagnosis IS NOT NULL AND status NOT IN "
            "('queued', 'investigating') THEN 1 ELSE 0 END), 0) FROM incidents",
        )
        return int(opened), int(ended)


def _rows(database: str, query: str) -> list[Any]:
    if database.startswith("postgresql://"):
        with psycopg.connect(database) as remote:
            return remote.execute(query.encode()).fetchall()
    local = sqlite3.connect(database.removeprefix("sqlite:///"))
    try:
        return local.execute(query).fetchall()
    finally:
        local.close()
