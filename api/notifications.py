"""Sends the outbox of pages and notifications: at least once, and a bounded number of times.

Everybody in `pages.to` gets every page; where nobody is, a page is a line in the log.
"""

import asyncio
import contextlib
from collections.abc import Iterator

import structlog
from sqlalchemy import select

from api.addresses import Address, opened_all
from api.routes import Routes, mark_of
from api.settings import Settings
from api.store import incidents, notices, pages
from api.store.database import Database
from api.store.notices import Claim
from api.store.tables import IncidentRow
from api.wording import Links, Message, Subject, digest, message

LOOK_SECONDS = 2.0
MOST_AT_A_TIME = 20
log = structlog.get_logger(__name__)


class Notifier:
    """Whom to call and whom to tell. Raises SettingsError for an address nobody can read."""

    def __init__(self, settings: Settings) -> None:
        self.addresses = opened_all(settings.config)
        self.routes = Routes.of(settings.config)
        self._pages = [mark_of(url.get_secret_value()) for url in settings.config.pages.to]
        self._links = Links(settings.config.http.url)

    @property
    def paged(self) -> list[Address]:
        """Who gets pages."""
        return [self.addresses[mark] for mark in dict.fromkeys(self._pages)]

    @property
    def told(self) -> list[Address]:
        """Who gets notifications."""
        marks = (mark for route in self.routes.routes for mark in route.addresses)
        return [self.addresses[mark] for mark in dict.fromkeys(marks)]

    async def send_due(self, database: Database) -> None:
        """Send what is due, to all addresses side by side."""
        due = await self._due(database)
        await asyncio.gather(*(self._send_to(database, mark) for mark in due))

    async def _due(self, database: Database) -> list[str]:
        """The addresses that something is due for."""
        await self._address_pages(database)
        async with database.reading() as session:
            due = await notices.due(session, incidents.now())
        known = [mark for mark in due if mark in self.addresses]
        if len(known) < len(due):
            async with database.writing() as session:
                lost = await notices.give_up_strangers(session, self.addresses, incidents.now())
            if lost:
                log.error("notices_given_up", number=lost, because="no longer configured")
        return known

    async def _address_pages(self, database: Database) -> None:
        async with database.reading() as session:
            if not await pages.is_any_due(session, incidents.now()):
                return
        async with database.writing() as session:
            marks = list(dict.fromkeys(self._pages))
            lost = await notices.address_pages(session, marks, incidents.now())
        for page in lost:
            log.error("page_for_nobody", because="no pages.to is configured", page=page.reason,
                      incident=page.incident_id, tries=page.tries)  # fmt: skip

    async def _send_to(self, database: Database, mark: str) -> None:
        """One after the other, until one is not accepted."""
        for _ in range(MOST_AT_A_TIME):
            async with database.writing() as session:
                per_hour = self.routes.per_hour(mark)
                claim = await notices.claim(session, mark, per_hour, incidents.now())
            if claim is None or not await self._send(database, claim):
                return

    async def _send(self, database: Database, claim: Claim) -> bool:
        address = self.addresses[claim.address]
        async with database.reading() as session:
            known = await notices.conversation(session, claim)
        taken = await address.take(await self._worded(database, claim, address.most), known)
        failure = "" if taken.accepted else f"not accepted by {address.service}"
        async with database.writing() as session:
            over = await notices.settle(
                session, claim, incidents.now(), failure, taken.conversation
            )
        if failure:
            told = [one.kind for one in claim.notices]
            tries = max(one.tries for one in claim.notices)
            log.error("notice_given_up" if over else "notice_not_sent", because=failure,
                      about=claim.about[:10], kinds=told[:10], tries=tries)  # fmt: skip
        return taken.accepted

    async def _worded(self, database: Database, claim: Claim, most: int) -> Message:
        ids = [one for one in claim.about if one is not None]
        async with database.reading() as session:
            if len(claim.about) > 1:
                rows = await session.scalars(select(IncidentRow).where(IncidentRow.id.in_(ids)))
                found = {row.id: (row.target, row.title, row.severity) for row in rows}
                return digest(claim.notices, found, self._links, most)
            subject = None
            if ids:
                incident = await incidents.load(session, ids[0])
                actions = await incidents.load_actions(session, ids)
                by_attempt = {
                    (attempt, action.id): action
                    for (_, attempt), some in actions.items()
                    for action in some
                }
                subject = Subject(incident, by_attempt)
        return message(claim.notices, subject, self._links, most)

    async def send_forever(self, database: Database) -> None:
        """Every few seconds; the database being away for a while is survived.

        Who takes long is left alone with what they get: the others are not waited for.
        """
        at_it: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                with _survived():
                    for mark in await self._due(database):
                        if mark not in at_it or at_it[mark].done():
                            at_it[mark] = asyncio.create_task(self._send_alone(database, mark))
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            for task in at_it.values():
                task.cancel()
            await asyncio.gather(*at_it.values(), return_exceptions=True)

    async def _send_alone(self, database: Database, mark: str) -> None:
        with _survived():
            await self._send_to(database, mark)


@contextlib.contextmanager
def _survived() -> Iterator[None]:
    try:
        yield
    except Exception:
        log.exception("notifying_failed")


async def kept(database: Database) -> dict[str, dict[str, int]]:
    """Of pages and of notifications: how many were sent, wait, and were given up."""
    async with database.reading() as session:
        return {"pages": await pages.counts(session), "notices": await notices.counts(session)}
