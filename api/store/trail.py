"""The audit trail as a whole: begun at start, its head, its rows in pages, pruning."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from api.store import audit
from api.store.audit import Person, wrong_key
from api.store.chain import GENESIS, KEY_CHANGE, Anchor, Entry, Key, Keyring, Walk
from api.store.database import Database
from api.store.tables import AuditAnchorRow, AuditHeadRow, AuditRow

UNREADABLE = (ValueError, TypeError, AttributeError, RecursionError, DBAPIError)
"""What a row raises that holds what was never written there."""
PAGE = 1_000
"""Rows in memory at a time; also what is pruned in one transaction."""


@dataclass(frozen=True)
class Head:
    """The last row."""

    seq: int
    mac: str
    key_id: str
    kept: int
    """Rows there are: those that were pruned are not."""


class Broken(Exception):
    """The trail is not as it was written; nothing of it may be removed."""


async def begin(database: Database, keys: Keyring) -> list[str]:
    """From now on deeds are chained with these keys. At every start; raises WrongKey.

    Rows from before there was a chain are sealed as they are found. Comes back with what is
    missing of a chain that there was.
    """
    damage = []
    async with database.writing() as session:
        await database.exclude(session, "audit:begin")
        head = await session.get(AuditHeadRow, 1, with_for_update=True)
        if head is None and (last := await _last_sealed(session)) is not None:
            # Sealing all of it again would make true whatever it holds now.
            head = AuditHeadRow(id=1, seq=last.seq, mac=last.mac, key_id=last.key_id)
            session.add(head)
            await session.flush()
            damage.append("the note of the last row was gone; the last row there is stands for it")
        if head is None:
            await _seal_old_rows(session, keys.current)
        elif head.key_id != keys.current.id:
            earlier = keys.find(head.key_id)
            if earlier is None:
                raise wrong_key(head.key_id, keys)
            await _change_key(session, head, by=earlier, to=keys.current, lost=False)
    database.audit_keys = keys
    return damage


async def _last_sealed(session: AsyncSession) -> Entry | None:
    sealed = select(AuditRow).where(AuditRow.mac != "").order_by(AuditRow.id.desc()).limit(1)
    row = await session.scalar(sealed)
    if row is None:
        return None
    found = entry_of(row)
    session.expunge(row)
    return found


async def _seal_old_rows(session: AsyncSession, key: Key) -> None:
    seq, mac = 0, GENESIS
    while rows := await _rows(session, seq):
        for entry in rows:
            seq, mac = entry.seq, replace(entry, key_id=key.id).sealed(key, mac)
            values = {"key_id": key.id, "mac": mac}
            await session.execute(update(AuditRow).where(AuditRow.id == seq).values(values))
    session.add(AuditHeadRow(id=1, seq=seq, mac=mac, key_id=key.id))
    await session.flush()


async def rekey_lost(database: Database, keys: Keyring, who: Person) -> bool:
    """Go on with a new key although the one before is lost; False: it is not.

    Rows written with the lost key can be verified by nobody any more, and `verify` says so.
    """
    async with database.writing() as session:
        head = await session.get(AuditHeadRow, 1, with_for_update=True)
        if head is None or keys.find(head.key_id) is not None:
            return False
        await _change_key(session, head, by=keys.current, to=keys.current, lost=True, who=who)
    return True


async def _change_key(
    session: AsyncSession,
    head: AuditHeadRow,
    *,
    by: Key,
    to: Key,
    lost: bool,
    who: Person | None = None,
) -> None:
    """A row that hands over to the next key, written with the one before where that is here."""
    who = who or audit.service("service")
    entry = Entry(
        seq=head.seq + 1,
        at=datetime.now(UTC),
        by=who.name,
        role=who.role,
        what=KEY_CHANGE,
        incident_id=None,
        detail={"before": head.key_id, "next": to.id, "lost": lost},
        key_id=by.id,
    )
    mac = entry.sealed(by, head.mac)
    fields = {name: getattr(entry, name) for name in (
        "at", "by", "role", "what", "incident_id", "detail", "key_id")}  # fmt: skip
    session.add(AuditRow(id=entry.seq, mac=mac, **fields))
    head.seq, head.mac, head.key_id = entry.seq, mac, to.id


async def head_of(session: AsyncSession) -> Head | None:
    """The last row, as it is noted."""
    head = await session.get(AuditHeadRow, 1)
    if head is None:
        return None
    pruned = (await anchor_of(session)).seq
    return Head(head.seq, head.mac, head.key_id, head.seq - pruned)


async def anchor_of(session: AsyncSession) -> Anchor:
    """Where the trail begins."""
    row = await session.get(AuditAnchorRow, 1)
    if row is None:
        return Anchor()
    return Anchor(row.seq, row.mac, row.at, row.key_id, row.signature)


async def all_rows(session: AsyncSession) -> AsyncIterator[Entry | int]:
    """Every row in order, from one snapshot; of one that cannot be read, its number."""
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        # It locks nothing, and whoever takes the rows may be slow: a person with a pager.
        await session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    after: int | None = None
    while True:
        try:
            page: list[Entry | int] = list(await _rows(session, after))
        except UNREADABLE:
            page = await _one_by_one(session, after)
        for entry in page:
            after = entry if isinstance(entry, int) else entry.seq
            yield entry
        if not page:
            return


async def _rows(session: AsyncSession, after: int | None, limit: int = PAGE) -> list[Entry]:
    chosen = select(AuditRow).order_by(AuditRow.id).limit(limit)
    if after is not None:
        chosen = chosen.where(AuditRow.id > after)
    rows = await session.scalars(chosen.execution_options(populate_existing=True))
    found = [entry_of(row) for row in rows]
    session.expunge_all()
    return found


async def _one_by_one(session: AsyncSession, after: int | None) -> list[Entry | int]:
    chosen = select(AuditRow.id).order_by(AuditRow.id).limit(PAGE)
    if after is not None:
        chosen = chosen.where(AuditRow.id > after)
    found: list[Entry | int] = []
    for number in list(await session.scalars(chosen)):
        try:
            found += await _rows(session, number - 1, 1)
        except UNREADABLE:
            found.append(number)
    return found


def entry_of(row: AuditRow) -> Entry:
    """A row, as the chain sees it."""
    return Entry(
        row.id, row.at, row.by, row.role, row.what, row.incident_id, row.detail, row.key_id, row.mac
    )


async def prune(database: Database, before: datetime, who: Person) -> int:
    """Remove the rows from before that time; how many. Each page leaves its anchor.

    A page is removed only if the chain through it is whole. Raises Broken, WrongKey.
    """
    removed = 0
    while True:
        page = await _prune_page(database, before, who)
        removed += page
        if page < PAGE:
            return removed


async def _prune_page(database: Database, before: datetime, who: Person) -> int:
    keys = database.audit_keys
    if keys is None:
        raise audit.WrongKey("the audit trail has no key in this process")
    async with database.writing() as session:
        await database.exclude(session, "audit:prune")
        anchor = await anchor_of(session)
        walk = Walk(keys, anchor)
        head = await session.get_one(AuditHeadRow, 1)
        for entry in await _rows(session, anchor.seq):
            if entry.at >= before or entry.seq >= head.seq:
                break
            walk.step(entry)
        if walk.findings:
            raise Broken(f"{walk.findings[0].text}; nothing was removed from there on")
        if not walk.rows:
            return 0
        now, key = datetime.now(UTC), keys.current
        left = Anchor(walk.seq, walk.mac, now, key.id)
        await session.execute(delete(AuditAnchorRow))
        session.add(
            AuditAnchorRow(
                id=1, seq=left.seq, mac=left.mac, at=now, key_id=key.id, signature=left.sealed(key)
            )
        )
        await session.flush()
        await session.execute(delete(AuditRow).where(AuditRow.id <= left.seq))
        await audit.note(
            session, who, "audit_prune", through=left.seq, rows=walk.rows, before=before.isoformat()
        )
        return walk.rows


async def count(session: AsyncSession) -> int:
    """How many rows there are."""
    return int(await session.scalar(select(func.count()).select_from(AuditRow)) or 0)


async def verify(
    session: AsyncSession,
    keys: Keyring,
    heads: dict[int, str],
    progress: Callable[[int], None] | None = None,
) -> Walk:
    """Walk along the whole chain. `heads`: MACs by number that were noted outside."""
    walk: Walk | None = None
    async for entry in all_rows(session):
        if walk is None:  # the anchor of the same snapshot
            walk = Walk(keys, await anchor_of(session), heads)
        if isinstance(entry, int):
            walk.unreadable(entry)
        else:
            walk.step(entry)
        if progress is not None:
            progress(walk.rows)
    walk = walk or Walk(keys, await anchor_of(session), heads)
    head = await session.get(AuditHeadRow, 1, populate_existing=True)
    walk.end(None if head is None else (head.seq, head.mac))
    return walk
