"""Which incidents worked with which runbooks."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import Incident
from api.store.incidents import assemble
from api.store.tables import IncidentRow

MOST_LOOKED_THROUGH = 1_000
"""The newest incidents. Which runbooks one has is JSON, in which no index helps."""


async def uses(session: AsyncSession, knows: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """By runbook the ids of incidents it was chosen for or whose cause it knows, newest first.

    `knows`: by cause the runbooks that know it.
    """
    cause = IncidentRow.diagnosis["root_cause"].as_string()
    rows = await session.execute(
        select(IncidentRow.id, IncidentRow.runbooks, cause)
        .order_by(IncidentRow.id.desc())
        .limit(MOST_LOOKED_THROUGH)
    )
    found = defaultdict[str, list[str]](list)
    for incident_id, matches, found_cause in rows:
        chosen = [str(match.get("id", "")) for match in matches or () if isinstance(match, dict)]
        for book in dict.fromkeys([*chosen, *knows.get(found_cause or "", ())]):
            found[book].append(incident_id)
    return dict(found)


async def without_evidence(session: AsyncSession, ids: Sequence[str]) -> list[Incident]:
    """These, newest first."""
    rows = await session.scalars(
        select(IncidentRow).where(IncidentRow.id.in_(ids)).order_by(IncidentRow.id.desc())
    )
    return await assemble(session, rows.all(), 1, evidence=False)
