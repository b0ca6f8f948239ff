"""After an action: the signals of the cause and the thresholds of its alert, looked at again."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.case import CaseFile
from agent.context import Context
from agent.facts import dimension
from agent.figures import Unmeasured, look_up, printed
from agent.incident import Action, Diagnosis, Incident, Severity
from agent.runbook import Library, Runbook
from agent.signals import SIGNALS, Signal, Signals, detect
from agent.thresholds import Crossing, crossings
from agent.true_names import MARK
from tools.reading import Evidence
from tools.reads import READS

MOST_TOOLS = 8
"""Looked with again: those that the cause and its alert rest on are two to five."""
ALERT = "alert "
"""What the names of the alert's own thresholds begin with."""
HISTORY = frozenset(
    {
        "acl_log.total_denials", "clients.rejected_connections", "persistence.aof_delayed_fsync",
        "slowlog.groups.0.longest_microseconds", "latency_latest.events.0.longest_milliseconds",
        "persistence.rdb_last_bgsave_time_sec", "stats.latest_fork_usec",
    }
)  # fmt: skip
"""Figures of what has been: they stay as they are, however well the server does since."""
_SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")


@dataclass
class _Asked:
    """What fired when the cause was found, and what it was read from."""

    signals: list[Signal] = field(default_factory=list)
    thresholds: list[Crossing] = field(default_factory=list)

    def own(self, incident: Incident) -> list[Crossing]:
        """What people were called for: a warning that goes on under a critical alert is not."""
        asked = max((a.severity for a in incident.alerts), key=_SEVERITIES.index, default="info")
        least = _SEVERITIES.index(asked)
        return [
            one for one in self.thresholds if _SEVERITIES.index(one.severity) >= least
        ] or self.thresholds

    def evidence(self) -> list[str]:
        """Ids, the thresholds' first: those are what the alert is about."""
        ids = [known for crossing in self.thresholds for known in crossing.evidence]
        for signal in self.signals:
            for fact in signal.claim.facts:
                elsewhere = (path.partition(":")[0] for path in fact.of if ":" in path)
                ids += [fact.evidence, *elsewhere]
        return list(dict.fromkeys(ids))


async def look_again(context: Context, action: Action) -> dict[str, Any]:
    """`signals` and `evidence` of the outcome; empty where no cause was found to look after.

    New evidence is kept under the next numbers; its summary begins with `after A1:`.
    """
    incident = await context.journal.incident()
    known = await context.journal.evidence()
    later = {number for one in incident.plan.actions for number in one.outcome.get("evidence", [])}
    before = [piece for piece in known if piece.id not in later]
    asked = _asked(incident, context.library, before)
    seen = await _look(context, incident, action, _pieces(before, asked.evidence()))
    if not seen:
        return {}
    judged: dict[str, list[dict[str, Any]]] = {"cleared": [], "still": [], "not_measured": []}
    own = asked.own(incident)
    for crossing in asked.thresholds:
        state, entry = _threshold(crossing, context.library, before, seen)
        prefix = ALERT if crossing in own else "threshold "
        judged[state].append(entry | {"name": prefix + entry["name"]})
    now = detect(seen)
    for signal in asked.signals:
        state, entry = _signal(signal, now)
        judged[state].append(entry)
    return {"signals": judged, "evidence": [piece.id for piece in seen]}


def said(signals: dict[str, list[dict[str, Any]]]) -> str:
    """For the comment: what became of the alert's own signal, with its numbers."""
    for state, words in (
        ("still", "the alert's own signal still fires"),
        ("cleared", "the alert's signal cleared"),
        ("not_measured", "the alert's signal was not measured again"),
    ):
        own = [e["because"] for e in signals.get(state, []) if e["name"].startswith(ALERT)]
        if own:
            return f"{words}: {'; '.join(own)}"
    return ""


