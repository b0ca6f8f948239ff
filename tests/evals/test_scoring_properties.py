"""What has to hold of the scoring whatever is scored."""

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.causes import CATALOGUED, NOT_INCIDENTS
from agent.incident import Action, Culprit, Diagnosis
from evals.score import (
    Result,
    auroc,
    brier,
    calibration_error,
    reliability,
    summary,
    wilson,
)
from evals.truth import Truth

CAUSES = sorted({*CATALOGUED, "unknown", "no-incident"})
QUIET = {*NOT_INCIDENTS, "no-incident"}
PAIRS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=40)


@given(st.integers(0, 500), st.integers(0, 500))
def test_an_interval_holds_its_value(hits: int, more: int) -> None:
    value, low, high = wilson(hits, hits + more)
    assert 0 <= low <= value <= high <= 1
    if hits and more:
        assert low < value < high


@given(st.integers(0, 60), st.integers(1, 60))
def test_more_of_the_same_narrows_an_interval(hits: int, more: int) -> None:
    _, low, high = wilson(hits, hits + more)
    _, lower, higher = wilson(4 * hits, 4 * (hits + more))
    assert higher - lower < high - low


@given(PAIRS)
def test_the_area_is_the_share_of_pairs_in_order(pairs: list[tuple[float, bool]]) -> None:
    rights = [confidence for confidence, right in pairs if right]
    wrongs = [confidence for confidence, right in pairs if not right]
    won = [
        1.0 if right > wrong else 0.5 if right == wrong else 0.0
        for right, wrong in itertools.product(rights, wrongs)
    ]
    expected = sum(won) / len(won) if won else None
    assert auroc(pairs) == (None if expected is None else pytest.approx(expected))


@given(PAIRS)
def test_the_area_knows_only_the_order(pairs: list[tuple[float, bool]]) -> None:
    levels = sorted({confidence for confidence, _ in pairs})
    rank = {confidence: place for place, confidence in enumerate(levels)}
    stretched = [(math.atan(rank[confidence]) / 2, right) for confidence, right in pairs]
    turned = [(-rank[confidence], right) for confidence, right in pairs]
    area = auroc(pairs)
    assert auroc(stretched) == area
    assert auroc(turned) == (None if area is None else pytest.approx(1 - area))


@given(PAIRS)
def test_calibration_is_bounded(pairs: list[tuple[float, bool]]) -> None:
    score = brier(pairs)
    assert (score is None) == (not pairs)
    if score is None:
        return
    assert 0 <= score <= 1
    assert 0 <= calibration_error(pairs) <= 1 + 1e-12
    rows = reliability(pairs)
    assert sum(row["n"] for row in rows) == len(pairs)
    for row in rows:
        assert row["from"] - 1e-12 <= row["confidence"] <= row["to"] + 1e-12
    # Murphy: within a bin, no score beats saying the bin's own share.
    gap = calibration_error(pairs)
    assert score >= gap * gap - 1e-12


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_saying_what_comes_true_is_perfect_and_the_opposite_is_worst(rights: list[bool]) -> None:
    sure = [(float(right), right) for right in rights]
    wrong = [(float(not right), right) for right in rights]
    assert (brier(sure), calibration_error(sure)) == (0, 0)
    assert (brier(wrong), calibration_error(wrong)) == (1, 1)
    if len(set(rights)) == 2:
        assert (auroc(sure), auroc(wrong)) == (1, 0)


# -- the whole ------------------------------------------------------------------------------


def truth(cause: str, second: str = "") -> Truth:
    who = Culprit() if cause in QUIET or cause == "unknown" else Culprit(kind="key", name="a:b")
    return Truth.model_validate(
        {
            "root_cause": [cause],
            "culprit": [who.model_dump()],
            "contributing": [],
            "also": [second] if second and second != cause else [],
            "is_incident": cause not in QUIET,
            "fault": cause,
            "build": "redis-7.0",
            "seed": 1,
        }
    )


