"""The service's record as chat reads it."""

from dataclasses import dataclass

from sqlalchemy import select

from agent.incident import Incident
from api.store import incidents
from api.store.database import Database
from api.store.journal import to_evidence
from api.store.tables import EvidenceRow
from tools.reading import Evidence

MOST_EVIDENCE = 200
MOST_INCIDENTS = 20


@dataclass(frozen=True)
class SqlRecords:
    """Implements `agent.chat_question.Records`."""

    database: Database

    async def recent(self, target: str = "", status: str = "") -> list[Incident]:
        """The newest incidents."""
        async with self.database.reading() as session:
            return await incidents.page(
                session,
                statuses=[status] if status else [],
                target=target or None,
                limit=MOST_INCIDENTS,
            )

    async def incident(self, incident_id: str) -> Incident | None:
        """One incident, or None."""
        try:
            async with self.database.reading() as session:
                return await incidents.load(session, incident_id)
        except incidents.NoSuchIncident:
            return None

    async def evidence(self, incident_id: str) -> list[Evidence]:
        """The newest evidence of an incident, oldest first."""
        async with self.database.reading() as session:
            rows = await session.scalars(
                select(EvidenceRow)
                .where(EvidenceRow.incident_id == incident_id)
                .order_by(EvidenceRow.number.desc())
                .limit(MOST_EVIDENCE)
            )
            return [to_evidence(row) for row in rows][::-1]
