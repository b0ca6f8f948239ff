"""A database that cannot be used, said in one sentence instead of a traceback."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from agent.redaction import redact
from api.keys import KeyUnusable
from api.settings import Settings
from api.store.database import database_url
from api.store.migrate import TablesRefused

FAILURES = (SQLAlchemyError, psycopg.Error, sqlite3.Error, OSError)
LONGEST_SAID = 200
_SQLITE = (
    "it has to be a file that this user may write: set REDIS_ONCALL_DATA (its folder) or "
    "DATABASE_URL, or put a copy in its place with `redis-oncall database restore`"
)
_POSTGRESQL = (
    "see that the server is up and takes writes, and that DATABASE_URL has the right host, user, "
    "password and database"
)


class DatabaseUnusable(TablesRefused):
    """It is away, damaged, or nobody may write to it."""


@contextmanager
def told_plainly(settings: Settings) -> Iterator[None]:
    """Whatever the database fails with in the block. Raises DatabaseUnusable."""
    try:
        yield
    except KeyUnusable:
        raise  # says what to do by itself
    except FAILURES as error:
        raise DatabaseUnusable(
            f"the database {settings.shown_database} cannot be used ({because(error, settings)}); "
            f"{advice(settings)}"
        ) from error


def because(error: BaseException, settings: Settings) -> str:
    """The kind of failure and what the driver says of it, without a password."""
    cause = getattr(error, "orig", None) or error
    said = redact(str(cause).strip().partition("\n")[0])[:LONGEST_SAID]
    password = database_url(settings.database_url.get_secret_value()).password
    kind = type(cause).__name__
    return kind if not said or (password and str(password) in said) else f"{kind}: {said}"


def advice(settings: Settings) -> str:
    """What to look at, with the names of the variables."""
    url = database_url(settings.database_url.get_secret_value())
    return _SQLITE if url.get_backend_name() == "sqlite" else _POSTGRESQL
