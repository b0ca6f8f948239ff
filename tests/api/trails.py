"""Audit trails of tests: written through the store, spoiled behind its back."""

from typing import Any

from sqlalchemy import text

from api.store import audit, trail
from api.store.audit import Person
from api.store.chain import Key, Keyring, Walk
from api.store.database import Database

KEYS = Keyring(Key(b"k" * 32))
ALICE = Person("alice", "admin")


async def write(database: Database, *deeds: str, **detail: Any) -> None:
    """Each deed in a transaction of its own."""
    for deed in deeds:
        async with database.writing() as session:
            await audit.note(session, ALICE, deed, "inc-1", **detail)


async def verified(
    database: Database, keys: Keyring = KEYS, heads: dict[int, str] | None = None
) -> Walk:
    async with database.reading() as session:
        return await trail.verify(session, keys, heads or {})


async def findings(database: Database, heads: dict[int, str] | None = None) -> list[str]:
    return [finding.text for finding in (await verified(database, heads=heads)).findings]


async def head(database: Database) -> tuple[int, str]:
    async with database.reading() as session:
        found = await trail.head_of(session)
    assert found is not None
    return found.seq, found.mac


async def behind_its_back(database: Database, *statements: str, **values: Any) -> None:
    """As somebody who may change the schema: the triggers are no hindrance to them."""
    async with database.engine.begin() as connection:
        if database.is_sqlite:
            for name in ("audit_stays_as_it_is", "audit_stays"):
                await connection.execute(text(f"DROP TRIGGER IF EXISTS {name}"))
        else:
            await connection.execute(text("SET session_replication_role = replica"))
        for statement in statements:
            await connection.execute(text(statement), values)
        if not database.is_sqlite:
            await connection.execute(text("SET session_replication_role = DEFAULT"))
