"""The `openai` reasoner: the model reads and judges; code bounds it and checks what it says."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from agent.claims import UNCATALOGUED
from agent.context import Case, ReasonerUnavailable
from agent.conversation import Conversation
from agent.functions import submit_function
from agent.incident import DiagnosisDraft
from agent.model import MOST_INCIDENTS, Model
from agent.model_reply import Message
from agent.prompt import (
    USUAL_CHARACTERS,
    ReadRunbook,
    correction_messages,
    incident_message,
    system_message,
)
from agent.rules import RankedCause, rank, said
from agent.runbook import Library
from agent.signals import detect
from agent.veil import VeiledCase
from tools.reading import Evidence
from tools.reads import READS

RANKED, FEW = 6, 3
"""How many causes of the rules' ranking the model is shown."""
SMALL = 0.25
"""Share of the usual size up to which a prompt does without titles and runners-up."""
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
        self._told: OrderedDict[tuple[str, int], int] = OrderedDict()
        """How many pieces of evidence the first message of an attempt held."""

    async def investigate(
        self, case: Case, previous: DiagnosisDraft | None = None, mismatches: Sequence[str] = ()
    ) -> DiagnosisDraft:
        """Look further and submit. Raises ReasonerUnavailable; then the rules stand."""
        veil = self._model.veil
        if veil is None:
            return await self._investigate(case, previous, mismatches)
        hidden = VeiledCase(case, veil)
        before = None if previous is None else veil.draft(previous)
        try:
            draft = await self._investigate(hidden, before, [veil.text(one) for one in mismatches])
        except ReasonerUnavailable as unavailable:
            raise ReasonerUnavailable(veil.reveal(str(unavailable))) from unavailable
        return DiagnosisDraft.model_validate(veil.reveal(draft.model_dump(mode="json")))

    async def _investigate(
        self, case: Case, previous: DiagnosisDraft | None, mismatches: Sequence[str]
    ) -> DiagnosisDraft:
        library = self._library or case.runbooks
        budget = self._model.budget(f"{case.incident.id}/{case.incident.attempt}")
        budget.ledger = case.ledger
        budget.known(await case.ledger.spent())

        told = self._first_told(case)
        corrections = (
            correction_messages(previous, mismatches, case.evidence, case.evidence[len(told) :])
            if previous is not None
            else []
        )

        def opening(share: float = 1.0) -> list[Message]:
            first = _incident_message(case, library, told, share)
            return [system_message(library, titles=share > SMALL), first, *corrections]

        pages, veil = ReadRunbook(library), self._model.veil

        async def look(tool: str, arguments: dict[str, Any]) -> Evidence | str:
            if tool == pages.name:  # a team's own runbook may name its keys
                return veil.text(pages(arguments)) if veil else pages(arguments)
            return await case.look(tool, arguments)

        draft = await Conversation(
            model=self._model,
            budget=budget,
            messages=opening(),
            submission=submit_function([*library.causes(), *UNCATALOGUED]),
            accept=self._accepted,
            look=look,
            tools={**READS, pages.name: pages},
            keep=case.ledger.keep,
            shorter=opening,
        ).run()
        return _less_sure_where_blind(draft, case, library)

    def _first_told(self, case: Case) -> list[Evidence]:
        """What the first message of this attempt told: a correction begins with the same one."""
        attempt = (case.incident.id, case.incident.attempt)
        seen = self._told.setdefault(attempt, len(case.evidence))
        self._told.move_to_end(attempt)
        while len(self._told) > MOST_INCIDENTS:
            self._told.popitem(last=False)
        return case.evidence[:seen]

    def _accepted(self, arguments: dict[str, Any]) -> DiagnosisDraft:
        known = {
            name: value
            for name, value in arguments.items()
            if name in DiagnosisDraft.model_fields
            and name not in _FILLED_BY_CODE
            and value is not None
        }
        return DiagnosisDraft.model_validate({**known, "reasoner": self.name})


def _incident_message(
    case: Case, library: Library, evidence: Sequence[Evidence], share: float
) -> Message:
    """The incident, with the rules' ranking of what is in this evidence."""
    signals = detect(evidence)
    ranked = rank(signals, library, said(case.incident))[: RANKED if share > SMALL else FEW]
    telling = dict.fromkeys(
        fact.evidence
        for cause in ranked
        for name in cause.fired
        for fact in signals.fired[name].claim.facts
    )
    return incident_message(
        case.incident,
        case.runbooks,
        evidence,
        [_shown(cause) for cause in ranked],
        telling,
        int(USUAL_CHARACTERS * share),
    )


def _shown(ranked: RankedCause) -> dict[str, Any]:
    """What the rules think of a cause, without what is empty."""
    signals = {"for": ranked.fired, "against": ranked.against, "not_measured": ranked.not_measured}
    return {
        "cause": ranked.cause,
        "confidence": round(ranked.confidence, 2),
        "enough_support": ranked.evidenced,
        **{why: ", ".join(names) for why, names in signals.items() if names},
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
