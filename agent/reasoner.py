"""The `openai` reasoner: the model reads and judges; code bounds it and checks what it says."""

from collections.abc import Sequence
from typing import Any

from agent.claims import UNCATALOGUED
from agent.context import Case
from agent.conversation import Conversation
from agent.functions import submit_function
from agent.incident import DiagnosisDraft
from agent.model import Model
from agent.prompt import correction_message, incident_message, system_message
from agent.rules import RankedCause, rank, said
from agent.runbook import Library
from agent.signals import detect
from tools.reads import READS

RANKED = 6
"""How many causes of the rules' ranking the model is shown."""
NOT_MEASURED_COST = 0.1
"""What each unmeasured signal about the cause takes from the model's confidence, at most half."""
_FILLED_BY_CODE = {"reasoner", "not_measured"}


class OpenAIReasoner:
    """Function calling over the read-only tools, then one checked submission."""

    def __init__(self, model: Model, library: Library | None = None) -> None:
        self.name = model.name
        self._model = model
        self._library = library
        """The catalogue of causes; without it, that of the case's runbooks."""

    async def investigate(
        self, case: Case, previous: DiagnosisDraft | None = None, mismatches: Sequence[str] = ()
    ) -> DiagnosisDraft:
        """Look further and submit. Raises ReasonerUnavailable; then the rules stand."""
        library = self._library or case.runbooks
        budget = self._model.budget(case.incident.id)
        budget.ledger = case.ledger
        budget.known(await case.ledger.spent(), case.incident.attempt)
        messages = [
            system_message(library, case.runbooks, [book.id for book in case.incident.runbooks]),
            incident_message(case.incident, case.evidence, self._ranking(case, library)),
        ]
        if previous is not None:
            messages.append(correction_message(previous, mismatches, case.evidence))
        draft = await Conversation(
            model=self._model,
            budget=budget,
            messages=messages,
            submission=submit_function([*library.causes(), *UNCATALOGUED]),
            accept=self._accepted,
            look=case.look,
            tools=READS,
            keep=case.ledger.keep,
        ).run()
        return _less_sure_where_blind(draft, case, library)

    def _accepted(self, arguments: dict[str, Any]) -> DiagnosisDraft:
        known = {
            name: value
            for name, value in arguments.items()
            if name in DiagnosisDraft.model_fields
            and name not in _FILLED_BY_CODE
            and value is not None
        }
        return DiagnosisDraft.model_validate({**known, "reasoner": self.name})

    def _ranking(self, case: Case, library: Library) -> list[dict[str, Any]]:
        ranked = rank(detect(case.evidence), library, said(case.incident))
        return [_shown(cause) for cause in ranked[:RANKED]]


def _shown(ranked: RankedCause) -> dict[str, Any]:
    return {
        "cause": ranked.cause,
        "kind": ranked.entry.kind,
        "enough_support": ranked.evidenced,
        "confidence": round(ranked.confidence, 2),
        "for": list(ranked.fired),
        "against": list(ranked.against),
        "not_measured": list(ranked.not_measured),
    }


def _less_sure_where_blind(draft: DiagnosisDraft, case: Case, library: Library) -> DiagnosisDraft:
    """What could not be measured is said, and costs confidence where the cause rests on it."""
    signals = detect(case.evidence)
    cause = library.causes().get(draft.root_cause)
    relevant = {*cause.supported_by, *cause.ruled_out_by} if cause else set()
    blind = len(relevant & set(signals.not_measured))
    unmeasured = [
        f"{piece.tool}: {piece.reading.get('because', 'no reason recorded')}"
        for piece in case.evidence
        if not piece.measured
    ]
    return draft.model_copy(
        update={
            "confidence": draft.confidence * max(0.5, 1 - NOT_MEASURED_COST * blind),
            "not_measured": list(dict.fromkeys(unmeasured))[:40],
        }
    )
