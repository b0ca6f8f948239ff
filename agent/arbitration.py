"""Two diagnoses, one answer. Pure: never worse than the rules, and both are shown."""

from typing import Any

from agent.claims import UNKNOWN, how_sure, summary_of
from agent.incident import Alternative, Culprit, Diagnosis, Hypothesis, Overruled
from agent.rules import ESCALATE_BELOW
from agent.standing import Standing

UNSURE_BELOW = 0.5
"""Confidence below which the rules count as unsure. Read off the suite with one look taken away
at a time (`evals/unsure.py`): below it one named cause in six was wrong (7 of 40, in five
incidents: few), from it on fewer than one in a hundred. The held-back third was alike."""
SURE = 0.6
"""Confidence from which a model counts as sure; its own word, "fairly sure", is all there is."""
TIE_WITHIN = 0.05
"""The runner-up is this close to the rules' cause: they did not decide."""
DISAGREEMENT = 0.7
"""What is left of the rules' confidence when a sure model names another cause."""
MOST_CONTRIBUTING = 8
MODEL_FAILED = "openai"
_NO_ANSWER = "no usable answer: "
BOTH_SURE = "the rules and the model are both sure and differ; a person should compare them"


def arbitrate(
    rules: Diagnosis, model: Diagnosis | None, standing: Standing, model_failure: str = ""
) -> Diagnosis:
    """The diagnosis that stands, with the other one kept in `overruled`.

    `standing`: what the signals say of the model's cause. It wins only where the rules did not
    decide and nothing stands against it; then it is no surer than the evidence allows.
    """
    if model is None:
        return _without_model(rules, model_failure)
    if _same(rules, model):
        return _agreed(rules, model, standing)
    if undecided := _why_undecided(rules, model):
        against = _against(rules, model, standing)
        if not against:
            told = ", ".join(standing.telling)
            reason = f"{undecided}, and evidence supports {model.root_cause}: {told}"
            return _bounded(_standing(model, loser=rules, reason=reason), rules, standing)
        kept = _standing(rules, loser=model, reason=f"{model.root_cause}: {against}")
        return _suspecting(kept, model, standing)
    if model.root_cause in rules.contributing:
        reason = f"{model.root_cause} contributes, but is not the root cause"
        return _standing(rules, loser=model, reason=reason)
    if model.confidence < SURE or model.root_cause == UNKNOWN:
        return _standing(rules, loser=model, reason="the rules are sure, the model is not")
    return _disputed(rules, model)


def is_disputed(diagnosis: Diagnosis) -> bool:
    """Both were sure and differed: a person decides, also whether it is an incident at all."""
    return diagnosis.overruled is not None and diagnosis.overruled.reason == BOTH_SURE


def _without_model(rules: Diagnosis, failure: str) -> Diagnosis:
    if not failure:
        return rules
    # Kept as the loser with no cause of its own: the incident says why the rules decided.
    lost = Overruled(
        reasoner=MODEL_FAILED,
        root_cause=UNKNOWN,
        confidence=0.0,
        reason=f"{_NO_ANSWER}{failure}",
    )
    return rules.model_copy(update={"overruled": lost})


def without_answer(lost: Overruled) -> str:
    """Why a model gave no answer at all; empty if it gave one that did not stand."""
    if lost.reasoner != MODEL_FAILED or not lost.reason.startswith(_NO_ANSWER):
        return ""
    return lost.reason.removeprefix(_NO_ANSWER)


def told(lost: Overruled) -> str:
    """Whoever did not decide, in one sentence without its full stop."""
    if because := without_answer(lost):
        return f"{lost.reasoner} gave no usable answer: {because}"
    sure = how_sure(lost.confidence)
    return f"{lost.reasoner} said {lost.root_cause} ({sure}); overruled: {lost.reason}"


def _same(rules: Diagnosis, model: Diagnosis) -> bool:
    """The same cause; or both find that nothing has to be done, by whatever name."""
    return rules.root_cause == model.root_cause or not (rules.is_incident or model.is_incident)


def _agreed(rules: Diagnosis, model: Diagnosis, standing: Standing) -> Diagnosis:
    """The rules' diagnosis and calibrated confidence; a culprit if they named none.

    The model's claims stay in its transcript: true numbers that tell nothing made the evidence of
    the suite worse (98.7 % to 88.3 % with the scripted model `right`).
    """
    # Of another name for "nothing has to be done", nobody is guilty.
    named = rules.root_cause == model.root_cause and rules.culprit.kind == "none"
    return _retold(
        rules,
        culprit=_culprit(model, standing) if named else rules.culprit,
        hypothesis=rules.hypothesis or model.hypothesis,
        not_measured=_both(rules.not_measured, model.not_measured),
    )


