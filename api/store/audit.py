"""Who did what: written in the transaction of the deed."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from api.store.tables import AuditRow


@dataclass(frozen=True)
class Person:
    """Who asks: the name and role of a token."""

    name: str
    role: str
    source: str | None = None
    """The only alert source this token may post to; None: a person's token."""


async def note(
    session: AsyncSession,
    who: Person,
    what: str,
    incident_id: str | None = None,
    **detail: Any,
) -> None:
    """Add a line to the audit trail."""
    session.add(
        AuditRow(
            at=datetime.now(UTC),
            by=who.name,
            role=who.role,
            what=what,
            incident_id=incident_id,
            detail=detail,
        )
    )
