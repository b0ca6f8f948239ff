"""Who saw what: on record once an hour for each person, incident and part of it."""

from collections import OrderedDict
from typing import Literal

import structlog
from sqlalchemy.exc import SQLAlchemyError

from api.store import audit, incidents
from api.store.audit import Person, WrongKey
from api.store.database import Database

MOST_KNOWN = 10_000
"""Views of this hour that are remembered; a forgotten one is noted again."""
Part = Literal[
    "list", "incident", "evidence", "report", "transcript", "events", "targets", "audit"
]  # fmt: skip
log = structlog.get_logger(__name__)


class Seen:
    """Notes views, so that polling does not flood the trail."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[tuple[str, str, str | None, str], None] = OrderedDict()

    async def note(self, person: Person, part: Part, incident_id: str | None = None) -> None:
        """On record before it is shown. If that fails it is shown all the same, and logged.

        An incident must be readable while the disk is full.
        """
        hour = f"{incidents.now():%Y-%m-%dT%H}"
        view = (person.name, part, incident_id, hour)
        if view in self._known:
            return
        self._known[view] = None
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        try:
            async with self._database.writing() as session:
                await audit.note(session, person, "view", incident_id, part=part)
        except (SQLAlchemyError, WrongKey) as error:
            self._known.pop(view, None)
            log.warning("view_not_noted", by=person.name, part=part, seen=incident_id,
                        error=type(error).__name__)  # fmt: skip