def _why_undecided(rules: Diagnosis, model: Diagnosis) -> str:
    """Why the rules leave this to the model; empty if they decided."""
    if rules.root_cause == UNKNOWN:
        return "the rules found no cause"
    if rules.confidence < UNSURE_BELOW:
        return f"the rules are unsure ({how_sure(rules.confidence)})"
    # Who breaks a tie chooses between the two; a third cause is another opinion.
    tied = any(
        other.root_cause == model.root_cause and rules.confidence - other.confidence < TIE_WITHIN
        for other in rules.alternatives
    )
    return f"the rules tie {rules.root_cause} with it" if tied else ""


def _against(rules: Diagnosis, model: Diagnosis, standing: Standing) -> str:
    """Why the model's cause does not become the answer; empty if it does."""
    if model.root_cause == UNKNOWN:
        return "the model found no cause either"
    if rules.is_incident and not model.is_incident:
        # The worse error of the two: nobody looks again.
        return "that nothing is wrong is for the rules, or a person, to say"
    return standing.against


def _standing(winner: Diagnosis, loser: Diagnosis, reason: str) -> Diagnosis:
    return winner.model_copy(
        update={
            "overruled": _overruled(loser, reason),
            "not_measured": _both(winner.not_measured, loser.not_measured),
        }
    )


def _bounded(model: Diagnosis, rules: Diagnosis, standing: Standing) -> Diagnosis:
    """The model's diagnosis as far as evidence carries it: how sure, whose fault, what besides.

    Remedies follow from the culprit and from what contributes, so neither is the model's word.
    """
    confidence = min(model.confidence, round(standing.confidence, 2))
    besides = _both(model.contributing, rules.contributing)
    if model.root_cause in rules.contributing:
        besides.append(rules.root_cause)  # the same two, the other way round
    named = [one for one in besides if one in standing.evidenced and one != model.root_cause]
    return _retold(
        model,
        confidence=confidence,
        culprit=_culprit(model, standing),
        contributing=named[:MOST_CONTRIBUTING],
        alternatives=[
            other.model_copy(update={"confidence": min(other.confidence, confidence)})
            for other in model.alternatives
        ],
        escalate=model.escalate or confidence < ESCALATE_BELOW,
    )


def _culprit(model: Diagnosis, standing: Standing) -> Culprit:
    """The model's, if a signal of its cause names it too; else whom the strongest one names.

    That a name occurs in evidence makes nobody guilty.
    """
    if model.culprit in standing.culprits:
        return model.culprit
    return standing.culprits[0] if standing.culprits else Culprit()


def _suspecting(rules: Diagnosis, model: Diagnosis, standing: Standing) -> Diagnosis:
    """An `unknown` keeps what the model suspects, unless a signal rules it out."""
    suspected = model.is_incident and model.root_cause != UNKNOWN and not standing.contradicted
    if rules.root_cause != UNKNOWN or rules.hypothesis is not None or not suspected:
        return rules
    hypothesis = Hypothesis(title=model.title, claims=model.claims)
    return rules.model_copy(update={"hypothesis": hypothesis})


def _disputed(rules: Diagnosis, model: Diagnosis) -> Diagnosis:
    """Both are sure and differ: the rules' cause, less sure, and a person decides."""
    stands = _standing(rules, loser=model, reason=BOTH_SURE)
    known = {other.root_cause for other in rules.alternatives}
    other = Alternative(root_cause=model.root_cause, confidence=model.confidence, why_not=BOTH_SURE)
    return _retold(
        stands,
        confidence=round(rules.confidence * DISAGREEMENT, 4),
        escalate=True,
        alternatives=rules.alternatives + ([] if other.root_cause in known else [other]),
    )


def _retold(diagnosis: Diagnosis, **changes: Any) -> Diagnosis:
    """With these changes, and a summary that says them."""
    changed = diagnosis.model_copy(update=changes)
    return changed.model_copy(update={"summary": summary_of(changed)})


def _overruled(loser: Diagnosis, reason: str) -> Overruled:
    return Overruled(
        reasoner=loser.reasoner,
        root_cause=loser.root_cause,
        confidence=loser.confidence,
        reason=reason,
    )


def _both(first: list[str], second: list[str]) -> list[str]:
    return list(dict.fromkeys([*first, *second]))
