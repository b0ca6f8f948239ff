"""The post-incident report, as Markdown.

Names, alerts and comments come from outside: every text is escaped, so that none of them can
become markup, a link or HTML wherever the report is shown.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from agent.arbitration import told
from agent.budget import cost
from agent.facts import printed
from agent.incident import Action, Claim, Diagnosis, Fact, Incident
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
Verdicts = Sequence[tuple[str, str, str]]
"""Who said it, the root cause, a comment."""


def render_report(incident: Incident, verdicts: Verdicts = ()) -> str:
    """The whole report."""
    sections = (
        _head(incident),
        _cause(incident),
        _claims(incident.diagnosis),
        _doubts(incident.diagnosis),
        _actions(incident),
        _timeline(incident),
        _checklist(incident),
        _list("Prevention", (escape(item) for item in incident.plan.prevention)),
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
    yield f"- Severity: {incident.severity}"
    yield f"- Status: **{incident.status}**" + _because(incident.ended_because)
    yield f"- Opened {_at(incident.opened_at)}, last changed {_at(incident.updated_at)}"
    if incident.question:
        yield f"- Asked: {escape(incident.question)}"
    if incident.runbooks:
        books = (f"{escape(book.id)} ({escape(book.why)})" for book in incident.runbooks)
        yield f"- Runbooks: {', '.join(books)}"


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
    if diagnosis.claims:
        yield "## Claims and their evidence"
        yield ""
        for claim in diagnosis.claims:
            yield from _claim(claim)
    if diagnosis.hypothesis is not None:
        yield ""
        yield f"Hypothesis, not a diagnosis: {escape(diagnosis.hypothesis.title)}"
        yield ""
        for claim in diagnosis.hypothesis.claims:
            yield from _claim(claim)


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
    for name in ("before", "after", "undone"):
        if name in action.outcome:
            yield f"- {name.capitalize()}: {escape(_short(action.outcome[name]))}"
    if action.commands:
        yield ""
        yield from fenced(" ".join(command) for command in action.commands)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_OUTCOME else text[:LONGEST_OUTCOME] + " …"


def _timeline(incident: Incident) -> Iterator[str]:
    yield "## Timeline"
    yield ""
    for moment, what in sorted(moments(incident), key=lambda entry: entry[0]):
        yield f"- {_at(moment)} {what}"


def moments(
    incident: Incident, shown: Callable[[str], str] = escape
) -> Iterator[tuple[datetime, str]]:
    """What happened when. `shown`: how untrusted text is made harmless; default: as Markdown."""
    yield incident.opened_at, "incident opened"
    for alert in incident.alerts:
        yield alert.starts_at, f"alert {shown(alert.name)} from {shown(alert.source)} began"
        if alert.ends_at is not None:
            yield alert.ends_at, f"alert {shown(alert.name)} ended"
    taken = sorted(piece.taken_at for piece in incident.evidence)
    if taken:
        yield taken[0], "first look at the target"
        yield taken[-1], f"last of {len(taken)} looks"
    for action in incident.plan.actions:
        for approval in action.approvals:
            glass = ", breaking the glass" if approval.break_glass else ""
            yield approval.at, f"{shown(action.id)} approved by {shown(approval.by)}{glass}"
    yield incident.updated_at, f"{incident.status}{_because(incident.ended_because, shown)}"


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
