"""Does the database keep what it said it has committed? What its settings say."""

from sqlalchemy import text

from api.store.database import Database

SYNCHRONOUS_FULL = 2
_WEAK = {
    "synchronous_commit": "a crash of the database server loses what was accepted in the last "
    "second; set it to on (or local, remote_write, remote_apply)",
    "fsync": "a crash of its machine can damage the whole database; set it to on",
    "full_page_writes": "a crash of its machine can damage the whole database; set it to on",
}
"""Settings of PostgreSQL that must not be off, and what it means when they are."""


async def weaknesses(database: Database) -> list[str]:
    """What can lose what was committed, a sentence each, as this very connection sees it."""
    async with database.reading() as session:
        if database.is_sqlite:
            level = int(await session.scalar(text("PRAGMA synchronous")) or 0)
            if level >= SYNCHRONOUS_FULL:
                return []
            return [f"SQLite's synchronous is {level}: a power cut loses what was accepted"]
        rows = await session.execute(
            text("SELECT name FROM pg_settings WHERE setting = 'off' AND name = ANY(:names)"),
            {"names": list(_WEAK)},
        )
        off = sorted(row.name for row in rows)
    return [f"PostgreSQL's {name} is off: {_WEAK[name]}" for name in off]
