"""The events of an incident as they happen, across lost connections."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx2

from api.cli.client import Refusal, address, no_answer, path_of, refusal

SILENCE_SECONDS = 45.0
"""The service says something every 15 s (sse-starlette's ping): longer silence is a dead wire."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
PATIENCE_SECONDS = 900.0
"""Without an answer, before it is given up."""
_PASSES = frozenset({0, 429, 500, 502, 503, 504})
"""Statuses that may be gone a little later; 0: there was no answer."""
PING = "ping"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Event:
    """What happened, and when by the service's clock."""

    number: int
    kind: str
    data: dict[str, Any]
    at: datetime | None = None

    @property
    def is_end(self) -> bool:
        """Is nothing more to come by itself?"""
        return self.kind == "end"


@dataclass
class Following:
    """One incident's events, each once and in order; `after`: what was seen so far."""

    incident: str
    after: int = 0
    say: Say = lambda _: None
    _lost: float = field(default=0.0, init=False)

    def events(self, *, past_the_end: bool = False, pings: bool = False) -> Iterator[Event]:
        """Until the incident's end, or for ever. Raises Refusal: refused, or out of patience.

        `pings`: also what only says that somebody is there (kind `ping`), some times a minute.
        """
        for event in self._connected():
            self.after = max(self.after, event.number)
            if pings or event.kind != PING:
                yield event
            if event.is_end and not past_the_end:
                return

    def _connected(self) -> Iterator[Event]:
        """Of one connection after the other. Raises Refusal."""
        pause = FIRST_PAUSE
        while True:
            why, is_over = Refusal("the service ended the stream"), False
            try:
                for event in self._stream():
                    self._lost, pause, is_over = 0.0, FIRST_PAUSE, event.is_end
                    yield event
            except Refusal as error:
                why, is_over = error, False
            if why.status not in _PASSES or self._lost >= PATIENCE_SECONDS:
                raise why
            if not is_over:  # nothing was lost
                self.say(f"{why}; it is tried again" + (f" in {pause:.0f} s" if pause >= 1 else ""))
            time.sleep(pause)
            self._lost += pause
            pause = min(2 * pause, LONGEST_PAUSE)

    def _stream(self) -> Iterator[Event]:
        """Raises Refusal."""
        url, headers = address(path_of(self.incident, "events"))
        asked = headers | {"Last-Event-ID": str(self.after)}
        try:
            with httpx2.stream("GET", url, headers=asked, timeout=SILENCE_SECONDS) as response:
                if not response.is_success:
                    response.read()
                    raise Refusal(refusal(response), response.status_code)
                yield from parsed(response.iter_lines())
        except httpx2.HTTPError as error:
            raise Refusal(no_answer(error)) from None


def parsed(lines: Iterator[str]) -> Iterator[Event]:
    """Server-sent events; the comment before each is when it happened."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if line:
            fields[name or "comment"] = value.removeprefix(" ")
        elif "event" in fields and "data" in fields:
            number, at = int(fields.get("id", 0)), _moment(fields.get("comment", ""))
            yield Event(number, fields["event"], json.loads(fields["data"]), at)
            fields = {}
        else:
            yield Event(0, PING, {})
            fields = {}


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None  # a service before this, or a ping
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
