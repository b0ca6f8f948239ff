"""Sends the outbox of pages through Apprise: at least once, and a bounded number of times.

Everybody configured gets every page. Where nobody is, a page is a line in the log.
"""

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

import structlog

from agent.redaction import redact
from api.settings import Settings, SettingsError
from api.store import incidents, pages
from api.store.database import Database
from api.store.pages import Page
from tools.reading import printable

if TYPE_CHECKING:
    from apprise import Apprise

LOOK_SECONDS = 2.0
TRY_SECONDS = 30.0
"""One address, one try. Less than a claim lasts."""
MOST_AT_A_TIME = 20
LONGEST_TITLE, LONGEST_BODY = 150, 1_200
log = structlog.get_logger(__name__)


class Pager:
    """Whom to call. Raises SettingsError for an address that Apprise cannot read."""

    def __init__(self, settings: Settings) -> None:
        urls = [url.get_secret_value() for url in settings.config.pages.to]
        self._addresses = {
            hashlib.sha256(url.encode()).hexdigest()[:16]: _opened(url, place)
            for place, url in enumerate(urls)
        }

    @property
    def services(self) -> list[str]:
        """Which services, without what is secret."""
        return [_service(address) for address in self._addresses.values()]

    async def send_due(self, database: Database) -> None:
        """Send what is due."""
        for _ in range(MOST_AT_A_TIME):
            async with database.writing() as session:
                page = await pages.claim(session, incidents.now())
            if page is None:
                return
            await self._send(database, page)

    async def _send(self, database: Database, page: Page) -> None:
        left = {
            mark: address for mark, address in self._addresses.items() if mark not in page.delivered
        }
        sent = await asyncio.gather(*(_try(address, page) for address in left.values()))
        had = [mark for mark, ok in zip(left, sent, strict=True) if ok]
        missed = [_service(address) for mark, address in left.items() if mark not in had]
        failure = f"not accepted by {', '.join(missed)}" if missed else ""
        async with database.writing() as session:
            over = await pages.settle(session, page, had, incidents.now(), failure)
        told = {"page": page.reason, "incident": page.incident_id, "tries": page.tries}
        if not self._addresses:
            log.error("page_for_nobody", because="no pages.to is configured", **told)
        elif failure:
            log.error("page_given_up" if over else "page_not_sent", because=failure, **told)

    async def send_forever(self, database: Database) -> None:
        """Every few seconds; the database being away for a while is survived."""
        while True:
            try:
                await self.send_due(database)
            except Exception:
                log.exception("paging_failed")
            await asyncio.sleep(LOOK_SECONDS)


def _opened(url: str, place: int) -> "Apprise":
    from apprise import Apprise, AppriseAsset

    address = Apprise(
        asset=AppriseAsset(app_id="redis-oncall", async_mode=False, http_redirects=False)
    )
    if not address.add(url):
        raise SettingsError(
            f"pages.to.{place}: not an Apprise URL; see https://github.com/caronc/apprise/wiki"
        )
    return address


def _service(address: "Apprise") -> str:
    return str(address[0].service_name)


async def _try(address: "Apprise", page: Page) -> bool:
    """Was it accepted?"""
    words = worded(page)
    try:
        async with asyncio.timeout(TRY_SECONDS):
            return await asyncio.to_thread(_notify, address, *words)
    except Exception as error:  # noqa: BLE001 - a service's plugin may raise anything
        log.warning("page_failed", service=_service(address), error=type(error).__name__)
        return False


def _notify(address: Any, title: str, body: str) -> bool:
    return bool(address.notify(body=body, title=title, notify_type="failure", body_format="text"))


def worded(page: Page) -> tuple[str, str]:
    """Title and text of a page: bounded, printable, without secrets."""
    about = f"{page.target}: {page.title}" if page.target else page.title
    title = "redis-oncall" + (f": {about}" if about else "")
    lines = [page.reason, "", f"since {page.at:%Y-%m-%d %H:%M:%S} UTC"]
    if page.incident_id:
        lines.append(f"redis-oncall incidents {page.incident_id}")
    body = "\n".join(printable(redact(line), LONGEST_BODY) for line in lines)
    return printable(redact(title), LONGEST_TITLE), body


async def pages_kept(database: Database) -> dict[str, int]:
    """How many were sent, wait, and were given up."""
    async with database.reading() as session:
        return await pages.counts(session)
