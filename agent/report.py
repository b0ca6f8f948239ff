"""The post-incident report, as Markdown.

Names, alerts and comments come from outside: every text is escaped, so that none of them can
become markup, a link or HTML wherever the report is shown.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from agent.arbitration import told
from agent.budget import cost
from agent.effects import Effect, effects
from agent.facts import printed
from agent.incident import Action, Claim, Diagnosis, Fact, Incident
from agent.nodes_seen import nodes_seen
from agent.report_timeline import Happened, moments
from tools.reading import printable

LONGEST_TEXT = 2_000
LONGEST_OUTCOME = 1_500
_MARKUP = re.compile(
    r"[\\`*\[\]~@]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # inside a word an underscore is only an underscore
    r"|:(?=//)|\.(?=[^\W\d_])"  # what viewers would turn into links
    r"|^[#+-]"  # what would start a heading or a list
)
_NUMBERED = re.compile(r"^(\d+)([.)])(?=\s|$)")
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_RESULTS = {"pass": "pass", "fail": "**FAIL**", "not_measured": "not measured"}
MOST_MOMENTS = 200
MOST_VALUES = 24
_VALUES = {
    "before": "Before", "done": "Done", "remedy": "After", "undone": "Put back", "undo": "Undo",
    "expected_by": "Its effect is expected by",
}  # fmt: skip
Verdicts = Sequence[tuple[str, str, str]]
"""Who said it, the root cause, a comment."""


def render_report(incident: Incident, verdicts: Verdicts = (), events: Happened = ()) -> str:
    """The whole report, as Markdown."""
    sections = (
        _head(incident),
        _timeline(incident, events),
        _cause(incident),
        _claims(incident.diagnosis),
        _changes(incident.diagnosis),
        _doubts(incident.diagnosis),
        _actions(incident),
        _effects(incident),
        _list("Follow-ups", (escape(item) for item in follow_ups(incident))),
        _checklist(incident),
        _evidence(incident),
        _list("Verdicts", (_verdict(verdict) for verdict in verdicts)),
        _cost(incident),
    )
    return "\n\n".join("\n".join(lines) for lines in map(list, sections) if lines) + "\n"


def escape(text: str) -> str:
    """Untrusted text as Markdown that shows exactly that text, on one line."""
    safe = printable(" ".join(text.split()), LONGEST_TEXT)
    return _NUMBERED.sub(r"\1\\\2", _MARKUP.sub(r"\\\g<0>", safe)).translate(_HTML)


def fenced(lines: Iterable[str]) -> list[str]:
    """A code block that nothing in it can end."""
    shown = [printable(line, LONGEST_TEXT) for line in lines]
    longest = max((len(run) for line in shown for run in re.findall(r"`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", *shown, fence]


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _head(incident: Incident) -> Iterator[str]:
    yield f"# {escape(incident.title)}"
    yield ""
    yield f"- Incident: {escape(incident.id)}, attempt {incident.attempt}"
    yield f"- Target: {escape(incident.target) or 'none matched'}"
    yield from (f"- Nodes: {escape(seen.summary)}" for seen in nodes_seen(incident))
    yield f"- Severity: {incident.severity}"
    yield f"- Status: **{incident.status}**" + _because(incident.ended_because)
    yield f"- Opened {_at(incident.opened_at)}, last changed {_at(incident.updated_at)}"
    if incident.question:
        yield f"- Asked: {escape(incident.question)}"
    if incident.follows:
        yield f"- Follows: {escape(incident.follows)}, whose alert fired again"
    if incident.more_alerts:
        shown = len(incident.alerts)
        yield f"- Alerts: {shown + incident.more_alerts:,}; below are the first and the newest"
    yield from (f"- {escape(line)}" for line in quieted(incident))
    if incident.runbooks:
        books = (f"{escape(book.id)} ({escape(book.why)})" for book in incident.runbooks)
        yield f"- Runbooks: {', '.join(books)}"


def quieted(incident: Incident) -> Iterator[str]:
    """Who silenced it until when, and which of its alerts flap."""
    if incident.silenced_until is not None:
        yield f"Silenced by {incident.silenced_by} until {_at(incident.silenced_until)}"
    flaps: dict[str, int] = {}
    for alert in incident.alerts:
        flaps[alert.name] = max(alert.flaps, flaps.get(alert.name, 0))
    for name, times in flaps.items():
        if times:
            yield f"{name} flaps: it began {times + 1} times within an hour"


def _because(text: str, shown: Callable[[str], str] = escape) -> str:
    return f": {shown(text)}" if text else ""


def _cause(incident: Incident) -> Iterator[str]:
    yield "## Root cause"
    yield ""
    diagnosis = incident.diagnosis
    if diagnosis is None:
        yield "No diagnosis was made."
        return
    yield f"**{escape(diagnosis.title)}** ({escape(diagnosis.root_cause)}), " + _how_sure(diagnosis)
    yield ""
    yield escape(diagnosis.summary)
    if diagnosis.culprit.kind != "none":
        culprit = diagnosis.culprit
        yield ""
        yield f"Culprit: {culprit.kind} {escape(culprit.name)}"
    if diagnosis.contributing:
        yield ""
        yield f"Contributing: {', '.join(escape(cause) for cause in diagnosis.contributing)}"


def _how_sure(diagnosis: Diagnosis) -> str:
    kind = "an incident" if diagnosis.is_incident else "not an incident"
    escalate = "; a person should look" if diagnosis.escalate else ""
    by = escape(diagnosis.reasoner)
    return f"{kind}, confidence {diagnosis.confidence:.0%}, decided by {by}{escalate}."


def _claims(diagnosis: Diagnosis | None) -> Iterator[str]:
    if diagnosis is None:
        return
    if diagnosis.grounds:
        yield "## Claims and their evidence"
        yield ""
        for claim in diagnosis.grounds:
            yield from _claim(claim)
    if diagnosis.hypothesis is not None:
        yield ""
        yield f"Hypothesis, not a diagnosis: {escape(diagnosis.hypothesis.title)}"
        yield ""
        for claim in diagnosis.hypothesis.claims:
            yield from _claim(claim)


def _changes(diagnosis: Diagnosis | None) -> Iterator[str]:
    changes = diagnosis.changes if diagnosis else []
    cited = (f"{escape(claim.text)} ({escape(claim.facts[0].evidence)})" for claim in changes)
    yield from _list("What changed since healthy times", cited)


def _claim(claim: Claim) -> Iterator[str]:
    yield f"- {escape(claim.text)}"
    for fact in claim.facts:
        yield f"  - {_fact(fact)}"


def _fact(fact: Fact) -> str:
    paths = ", ".join(escape(path) for path in fact.of)
    how = "" if fact.op == "value" else f"{fact.op} of "
    return f"{escape(fact.name)} = {escape(printed(fact))} ({how}{escape(fact.evidence)}: {paths})"


def _doubts(diagnosis: Diagnosis | None) -> Iterator[str]:
    if diagnosis is None:
        return
    if diagnosis.alternatives or diagnosis.overruled:
        yield "## Alternatives considered"
        yield ""
    for other in diagnosis.alternatives:
        yield f"- {escape(other.root_cause)} ({other.confidence:.0%}): {escape(other.why_not)}"
    if (lost := diagnosis.overruled) is not None:
        yield f"- {escape(told(lost))}"
    if diagnosis.not_measured:
        yield from ("", "## Not measured", "")
        yield from (f"- {escape(item)}" for item in diagnosis.not_measured)


def _actions(incident: Incident) -> Iterator[str]:
    if not incident.plan.actions:
        return
    yield "## Actions"
    for action in incident.plan.actions:
        yield ""
        yield f"### {escape(action.id)}: {escape(action.title)}"
        yield ""
        yield from _action(action)


def _action(action: Action) -> Iterator[str]:
    kind = "" if action.executable else ", for a person to carry out"
    yield f"- **{action.status}**, risk {action.risk}{kind}" + _because(action.comment)
    for label, text in (
        ("Predicted effect", action.predicted_effect),
        ("Verified by", action.verification),
        ("Rollback", action.rollback),
        ("Never touches", action.never_touches),
    ):
        if text:
            yield f"- {label}: {escape(text)}"
    for approval in action.approvals:
        comment = _because(approval.comment)
        how = "**Break-glass**: approved alone by" if approval.break_glass else "Approved by"
        yield f"- {how} {escape(approval.by)} ({approval.role}) {_at(approval.at)}{comment}"
    if action.rejected_by is not None:
        yield f"- Rejected by {escape(action.rejected_by)}"
    if action.stop_requested:
        yield f"- Asked to stop: {escape(action.stop_requested)}"
    yield from (f"- Note: {escape(note)}" for note in action.notes)
    for label, value in values(action):
        yield f"- {label}: {escape(spelt(value))}"
    if action.commands:
        yield ""
        yield from fenced(" ".join(command) for command in action.commands)
    if action.handed_over:
        yield ""
        yield from fenced(action.handed_over.splitlines())


def values(action: Action) -> Iterator[tuple[str, Any]]:
    """What there was and what there is, as the steps of the action measured it."""
    for name, label in _VALUES.items():
        if (value := action.outcome.get(name)) not in (None, {}, []):
            yield label, value
    if "baseline" not in action.outcome and "after" in action.outcome:
        yield "After", action.outcome["after"]


def spelt(value: Any) -> str:
    """A value for people, on one line, bounded: of a mapping, each name and its value."""
    if not isinstance(value, dict):
        return value if isinstance(value, str) else short(value)
    parts = (
        f"{name.replace('_', ' ')} {part if isinstance(part, str) else short(part)}"
        for name, part in islice(value.items(), MOST_VALUES)
    )
    return "; ".join(parts)


def short(value: Any) -> str:
    """A value as JSON, on one line, bounded; a number without digits that say nothing."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_OUTCOME else text[:LONGEST_OUTCOME] + " …"


