"""Leases: one investigation per target at a time, with a fencing number."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from api.store.database import Database
from api.store.tables import LeaseRow

LEASE_SECONDS = 10.0
HEARTBEAT_SECONDS = 2.0


class LeaseLost(Exception):
    """Somebody else works on the target now; whoever sees this stops at once."""


@dataclass(frozen=True)
class Lease:
    """The right to work on a target, until it expires."""

    target: str
    incident_id: str
    fencing: int


async def acquire(
    database: Database,
    target: str,
    incident_id: str,
    holder: str,
    seconds: float = LEASE_SECONDS,
) -> Lease | None:
    """Take the target's lease if nobody holds it. One statement: no race."""
    async with database.writing() as session:
        clock = await database.clock(session)
        insert = (sqlite if database.is_sqlite else postgresql).insert(LeaseRow)
        values = {
            "holder": holder, "incident_id": incident_id, "expires": clock + seconds
        }  # fmt: skip
        fencing = await session.scalar(
            insert.values(target=target, fencing=1, **values)
            .on_conflict_do_update(
                index_elements=[LeaseRow.target],
                set_={**values, "fencing": LeaseRow.fencing + 1},
                where=LeaseRow.expires <= clock,
            )
            .returning(LeaseRow.fencing)
        )
    return None if fencing is None else Lease(target, incident_id, int(fencing))


async def renew(database: Database, lease: Lease) -> None:
    """The heartbeat. Raises LeaseLost."""
    async with database.writing() as session:
        clock = await database.clock(session)
        renewed = await session.scalar(
            update(LeaseRow)
            .where(*_is(lease), LeaseRow.expires > clock)
            .values(expires=clock + LEASE_SECONDS)
            .returning(LeaseRow.fencing)
        )
    if renewed is None:
        raise LeaseLost(lease.target)


async def release(database: Database, lease: Lease) -> None:
    """Give it back. The row stays: its fencing number must never be used again."""
    async with database.writing() as session:
        await session.execute(update(LeaseRow).where(*_is(lease)).values(expires=0.0))


async def at_work(
    session: AsyncSession, database: Database, targets: Collection[str]
) -> dict[str, str]:
    """By target, of those that somebody works on now, the incident."""
    alive = LeaseRow.expires > await database.clock(session)
    query = select(LeaseRow.target, LeaseRow.incident_id).where(LeaseRow.target.in_(targets), alive)
    return {target: incident for target, incident in await session.execute(query) if incident}


async def is_held(session: AsyncSession, database: Database, incident_id: str) -> bool:
    """Does anybody work on this incident?"""
    alive = LeaseRow.expires > await database.clock(session)
    held = select(LeaseRow.target).where(LeaseRow.incident_id == incident_id, alive).limit(1)
    return await session.scalar(held) is not None


async def assert_held(session: AsyncSession, lease: Lease, alive_at: float | None = None) -> None:
    """In the transaction of a write: still ours? Raises LeaseLost.

    `alive_at`, of the database's clock: it must not have expired by then either. Whoever was
    frozen for longer than that and not replaced may keep what it found, but not act on it.
    """
    alive = () if alive_at is None else (LeaseRow.expires > alive_at,)
    found = select(LeaseRow.fencing).where(*_is(lease), *alive).with_for_update(read=True)
    if await session.scalar(found) is None:
        raise LeaseLost(lease.target)


def _is(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    return (
        LeaseRow.target == lease.target,
        LeaseRow.fencing == lease.fencing,
    )