def still_firing(incident: Incident) -> str:
    """Why an incident whose actions helped is not over: what its alert fires on; else empty."""
    looked = [
        action
        for action in incident.plan.actions
        if action.status == "verified" and action.outcome.get("evidence")
    ]
    if not looked:
        return ""
    last = max(looked, key=lambda action: int(action.outcome["evidence"][-1][1:]))
    still = last.outcome.get("signals", {}).get("still", [])
    own = [entry["because"] for entry in still if entry["name"].startswith(ALERT)]
    expected = [
        f"; expected to show by {action.outcome['expected_by']}"
        for action in incident.plan.actions
        if action.status == "verified" and action.outcome.get("expected_by")
    ]
    return "; ".join(own) + max(expected, default="") if own else ""


def _asked(incident: Incident, library: Library, before: Sequence[Evidence]) -> _Asked:
    diagnosis = incident.diagnosis
    if diagnosis is None or not diagnosis.is_incident:
        return _Asked()
    fired = detect(before).fired
    books = _books(diagnosis, library)
    names = [
        name
        for book in books
        for cause in book.front.causes
        if cause.id in (diagnosis.root_cause, *diagnosis.contributing)
        for name in cause.supported_by
    ]
    own = [book for book in books if diagnosis.root_cause in {c.id for c in book.front.causes}]
    crossed = [one for one in crossings(own, before) if one.state == "fired"]
    return _Asked([fired[name] for name in dict.fromkeys(names) if name in fired], crossed)


def _books(diagnosis: Diagnosis, library: Library) -> list[Runbook]:
    wanted = {diagnosis.root_cause, *diagnosis.contributing}
    return [book for book in library.runbooks if wanted & {c.id for c in book.front.causes}]


def _pieces(before: Sequence[Evidence], ids: Sequence[str]) -> list[Evidence]:
    by_id = {piece.id: piece for piece in before}
    found = [by_id[number] for number in ids if number in by_id and by_id[number].tool in READS]
    looks = {json.dumps([piece.tool, piece.args], sort_keys=True): piece for piece in found}
    return list(looks.values())[:MOST_TOOLS]


async def _look(
    context: Context, incident: Incident, action: Action, pieces: Sequence[Evidence]
) -> list[Evidence]:
    case = CaseFile(context, incident, context.library, [], tag=f"after {action.id}: ")
    named = [piece for piece in pieces if _can_be_named(context, piece.args)]
    return list(await asyncio.gather(*(case.look(piece.tool, piece.args) for piece in named)))


def _can_be_named(context: Context, args: dict[str, Any]) -> bool:
    """A name that is shown redacted may be known to the run that saw it alone."""
    return MARK.search(json.dumps(context.names.true(args), ensure_ascii=False)) is None


def _threshold(
    crossing: Crossing,
    library: Library,
    before: Sequence[Evidence],
    seen: Sequence[Evidence],
) -> tuple[str, dict[str, Any]]:
    books = [book for book in library.runbooks if book.id == crossing.runbook]
    now = next(
        one
        for one in crossings(books, seen)
        if (one.when, one.severity, one.runbook)
        == (crossing.when, crossing.severity, crossing.runbook)
    )
    name = crossing.when
    if now.state == "not_measured" or crossing.when in HISTORY:
        because = "a figure of what has been" if now.state != "not_measured" else now.because
        return "not_measured", _entry(name, f"{crossing.when}: {because}", now.evidence)
    moved = f"{crossing.when} from {_value(before, crossing)} to {_value(seen, crossing)}"
    return "still" if now.state == "fired" else "cleared", _entry(name, moved, now.evidence)


def _value(evidence: Sequence[Evidence], crossing: Crossing) -> str:
    try:
        return printed(look_up(evidence, crossing.when).value, dimension(crossing.when))
    except Unmeasured:
        return "not measured"


def _signal(signal: Signal, now: Signals) -> tuple[str, dict[str, Any]]:
    says = SIGNALS[signal.name].says
    if (again := now.fired.get(signal.name)) is not None:
        evidence = list(dict.fromkeys(fact.evidence for fact in again.claim.facts))
        return "still", _entry(signal.name, says, evidence)
    if (missing := now.not_measured.get(signal.name)) is not None:
        return "not_measured", _entry(signal.name, f"{says}: {missing.because}", [])
    return "cleared", _entry(signal.name, says, [])


def _entry(name: str, because: str, evidence: Sequence[str]) -> dict[str, Any]:
    return {"name": name, "because": because, "evidence": list(evidence)}
