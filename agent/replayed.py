"""A kept conversation with a model, held again: the same replies, no endpoint, no server.

Everything else runs as it did: the rules, the prompts, the evidence check and the arbitration. So a
replay gives the same diagnosis, or says exactly where today's code, runbooks or settings depart.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

from langgraph.runtime import Runtime

from agent import steps
from agent.arbitration import without_answer
from agent.budget import Budget, ModelSettings
from agent.context import Context, ReasonerUnavailable, Target
from agent.endpoint_quirks import Manners, Question, parameters
from agent.exchange import Exchange, KeptExchange, bounded
from agent.incident import NOTHING, Diagnosis, EvidenceSummary, Incident, Plan, Usage
from agent.keeping import Transcript
from agent.memory_journal import MemoryJournal
from agent.model import Model
from agent.model_reply import Answer, Message, read_answer
from agent.reasoner import OpenAIReasoner
from agent.redaction import redact_tree
from agent.retrying import TooLong
from agent.rules import Rules
from agent.runbook import Library
from tools.connection import Argument, Command, CommandFailure, Connection, Reply
from tools.reading import Evidence, printable

AROUND = 60
"""Characters shown of what differs, on each side."""


class Departed(BaseException):
    """The conversation is not the one that was kept; the text says where and how.

    No Exception: those that a model's reply causes leave the diagnosis to the rules.
    """


@dataclass(frozen=True)
class Replay:
    """What came of a replay."""

    exchanges: int
    """How many of the kept replies were given again."""
    departed: str
    """Where the conversation departs; empty if it went as it was kept."""
    diagnosis: Diagnosis | None
    """What it led to; None if it departed before."""
    differences: tuple[str, ...] = ()
    """Fields of the diagnosis that are not as they were."""

    @property
    def same(self) -> bool:
        """The same conversation led to the same diagnosis."""
        return not self.departed and not self.differences


async def replay(
    incident: Incident,
    exchanges: Sequence[KeptExchange],
    evidence: Sequence[Evidence],
    library: Library,
    settings: ModelSettings,
) -> Replay:
    """Work the last attempt at the incident again. Raises ValueError if it asked no model."""
    kept = [one for one in exchanges if one.attempt == incident.attempt]
    if not kept:
        raise ValueError(f"attempt {incident.attempt} at {incident.id} asked no model")
    model = ReplayedModel(settings, kept, _failure(incident.diagnosis))
    journal = _Kept(incident, _of_attempt(evidence, kept), kept[0].evidence)
    context = Context(
        target=Target(name=incident.target, url="", memory_limit=_memory_limit(evidence)),
        connection=_Nowhere(),
        open_for_remedies=_refuse,
        journal=journal,
        library=library,
        rules=Rules(library),
        model=OpenAIReasoner(model, library),
    )
    try:
        await _diagnose(context)
        model.must_be_at_its_end()
    except Departed as departed:
        return Replay(model.given, str(departed), None)
    found = (await journal.incident()).diagnosis
    return Replay(model.given, "", found, _differences(incident.diagnosis, found))


async def _diagnose(context: Context) -> None:
    """The graph's way from the alert to the diagnosis."""
    state, runtime = steps.State(), Runtime(context=context)
    beginning = (steps.load_runbook, steps.observe, steps.detect_signals)
    way = [*beginning, steps.investigate, steps.verify_claims]
    while way:
        for step in way:
            state = cast("steps.State", {**state, **await step(state, runtime)})
        again = steps.does_evidence_hold(state) == "investigate"
        way = [steps.investigate, steps.verify_claims] if again else []


class ReplayedModel(Model):
    """Gives the kept replies in their order, each to the request it was given to."""

    def __init__(
        self, settings: ModelSettings, kept: Sequence[Exchange], ended_because: str = ""
    ) -> None:
        super().__init__(settings)
        self.given = 0
        self._kept = kept
        self._ended_because = ended_because

    async def ask(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]],
        budget: Budget,
        must_call: str = "",
        transcript: Transcript | None = None,
    ) -> Answer:
        """The next kept reply. Raises Departed if it was given to another request."""
        estimate = budget.estimate(messages, tools)
        self._window = next((one.window for one in self._kept[self.given :]), self._window)
        await self._room(budget, estimate)
        if self.given == len(self._kept):
            if self._ended_because:
                raise ReasonerUnavailable(self._ended_because)
            raise Departed("the model is asked once more than it was")
        kept = self._kept[self.given]
        names = [str(tool["function"]["name"]) for tool in tools]
        manners = Manners(**kept.manners | {"refused": frozenset(kept.manners.get("refused", ()))})
        question = Question(self.settings.model, messages, tools, must_call)
        self._compare(kept, parameters(question, manners)["messages"], names)
        self.given += 1
        if kept.reply is None:
            raise _failed(kept, budget)
        answer = read_answer({"choices": [{"message": kept.reply}]}, estimate)
        answer = replace(answer, usage=kept.usage.model_copy())
        budget.spend(answer.usage, estimate)
        return answer

    def must_be_at_its_end(self) -> None:
        """Raises Departed if there are replies that nobody asked for."""
        if left := len(self._kept) - self.given:
            raise Departed(f"the diagnosis stands before the last {left} of the kept replies")

    def _compare(self, kept: Exchange, messages: Sequence[Message], tools: list[str]) -> None:
        where = f"exchange {self.given + 1}"
        now = kept.model_copy(update={"messages": redact_tree(messages[kept.earlier_messages :])})
        now = bounded(now)
        for at, (then, today) in enumerate(zip(kept.messages, now.messages, strict=False)):
            if difference := _difference(_text(then), _text(today)):
                number = kept.earlier_messages + at + 1
                raise Departed(f"{where}, message {number} ({then.get('role')}): {difference}")
        if len(kept.messages) != len(now.messages):
            raise Departed(
                f"{where}: {len(now.messages)} new messages are sent, {len(kept.messages)} were"
            )
        if kept.tools != tools:
            raise Departed(
                f"{where}: {len(tools)} functions are offered, {len(kept.tools)} were; "
                f"first difference: {_first_different(kept.tools, tools)}"
            )


