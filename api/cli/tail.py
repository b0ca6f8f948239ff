"""`redis-oncall tail`: what happens to an incident, or to all that burn, a line each."""

import contextlib
import json
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import typer
from rich.console import Console
from rich.status import Status
from rich.text import Text

from agent.incident import Incident
from api.cli import render
from api.cli.client import Refusal, incident_of, items, path_of, request
from api.cli.following import LONGEST_PAUSE, PATIENCE_SECONDS, Event, Following
from api.cli.incident_list import OPEN, waiting
from api.cli.oneshot import failure
from api.cli.story import Story
from tools.reading import printable

LIST_SECONDS = 2.0
MOST_FOLLOWED = 40
"""At a time: the service lets one person have 50 streams."""
MOST_WAITING = 1_000
"""Events that are not printed yet; whoever brings more waits."""
REFRESHES = 4
"""Of the last line on a terminal, in a second."""


def tail(incident: str | None, *, follow: bool, as_json: bool) -> None:
    """Print events until the incident's end (`follow`: past it), or Ctrl-C (exit 130)."""
    try:
        if incident is None:
            _all(as_json=as_json)
        else:
            _one(incident, follow=follow, as_json=as_json)
    except Refusal as error:
        raise failure(str(error)) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@dataclass
class Printer:
    """Lines on stdout. On a terminal the last one is alive, and says what is going on."""

    as_json: bool = False
    status: Status | None = None
    stories: dict[str, Story] = field(default_factory=dict)

    def event(self, of: Incident, event: Event, *, named: bool) -> None:
        """What an event says."""
        if self.as_json:
            at = event.at and event.at.isoformat()
            known = {"incident": of.id, "id": event.number, "event": event.kind, "at": at}
            typer.echo(json.dumps(known | {"data": event.data}))
            return
        for line in self.stories.setdefault(of.id, Story()).lines(event):
            self.line(event.at or datetime.now(UTC), line, of if named else None)

    def line(self, at: datetime, told: str, of: Incident | None = None) -> None:
        """One line: as long as the terminal is wide, or whole."""
        local = at.astimezone()
        if not render.at_terminal():
            name = f"  {of.id}  {printable(of.target or 'no target')}" if of else ""
            typer.echo(f"{local:%Y-%m-%d %H:%M:%S}{name}  {told}")
            return
        out = self.status.console if self.status else render.console(most=WIDEST)
        text = Text(f"{local:%H:%M:%S}  ", style="dim")
        if of is not None:
            text.append(f"{printable(of.target or 'no target', 24)}  ", style="not dim bold")
        text.append(told, style="not dim")
        text.truncate(out.width, overflow="crop" if out.options.ascii_only else "ellipsis")
        out.print(text, soft_wrap=True)


WIDEST = 160
MINUTE = 60.0


class Going:
    """What goes on, for the living line: drawn again and again, so that its seconds run."""

    def __init__(self, story: Story) -> None:
        self.story = story

    def __rich__(self) -> Text:
        what, now = self.story.now() or "waiting", datetime.now(UTC)
        seconds = max(0.0, (now - self.story.began).total_seconds())
        lasted = f"{seconds:.1f} s" if seconds < MINUTE else render.age(self.story.began, now)
        looked = f", looked {self.story.looks} times" if what == "investigating" else ""
        return Text(f"{what}{looked}, {lasted}", style="dim")


def _one(incident: str, *, follow: bool, as_json: bool) -> None:
    shown = incident_of(request("GET", path_of(incident)))
    printer = Printer(as_json)
    with _living(printer, printer.stories.setdefault(shown.id, Story())):
        say = partial(aside, printer.status.console) if printer.status else _say
        for event in Following(shown.id, say=say).events(past_the_end=follow):
            printer.event(shown, event, named=False)


@contextlib.contextmanager
def _living(printer: Printer, story: Story) -> Iterator[None]:
    """A spinner below the lines, where a person watches."""
    if printer.as_json or not render.at_terminal():
        yield
        return
    out = render.console(most=WIDEST)
    with Status(
        Going(story), console=out, spinner=spinner(out), refresh_per_second=REFRESHES
    ) as printer.status:
        yield


def spinner(out: Console) -> str:
    """One that the output can show."""
    return "line" if out.options.ascii_only else "dots"


def aside(out: Console, told: str) -> None:
    """Above a living line, which it would be in otherwise."""
    out.print(Text(f"redis-oncall: {printable(told, 500)}"))


def _say(told: str) -> None:
    typer.echo(f"redis-oncall: {printable(told, 500)}", err=True)


@dataclass
class Crowd:
    """All that burn, each followed by a thread of its own; one prints."""

    arrived: "queue.Queue[tuple[Incident, Event | Refusal]]" = field(
        default_factory=lambda: queue.Queue(MOST_WAITING)
    )
    known: dict[str, Following] = field(default_factory=dict)
    at_it: dict[str, threading.Thread] = field(default_factory=dict)

    def follow(self, incident: Incident) -> None:
        """From here on in the background, if nobody does."""
        following = self.known.setdefault(incident.id, Following(incident.id, say=_say))
        thread = threading.Thread(target=self._bring, args=(incident, following), daemon=True)
        self.at_it[incident.id] = thread
        thread.start()

    def _bring(self, incident: Incident, following: Following) -> None:
        try:
            for event in following.events():
                self.arrived.put((incident, event))
        except Refusal as error:
            self.arrived.put((incident, error))

    def is_followed(self, incident_id: str) -> bool:
        """Is somebody at it?"""
        thread = self.at_it.get(incident_id)
        return thread is not None and thread.is_alive()

    @property
    def has_room(self) -> bool:
        """For one more."""
        return sum(thread.is_alive() for thread in self.at_it.values()) < MOST_FOLLOWED


def _all(*, as_json: bool) -> None:
    """Never ends by itself: what opens meanwhile is followed, too."""
    printer, crowd = Printer(as_json), Crowd()
    listed = _open()
    before = {one.id: one.updated_at for one in listed}
    if not as_json:
        for one in listed:
            printer.line(datetime.now(UTC), f"waits for {waiting(one, datetime.now(UTC))}", one)
    pause, lost = LIST_SECONDS, 0.0
    while True:
        for one in listed:
            idle = one.id in crowd.known or one.id in before
            if crowd.is_followed(one.id) or (idle and one.status == "needs_human"):
                continue
            if crowd.has_room:
                crowd.follow(one)
        _print_for(pause, crowd, printer, before)
        try:
            listed, pause, lost = _open(), LIST_SECONDS, 0.0
        except Refusal as error:
            lost += pause
            pause = min(2 * pause, LONGEST_PAUSE)
            if error.status in (401, 403) or lost >= PATIENCE_SECONDS:
                raise
            _say(f"{error}; it is tried again")


def _open() -> list[Incident]:
    """Raises Refusal."""
    listed = items(request("GET", "/v1/incidents", status=OPEN, limit="100"))
    return [incident_of(item) for item in listed]


def _print_for(seconds: float, crowd: Crowd, printer: Printer, before: dict[str, datetime]) -> None:
    """What arrives meanwhile, without what had happened before anybody asked."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        try:
            incident, what = crowd.arrived.get(timeout=left)
        except queue.Empty:
            return
        if isinstance(what, Refusal):
            _say(f"{incident.id}: {what}")
        elif not _is_old(what, before.get(incident.id)):
            printer.event(incident, what, named=True)


def _is_old(event: Event, listed: datetime | None) -> bool:
    return listed is not None and event.at is not None and event.at <= listed
