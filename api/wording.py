"""What a message says: plain, bounded, without secrets, harmless wherever it is shown. Pure.

Names come from outside. Chat services make mentions, links and markup of plain text, too: what
would become one is spelt so that it does not, and so that whoever reads it sees that.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from agent.effects import effects
from agent.incident import Action, Incident
from agent.policy import spoken_time
from agent.redaction import redact
from api.store.notices import Notice
from tools.reading import printable

Tone = Literal["info", "success", "warning", "failure"]
LONGEST_TITLE, LONGEST_LINE, LONGEST_BODY = 150, 400, 3_000
MOST_CLAIMS, MOST_ACTIONS, MOST_LISTED = 3, 6, 12
_SPELT = (
    ("@", "\uff20"),  # @everyone, user mentions
    ("<", "\u2039"),  # <!channel>, <@U1>, <http://…|text>, HTML
    ("://", "[:]//"),
    ("www.", "www[.]"),
    ("](", "] ("),
)
_FIRST = ("page", "went_wrong", "rolled_back", "approval", "needs_human", "lapsed", "verified",
          "diagnosis", "over", "opened")  # fmt: skip
_LOUD = ("page", "went_wrong", "approval", "needs_human")
_TONES: dict[str, Tone] = {"critical": "failure", "warning": "warning", "info": "info"}
"""By severity, the worst first."""


@dataclass(frozen=True)
class Links:
    """Where people see more: on the service's pages, or by a command."""

    url: str = ""

    def to(self, incident_id: str, action_id: str = "") -> str:
        """An incident, or one of its actions."""
        if not self.url:
            return f"redis-oncall show {incident_id}"
        return f"{self.url}/incidents/{incident_id}" + (f"#{action_id}" if action_id else "")

    @property
    def all(self) -> str:
        """The incidents."""
        return f"{self.url}/incidents" if self.url else "redis-oncall incidents"


@dataclass(frozen=True)
class Subject:
    """An incident as it is when it is told of, and its actions by attempt and id."""

    incident: Incident
    actions: Mapping[tuple[int, str], Action] = field(default_factory=dict)


@dataclass(frozen=True)
class Message:
    """For one address."""

    title: str
    body: str
    tone: Tone
    thread: str = ""
    """The incident's id; empty: it is about several, or none."""
    rings: bool = False
    """Whoever gets it has to come."""
    is_loud: bool = False
    """Somebody has to do something: it is shown where everybody sees it."""


def harmless(text: str, limit: int = LONGEST_LINE) -> str:
    """One line that shows what the text says, and does nothing."""
    line = printable(redact(text), limit)
    for sign, spelt in _SPELT:
        line = line.replace(sign, spelt)
    return line


def message(
    notices: Sequence[Notice], subject: Subject | None, links: Links, limit: int = LONGEST_BODY
) -> Message:
    """What is to be told of one incident; without a subject, of none."""
    order = sorted(notices, key=lambda one: (_FIRST.index(one.kind), one.id))
    since = f"at {min(one.at for one in notices):%Y-%m-%d %H:%M:%S} UTC"
    lines = [line for one in order for line in _told(one, subject, links, order)]
    if subject is not None and {one.kind for one in notices} & {"verified", "rolled_back"}:
        lines += _what_waits_on(order, subject.incident)
    if subject is None:
        return Message("redis-oncall", _fitted(lines, [since], limit), "failure", rings=True)
    incident = subject.incident
    about = f"{incident.target}: {incident.title}" if incident.target else incident.title
    return Message(
        title=harmless(f"[{incident.id}] {about}", LONGEST_TITLE),
        body=_fitted(lines, [since, links.to(incident.id)], limit),
        tone=_tone(order, incident),
        thread=incident.id,
        rings=order[0].kind == "page",
        is_loud=order[0].kind in _LOUD,
    )


def digest(
    notices: Sequence[Notice],
    about: Mapping[str, tuple[str, str, str]],
    links: Links,
    limit: int = LONGEST_BODY,
) -> Message:
    """What came while an address had as many as it takes, in one message.

    `about`: target, title and severity of each incident.
    """
    kinds: dict[str, list[str]] = {}
    for one in notices:
        kinds.setdefault(one.incident_id or "", []).append(_KINDS[one.kind])
    lines = []
    for incident_id, told in list(kinds.items())[:MOST_LISTED]:
        target, title, _ = about.get(incident_id, ("", "", ""))
        what = ": ".join(filter(None, (target, title, ", ".join(dict.fromkeys(told)))))
        lines.append(f"{harmless(what)} - {links.to(incident_id)}")
    if len(kinds) > MOST_LISTED:
        lines.append(f"and {len(kinds) - MOST_LISTED} more incidents")
    title = f"redis-oncall: {len(notices)} more about {len(kinds)} incidents"
    severities = {severity for _, _, severity in about.values()}
    worst: Tone = next((tone for name, tone in _TONES.items() if name in severities), "info")
    return Message(title, _fitted(lines, [links.all], limit), worst)


_KINDS = {
    "page": "a person has to come", "went_wrong": "an action went wrong",
    "rolled_back": "an action was undone", "approval": "waits for approval",
    "needs_human": "needs a person", "lapsed": "an action lapsed", "verified": "an action worked",
    "diagnosis": "diagnosed", "over": "over", "opened": "opened",
}  # fmt: skip


def _tone(notices: Sequence[Notice], incident: Incident) -> Tone:
    kinds = {one.kind for one in notices}
    if "over" in kinds and incident.status in ("resolved", "closed"):
        return "success"
    if kinds & {"page", "went_wrong"}:
        return "failure"
    if kinds == {"verified"}:
        return "info"
    return _TONES[incident.severity]