def _timeline(incident: Incident, events: Happened) -> Iterator[str]:
    yield "## Timeline"
    yield ""
    for moment, what in timeline(incident, escape, events):
        yield f"- {_at(moment)} {what}"


def timeline(
    incident: Incident, shown: Callable[[str], str], events: Happened
) -> list[tuple[datetime, str]]:
    """What happened, in order, bounded: of a long story the middle is left out."""
    told = sorted(moments(incident, shown, events), key=lambda entry: entry[0])
    if len(told) <= MOST_MOMENTS:
        return told
    half = MOST_MOMENTS // 2
    gap = (told[half][0], f"… {len(told) - MOST_MOMENTS} more …")
    return [*told[:half], gap, *told[-half:]]


def _effects(incident: Incident) -> Iterator[str]:
    for number, effect in enumerate(effects(incident.plan.actions)):
        if number == 0:
            yield "## Effect"
        yield ""
        held = "" if effect.held_seconds is None else f", watched for {effect.held_seconds:.0f} s"
        yield f"### {escape(effect.action.id)}: {escape(effect.action.title)}{held}"
        yield ""
        for one in effect.measured:
            worse = " **worse**" if one.verdict else ""
            curve = f" `{one.curve.sparkline}`" if one.curve else ""
            yield f"- {escape(one.title)}: {one.before} → {one.after}{worse}{curve}"
            if one.because:
                yield f"  - {escape(one.because)}"
        if effect.more:
            yield f"- {unchanged(effect)}"
        for label, found in signals(effect):
            yield f"- {label}: {escape(found)}"


