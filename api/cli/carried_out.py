"""What comes of an approval, as it happens: applied, watched, verified or undone, and why."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.status import Status
from rich.text import Text

from agent.effects import effects
from agent.incident import Action, Incident
from api.cli import memory_bar, render
from api.cli.client import Refusal, harmless
from api.cli.following import Event, Following
from api.cli.story import Story
from api.cli.tail import REFRESHES, aside, spinner
from tools.reading import printable

LONGEST_SECONDS = 7_200.0
"""Of waiting. The action goes on without us."""
SETTLED = frozenset({
    "verified", "rolled_back", "rollback_failed", "outcome_unknown", "failed", "lapsed", "rejected",
})  # fmt: skip
"""Statuses of an action in which nothing more comes by itself."""
BAR_CELLS = 24
JUDGED_AFTER = 1.0
"""Seconds past the hold."""


def follow(incident: Incident, answers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The actions as they ended, or as they were when nothing more could be seen.

    What waits for more people, or for its time, is not waited for. Ctrl-C: exit 130; the approval
    stands.
    """
    found = {str(one["fingerprint"]): one for one in answers}
    waiting = {name for name, one in found.items() if _goes_on(one)}
    out = render.console(stderr=True)
    try:
        with _living(out) as living:
            for event in _events(incident.id, waiting, out):
                name = str(event.data.get("fingerprint"))
                if event.kind == "action" and name in waiting:
                    found[name] = event.data
                    waiting -= set() if _goes_on(event.data) else {name}
                    living.moved(event)
                elif event.kind == "status" and "hold_seconds" in event.data:
                    living.held(event.data)
    except Refusal as error:
        _say(out, f"{error}. The approval stands.", incident.id)
    except KeyboardInterrupt:
        _say(out, "The approval stands, and what was approved goes on.", incident.id)
        raise typer.Exit(130) from None
    ended = [found[str(one["fingerprint"])] for one in answers]
    _effects([Action.model_validate(harmless(one)) for one in ended], out)
    return ended


def _goes_on(action: dict[str, Any]) -> bool:
    """Does more come of it soon, without anybody?"""
    waits = action["status"] == "approved" and action.get("not_before") is not None
    return action["status"] not in SETTLED and action["status"] != "proposed" and not waits


def _events(incident: str, waiting: set[str], out: Console) -> Iterator[Event]:
    """While anything is waited for. Raises Refusal."""
    if not waiting:
        return
    until = time.monotonic() + LONGEST_SECONDS
    following = Following(incident, say=lambda told: aside(out, told))
    for event in following.events(past_the_end=True, pings=True):
        yield event
        if not waiting:
            return
        if time.monotonic() > until:
            raise Refusal(f"not over after {LONGEST_SECONDS / 3600:.0f} h")


def _say(out: Console, told: str, incident: str) -> None:
    text = f"{printable(told, 500)} See how it goes: redis-oncall tail {incident}"
    out.print(text, markup=False)


class Living:
    """Lines of what happened to actions, and below them what is going on."""

    def __init__(self, out: Console) -> None:
        self._out, self._story = out, Story()
        self._action = ""
        self._what, self._since = "waiting for a worker", time.monotonic()
        self._hold = self._held = 0.0

    def moved(self, event: Event) -> None:
        """One of ours goes on."""
        status = str(event.data["status"])
        told = list(self._story.lines(event))
        if status in ("proposed", "approved"):
            return
        self._action, self._hold, self._since = str(event.data["id"]), 0.0, time.monotonic()
        self._what = _DOING.get(status, status.replace("_", " ")).format(self._action)
        for line in told:
            self._out.print(Text(line, style=render.STATUS_STYLE.get(status, "")))

    def held(self, data: dict[str, Any]) -> None:
        """So far, of how long it is watched; of one before ours that is no matter."""
        if data.get("action") == self._action:
            self._hold, self._held = float(data["hold_seconds"]), float(data["held_seconds"])
            self._what, self._since = self._action, time.monotonic()

    def __rich__(self) -> Text:
        """The living line: a bar of the hold, or what is being done for how long."""
        seconds = time.monotonic() - self._since
        if not self._hold:
            return Text(f"{printable(self._what)}, {seconds:.1f} s")
        held = self._held + seconds
        if held > self._hold + JUDGED_AFTER:
            return Text(
                f"{printable(self._what)} was watched for {self._hold:.0f} s, and is judged"
            )
        held = min(held, self._hold)
        ascii_only = self._out.options.ascii_only
        full = round(BAR_CELLS * held / self._hold)
        text = Text(f"{printable(self._what)} is watched ")
        text.append(("#" if ascii_only else "━") * full, style="green")
        text.append(("-" if ascii_only else "━") * (BAR_CELLS - full), style="dim")
        text.append(f" {held:.0f} of {self._hold:.0f} s")
        return text


_DOING = {
    "applying": "{} is being applied",
    "applied": "{} is applied, and watched",
    "rolling_back": "{} is being undone",
}


@contextlib.contextmanager
def _living(out: Console) -> Iterator[Living]:
    living = Living(out)
    if not render.at_terminal(stderr=True):
        yield living
        return
    with Status(living, console=out, spinner=spinner(out), refresh_per_second=REFRESHES):
        yield living


def _effects(actions: Sequence[Action], out: Console) -> None:
    for effect in effects(actions):
        held = "" if effect.held_seconds is None else f", watched for {effect.held_seconds:.0f} s"
        out.print(Text(f"{effect.action.id}, before and after{held}:"))
        for line in memory_bar.changes(effect, ascii_only=out.options.ascii_only):
            out.print(Padding(line, (0, 0, 0, 3)))
