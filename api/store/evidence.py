"""Evidence as it is kept: lists without the readings, and the newest of a tool, whole."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import EvidenceSummary
from api.store.tables import EvidenceRow


async def summaries(
    session: AsyncSession, ids: Sequence[str], newest: int | None = None, before: int | None = None
) -> defaultdict[str, list[EvidenceSummary]]:
    """Evidence without its readings, by incident, in its order; of each or of the `newest` only."""
    columns = ("incident_id", "number", "tool", "args", "node", "summary", "taken_at")
    query = select(*(getattr(EvidenceRow, name) for name in columns)).where(
        EvidenceRow.incident_id.in_(ids)
    )
    if before is not None:
        query = query.where(EvidenceRow.number < before)
    if newest is not None:
        query = query.order_by(EvidenceRow.number.desc()).limit(newest)
    else:
        query = query.order_by(EvidenceRow.number)
    found = (await session.execute(query)).all()
    seen = defaultdict[str, list[EvidenceSummary]](list)
    for part in found if newest is None else reversed(found):
        values = {name: getattr(part, name) for name in columns[2:]}
        seen[part.incident_id].append(EvidenceSummary(id=f"E{part.number}", **values))
    return seen


async def newest_of(
    session: AsyncSession, incident_id: str, attempt: int, tools: Iterable[str], most: int
) -> list[EvidenceRow]:
    """The newest measured pieces of each of these tools, of one attempt, whole, in their order."""
    found: list[EvidenceRow] = []
    for tool in tools:
        found += await session.scalars(
            select(EvidenceRow)
            .where(
                EvidenceRow.incident_id == incident_id,
                EvidenceRow.attempt == attempt,
                EvidenceRow.tool == tool,
                EvidenceRow.measured.is_(True),
            )
            .order_by(EvidenceRow.number.desc())
            .limit(most)
        )
    return sorted(found, key=lambda row: row.number)