def unchanged(effect: Effect) -> str:
    """How many metrics are left out."""
    many = "" if effect.more == 1 else "s"
    return f"{effect.more} other metric{many}: as before, or not measured"


def signals(effect: Effect) -> Iterator[tuple[str, str]]:
    """The signals of the cause and of the alert, looked at again."""
    for label, named in (
        ("Cleared", effect.cleared),
        ("Still there", effect.still),
        ("Not measured again", effect.not_measured),
    ):
        for one in named:
            yield label, one


def follow_ups(incident: Incident) -> Iterator[str]:
    """What is left to do: long-term actions, what the checklist found, prevention."""
    done = {"verified", "rejected"}
    for action in incident.plan.actions:
        if action.relief == "long_term" and action.status not in done:
            yield f"{action.id}: {action.title} (risk {action.risk}, {action.status})"
    for item in incident.plan.checklist:
        if item.result == "fail":
            yield f"Checklist: {item.text} — {item.because}"
    yield from incident.plan.prevention


def _checklist(incident: Incident) -> Iterator[str]:
    items = (
        f"{_RESULTS[item.result]}: {escape(item.text)} — {escape(item.because)}"
        + (f" ({', '.join(item.evidence)})" if item.evidence else "")
        for item in incident.plan.checklist
    )
    return _list("Production checklist", items)


def _evidence(incident: Incident) -> Iterator[str]:
    items = (
        f"{escape(piece.id)} {escape(piece.tool)}{_arguments(piece.args)} on "
        f"{escape(piece.node)}, {_at(piece.taken_at)}: {escape(piece.summary)}"
        for piece in incident.evidence
    )
    return _list("Evidence", items)


def _arguments(args: dict[str, Any]) -> str:
    return f" {escape(json.dumps(args, ensure_ascii=False, default=str))}" if args else ""


def _verdict(verdict: tuple[str, str, str]) -> str:
    by, root_cause, comment = verdict
    return f"{escape(by)}: {escape(root_cause)}" + _because(comment)


def _cost(incident: Incident) -> Iterator[str]:
    yield "## Cost of the investigation"
    yield ""
    yield cost(incident.usage)


def _list(title: str, items: Iterable[str]) -> Iterator[str]:
    for number, item in enumerate(items):
        if number == 0:
            yield from (f"## {title}", "")
        yield f"- {item}"
