"""An incident as a person reads it in a terminal at 3 a.m.: 80 columns, colours optional."""

import sys
from collections.abc import Sequence
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from agent.arbitration import told
from agent.budget import model_calls, money
from agent.facts import print_seconds
from agent.incident import CALLS_PEOPLE, Action, ChecklistItem, Claim, Diagnosis, Incident
from agent.nodes_seen import nodes_seen
from agent.report import quieted

WIDTH = 80
_RISK = {
    "R0": "nothing is written",
    "R1": "changes configuration; the old value is put back if it does not help",
    "R2": "drops a client or a link; it can reconnect, what was not delivered is lost",
    "R3": "changes or expires data",
    "R4": "restarts or resizes",
}
STATUS_STYLE = {
    "resolved": "green",
    "verified": "green",
    "awaiting_approval": "yellow",
    "needs_human": "red",
    "failed": "red",
    "rolled_back": "red",
    "rollback_failed": "bold red",
    "outcome_unknown": "bold red",
}
_RESULT = {"pass": ("pass", "green"), "fail": ("FAIL", "red"), "not_measured": ("?", "yellow")}


def console(*, stderr: bool = False, most: int = WIDTH) -> Console:
    """A console no wider than `most` columns; rich drops colours by itself when piped."""
    return Console(stderr=stderr, highlight=False, width=width(most, stderr=stderr))


def width(most: int = WIDTH, *, stderr: bool = False) -> int:
    """Columns of the terminal as it is now, `most` of them."""
    return min(most, Console(stderr=stderr).width)


def at_terminal(*, stderr: bool = False) -> bool:
    """Does a person watch, and not a program that was told to force colours?"""
    return (sys.stderr if stderr else sys.stdout).isatty()


def age(since: datetime, now: datetime) -> str:
    """`8 s`, `12 min`, `3 h`, `2 d`. Clocks differ: nothing began later than now."""
    seconds = max(0, round((now - since).total_seconds()))
    return " ".join(print_seconds(seconds).split()[:2])


def incident(
    shown: Incident,
    *,
    full: bool = False,
    now: datetime | None = None,
    memory: Sequence[RenderableType] = (),
    changed: Sequence[RenderableType] = (),
) -> RenderableType:
    """What is wrong, how sure, why, what to do, what it risks; `full`: with every artefact.

    `now`: tells how old it is. `memory`, `changed`: drawn by whoever has the readings.
    """
    parts: list[RenderableType] = [_headline(shown, now)]
    if shown.follows:
        parts.append(Text(f"follows {shown.follows}: its alert fired again", style="yellow"))
    parts += [Text(line, style="yellow") for line in quieted(shown)]
    parts += [Text(f"nodes: {seen.summary}") for seen in nodes_seen(shown)]
    if shown.diagnosis is not None:
        parts += _diagnosis(shown.diagnosis)
    if memory:
        parts += [_section("Memory"), *memory]
    executable = [action for action in shown.plan.actions if action.executable]
    advice = [action for action in shown.plan.actions if not action.executable]
    if executable:
        parts.append(_section("What can be done from here, after approval"))
        parts += [action(step, full=full) for step in executable]
    if advice:
        parts.append(_section("What people have to do"))
        parts += [action(step, full=full) for step in advice]
    if changed:
        parts += [_section("What it changed"), *changed]
    if shown.plan.prevention:
        parts.append(_section("So that it does not come back"))
        parts += [_bullet(text) for text in shown.plan.prevention]
    if shown.plan.checklist:
        parts += [_section("Production checklist"), *_checklist(shown.plan.checklist, full=full)]
    if advice and not full:
        parts.append(Text("\n(--full adds the steps and commands to hand over)", style="dim"))
    parts.append(_footer(shown))
    return Group(*parts)


def _headline(shown: Incident, now: datetime | None) -> RenderableType:
    title = Text()
    title.append(f"{shown.target}  ", style="bold")
    title.append(shown.status.replace("_", " "), style=STATUS_STYLE.get(shown.status, "bold"))
    if shown.alerts:
        title.append(f"  {shown.alerts[0].name}", style="dim")
    if now is not None:
        title.append(f"  {shown.severity}, began {age(shown.opened_at, now)} ago", style="dim")
    return title


def _diagnosis(diagnosis: Diagnosis) -> list[RenderableType]:
    sure = f"{diagnosis.confidence:.0%} sure" if diagnosis.root_cause != "unknown" else "not known"
    head = Text()
    head.append(diagnosis.title, style="bold red" if diagnosis.is_incident else "bold green")
    head.append(f"  [{diagnosis.root_cause}, {sure}, by {diagnosis.reasoner}]", style="dim")
    parts: list[RenderableType] = [Text(), head]
    if not diagnosis.grounds:
        parts.append(Text(diagnosis.summary))
    if diagnosis.culprit.kind != "none":
        line = Text("culprit: ", style="dim")
        line.append(f"{diagnosis.culprit.kind} ")
        line.append(diagnosis.culprit.name, style="bold")
        parts.append(line)
    if diagnosis.escalate:
        parts.append(Text("A person has to look at this one.", style="bold red"))
    if diagnosis.grounds:
        parts.append(_section("Why"))
    parts += map(_claim, diagnosis.grounds)
    if diagnosis.contributing:
        parts.append(_bullet("contributing: " + ", ".join(diagnosis.contributing)))
    if diagnosis.changes:
        parts.append(_section("What changed since healthy times"))
    parts += map(_claim, diagnosis.changes)
    parts += _doubts(diagnosis)
    return parts


def _claim(claim: Claim) -> RenderableType:
    sources = ", ".join(dict.fromkeys(fact.evidence for fact in claim.facts))
    return _bullet(claim.text, f"[{sources}]")


