"""The incidents that are open on some targets: read and locked once, for many alerts."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from api.store import incidents, looks
from api.store.incidents import CLOSED
from api.store.place import Place
from api.store.tables import IncidentRow

_OPEN_ON = (
    select(IncidentRow)
    .where(
        IncidentRow.target.in_(bindparam("targets", expanding=True)),
        IncidentRow.status.not_in(CLOSED),
    )
    .order_by(IncidentRow.id)
    .with_for_update()
    # Documents that grow as it is worked on: none of them says where an alert belongs.
    .options(
        defer(IncidentRow.diagnosis),
        defer(IncidentRow.prevention),
        defer(IncidentRow.checklist),
        defer(IncidentRow.runbooks),
    )
)


class Homes:
    """Of the places that were asked for. The caller holds the locks of all of them."""

    def __init__(self, rows: Iterable[IncidentRow] = ()) -> None:
        self._by_target: dict[str, dict[str, IncidentRow]] = defaultdict(dict)
        self._by_id: dict[str, IncidentRow] = {}
        self._last_looks: dict[str, datetime] = {}
        self.quieter: dict[str, IncidentRow] = {}
        """Incidents of which an alert is over, by id."""
        for row in rows:
            self.add(row)

    @classmethod
    async def of(cls, session: AsyncSession, places: Iterable[Place]) -> "Homes":
        """As they are now, with what is related."""
        named = [place for place in places if place.target]
        targets = {name for place in named for name in (place.target, *place.related)}
        if not targets:
            return cls()
        return cls(await session.scalars(_OPEN_ON, {"targets": list(targets)}))

    def add(self, row: IncidentRow) -> None:
        """One that has been opened, or opened again, since."""
        self._by_target[row.target][row.id] = row
        self._by_id[row.id] = row

    async def lock(self, session: AsyncSession, incident_id: str) -> IncidentRow:
        """Any incident's row, for writing. Raises NoSuchIncident."""
        if incident_id not in self._by_id:
            self._by_id[incident_id] = await incidents.lock(session, incident_id)
        return self._by_id[incident_id]

    async def last_look(self, session: AsyncSession, row: IncidentRow) -> datetime:
        """When it ended; asked once for all that wait for people."""
        if row.id not in self._last_looks:
            rows = [row, *(other for other in self._by_id.values() if looks.may_be_asked(other))]
            self._last_looks |= await looks.last_looks(session, rows)
        return self._last_looks[row.id]

    def on(self, place: Place) -> IncidentRow | None:
        """The target's newest that is not over; else the newest on a related one."""
        for targets in ((place.target,), place.related):
            rows = [row for name in targets for row in self._by_target[name].values()]
            still = [row for row in rows if row.status not in CLOSED]
            if still:
                return max(still, key=lambda row: row.id)
        return None
