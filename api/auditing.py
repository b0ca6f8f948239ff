"""The audit trail while the service runs: begun, its head noted every hour, pruned, ended."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import structlog
from pydantic import SecretStr

from api import heads
from api.keys import earlier_subkeys, subkey
from api.settings import Settings
from api.sign_ins import SignIns
from api.store import audit, pages, trail
from api.store.chain import Key, Keyring
from api.store.database import Database
from api.store.migrate import Migrated
from api.store.tables import AuditRow

HEAD_SECONDS = 3600.0
WAKE_SECONDS = 60.0
"""How often sign-ins that failed are written down, at most."""
log = structlog.get_logger(__name__)


def keyring(settings: Settings) -> Keyring:
    """What the trail is chained with. Blocks on the disk. Raises KeyUnusable."""
    earlier = (Key(secret) for secret in earlier_subkeys(settings, "audit"))
    return Keyring(Key(subkey(settings, "audit")), tuple(earlier))


@asynccontextmanager
async def audited(
    settings: Settings, database: Database, part: str, migrated: Migrated, sign_ins: SignIns
) -> AsyncIterator[None]:
    """Chain deeds until the block ends. `part`: `serve` or `worker`. Raises WrongKey, KeyUnusable.

    What is loaded is on record by a keyed hash: it tells whether the configuration, passwords
    included, is the same as at another start, and nothing else about it.
    """
    keys = await asyncio.to_thread(keyring, settings)
    damage = await trail.begin(database, keys)
    damage += await _damage(settings, database)
    async with database.writing() as session:
        who = audit.service("service")
        if migrated.before != migrated.after:
            before, after = migrated.before, migrated.after
            await audit.note(session, who, "migrate", before=before, after=after)
        for because in damage:
            await audit.note(session, who, "audit_damage", because=because)
            reason = f"audit trail: {because}; run `redis-oncall audit verify`"
            await pages.call(session, reason, datetime.now(UTC))
        loaded = _loaded(settings, keys.current)
        await audit.note(session, who, "start", part=part, **loaded)
    for because in damage:
        log.error("audit_damage", because=because)
    await note_head(settings, database)
    keeping = asyncio.create_task(_keep(settings, database, sign_ins))
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        with contextlib.suppress(Exception):  # the database may be away: the service ends anyway
            await sign_ins.write_down(database)
            async with database.writing() as session:
                await audit.note(session, audit.service("service"), "stop", part=part)
            await note_head(settings, database)


async def note_head(settings: Settings, database: Database) -> None:
    """The last row's number and MAC, into the log and the file beside the key."""
    async with database.reading() as session:
        head = await trail.head_of(session)
    if head is None:
        return
    log.info("audit_head", seq=head.seq, mac=head.mac, rows=head.kept, key=head.key_id)
    try:
        await asyncio.to_thread(heads.append, settings, head)
    except OSError as error:
        log.warning("audit_head_not_kept", error=error.strerror)


async def _keep(settings: Settings, database: Database, sign_ins: SignIns) -> None:
    """Until cancelled; the database being away for a while is survived."""
    noted = time.monotonic()
    while True:
        await asyncio.sleep(WAKE_SECONDS)
        try:
            await sign_ins.write_down(database)
            if time.monotonic() - noted >= HEAD_SECONDS:
                noted = time.monotonic()
                if (keep := settings.config.audit.keep) is not None:
                    before = datetime.now(UTC) - keep
                    await trail.prune(database, before, audit.service("service"))
                await note_head(settings, database)
        except trail.Broken as broken:
            log.warning("audit_damage", because=str(broken))
        except Exception:
            log.exception("audit_not_kept")


async def _damage(settings: Settings, database: Database) -> list[str]:
    """What is wrong with the end of the trail. The whole is for `redis-oncall audit verify`."""
    noted: dict[int, str] = {}
    with contextlib.suppress(OSError):
        noted = await asyncio.to_thread(heads.noted, settings)
    found = []
    async with database.reading() as session:
        head = await trail.head_of(session)
        if head is None:
            return []
        pruned = (await trail.anchor_of(session)).seq
        if head.seq > pruned:
            last = await session.get(AuditRow, head.seq)
            if last is None or last.mac != head.mac:
                found.append(f"the last row, {head.seq}, is not there or not as it was noted")
        newest = max(noted, default=0)
        if newest > head.seq:
            found.append(f"the trail ends at row {head.seq}, and row {newest} was noted once")
        elif newest > pruned:
            row = await session.get(AuditRow, newest)
            if row is None or row.mac != noted[newest]:
                found.append(f"row {newest} is not the row that was noted as the head")
    return found


def _loaded(settings: Settings, key: Key) -> dict[str, Any]:
    return {
        "version": version("redis-oncall"),
        "settings": key.sign("settings", _revealed(settings.model_dump(mode="python"))),
        "targets": len(settings.config.targets),
        "tokens": len(settings.tokens),
        "model": settings.openai_model,
    }


def _revealed(value: Any) -> Any:
    """What is hashed: secrets as they are, for two passwords to differ."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return {str(name): _revealed(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_revealed(part) for part in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
