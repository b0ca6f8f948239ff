"""Questions about an incident, a server or Redis in general. Nothing here can write.

Code answers what only code may: requests to act are refused, the record is told as it stands. With
a model, the rest is answered by the same read-only tools and evidence check as a diagnosis; without
one, or when it fails, by rules over evidence and by search in the runbooks.
"""

import logging
from collections.abc import Mapping, Sequence

from agent.chat_model import by_model
from agent.chat_question import Citation, NoRecords, Progress, Question, Records
from agent.chat_rules import by_code, by_rules
from agent.context import ReasonerUnavailable
from agent.conversation import Look
from agent.exchange import Ledger
from agent.incident import Claim, Incident, Words
from agent.memory_journal import MemoryLedger
from agent.model import Model
from agent.runbook import Library
from tools.reading import Evidence

log = logging.getLogger(__name__)
LONGEST_MESSAGE = 2_000
MOST_TURNS = 6
"""Earlier questions of a thread that an answer takes into account."""


class ChatAnswer(Words):
    """What was said, what it rests on, and who said it."""

    answer: str
    claims: list[Claim]
    citations: list[Citation]
    reasoner: str


async def answer(
    message: str,
    *,
    incident: Incident | None,
    evidence: Sequence[Evidence],
    library: Library,
    look: Look | None = None,
    model: Model | None = None,
    history: Sequence[Mapping[str, str]] = (),
    records: Records | None = None,
    target: str = "",
    targets: Sequence[str] = (),
    progress: Progress | None = None,
    ledger: Ledger | None = None,
) -> ChatAnswer:
    """Answer from the record, the evidence, the runbooks, and (with `look`) further reads."""
    question = Question(
        message[:LONGEST_MESSAGE],
        incident,
        list(evidence),
        library,
        look,
        records=records or NoRecords(),
        target=target or (incident.target if incident else ""),
        targets=targets,
        history=history[-2 * MOST_TURNS :],
        progress=progress,
    )
    said, reasoner, note = await by_code(question), "rules", ""
    if said is None and model is not None:
        try:
            said, reasoner = await by_model(question, model, ledger or MemoryLedger()), model.name
        except ReasonerUnavailable as unavailable:
            note = f"\n(Answered by the rules: {unavailable}.)"
        except Exception as error:
            # Whatever a reply broke in us: the rules have an answer.
            log.exception("the model's answer failed")
            because = f"a fault of ours with the model, {type(error).__name__}; see the log"
            note = f"\n(Answered by the rules: {because}.)"
    if said is None:
        said = await by_rules(question)
    return ChatAnswer(
        answer=said.text + note,
        claims=said.claims,
        citations=said.all_citations([*question.evidence, *question.consulted]),
        reasoner=reasoner,
    )
