"""The evidence check in the graph: mismatches go back word for word, at most twice."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest

from agent import steps
from agent.arbitration import BOTH_SURE, told
from agent.claims import check
from agent.context import Case, ReasonerUnavailable
from agent.incident import Diagnosis, DiagnosisDraft, Incident
from agent.run import investigate
from agent.runbook import Library
from agent.runbook_library import load_library
from agent.steps import MOST_CORRECTIONS, MOST_SHOWN
from evals.run import opened
from evals.truth import RecordedIncident, incidents

SURE = 0.9


@cache
def books() -> Library:
    return load_library()


@cache
def recorded(root_cause: str) -> RecordedIncident:
    return next(one for one in incidents() if one.truth.root_cause == [root_cause])


def says(cause: str, text: str, path: str = "used_memory", **given: Any) -> dict[str, Any]:
    fact = {"name": "used", "evidence": "memory", "of": [path]}
    claims = [{"text": text, "facts": [fact]}]
    return {"root_cause": cause, "confidence": SURE, "claims": claims} | given


Answer = dict[str, Any] | str | Exception


class Scripted:
    """A model that submits one answer after another and keeps what it was told."""

    name = "openai:scripted"

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.told: list[tuple[DiagnosisDraft | None, list[str]]] = []
        self.checked: list[Diagnosis | list[str]] = []

    async def investigate(
        self, case: Case, previous: DiagnosisDraft | None = None, mismatches: Sequence[str] = ()
    ) -> DiagnosisDraft:
        self.told.append((previous, list(mismatches)))
        answer = self.answers[min(len(self.told), len(self.answers)) - 1]
        if isinstance(answer, str):
            raise ReasonerUnavailable(answer)
        if isinstance(answer, Exception):
            raise answer
        memory = next(piece.id for piece in case.evidence if piece.tool == "memory_info")
        named = _replaced(answer, memory)
        draft = DiagnosisDraft.model_validate({**named, "reasoner": self.name})
        self.checked.append(check(draft, case.evidence, books()))
        return draft


def _replaced(answer: dict[str, Any], evidence: str) -> dict[str, Any]:
    claims = [
        {**claim, "facts": [{**fact, "evidence": evidence} for fact in claim["facts"]]}
        for claim in answer["claims"]
    ]
    return {**answer, "claims": claims}


async def worked(root_cause: str, *answers: Answer) -> tuple[Incident, Scripted]:
    model = Scripted(*answers)
    context = opened(recorded(root_cause), books(), model)
    return await investigate(context, await context.journal.incident()), model


INVENTED = says("single-bigkey", "{used} of 100 MiB, by millions of keys.")
RIGHT = says("missing-ttl-prefix-leak", "{used} are used.")


async def test_mismatches_go_back_word_for_word_and_a_corrected_answer_counts() -> None:
    incident, model = await worked("missing-ttl-prefix-leak", INVENTED, RIGHT)
    (first, none), (previous, told) = model.told
    assert (first, none) == (None, [])
    assert previous is not None
    assert previous.claims[0].text == INVENTED["claims"][0]["text"]
    assert told == model.checked[0]
    assert told == [
        "claim 1: '100' in the text is no fact: cite evidence for it, or leave it out",
        "claim 1: 'millions' in the text is no fact: cite evidence for it, or leave it out",
    ]
    assert incident.diagnosis is not None
    assert incident.diagnosis.overruled is None


async def test_the_last_correction_still_counts_and_no_further_one_is_asked_for() -> None:
    incident, model = await worked("missing-ttl-prefix-leak", INVENTED, INVENTED, RIGHT)
    assert len(model.told) == 1 + MOST_CORRECTIONS
    assert incident.diagnosis is not None
    assert incident.diagnosis.overruled is None


async def test_what_stays_wrong_leaves_the_rules_as_they_are_and_says_why() -> None:
    many = says("gremlins", "{used}", culprit={"kind": "key", "name": "x"})
    many["claims"] *= 3
    many["claims"] = [{**claim, "text": f"{claim['text']} of 1, 2, 3"} for claim in many["claims"]]
    incident, model = await worked("missing-ttl-prefix-leak", many)
    alone, _ = await worked("missing-ttl-prefix-leak", "the endpoint is gone")
    assert len(model.told) == 1 + MOST_CORRECTIONS
    assert model.told[1][1] == model.told[2][1] == model.checked[0]
    diagnosis, by_rules = incident.diagnosis, alone.diagnosis
    assert diagnosis is not None
    assert by_rules is not None
    assert diagnosis.overruled is not None
    reason = diagnosis.overruled.reason
    assert "root_cause 'gremlins' is not in the catalogue of causes" in reason
    assert f"and {len(model.told[1][1]) - MOST_SHOWN} more" in reason
    without: Callable[[Diagnosis], Diagnosis] = lambda one: one.model_copy(  # noqa: E731
        update={"overruled": None}
    )
    assert without(diagnosis) == without(by_rules)


async def test_a_model_that_leaves_during_a_correction_leaves_the_rules() -> None:
    incident, model = await worked("missing-ttl-prefix-leak", INVENTED, "its budget is spent")
    assert len(model.told) == 2
    assert incident.diagnosis is not None
    assert incident.diagnosis.reasoner == "rules"
    assert incident.diagnosis.overruled is not None
    assert told(incident.diagnosis.overruled) == (
        "openai gave no usable answer: its budget is spent"
    )


async def test_an_incident_that_only_the_model_sees_goes_to_a_person() -> None:
    incident, _ = await worked("cache-full-by-design", says("single-bigkey", "{used} are used."))
    assert incident.diagnosis is not None
    assert incident.diagnosis.root_cause == "cache-full-by-design"
    assert incident.diagnosis.escalate
    assert incident.diagnosis.overruled is not None
    assert incident.diagnosis.overruled.reason == BOTH_SURE
    assert incident.status == "needs_human"
    assert "a person decides" in incident.ended_because
    agreed, _ = await worked("cache-full-by-design", says("no-incident", "{used} are used."))
    assert agreed.status == "resolved"


async def test_what_a_reply_breaks_in_us_leaves_the_rules() -> None:
    """The sweeper would try again five times, and then no one had a diagnosis."""
    incident, _ = await worked("missing-ttl-prefix-leak", RecursionError("too deep"))
    assert incident.diagnosis is not None
    assert incident.diagnosis.root_cause == "missing-ttl-prefix-leak"
    assert incident.diagnosis.overruled is not None
    assert "a fault of ours, RecursionError" in incident.diagnosis.overruled.reason


async def test_a_draft_that_breaks_the_check_leaves_the_rules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def breaks(draft: DiagnosisDraft, *rest: Any) -> Diagnosis | list[str]:
        if draft.reasoner == "rules":
            return check(draft, *rest)
        raise OverflowError("int too large to convert to float")

    monkeypatch.setattr(steps, "check", breaks)
    incident, model = await worked("missing-ttl-prefix-leak", RIGHT)
    assert len(model.told) == 1 + MOST_CORRECTIONS
    assert incident.diagnosis is not None
    assert incident.diagnosis.root_cause == "missing-ttl-prefix-leak"
    assert incident.diagnosis.overruled is not None
    assert "a fault of ours, OverflowError" in incident.diagnosis.overruled.reason
