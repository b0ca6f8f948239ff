"""What the rules must show on the whole suite: one run of it, and nothing looser than promised.

One test, so that the suite is worked once however many workers share the tests: grouping them
(`xdist_group`) does nothing with the pytest and xdist that are pinned here.
"""

import operator
from collections.abc import Iterator

import pytest

from evals import scores
from evals.report import Report
from evals.suite import run_suite
from evals.truth import incidents

LONGEST_SECONDS = 120
A_FEW_FACTS = 0.01
BASELINE_SHARE = 0.75
"""Of our top-1: an answer that takes no thought and comes closer shows that the suite is easy."""
PROMISED = (
    ("top1", operator.ge, 0.97),
    ("culprit", operator.ge, 0.95),
    ("false_positive_rate", operator.eq, 0),
    ("harmful_proposed", operator.eq, 0),
    ("evidence_precision", operator.ge, 0.98),
    ("hallucinated_evidence", operator.eq, 0),
    ("failures", operator.eq, 0),
    ("ece", operator.le, 0.08),
)


def broken_promises(report: Report) -> Iterator[str]:
    for measure, holds, bound in PROMISED:
        if not holds(report[measure], bound):
            yield f"{measure}: {report[measure]}, promised {holds.__name__} {bound}"
    if report["auroc"] is None and report["top1"] < 1:  # undefined only where nothing is wrong
        yield "auroc is not defined"
    if report["auroc"] is not None and report["auroc"] < 0.8:
        yield f"auroc: {report['auroc']}, promised ge 0.8"
    held = report["held_back"]
    _, low, high = held["intervals"]["top1"]
    if held["top1"] < report["top1"] - (high - low) / 2:
        yield f"held back: {held['top1']}, the rules were tuned to the recordings"
    if held["n"] < report["n"] / 5:
        yield f"held back: only {held['n']} of {report['n']}"
    if (best := max(report["baselines"].values())) >= BASELINE_SHARE * report["top1"]:
        yield f"a trivial baseline comes close: {best}"


@pytest.mark.timeout(400)
@pytest.mark.long
def test_the_whole_suite_shows_what_was_promised_and_what_the_readme_says() -> None:
    """All but the times. Renew README with: redis-oncall evals run --write-readme."""
    shipped = incidents()
    report = run_suite(shipped)
    wrong = [
        row for row in report["incidents"] if not (row["right"] and row["culprit"]) or row["harm"]
    ]
    assert [*broken_promises(report)] == [], wrong
    shown = scores.read()
    # How far a walk over the keys comes depends on the machine's load, and with it a fact or two.
    assert abs(report["evidence_precision"] - shown["evidence_precision"]) < A_FEW_FACTS
    report["intervals"]["evidence_precision"] = shown["intervals"]["evidence_precision"]
    report["evidence_precision"] = shown["evidence_precision"]
    fresh = scores.short(report, shipped) | {name: shown[name] for name in ("seconds", "machine")}
    assert fresh["incidents"] == shown["incidents"]
    assert scores.block(fresh) == scores.block(shown)


def test_the_run_that_the_readme_shows_was_fast_enough() -> None:
    assert scores.read()["seconds"] < LONGEST_SECONDS
