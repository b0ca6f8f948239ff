"""One incident, whole, on a terminal: `show`, and `incidents ID`."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from agent.effects import effects
from agent.incident import EvidenceSummary, Incident
from api.cli import memory_bar, render
from api.cli.client import Refusal, call, harmless, path_of, request

MOST_NODES = 3
"""Whose memory is drawn."""


def show(incident: str, *, as_json: bool, full: bool) -> None:
    """Print it."""
    answer = call("GET", path_of(incident))
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
        return
    shown = Incident.model_validate(harmless(answer))
    out = render.console()
    memory, history = _looks(shown, "memory_info"), _looks(shown, "metric_history")
    drawn = list(_drawn(memory, history, out))
    changed = list(_changed(shown, out))
    now = datetime.now(UTC)
    out.print(render.incident(shown, full=full, now=now, memory=drawn, changed=changed))


Look = tuple[EvidenceSummary, dict[str, Any]]


def _looks(shown: Incident, tool: str) -> list[Look]:
    """The newest readings of a tool; what is refused is left out: the incident is what matters."""
    found = []
    for piece in memory_bar.newest(shown.evidence, tool, MOST_NODES):
        try:
            kept = request("GET", path_of(shown.id, "evidence", piece.id))
        except Refusal:
            continue
        found.append((piece, harmless(kept)["reading"]))
    return found


def _drawn(
    memory: Sequence[Look], history: Sequence[Look], out: Console
) -> Iterator[RenderableType]:
    ascii_only = out.options.ascii_only
    for piece, reading in memory:
        about = f"{piece.node}, {piece.taken_at.astimezone():%H:%M:%S} [{piece.id}]"
        yield Text(f"   {about}", style="dim", overflow="fold")
        level = memory_bar.level(reading)
        for line in memory_bar.lines(level, out.width - 3, ascii_only=ascii_only):
            yield Padding(line, (0, 0, 0, 3))
    for piece, reading in history[:1]:
        if told := memory_bar.history(reading):
            yield Padding(Text(f"{told} [{piece.id}]", style="dim"), (0, 0, 0, 3))


def _changed(shown: Incident, out: Console) -> Iterator[RenderableType]:
    for effect in effects(shown.plan.actions):
        held = "" if effect.held_seconds is None else f", watched for {effect.held_seconds:.0f} s"
        yield Text(f"{effect.action.id} {effect.action.title}{held}", style="bold")
        for line in memory_bar.changes(effect, ascii_only=out.options.ascii_only):
            yield Padding(line, (0, 0, 0, 3))