class _Kept(MemoryJournal):
    """What was known when the model was first asked; later looks find what was seen then."""

    def __init__(
        self, incident: Incident, evidence: Sequence[Evidence], known: Sequence[str]
    ) -> None:
        fresh: dict[str, Any] = {
            "status": "queued", "diagnosis": None, "plan": Plan(), "usage": Usage(),
            "evidence": [], "runbooks": [], "ended_because": "",
        }  # fmt: skip
        super().__init__(incident.model_copy(update=fresh))
        self._later = [piece for piece in evidence if piece.id not in known]
        for piece in evidence:
            if piece.id in known:
                self._show(piece)

    async def add_evidence(
        self,
        tool: str,
        args: dict[str, Any],
        reading: dict[str, Any],
        *,
        measured: bool,
        node: str,
        summary: str,
        taken_at: datetime | None = None,
        usage: Usage = NOTHING,
    ) -> Evidence:
        """The piece that was kept of this look. Raises Departed if there was no such look."""
        for piece in self._later:
            if (piece.tool, piece.args) == (tool, args):
                self._later.remove(piece)
                await self.add_usage(usage)
                return self._show(piece)
        shown = printable(json.dumps(args, ensure_ascii=False), 200)
        raise Departed(f"{tool} {shown} is looked at, which it was not")

    def _show(self, piece: Evidence) -> Evidence:
        self._evidence.append(piece)
        shown = piece.model_dump(include=set(EvidenceSummary.model_fields))
        self._incident.evidence.append(EvidenceSummary.model_validate(shown))
        return piece


class _Nowhere:
    """No server: what it would answer is in the evidence."""

    node = "kept evidence"

    async def execute(self, *command: Argument) -> Reply:
        """Raises CommandFailure."""
        raise CommandFailure("not_recorded", str(command[0]), "a replay reaches no server")

    async def execute_many(self, commands: Sequence[Command]) -> list[Reply | CommandFailure]:
        """Raises CommandFailure."""
        raise CommandFailure("not_recorded", "several", "a replay reaches no server")

    async def at(self, address: str) -> Connection:
        """Raises CommandFailure."""
        raise CommandFailure("not_recorded", f"connect to {address}", "a replay reaches no server")

    async def wait(self, seconds: float) -> None:
        """No time passes."""

    def now(self) -> datetime:
        """Now: the pieces of evidence have their own times."""
        return datetime.now(UTC)

    async def close(self) -> None:
        """Nothing is open."""


def _failed(kept: Exchange, budget: Budget) -> ReasonerUnavailable:
    """The failure as it was, for a conversation that goes on shorter after some."""
    if not kept.failure.startswith(str(TooLong(None))):
        budget.spend(kept.usage.model_copy(), 0)
        return ReasonerUnavailable(kept.failure)
    named = re.search(r"of ([\d,]+) tokens", kept.failure)
    return TooLong(int(named[1].replace(",", "")) if named else None)


async def _refuse() -> Connection:
    raise CommandFailure("not_allowed", "open for remedies", "a replay never writes")


def _of_attempt(evidence: Sequence[Evidence], kept: Sequence[KeptExchange]) -> list[Evidence]:
    """Without what earlier attempts saw, and what questions in chat looked at meanwhile."""
    told = {name for one in kept for name in one.evidence}
    newest = max((int(name[1:]) for name in told), default=0)
    return [piece for piece in evidence if piece.id in told or int(piece.id[1:]) > newest]


def _memory_limit(evidence: Sequence[Evidence]) -> int | None:
    """The target's, as the looks were given it."""
    given = (piece.args.get("memory_limit") for piece in evidence)
    return next((limit for limit in given if isinstance(limit, int)), None)


def _failure(diagnosis: Diagnosis | None) -> str:
    """Why the model had ended without an answer, as a cap ends it: without an exchange."""
    lost = diagnosis.overruled if diagnosis else None
    return without_answer(lost) if lost else ""


def _text(message: Mapping[str, Any]) -> str:
    return json.dumps(message, ensure_ascii=False, sort_keys=True)


def _difference(then: str, now: str) -> str:
    """Where two texts part, with what is around it; empty if they are the same."""
    if then == now:
        return ""
    pairs = zip(then, now, strict=False)
    at = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(then), len(now)))
    start = max(0, at - AROUND)
    was, is_ = (printable(text[start : at + AROUND], 4 * AROUND) for text in (then, now))
    return f"character {at + 1} differs: it was …{was}… and is …{is_}…"


def _first_different(then: Sequence[str], now: Sequence[str]) -> str:
    either = [name for name in [*then, *now] if (name in then) != (name in now)]
    return printable(either[0], 80) if either else "their order"


def _differences(then: Diagnosis | None, now: Diagnosis | None) -> tuple[str, ...]:
    if then is None or now is None:
        return () if then is now else ("diagnosis",)
    before, after = then.model_dump(mode="json"), now.model_dump(mode="json")
    return tuple(name for name in before if before[name] != after[name])
