"""Two diagnoses, one answer. Pure: never worse than the rules, and both are shown."""

from collections.abc import Collection

from agent.claims import UNKNOWN, how_sure
from agent.incident import Alternative, Claim, Diagnosis, Overruled

UNSURE_BELOW = 0.6
"""Confidence below which a diagnosis counts as unsure. To be calibrated on the suite."""
TIE_WITHIN = 0.05
"""The runner-up is this close to the rules' cause: they did not decide."""
DISAGREEMENT = 0.7
"""What is left of the rules' confidence when a sure model names another cause."""
MOST_CLAIMS = 12
MODEL_FAILED = "openai"


def arbitrate(
    rules: Diagnosis,
    model: Diagnosis | None,
    supported: Collection[str],
    ruled_out: Collection[str],
    model_failure: str = "",
) -> Diagnosis:
    """The diagnosis that stands, with the other one kept in `overruled`.

    `supported` and `ruled_out`: the signals that fired for and against the model's cause.
    """
    if model is None:
        return _without_model(rules, model_failure)
    if _same(rules, model):
        return _agreed(rules, model)
    if model.root_cause in rules.contributing:
        reason = f"{model.root_cause} contributes, but is not the root cause"
        return _standing(rules, loser=model, reason=reason)
    unsure = _why_unsure(rules)
    if unsure and supported and not ruled_out:
        reason = f"{unsure}, and evidence supports {model.root_cause}: {_listed(supported)}"
        return _standing(model, loser=rules, reason=reason)
    if unsure:
        against = f"ruled out by {_listed(ruled_out)}" if ruled_out else "no signal supports it"
        return _standing(rules, loser=model, reason=f"{model.root_cause}: {against}")
    if model.confidence < UNSURE_BELOW or model.root_cause == UNKNOWN:
        return _standing(rules, loser=model, reason="the rules are sure, the model is not")
    return _disputed(rules, model)


def _without_model(rules: Diagnosis, failure: str) -> Diagnosis:
    if not failure:
        return rules
    # Kept as the loser with no cause of its own: the incident says why the rules decided.
    lost = Overruled(
        reasoner=MODEL_FAILED,
        root_cause=UNKNOWN,
        confidence=0.0,
        reason=f"no usable answer: {failure}",
    )
    return rules.model_copy(update={"overruled": lost})


def _same(rules: Diagnosis, model: Diagnosis) -> bool:
    """The same cause; or both find that nothing has to be done, by whatever name."""
    return rules.root_cause == model.root_cause or not (rules.is_incident or model.is_incident)


def _agreed(rules: Diagnosis, model: Diagnosis) -> Diagnosis:
    """The rules' diagnosis and calibrated confidence, with what the model found besides."""
    claims: dict[str, Claim] = {claim.text: claim for claim in [*rules.claims, *model.claims]}
    unnamed = rules.culprit.kind == "none"
    return rules.model_copy(
        update={
            "claims": list(claims.values())[:MOST_CLAIMS],
            "culprit": model.culprit if unnamed else rules.culprit,
            "hypothesis": rules.hypothesis or model.hypothesis,
            "not_measured": _both(rules.not_measured, model.not_measured),
        }
    )


def _why_unsure(rules: Diagnosis) -> str:
    """Why the rules did not decide; empty if they did."""
    if rules.root_cause == UNKNOWN:
        return "the rules found no cause"
    if rules.confidence < UNSURE_BELOW:
        return f"the rules are unsure ({how_sure(rules.confidence)})"
    closest = max((other.confidence for other in rules.alternatives), default=0.0)
    return "the rules tie" if rules.confidence - closest < TIE_WITHIN else ""


def _standing(winner: Diagnosis, loser: Diagnosis, reason: str) -> Diagnosis:
    return winner.model_copy(
        update={
            "overruled": _overruled(loser, reason),
            "not_measured": _both(winner.not_measured, loser.not_measured),
        }
    )


def _disputed(rules: Diagnosis, model: Diagnosis) -> Diagnosis:
    """Both are sure and differ: the rules' cause, less sure, and a person decides."""
    reason = "the rules and the model are both sure and differ; a person should compare them"
    stands = _standing(rules, loser=model, reason=reason)
    known = {other.root_cause for other in rules.alternatives}
    other = Alternative(root_cause=model.root_cause, confidence=model.confidence, why_not=reason)
    lowered = round(rules.confidence * DISAGREEMENT, 4)
    return stands.model_copy(
        update={
            "confidence": lowered,
            "summary": rules.summary.replace(how_sure(rules.confidence), how_sure(lowered)),
            "escalate": True,
            "alternatives": rules.alternatives + ([] if other.root_cause in known else [other]),
        }
    )


def _overruled(loser: Diagnosis, reason: str) -> Overruled:
    return Overruled(
        reasoner=loser.reasoner,
        root_cause=loser.root_cause,
        confidence=loser.confidence,
        reason=reason,
    )


def _both(first: list[str], second: list[str]) -> list[str]:
    return list(dict.fromkeys([*first, *second]))


def _listed(signals: Collection[str]) -> str:
    return ", ".join(sorted(signals))
