"""What was said between the agent and a model: shown, replayed, counted."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from agent.exchange import KeptExchange
from agent.incident import Incident, Usage
from api.cli import render
from api.cli.client import call
from api.cli.oneshot import failure, settings_or_exit
from tools.reading import Evidence, printable

MOST_LINES = 12
"""Of one message, unless everything is asked for."""
LONGEST_LINE = 2_000
MOST_PAGES = 100


def show(incident: str, *, as_json: bool, full: bool) -> None:
    """Print a transcript."""
    kept = list(_kept(incident))
    if as_json:
        typer.echo(json.dumps({"items": kept, "next_cursor": None}, indent=2))
        return
    if not kept:
        typer.echo("no model was asked", err=True)
        return
    render.console().print(rendered([KeptExchange.model_validate(one) for one in kept], full=full))


def replay(incident: str, *, as_json: bool) -> None:
    """Hold the conversation again and say what came of it; exit 1 if anything differs."""
    if incident.startswith("thread-"):
        raise failure("a chat thread cannot be replayed; an incident can", code=2)
    from agent.replayed import replay as hold_again
    from agent.runbook_library import load_library

    shown = Incident.model_validate(call("GET", f"/v1/incidents/{incident}"))
    kept = [KeptExchange.model_validate(one) for one in _kept(incident)]
    evidence = [
        Evidence.model_validate(call("GET", f"/v1/incidents/{incident}/evidence/{piece.id}"))
        for piece in shown.evidence
    ]
    settings = settings_or_exit()
    model = kept[-1].model.removeprefix("openai:") if kept else ""
    told = settings.config.model.settings(model, api_key="", base_url="")
    library = load_library(settings.runbooks)
    try:
        found = asyncio.run(hold_again(shown, kept, evidence, library, told))
    except ValueError as error:
        raise failure(str(error)) from None
    if as_json:
        document = {
            "same": found.same,
            "exchanges": found.exchanges,
            "departed": found.departed,
            "differences": list(found.differences),
            "diagnosis": found.diagnosis.model_dump(mode="json") if found.diagnosis else None,
        }
        typer.echo(json.dumps(document, indent=2))
    elif found.departed:
        typer.echo(f"departs: {found.departed}")
    elif found.differences:
        typer.echo(f"the same conversation, another diagnosis: {', '.join(found.differences)}")
    else:
        cause = found.diagnosis.root_cause if found.diagnosis else "none"
        typer.echo(f"the same: {found.exchanges} replies given again, diagnosis {cause}")
    if not found.same:
        raise typer.Exit(1)


def usage(*, as_json: bool) -> None:
    """What models cost, day by day, and what a day may cost."""
    page = call("GET", "/v1/usage")
    if as_json:
        typer.echo(json.dumps(page, indent=2))
        return
    if not page["items"]:
        typer.echo("no model was asked", err=True)
    table = Table.grid(padding=(0, 2))
    for title in ("day (UTC)", "model", "calls", "tokens in", "cached", "out", "dollars"):
        table.add_column(Text(title, style="dim"), overflow="fold")
    table.show_header = True
    for day in page["items"]:
        table.add_row(*(Text(part) for part in _row(day)))
    caps = page["caps"]
    dollars = "" if caps["dollars"] is None else f", ${caps['dollars']:,.2f}"
    told = (
        f"a day may cost {caps['calls']:,} calls, {caps['tokens']:,} tokens, "
        f"{caps['seconds']:,.0f} s{dollars} (`model.per_day`)"
    )
    render.console().print(Group(table, Text(told, style="dim")))


def _row(day: dict[str, Any]) -> list[str]:
    dollars = "no price" if day["dollars"] is None else f"{day['dollars']:.4f}"
    if day["dollars"] is not None and day["unpriced_calls"]:
        dollars += f" + {day['unpriced_calls']} calls without a price"
    counts = (f"{day[name]:,}" for name in ("input_tokens", "cached_tokens", "output_tokens"))
    return [day["day"], printable(day["model"], 60), f"{day['calls']:,}", *counts, dollars]


def _kept(of: str) -> Iterator[dict[str, Any]]:
    path = f"/v1/chat/threads/{of}" if of.startswith("thread-") else f"/v1/incidents/{of}"
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = call("GET", f"{path}/transcript", limit="20", cursor=cursor)
        yield from page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def rendered(kept: list[KeptExchange], *, full: bool) -> RenderableType:
    """The exchanges, 80 columns wide. All text is data: nothing in it moves a terminal."""
    parts: list[RenderableType] = []
    total = Usage()
    before: dict[str, Any] | None = None
    for number, one in enumerate(kept, 1):
        total = total.plus(one.usage.model_copy(update={"seconds": one.seconds}))
        # The reply before comes back as a message of the next request.
        new = [message for message in one.messages if message != before]
        parts += _exchange(number, one.model_copy(update={"messages": new}), full=full)
        before = one.reply
    parts.append(Rule(style="dim"))
    parts.append(Text(f"{len(kept)} calls, {_cost(total)}", style="dim"))
    if not full:
        parts.append(Text("(--full adds the messages whole)", style="dim"))
    return Group(*parts)


def _exchange(number: int, one: KeptExchange, *, full: bool) -> Iterator[RenderableType]:
    yield Rule(style="dim")
    head = Text(f"{number}  {one.at:%Y-%m-%d %H:%M:%S} UTC  ", style="bold")
    head.append(printable(one.model, 60))
    yield head
    yield Text(_cost(one.usage.model_copy(update={"seconds": one.seconds})), style="dim")
    if one.earlier_messages:
        yield Text(f"(after {one.earlier_messages} messages sent before)", style="dim")
    for message in one.messages:
        yield from _message(message, full=full)
    if one.tools:
        offered = ", ".join(printable(name, 60) for name in one.tools)
        yield Text(f"{len(one.tools)} functions offered: {offered}", style="dim")
    if one.failure:
        yield Text(f"no usable reply: {printable(one.failure, 1_000)}", style="red")
    if one.reply is not None:
        yield from _message(one.reply, full=full)


def _message(message: dict[str, Any], *, full: bool) -> Iterator[RenderableType]:
    yield Text(printable(str(message.get("role", "?")), 20), style="underline")
    for name in ("reasoning_content", "content", "refusal"):
        if text := message.get(name):
            style = "" if name == "content" else "italic"
            yield _block(text if isinstance(text, str) else json.dumps(text), style, full=full)
    calls = message.get("tool_calls")
    for called in calls if isinstance(calls, list) else []:
        function = called.get("function") if isinstance(called, dict) else None
        told = function if isinstance(function, dict) else {}
        words = f"{told.get('name', '?')}({told.get('arguments', '')})"
        yield _block(words, "cyan", full=full)


def _block(text: str, style: str, *, full: bool) -> RenderableType:
    lines = text.splitlines() or [""]
    longest = len(text) if full else LONGEST_LINE
    shown = [printable(line, longest) for line in (lines if full else lines[:MOST_LINES])]
    if len(shown) < len(lines):
        shown.append(f"… {len(lines) - len(shown)} more lines")
    return Padding(Text("\n".join(shown), style=style, overflow="fold"), (0, 0, 0, 2))


def _cost(usage: Usage) -> str:
    cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
    dollars = "no price" if usage.dollars is None else f"${usage.dollars:.4f}"
    return (
        f"{usage.seconds:.1f} s, {usage.input_tokens:,} tokens in{cached}, "
        f"{usage.output_tokens:,} out, {dollars}"
    )