def perfect(name: str, wanted: Truth) -> Result:
    """Cause, culprit, everything that contributes, and advice on each."""
    cause = wanted.root_cause[0]
    curable = wanted.is_incident and cause != "unknown"
    said = Diagnosis(
        root_cause=cause,
        title=cause,
        is_incident=wanted.is_incident,
        confidence=1.0,
        summary="",
        contributing=wanted.also,
        culprit=wanted.culprit[0],
    )
    advised = [
        Action(id="A1", fingerprint="f", kind="advise_application", title="", risk="R0",
               arguments={"topic": topic}, executable=False)
        for topic in ([cause, *wanted.also] if curable else [])
    ]  # fmt: skip
    return Result(name, wanted, held_back=False, diagnosis=said, actions=tuple(advised))


TRUTHS = st.lists(
    st.builds(truth, st.sampled_from(CAUSES), st.sampled_from(["", "hot-key", "single-bigkey"])),
    min_size=1,
    max_size=12,
)


@given(TRUTHS)
def test_a_perfect_reasoner_scores_perfectly(truths: list[Truth]) -> None:
    document = summary("perfect", [perfect(str(n), one) for n, one in enumerate(truths)], 1.0)
    for name in ("top1", "culprit", "contributing_exact", "abstention_right"):
        assert document[name] == 1, name
    for name in ("false_positive_rate", "harmful_proposed", "harmful_advised", "failures",
                 "hallucinated_evidence", "ece", "brier"):  # fmt: skip
        assert document[name] == 0, name
    assert document["remedies"]["missing"] == 0
    assert document["contributing"]["precision"] in (None, 1)
    assert document["contributing"]["recall"] in (None, 1)


@given(TRUTHS)
def test_a_reasoner_that_crashes_scores_nothing(truths: list[Truth]) -> None:
    crashed = [Result(str(n), one, False, None, failure="x") for n, one in enumerate(truths)]
    document = summary("broken", crashed, 1.0)
    for name in ("top1", "culprit", "contributing_exact", "abstention_right", "remedy_found"):
        assert document[name] == 0, name
    assert document["failures"] == document["n"] == len(truths)
    assert document["remedies"]["missing"] == document["remedies"]["curable"]
    assert document["auroc"] is None
    if any(not one.is_incident for one in truths):
        assert document["false_positive_rate"] == 1


@given(TRUTHS, st.lists(st.sampled_from(CAUSES), min_size=12, max_size=12), st.randoms())
def test_the_order_of_the_suite_does_not_matter(
    truths: list[Truth], answers: list[str], random: Any
) -> None:
    results = []
    for number, (wanted, answer) in enumerate(zip(truths, answers, strict=False)):
        one = perfect(str(number), wanted)
        said = one.diagnosis.model_copy(  # type: ignore[union-attr]
            update={"root_cause": answer, "confidence": (number * 37 % 11) / 10}
        )
        results.append(Result(one.id, wanted, number % 3 == 0, said, actions=one.actions))
    document = summary("x", results, 1.0)
    shuffled = list(results)
    random.shuffle(shuffled)
    again = summary("x", shuffled, 1.0)
    again["incidents"].sort(key=lambda row: int(row["id"]))
    assert again == document


@given(TRUTHS, st.sampled_from(CAUSES))
def test_slices_add_up(truths: list[Truth], answer: str) -> None:
    results = [
        Result(str(n), one, n % 2 == 0, perfect(str(n), truth(answer)).diagnosis)
        for n, one in enumerate(truths)
    ]
    document = summary("x", results, 1.0)
    for family in ("build:", "fault:", "kind:", "section:"):
        parts = [part for name, part in document["slices"].items() if name.startswith(family)]
        assert sum(part["n"] for part in parts) == len(truths)
        hits = sum(part["top1"] * part["n"] for part in parts)
        assert hits == pytest.approx(document["top1"] * len(truths))
    halves = [document["slices"].get(name, {"n": 0})["n"] for name in ("held back", "open")]
    assert halves == [document["held_back"]["n"], len(truths) - document["held_back"]["n"]]