def _fitted(lines: Sequence[str], last: Sequence[str], limit: int) -> str:
    """As many lines as there is room for; the last ones always."""
    room = limit - sum(len(line) + 1 for line in last) - 2
    kept: list[str] = []
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            kept.append("\u2026")
            break
        kept.append(line)
    return "\n".join([*kept, "", *last])


def _told(
    one: Notice, subject: Subject | None, links: Links, all_of_it: Sequence[Notice]
) -> Iterator[str]:
    because = str(one.facts.get("because", ""))
    if one.kind == "page" or subject is None:
        yield harmless(because, 1_000)
        return
    incident = subject.incident
    action = subject.actions.get((one.facts.get("attempt", 0), str(one.facts.get("action", ""))))
    if one.kind == "opened":
        yield _opened(incident, one)
    elif one.kind == "diagnosis":
        plan = not any(other.kind == "approval" for other in all_of_it)
        yield from _diagnosis(incident, with_plan=plan)
    elif one.kind == "approval":
        yield from _approval(incident, links)
    elif one.kind == "needs_human":
        yield harmless(f"Needs a person: {because}")
    elif one.kind == "over":
        status = str(one.facts.get("status", "over")).capitalize()
        yield harmless(f"{status}: {because}" if because else status)
    elif action is None:  # of a plan that another one replaced
        yield harmless(f"{one.facts.get('action')} {one.facts.get('status')}: {because}")
    else:
        yield from _action(action, str(one.facts.get("status", "")), because)


def _opened(incident: Incident, one: Notice) -> str:
    if was := one.facts.get("was"):
        return harmless(f"Opened as {was}, {incident.severity} now")
    if one.facts.get("attempt", 1) > 1:
        return f"Opened again, {incident.severity}: it is looked at once more"
    asked = f": {incident.question}" if incident.question else ""
    return harmless(f"Opened, {incident.severity}{asked}")


def _diagnosis(incident: Incident, *, with_plan: bool) -> Iterator[str]:
    found = incident.diagnosis
    if found is None:
        yield "Diagnosis: it is being looked at again meanwhile"
        return
    kind = "" if found.is_incident else "not an incident, "
    person = "; a person should look" if found.escalate else ""
    yield harmless(f"Diagnosis: {found.title} ({kind}{found.confidence:.0%} sure{person})")
    if found.culprit.kind != "none":
        yield harmless(f"Culprit: {found.culprit.kind} {found.culprit.name}")
    yield from (harmless(f"- {claim.text}") for claim in found.grounds[:MOST_CLAIMS])
    if with_plan and (actions := incident.plan.actions):
        yield "Proposed:"
        yield from (_line(action) for action in actions[:MOST_ACTIONS])


def _approval(incident: Incident, links: Links) -> Iterator[str]:
    able = [action for action in incident.plan.actions if action.executable]
    waiting = [action for action in able if action.status == "proposed"]
    if not waiting:
        yield "Waited for approval; nothing of it does any more"
        return
    yield "Waits for approval:"
    for action in waiting[:MOST_ACTIONS]:
        until = f", until {spoken_time(action.expires_at)}" if action.expires_at else ""
        yield f"{_line(action)}: {_yeses(action)}{until}"
        if links.url:
            yield f"  {links.to(incident.id, action.id)}"
    if len(waiting) > MOST_ACTIONS:
        yield f"and {len(waiting) - MOST_ACTIONS} more"
    if not links.url:
        yield f"  redis-oncall approve {incident.id} {waiting[0].id}"


def _what_waits_on(notices: Sequence[Notice], incident: Incident) -> Iterator[str]:
    """After an action, whoever approved it is reminded of the others."""
    if any(one.kind == "approval" for one in notices) or incident.status != "awaiting_approval":
        return
    for action in incident.plan.actions[:MOST_ACTIONS]:
        if action.executable and action.status == "proposed":
            yield f"Still waits for approval: {_line(action)}"


def _line(action: Action) -> str:
    return harmless(f"{action.id} {action.risk} {action.title}", 200)


def _yeses(action: Action) -> str:
    needed = action.approvals_required
    if action.approvals or needed > 1:
        return f"{len(action.approvals)} of {needed} approvals"
    return "one approval"


def _action(action: Action, status: str, because: str) -> Iterator[str]:
    named, why = f"{action.id} ({action.title})", f": {because}" if because else ""
    if status == "lapsed":
        yield harmless(f"{named} lapsed, and is not applied{why}")
    elif status == "verified":
        yield harmless(f"{named} worked{why}")
        if not because:
            yield from (harmless(line) for line in _effect(action))
    elif status == "rolled_back":
        yield harmless(f"{named} did not help and was undone{why}")
        yield harmless(_undone(action))
    elif status == "rollback_failed":
        yield harmless(f"{named} could NOT be undone, a person has to look now{why}")
    elif status == "outcome_unknown":
        yield harmless(f"Nobody knows whether {named} was done, a person has to look now{why}")
    else:
        yield harmless(f"{named} failed{why}")


def _undone(action: Action) -> str:
    undo = action.outcome.get("undo")
    undo = undo if isinstance(undo, dict) else {}
    told = f": {undo['because']}" if undo.get("because") else ""
    if undo.get("verified") is True:
        return "The server was looked at afterwards: it is as it was"
    if undo.get("verified") is False:
        return f"The server is NOT as it was{told}"
    return f"Whether the server is as it was is not known{told}"


def _effect(action: Action) -> Iterator[str]:
    """Before and after, in at most two lines."""
    for effect in effects([action]):
        changed = [f"{one.title}: {one.before} -> {one.after}" for one in effect.measured]
        yield from [*effect.cleared, *changed][:2]
