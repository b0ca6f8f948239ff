"""Which incidents worked with which runbooks."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import Incident
from api.store.incidents import assemble
from api.store.tables import IncidentRow

MOST_LOOKED_THROUGH = 1_000
"""The newest incidents. Which runbooks one has is JSON, in which no index helps."""


async def uses(session: AsyncSession) -> dict[str, list[str]]:
    """By runbook the ids of incidents, newest first."""
    rows = await session.execute(
        select(IncidentRow.id, IncidentRow.runbooks)
        .order_by(IncidentRow.id.desc())
        .limit(MOST_LOOKED_THROUGH)
    )
    found = defaultdict[str, list[str]](list)
    for incident_id, matches in rows:
        for match in matches or ():
            if isinstance(match, dict):
                found[str(match.get("id", ""))].append(incident_id)
    return dict(found)


async def without_evidence(session: AsyncSession, ids: Sequence[str]) -> list[Incident]:
    """These, newest first."""
    rows = await session.scalars(
        select(IncidentRow).where(IncidentRow.id.in_(ids)).order_by(IncidentRow.id.desc())
    )
    return await assemble(session, rows.all(), 1, evidence=False)
