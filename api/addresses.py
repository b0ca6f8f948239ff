"""The addresses that Apprise sends to: opened, and asked to take a message into its thread.

Which services really thread, and how, is in api/README.md.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import structlog

from api import slack_threads
from api.config import Config
from api.routes import addresses, mark_of
from api.settings import SettingsError
from api.wording import LONGEST_BODY, Message

if TYPE_CHECKING:
    from apprise import Apprise

TRY_SECONDS = 30.0
"""One address, one try. Less than a claim lasts."""
MOST_HANGING = 3
"""Tries of one address that never end: a receiver that sends a byte a second outlasts any time-out
of a socket. While so many hang, none is begun."""
SHORTEST_BODY = 300
_MAIL = {"+References": "<{}@redis-oncall>", "+In-Reply-To": "<{}@redis-oncall>"}
_ALERT = {"action": "map", "dedup": "{}"}
_THREADS: dict[str, dict[str, str]] = {
    "mailto": _MAIL, "mailtos": _MAIL, "gchat": {"thread": "{}"},
}  # fmt: skip
"""By scheme: the arguments of its URL that keep what is about one incident together."""
_ALERTS: dict[str, dict[str, str]] = {
    "pagerduty": _ALERT | {"source": "redis-oncall"},
    "ilert": _ALERT, "incidentio": _ALERT, "firehydrant": _ALERT, "squadcast": _ALERT,
    "signl4": _ALERT,
    "opsgenie": {"alias": "{}", "action": "new"},  # what its own mapping closes is not sent at all
}  # fmt: skip
"""One alert there for an incident here: later messages belong to it, and the last one resolves it.

They do not ring again, so that a page is always an alert of its own.
"""
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Taken:
    """What a service said to a message."""

    accepted: bool
    conversation: str = ""
    """What it calls the one that this message began; empty: none, or it does not say."""


@dataclass(frozen=True)
class Address:
    """One Apprise URL, which is secret."""

    place: str
    """In the configuration."""
    url: str
    service: str
    most: int
    """Characters of a message that it takes."""
    _room: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(MOST_HANGING), init=False, repr=False,
        compare=False,
    )  # fmt: skip

    @classmethod
    def of(cls, place: str, url: str) -> "Address":
        """Raises SettingsError for what Apprise cannot read."""
        opened = _opened(url)
        if opened is None:
            raise SettingsError(
                f"{place}: not an Apprise URL; see https://github.com/caronc/apprise/wiki"
            )
        most = max(SHORTEST_BODY, min(opened[0].body_maxlen, LONGEST_BODY))
        if not opened[0].title_maxlen:  # it becomes the first line
            most = max(SHORTEST_BODY, most - 160)
        return cls(place, url, str(opened[0].service_name), most)

    async def take(self, message: Message, conversation: str = "") -> Taken:
        """Was it accepted? `conversation`: what the service calls the one of this incident."""
        if not self._room.acquire(blocking=False):
            log.warning("notice_failed", service=self.service, error="earlier tries still hang")
            return Taken(False)

        def run() -> Taken:
            try:
                return self._notify(message, conversation)
            finally:
                self._room.release()

        try:
            async with asyncio.timeout(TRY_SECONDS):
                return await _apart(run)
        except Exception as error:  # noqa: BLE001 - a service's plugin may raise anything
            log.warning("notice_failed", service=self.service, error=type(error).__name__)
            return Taken(False)

    def _notify(self, message: Message, conversation: str) -> Taken:
        opened: Any = _opened(threaded(self.url, message.thread, rings=message.rings))
        # Who does not follow a thread is not told of its replies.
        begins = message.is_loud or not (message.thread and conversation)
        times = slack_threads.listen(opened, "" if begins else conversation)
        title = message.title[: opened[0].title_maxlen or None]
        accepted = opened.notify(
            body=message.body, title=title, notify_type=message.tone, body_format="text"
        )
        return Taken(bool(accepted), times[0] if begins and times and message.thread else "")


async def _apart(run: Callable[[], Taken]) -> Taken:
    """In a thread that nobody has to wait for.

    Those of asyncio are few, names are resolved by them, and its loop ends after they do.
    """
    answer = Future[Taken]()
    answer.set_running_or_notify_cancel()

    def work() -> None:
        try:
            answer.set_result(run())
        except Exception as error:  # noqa: BLE001 - for whoever waits
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return await asyncio.wrap_future(answer)


def threaded(url: str, thread: str, *, rings: bool = False) -> str:
    """The URL with what keeps that thread together; what it says itself stays."""
    scheme, _, said = url.partition("://")[0].lower(), *url.partition("?")[1:]
    known = {part.partition("=")[0].lower() for part in said.split("&")}
    ways = _THREADS if rings else _THREADS | _ALERTS
    more = {
        name: value.format(thread)
        for name, value in ways.get(scheme, {}).items()
        if name.lower() not in known
    }
    if not thread or not more:
        return url
    return f"{url}{'&' if said else '' if url.endswith('?') else '?'}{urlencode(more)}"


def _opened(url: str) -> "Apprise | None":
    from apprise import Apprise, AppriseAsset

    address = Apprise(
        asset=AppriseAsset(
            app_id="redis-oncall",
            app_desc="redis-oncall",
            async_mode=False,
            http_redirects=False,
            image_url_mask="",  # or messages would show pictures of another host
            image_url_logo="",
        )
    )
    return address if address.add(url) and len(address) == 1 else None


def opened_all(config: Config) -> dict[str, Address]:
    """Every configured address by its mark. Raises SettingsError."""
    return {mark_of(url): Address.of(place, url) for place, url in addresses(config)}
