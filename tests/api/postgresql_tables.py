"""PostgreSQL databases with their tables: one that a test left as it was is emptied and used again.

Making one anew, and the first connection to it, take a tenth of a second of a core.
"""

import time
from contextlib import suppress

import psycopg

_LAYOUT = """
SELECT md5(string_agg(line, ',' ORDER BY line)) FROM (
    SELECT concat_ws(' ', attrelid::regclass, attname, attnum, atttypid, attnotnull, atthasdef)
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT concat(tgenabled, pg_get_triggerdef(oid)) FROM pg_trigger
    WHERE NOT tgisinternal
    UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT concat(conrelid::regclass, conname, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT array_to_string(setconfig, ' ') FROM pg_db_role_setting
    WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION ALL SELECT version_num FROM alembic_version
    UNION ALL SELECT v::text FROM checkpoint_migrations
) AS lines(line)"""
"""Of all that is not emptied, a digest."""
_IN_USE = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
AND backend_type = 'client backend'"""
_LEAVES_SECONDS = 0.1
"""Whoever has closed a connection is still seen for a moment."""
_TABLES = """
SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
AND relname NOT IN ('alembic_version', 'checkpoint_migrations')"""


def created(server: str, name: str, template: str) -> str:
    """The URL of a new database."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return server.removesuffix("postgres") + name


class AsGoodAsNew:
    """Databases like the template, on a server of this session; one is in use at a time."""

    def __init__(self, server: str, template: str) -> None:
        self._server, self._template = server, template
        with psycopg.connect(server.removesuffix("postgres") + template) as connection:
            self._layout = connection.execute(_LAYOUT).fetchone()
            tables = [row[0] for row in connection.execute(_TABLES).fetchall()]
        self._empty = "; ".join([
            "SET session_replication_role = replica", *(f"DELETE FROM {name}" for name in tables),
            "SELECT setval(quote_ident(sequencename)::regclass, 1, false) FROM pg_sequences",
        ])  # fmt: skip
        self._made = 0
        self._url = ""

    def url(self) -> str:
        """Of one in which nothing is but the tables."""
        with suppress(psycopg.Error):
            if self._url and self._is_emptied():
                return self._url
        self._made += 1
        self._url = created(self._server, f"as_new_{self._made}", self._template)
        return self._url

    def _is_emptied(self) -> bool:
        with psycopg.connect(self._url, autocommit=True) as connection:
            deadline = time.monotonic() + _LEAVES_SECONDS
            while connection.execute(_IN_USE).fetchone() != (0,):
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.005)
            if connection.execute(_LAYOUT).fetchone() != self._layout:
                return False
            connection.execute(self._empty)
        return True
