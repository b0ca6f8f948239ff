"""The incidents: a table of what burns on a terminal, a line each in a pipe."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agent.incident import Incident
from agent.waiting import waits_for
from api.cli import render
from api.cli.client import Refusal, call, incident_of, items, request
from api.cli.oneshot import failure
from tools.reading import printable

OPEN = (
    "queued", "investigating", "awaiting_approval", "remediating", "verifying", "needs_human",
)  # fmt: skip
MOST = 50
MOST_OPEN = 100
"""As many as a page of the service holds."""
RECENT = 10
"""That are over, below those that are not."""
WATCH_SECONDS = 2.0
LONGEST_WAIT = 30.0
WIDEST = 140
ONE_LINE, TWO_LINES = 118, 64
"""Columns from which an incident takes one line, or two."""
AGE, ID = 1, 2
"""Columns."""
ID_WIDTH = 24
_SEVERITY = {"critical": "bold red", "warning": "yellow", "info": "dim"}
_RANK = {"critical": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class Wish:
    """Which incidents."""

    status: str = ""
    target: str = ""
    only_open: bool = False

    @property
    def statuses(self) -> Sequence[str] | None:
        """As the service is asked; None: any."""
        return [self.status] if self.status else OPEN if self.only_open else None

    def query(self, limit: int) -> dict[str, Any]:
        """Of one page."""
        return {"status": self.statuses, "target": self.target or None, "limit": str(limit)}


def show(wish: Wish, *, as_json: bool) -> None:
    """Once."""
    if as_json or not render.at_terminal():
        listed = call("GET", "/v1/incidents", **wish.query(MOST))
        if as_json:
            typer.echo(json.dumps(listed, indent=2))
        else:
            _print_lines(items(listed))
        return
    out = render.console(most=WIDEST)
    try:
        out.print(table(_burning(wish), datetime.now(UTC), out))
    except Refusal as error:
        raise failure(str(error)) from None


def watch(wish: Wish) -> None:
    """Again and again, until Ctrl-C; a service that does not answer is asked ever more seldom."""
    if not render.at_terminal():
        raise failure("--watch needs a terminal; `tail` follows in a pipe", code=2)
    out = render.console(most=WIDEST)
    found, said, pause = [], "", WATCH_SECONDS
    with Live(console=out, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            try:
                found, said, pause = _burning(wish), "", WATCH_SECONDS
            except Refusal as error:
                if error.status in (401, 403, 422):
                    live.stop()
                    raise failure(str(error)) from None
                said, pause = f"{error}; it is tried again", min(2 * pause, LONGEST_WAIT)
            out.width = render.width(WIDEST)
            shown = table(found, datetime.now(UTC), out)
            live.update(Group(shown, Text(said, style="red")) if said else shown, refresh=True)
            time.sleep(pause)


def _burning(wish: Wish) -> list[Incident]:
    """What is open, the worst first, then what ended last. Raises Refusal."""
    found = _listed(wish)
    if wish.statuses is None:
        over = [one for one in found if one.status not in OPEN][:RECENT]
        found = _listed(replace(wish, only_open=True)) + over
    return sorted(found, key=lambda one: (one.status not in OPEN, _rank(one), _newest(one)))


def _listed(wish: Wish) -> list[Incident]:
    page = request("GET", "/v1/incidents", **wish.query(MOST_OPEN))
    return [incident_of(item) for item in items(page)]


def _rank(incident: Incident) -> int:
    return _RANK[incident.severity] if incident.status in OPEN else 0


def _newest(incident: Incident) -> float:
    return -incident.opened_at.timestamp()


def _print_lines(found: Sequence[dict[str, Any]]) -> None:
    """For programs: the same columns as ever, whole."""
    if not found:
        typer.echo("no incidents", err=True)
    for item in found:
        cause = (item.get("diagnosis") or {}).get("root_cause", "")
        target = printable(item["target"])
        line = f"{item['id']}  {item['status']:<17} {target:<16} {printable(cause)}"
        typer.echo(line.rstrip())
        if item["silenced_until"] is not None or item["follows"]:
            typer.echo(f"  {_quiet(item)}")
    sys.stdout.flush()


def _quiet(item: dict[str, Any]) -> str:
    until = (item["silenced_until"] or "")[:16].replace("T", " ")
    said = [f"silenced by {printable(item['silenced_by'], 40)} until {until} UTC"] if until else []
    return ", ".join(said + ([f"follows {item['follows']}"] if item["follows"] else []))


def table(found: Sequence[Incident], now: datetime, out: Console) -> RenderableType:
    """A title with counts and a row each: as many columns as the terminal has room for."""
    grid = Table.grid(padding=(0, 2))
    if out.width >= ONE_LINE:
        folds, cells = "..ffff", [_cells(one, now) for one in found]
    elif out.width >= TWO_LINES:
        folds, cells = "..ff", [_stacked(_cells(one, now)) for one in found]
    else:
        folds, cells = "f", [[_heaped(_cells(one, now))] for one in found]
    for number, fold in enumerate(folds):
        grid.add_column(
            no_wrap=fold == ".",
            overflow="fold",
            justify="right" if number == AGE else "left",
            min_width=ID_WIDTH if number == ID and fold == "f" else None,
        )
    for row in cells:
        grid.add_row(*row)
    return Group(title(found, now), Text(), grid) if found else title(found, now)


def title(found: Sequence[Incident], now: datetime) -> Text:
    """How many burn, how many of them badly, and for how many a person is needed."""
    burning = [one for one in found if one.status in OPEN]
    over = len(found) - len(burning)
    text = Text(f"{len(burning)} open" if burning else "nothing burns", style="bold")
    if critical := sum(one.severity == "critical" for one in burning):
        text.append(f", {critical} critical", style="bold red")
    if waiting := sum(one.status in ("awaiting_approval", "needs_human") for one in burning):
        text.append(f", {waiting} for a person", style="yellow")
    if over:
        text.append(f"; {over} over", style="not bold dim")
    text.append(f"  {now.astimezone():%H:%M:%S}", style="not bold dim")
    return text


def _cells(one: Incident, now: datetime) -> list[Text]:
    """Severity, age, id, target, what it waits for, cause."""
    burns = one.status in OPEN
    style = "" if burns else "dim"
    cause = one.diagnosis.root_cause if one.diagnosis else ""
    told = Text(cause, style=style)
    if one.silenced_until is not None and one.silenced_until > now:
        told.append(f" silenced until {one.silenced_until.astimezone():%a %H:%M}", style="yellow")
    state = render.STATUS_STYLE.get(one.status, "") if burns else "dim"
    return [
        Text(one.severity, style=_SEVERITY[one.severity] if burns else "dim"),
        Text(render.age(one.opened_at, now), style=style),
        Text(one.id, style="dim"),
        Text(one.target or "no target", style="bold" if burns else "dim"),
        Text(waiting(one, now), style=state),
        told,
    ]


def _stacked(cells: Sequence[Text]) -> list[Text]:
    severity, age, incident_id, target, waits, cause = cells
    return [severity, age, _lines(target, incident_id), _lines(waits, cause)]


def _heaped(cells: Sequence[Text]) -> Text:
    severity, age, incident_id, target, waits, cause = cells
    head = Text(" ").join([severity, age, target])
    return _lines(head, waits, *([cause] if cause.plain else []), incident_id)


def _lines(*texts: Text) -> Text:
    return Text("\n").join(texts)


def waiting(incident: Incident, now: datetime) -> str:
    """What has to happen next; of a first look for how long it goes on."""
    since = incident.status == "investigating" and incident.attempt == 1
    return waits_for(incident) + (f" {render.age(incident.opened_at, now)}" if since else "")
