"""The table of the outbox."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from api.store.tables import Table


class NoticeRow(Table):
    """Something that one address is to be told: the outbox of pages and notifications."""

    __tablename__ = "notices"

    id: Mapped[int] = mapped_column(primary_key=True)
    incident_id: Mapped[str | None] = mapped_column(
        String(64), ForeignKey("incidents.id"), index=True
    )
    page_id: Mapped[int | None] = mapped_column(index=True)
    """Of `pages`; None: it is a notification."""
    address: Mapped[str] = mapped_column(String(16))
    """The mark of an Apprise URL."""
    kind: Mapped[str] = mapped_column(String(16))
    facts: Mapped[dict[str, Any]]
    rank: Mapped[int]
    """Lower goes first."""
    at: Mapped[datetime]
    due_at: Mapped[datetime]
    """Not to be tried before: whoever tries moves it on first."""
    sent_at: Mapped[datetime | None] = mapped_column(index=True)
    """When it was accepted, or given up."""
    tries: Mapped[int]
    failure: Mapped[str]
    """Why the last try failed; empty while one is under way."""
    conversation: Mapped[str] = mapped_column(String(64))
    """What the address's service calls the one that this began; empty: none."""
    full_at: Mapped[datetime | None] = mapped_column(index=True)
    """When the address may take as many at once again as ever; None: it was never tried."""
