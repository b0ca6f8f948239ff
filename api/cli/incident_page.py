"""One incident, whole, on a terminal: `show`, and `incidents ID`."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

import typer
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from agent.effects import effects
from agent.incident import Incident
from agent.memory_picture import memory_picture
from api.cli import memory_bar, render
from api.cli.client import Refusal, call, harmless, incident_of, path_of, request
from tools.reading import Evidence

MOST_NODES = 3
"""Whose memory is drawn."""
LOOKS = ("memory_stats", "bigkeys", "memory_info", "metric_history")
INDENT = 3


def show(incident: str, *, as_json: bool, full: bool) -> None:
    """Print it."""
    answer = call("GET", path_of(incident))
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
        return
    shown = incident_of(answer)
    out = render.console()
    drawn = [*_memory(_looks(shown), out), *_trend(shown, out)]
    changed = list(_changed(shown, out))
    now = datetime.now(UTC)
    out.print(render.incident(shown, full=full, now=now, memory=drawn, changed=changed))


def _looks(shown: Incident) -> list[Evidence]:
    """The newest looks at memory; what is refused is left out: the incident is what matters."""
    pieces = [
        piece for tool in LOOKS for piece in memory_bar.newest(shown.evidence, tool, MOST_NODES)
    ]
    found = []
    for piece in pieces:
        try:
            kept = request("GET", path_of(shown.id, "evidence", piece.id))
        except Refusal:
            continue
        found.append(Evidence.model_validate(harmless(kept)))
    return found


def _memory(looks: Sequence[Evidence], out: Console) -> Iterator[RenderableType]:
    """Each node's bar, where the bytes of the one that was looked at last are, and how it grew."""
    ascii_only, columns = out.options.ascii_only, out.width - INDENT
    for piece in looks:
        if piece.tool == "memory_info":
            about = f"{piece.node}, {piece.taken_at.astimezone():%H:%M:%S} [{piece.id}]"
            yield _indented(Text(about, style="dim", overflow="fold"))
            level = memory_bar.level(piece.reading)
            yield from map(_indented, memory_bar.lines(level, columns, ascii_only=ascii_only))
    if (picture := memory_picture(looks)) is not None:
        yield Text()
        yield from map(_indented, memory_bar.parts(picture, columns, ascii_only=ascii_only))
    for piece in looks:
        if piece.tool == "metric_history" and (told := memory_bar.history(piece.reading)):
            yield _indented(Text(f"{told} [{piece.id}]", style="dim"))


def _trend(shown: Incident, out: Console) -> Iterator[RenderableType]:
    """The target's last day, as far as it is watched."""
    if not shown.target:
        return
    try:
        kept = request("GET", f"/v1/targets/{quote(shown.target, safe='')}/memory")["samples"]
    except Refusal:
        return  # it is not configured any more, or the service is older
    samples = [(datetime.fromisoformat(each["at"]), int(each["used_bytes"])) for each in kept]
    curve = memory_bar.trend(samples, out.width - INDENT, ascii_only=out.options.ascii_only)
    if curve is not None:
        yield _indented(curve)


def _indented(part: RenderableType) -> RenderableType:
    return Padding(part, (0, 0, 0, INDENT))


def _changed(shown: Incident, out: Console) -> Iterator[RenderableType]:
    for effect in effects(shown.plan.actions):
        held = "" if effect.held_seconds is None else f", watched for {effect.held_seconds:.0f} s"
        yield Text(f"{effect.action.id} {effect.action.title}{held}", style="bold")
        for line in memory_bar.changes(effect, ascii_only=out.options.ascii_only):
            yield _indented(line)
