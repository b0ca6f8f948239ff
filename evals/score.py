"""Scoring: pure, deterministic, no model as judge. Failures count as wrong, never as missing.

What each measure means, and why, is in SCORING.md.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from agent.causes import SECTIONS
from agent.incident import Fact
from evals.baselines import baseline_details, baselines, threshold_page, threshold_rule
from evals.calibration import auroc, brier, calibration_error, reliability
from evals.discrimination import Answer, Reference, tells, with_carried
from evals.harm import UNKNOWN, harmful
from evals.rates import Rate, rate_of, wilson
from evals.result import Result, same_culprit
from evals.scoring_facts import Checked, recomputed

__all__ = [
    "Checked", "Rate", "Result", "auroc", "baseline_details", "baselines", "brier",
    "calibration_error", "evidence_of", "harmful", "recomputed", "reference_of", "reliability",
    "same_culprit", "summary", "threshold_page", "threshold_rule", "wilson",
]  # fmt: skip

_SECTION_OF = {cause: section for section, causes in SECTIONS.items() for cause in causes}
_QUIET = "no-incident"


def summary(
    reasoner: str,
    results: Sequence[Result],
    seconds: float,
    reference: Reference | None = None,
) -> dict[str, Any]:
    """The document that `evals run --json` prints.

    `reference`: the servers that facts are compared with; without it, those of the results.
    """
    reference = reference or reference_of(results)
    evidence = {result.id: evidence_of(result, reference) for result in results}
    rates = _rates(results) | _further_rates(results, evidence.values())
    details = baseline_details(results)
    return {
        "reasoner": reasoner,
        "n": len(results),
        **{name: rate[0] for name, rate in rates.items()},
        "harmful_proposed": sum(len(result.harm) for result in results),
        "harmful_advised": sum(len(result.harmful_advice) for result in results),
        "hallucinated_evidence": sum(not fact.exists for r in results for fact in r.facts),
        "failures": sum(result.diagnosis is None for result in results),
        **_calibration(results),
        "median_llm_calls": _median(result.usage.llm_calls for result in results),
        "median_input_tokens": _median(result.usage.input_tokens for result in results),
        "seconds": round(seconds, 3),
        "intervals": {name: list(rate) for name, rate in rates.items()},
        "evidence": _evidence(evidence.values(), reference),
        "contributing": _contributing(results),
        "abstention": _abstention(results),
        "remedies": _remedies(results),
        "reliability": reliability([(result.confidence, result.right) for result in results]),
        "held_back": _held_back(results),
        "slices": {name: _part(part) for name, part in sorted(_slices(results).items())},
        "baselines": {name: detail["top1"] for name, detail in details.items()},
        "baseline_details": details,
        "incidents": [_row(result, evidence[result.id]) for result in results],
    }


# -- rates ----------------------------------------------------------------------------------


def _rates(results: Sequence[Result]) -> dict[str, Rate]:
    quiet = [result for result in results if not result.truth.is_incident]
    return {
        "top1": rate_of(result.right for result in results),
        "culprit": rate_of(result.culprit_right for result in results if result.truth.culprit),
        "false_positive_rate": rate_of(result.false_positive for result in quiet),
    }


def _further_rates(
    results: Sequence[Result], evidence: Iterable["EvidenceCount"]
) -> dict[str, Rate]:
    counts = list(evidence)
    curable = [result for result in results if _curable(result)]
    return {
        "evidence_precision": wilson(sum(c.good for c in counts), sum(c.facts for c in counts)),
        "contributing_exact": rate_of(_exact(result) for result in results),
        "abstention_right": rate_of(_abstention_right(result) for result in results),
        "remedy_found": rate_of(not result.missing for result in curable),
    }


def _calibration(results: Sequence[Result]) -> dict[str, float | None]:
    pairs = [(result.confidence, result.right) for result in results]
    return {"ece": calibration_error(pairs), "brier": brier(pairs), "auroc": auroc(pairs)}


def _exact(result: Result) -> bool:
    """Root cause right, nothing stray beside it, nothing overlooked."""
    return result.right and not result.stray and not result.overlooked


def _curable(result: Result) -> bool:
    return result.truth.is_incident and not result.unknowable


def _contributing(results: Sequence[Result]) -> dict[str, Any]:
    named = sum(len(result.contributing) for result in results)
    stray = sum(len(result.stray) for result in results)
    wanted = sum(len(result.truth.also) for result in results)
    overlooked = sum(len(result.overlooked) for result in results)
    return {
        "named": named,
        "precision": 1 - stray / named if named else None,
        "wanted": wanted,
        "recall": 1 - overlooked / wanted if wanted else None,
    }


def _abstention_right(result: Result) -> bool:
    """Said `unknown` exactly where nobody can know; a crash decided nothing."""
    if result.diagnosis is None:
        return False
    if result.got == UNKNOWN:
        return result.unknowable
    return result.truth.root_cause != [UNKNOWN]


def _abstention(results: Sequence[Result]) -> dict[str, int]:
    unknowable = [result for result in results if result.unknowable]
    knowable = [result for result in results if not result.unknowable]
    return {
        "unknowable": len(unknowable),
        "said_unknown_rightly": sum(result.got == UNKNOWN for result in unknowable),
        "answered_what_nobody_knows": sum(
            not _abstention_right(result) for result in unknowable if result.diagnosis
        ),
        "knowable": len(knowable),
        "said_unknown_wrongly": sum(result.got == UNKNOWN for result in knowable),
    }


def _remedies(results: Sequence[Result]) -> dict[str, int]:
    verdicts = [judged.verdict for result in results for judged in result.judged]
    curable = [result for result in results if _curable(result)]
    return {
        "proposals": len(verdicts),
        "correct": verdicts.count("correct"),
        "other": verdicts.count("other"),
        "harmful": verdicts.count("harmful"),
        "harmful_advice": verdicts.count("harmful advice"),
        "curable": len(curable),
        "missing": sum(bool(result.missing) for result in curable),
    }


# -- evidence -------------------------------------------------------------------------------


class EvidenceCount:
    """Of the facts of one diagnosis."""

    def __init__(self, facts: int) -> None:
        self.facts = facts
        self.recompute = self.alone = self.tell = self.good = 0


def reference_of(results: Sequence[Result]) -> Reference:
    """Servers to compare with: plainly healthy ones, and sick ones.

    Not those full by design or with something striking put beside: they are there to mislead.
    """
    seen = [result for result in results if result.readings]
    return Reference(
        healthy={
            result.id: result.readings
            for result in seen
            if _QUIET in result.truth.root_cause
            and not result.truth.is_incident
            and result.truth.kind != "red-herring"
        },
        sick={result.id: result.readings for result in seen if result.truth.is_incident},
    )


def evidence_of(result: Result, reference: Reference) -> EvidenceCount:
    """How many facts recompute, tell, and do both. Without enough to compare: recompute."""
    count = EvidenceCount(len(result.facts))
    count.recompute = sum(fact.recomputes for fact in result.facts)
    if not reference.enough or result.diagnosis is None:
        count.good = count.recompute
        return count
    said = result.diagnosis
    cited = {piece.id: (piece.tool, piece.reading) for piece in result.evidence}
    answer = Answer(result.id, said.is_incident, said.root_cause == _QUIET, result.truth.culprit)

    def tell(fact: Fact) -> bool:
        return tells(fact, cited, answer, reference)

    checked = iter(result.facts)
    for claim in said.claims:
        marks = [(tell(fact), one.recomputes) for fact, one in zip(claim.facts, checked)]  # noqa: B905
        alone = sum(told for told, _ in marks)
        count.alone += alone
        count.tell += with_carried(alone, len(marks))
        sound = [told for told, recomputes in marks if recomputes]
        count.good += with_carried(sum(sound), len(sound))
    return count


def _evidence(counts: Iterable[EvidenceCount], reference: Reference) -> dict[str, Any]:
    every = list(counts)
    facts = sum(count.facts for count in every)

    def share(of: Callable[[EvidenceCount], int]) -> float | None:
        return sum(map(of, every)) / facts if facts else None

    compared = reference.enough
    return {
        "facts": facts,
        "recomputes": share(lambda count: count.recompute),
        "discriminates": share(lambda count: count.tell) if compared else None,
        "discriminates_alone": share(lambda count: count.alone) if compared else None,
        "compared_with": len(reference.healthy),
    }


# -- parts ----------------------------------------------------------------------------------


def _part(results: Sequence[Result]) -> dict[str, Any]:
    rates = _rates(results)
    if all(result.truth.is_incident for result in results):
        del rates["false_positive_rate"]  # of nothing
    return {
        "n": len(results),
        "top1": rates["top1"][0],
        "culprit": rates["culprit"][0],
        "false_positive_rate": rates.get("false_positive_rate", (None,))[0],
        **_calibration(results),
        "harmful_proposed": sum(len(result.harm) for result in results),
        "failures": sum(result.diagnosis is None for result in results),
        "intervals": {name: list(rate) for name, rate in rates.items()},
    }


def _held_back(results: Sequence[Result]) -> dict[str, Any]:
    """The part nobody looked at, and by how much its top-1 is behind that of the rest.

    `overfitted`: by more than half of its own interval's width; null where a part is empty.
    """
    part = _part([result for result in results if result.held_back])
    rest = [result.right for result in results if not result.held_back]
    value, low, high = part["intervals"]["top1"]
    behind = rate_of(rest)[0] - value if rest and part["n"] else None
    overfitted = None if behind is None else behind > (high - low) / 2
    return part | {"behind": behind, "overfitted": overfitted}


def _slices(results: Sequence[Result]) -> dict[str, list[Result]]:
    slices: dict[str, list[Result]] = {}
    for result in results:
        truth = result.truth
        names = (
            f"build:{truth.build}",
            f"fault:{truth.fault}",
            f"kind:{truth.kind}",
            f"section:{_section(truth.root_cause)}",
            "held back" if result.held_back else "open",
            "incidents" if truth.is_incident else "not incidents",
        )
        for name in names:
            slices.setdefault(name, []).append(result)
    return slices


def _section(causes: Sequence[str]) -> str:
    """Of the catalogue, by the first cause that has one."""
    known = next((_SECTION_OF[cause] for cause in causes if cause in _SECTION_OF), None)
    return known or ("no incident" if _QUIET in causes else "uncatalogued")


def _median(values: Iterable[int]) -> float:
    numbers = list(values)
    return float(statistics.median(numbers)) if numbers else 0.0


def _row(result: Result, evidence: EvidenceCount) -> dict[str, Any]:
    said = result.diagnosis
    row: Mapping[str, Any] = {
        "id": result.id,
        "kind": result.truth.kind,
        "held_back": result.held_back,
        "expected": result.truth.root_cause,
        "got": result.got,
        "right": result.right,
        "named": said.culprit.model_dump() if said else None,
        "culprit": result.culprit_right,
        "confidence": said.confidence if said else None,
        "escalated": bool(said and said.escalate),
        "decided_by": said.reasoner if said else None,
        "overruled": said.overruled.root_cause if said and said.overruled else None,
        "hypothesis": said.hypothesis.title if said and said.hypothesis else None,
        "seconds": round(result.seconds, 3),
        "harm": result.harm,
        "harmful_advice": result.harmful_advice,
        "missing": result.missing,
        "contributing": sorted(result.contributing),
        "overlooked": sorted(result.overlooked),
        "evidence": [evidence.good, evidence.facts],
        "failure": result.failure,
    }
    return dict(row)