def _doubts(diagnosis: Diagnosis) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if diagnosis.hypothesis is not None:
        parts.append(_section("What it might be (not established)"))
        parts.append(_bullet(diagnosis.hypothesis.title))
        parts += [_bullet(claim.text) for claim in diagnosis.hypothesis.claims]
    if diagnosis.alternatives:
        parts.append(_section("Why not something else"))
        parts += [
            _bullet(f"{other.root_cause} ({other.confidence:.0%}): {other.why_not}")
            for other in diagnosis.alternatives[:3]
        ]
    if diagnosis.overruled is not None:
        parts.append(_bullet(told(diagnosis.overruled)))
    if diagnosis.not_measured:
        parts.append(_section("Not measured"))
        parts += [_bullet(text) for text in diagnosis.not_measured[:8]]
        if len(diagnosis.not_measured) > 8:
            parts.append(_bullet(f"and {len(diagnosis.not_measured) - 8} more"))
    return parts


def action(action: Action, *, full: bool = True) -> RenderableType:
    """One action: what it does, what it risks, how it is undone."""
    head = Text()
    head.append(f"{action.id} ", style="bold")
    head.append(action.title, style="bold")
    if action.executable:
        risky = action.risk in ("R2", "R3", "R4")
        head.append(f"  {action.risk}", style="yellow" if risky else "dim")
    if action.status != "proposed":
        head.append(f"  {action.status}", style=STATUS_STYLE.get(action.status, "bold"))
    lines: list[RenderableType] = [head]
    if action.executable:
        lines += _commands(action, full=full)
        lines.append(_labelled("effect", action.predicted_effect))
        lines.append(_labelled("risk", _RISK[action.risk]))
        if full and action.blast_radius:
            lines.append(_labelled("at worst", action.blast_radius))
        lines.append(_labelled("undo", action.rollback))
        lines += [
            _labelled("not now", f"{p.text}: {p.because}")
            for p in action.preconditions
            if p.holds is not True
        ]
        lines += _decided(action)
    else:
        lines.append(_indent(action.predicted_effect))
    lines += [_indent(line, "cyan") for line in action.handed_over.splitlines() if full]
    if action.status in CALLS_PEOPLE:
        lines.append(_labelled("LOOK NOW", action.comment, "bold red"))
    elif action.comment:
        lines.append(_labelled("note", action.comment))
    return Group(*lines)


MOST_COMMANDS, MOST_COMMANDS_FULL = 4, 40


def _commands(action: Action, *, full: bool) -> list[RenderableType]:
    most = MOST_COMMANDS_FULL if full else MOST_COMMANDS
    shown: list[RenderableType] = [
        _indent(" ".join(command), "cyan") for command in action.commands[:most]
    ]
    if (more := len(action.commands) - most) > 0:
        shown.append(_indent(f"and {more} more", "dim"))
    return shown


def _decided(action: Action) -> list[RenderableType]:
    """What was said about it, and what it still needs."""
    lines = [_labelled("know", note) for note in action.notes]
    for yes in action.approvals:
        how = "BREAK-GLASS by" if yes.break_glass else "yes by"
        why = f": {yes.comment}" if yes.comment else ""
        lines.append(_labelled("approval", f"{how} {yes.by} ({yes.role}){why}"))
    if action.status == "proposed" and action.approvals_required > 1:
        said = f"{len(action.approvals)} of {action.approvals_required} people said yes"
        lines.append(_labelled("needs", said))
    if action.stop_requested:
        lines.append(_labelled("stop", action.stop_requested))
    if action.dry_run:
        lines.append(_labelled("dry run", "it is checked and shown, and never applied"))
    return lines


def _checklist(items: list[ChecklistItem], *, full: bool) -> list[RenderableType]:
    """Lines that were evaluated; those for a person to judge are counted unless `full`."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=6)
    table.add_column(overflow="fold")
    shown = [item for item in items if full or item.evidence or item.result != "not_measured"]
    for item in shown:
        word, style = _RESULT[item.result]
        text = Text(item.text)
        text.append(f" {item.because}", style="dim")
        if item.evidence:
            text.append(f" [{', '.join(item.evidence)}]", style="dim")
        table.add_row(Text(f"  {word}", style=style), text)
    left = len(items) - len(shown)
    more = Text(f"  and {left} lines that a person has to judge", style="dim")
    return [table, more] if left else [table]


def _footer(shown: Incident) -> RenderableType:
    usage = shown.usage
    text = f"{len(shown.evidence)} pieces of evidence, {usage.seconds:.1f} s"
    if usage.llm_calls:
        text += f", {model_calls(usage)}, {usage.input_tokens:,} tokens in"
    if usage.dollars is not None:
        text += f", {money(usage.dollars)}"
    books = ", ".join(book.id for book in shown.runbooks)
    parts: list[RenderableType] = [
        Rule(style="dim"),
        Text(f"{text}; runbooks: {books or 'none'}", style="dim"),
    ]
    if shown.ended_because:
        parts.append(Text(f"ended: {shown.ended_because}", style="dim"))
    return Group(*parts)


def _section(title: str) -> RenderableType:
    return Padding(Text(title, style="underline"), (1, 0, 0, 0))


def _bullet(text: str, source: str = "") -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(overflow="fold")
    body = Text(text)
    if source:
        body.append(f" {source}", style="dim")
    table.add_row(Text("-", style="dim"), body)
    return table


def _indent(text: str, style: str = "") -> RenderableType:
    return Padding(Text(text, style=style, overflow="fold"), (0, 0, 0, 3))


def _labelled(label: str, text: str, style: str = "") -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=9, justify="right")
    table.add_column(overflow="fold")
    table.add_row(Text(label, style=style or "dim"), Text(text, style=style))
    return table
