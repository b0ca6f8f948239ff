"""Incidents of which people are told."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update

from agent.incident import Diagnosis, Plan
from api.notifications import Notifier
from api.settings import Settings
from api.store import incidents, leases
from api.store.journal import SqlJournal
from api.store.notice_table import NoticeRow
from tests.api.paging_room import Room
from tests.api.version_before import DIAGNOSIS


class Told:
    """A room of which people are told."""

    def __init__(self, room: Room, settings: Settings) -> None:
        self.room, self.database = room, room.database
        self.notifier = Notifier(settings)
        self.database.routes = self.notifier.routes

    async def send(self, *, due: bool = True) -> None:
        if due:
            async with self.database.writing() as session:
                past = incidents.now() - timedelta(seconds=1)
                await session.execute(update(NoticeRow).values(due_at=past))
        await self.notifier.send_due(self.database)

    async def kept(self) -> list[NoticeRow]:
        async with self.database.reading() as session:
            return list(await session.scalars(select(NoticeRow).order_by(NoticeRow.id)))

    async def kinds(self) -> list[str]:
        return [row.kind for row in await self.kept()]

    async def looked_at(self, incident_id: str, *actions: Any, status: Any = "") -> None:
        """An investigation comes to its end, with a diagnosis."""
        shown = await self.room.shown(incident_id)
        lease = await leases.acquire(self.database, shown.target, incident_id, "a worker")
        assert lease is not None
        journal = SqlJournal(self.database, incident_id, shown.attempt, lease)
        await journal.set_status("investigating")
        await journal.set_diagnosis(Diagnosis.model_validate(DIAGNOSIS))
        await journal.set_plan(Plan(actions=list(actions)))
        await journal.set_status(status or "awaiting_approval", "" if actions else "no remedy")
        await leases.release(self.database, lease)


Tell = Callable[..., Told]
