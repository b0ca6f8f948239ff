"""What a database that was brought back from an earlier time must not go on with.

Between that time and now the other copy lived on: actions were applied and undone, people said no.
So nobody's yes from then counts, what was being written is of unknown outcome, and what was being
investigated is looked at again.
"""

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import column, inspect, or_, select, table, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from agent.policy import spoken_time
from api.store import audit, deeds, endings, incidents
from api.store.audit import Person
from api.store.database import Database
from api.store.events import publish
from api.store.migrate import COPY_MARK
from api.store.tables import ActionRow, IncidentRow, LeaseRow
from api.store.target_tables import FreezeRow

FROZEN = timedelta(hours=24)
"""As far back as the limits of automatic approvals count: by then they are right again."""
OTHER_HISTORY = 1_000_000
"""Added to the leases' fencing numbers: the other copy gave out some that are not known here."""
_WAITS = ("proposed", "approved")
_AT_WORK = ("applying", "applied", "rolling_back")


@dataclass
class Settled:
    """What was ended: ids of incidents, and `incident/action`."""

    as_of: datetime
    freeze: int
    """Its number: nothing is written until it ends, or somebody thaws it."""
    again: list[str] = field(default_factory=list)
    """Looked at again, from the beginning."""
    lapsed: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Of unknown outcome: a person has to look at the server."""


async def marked(database: Database) -> datetime | None:
    """The time this copy is of, if nobody has settled it yet."""
    async with database.reading() as session:
        connection = await session.connection()
        if not await connection.run_sync(lambda sync: inspect(sync).has_table(COPY_MARK)):
            return None
        at = await session.scalar(select(column("made_at")).select_from(table(COPY_MARK)))
    return datetime.fromisoformat(str(at))


async def settle(database: Database, as_of: datetime, who: Person) -> Settled:
    """End it all and take the mark away, in one transaction. Nobody else may be connected."""
    because = (
        f"restored from a backup of {spoken_time(as_of)}: what happened since is not known here"
    )
    async with database.writing() as session:
        deeds.by(session, "restore")
        settled = Settled(as_of, await _freeze(session, who, because))
        for incident_id in await _open(session):
            await _end(session, await incidents.lock(session, incident_id), because, settled)
        another = {"expires": 0.0, "fencing": LeaseRow.fencing + OTHER_HISTORY}
        await session.execute(update(LeaseRow).values(another))
        await session.execute(text(f"DROP TABLE IF EXISTS {COPY_MARK}"))
        told = asdict(settled) | {"as_of": as_of.isoformat()}
        await audit.note(session, who, "database_restored", **told)
    return settled


async def _freeze(session: AsyncSession, who: Person, reason: str) -> int:
    now = datetime.now(UTC)
    row = FreezeRow(
        target=None, reason=reason, by=who.name, at=now, until=now + FROZEN, thawed_by=""
    )
    session.add(row)
    await session.flush()
    until = row.until.isoformat()
    await audit.note(session, who, "freeze", freeze=row.id, reason=reason, until=until)
    return row.id


async def _open(session: AsyncSession) -> list[str]:
    waiting = select(ActionRow.incident_id).where(
        ActionRow.executable.is_(True), ActionRow.status.in_((*_WAITS, *_AT_WORK))
    )
    unfinished = IncidentRow.status.not_in(incidents.FINAL)
    found = select(IncidentRow.id).where(or_(unfinished, IncidentRow.id.in_(waiting)))
    return list(await session.scalars(found.order_by(IncidentRow.id)))


async def _end(session: AsyncSession, row: IncidentRow, because: str, settled: Settled) -> None:
    actions = await session.scalars(
        select(ActionRow)
        .where(ActionRow.incident_id == row.id, ActionRow.executable.is_(True))
        .order_by(ActionRow.attempt, ActionRow.position)
    )
    unknown = False
    for kept in actions.all():
        name = f"{row.id}/{kept.id}"
        if kept.status in _WAITS:
            settled.lapsed.append(name)
            await endings.end(session, row, kept, "lapsed", because)
        elif kept.status in _AT_WORK:
            settled.unknown.append(name)
            unknown = True
            await endings.end(session, row, kept, "outcome_unknown", because)
        else:
            continue
        if kept.attempt == row.attempt:
            await publish(session, row, "action", kept.body)
    if row.status in incidents.FINAL:
        return
    if unknown:
        await incidents.move(session, row, "needs_human", because)
    else:
        settled.again.append(row.id)
        await incidents.begin_attempt(session, row, because)
