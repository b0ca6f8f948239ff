"""What several runs of the same reasoner agree on."""

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from evals.score import Result


def repeats(runs: Sequence[Sequence[Result]]) -> dict[str, Any]:
    """Agreement of runs over the same incidents, in the same order.

    `same_cause` and `identical` are fractions of the incidents: the same root cause in every run;
    the same answer altogether (cause, culprit, contributing, confidence, plan).
    """
    by_incident = list(zip(*runs, strict=True))
    rates = [_mean([result.right for result in run]) for run in runs]
    return {
        "runs": len(runs),
        "top1": rates,
        "top1_mean": _mean(rates),
        "top1_stdev": statistics.stdev(rates) if len(rates) > 1 else 0.0,
        "culprit": [_mean([result.culprit_right for result in run]) for run in runs],
        "same_cause": _mean([len({r.got for r in each}) == 1 for each in by_incident]),
        "identical": _mean([_all_alike(each) for each in by_incident]),
        "always_right": _mean([all(r.right for r in each) for each in by_incident]),
        "ever_right": _mean([any(r.right for r in each) for each in by_incident]),
        "differing": [_differing(each) for each in by_incident if not _all_alike(each)],
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _all_alike(each: Sequence[Result]) -> bool:
    return all(_answer(result) == _answer(each[0]) for result in each)


def _answer(result: Result) -> tuple[Any, ...]:
    """All that a person would act on."""
    said = result.diagnosis
    if said is None:
        return ("failed",)
    actions = [(action.kind, str(action.arguments), action.commands) for action in result.actions]
    return said.root_cause, said.culprit, said.contributing, said.confidence, actions


def _differing(each: Sequence[Result]) -> dict[str, Any]:
    confidences = [result.diagnosis.confidence for result in each if result.diagnosis]
    return {
        "id": each[0].id,
        "right": sum(result.right for result in each),
        "got": dict(Counter(result.got for result in each)),
        "confidence": [min(confidences), max(confidences)] if confidences else None,
    }
