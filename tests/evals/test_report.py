"""Reports: for people, for build servers, for README."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from evals import scores
from evals.report import Report, junit, markdown
from evals.truth import incidents


@pytest.fixture
def report() -> Report:
    rate = [0.25, 0.0456, 0.6994]
    row = {
        "kind": "single", "held_back": False, "expected": ["single-bigkey"], "right": True,
        "got": "single-bigkey", "named": {"kind": "key", "name": "cart:all"}, "culprit": True,
        "confidence": 0.915, "seconds": 0.21, "harm": [], "failure": "",
    }  # fmt: skip
    crash = row | {"got": "failed", "right": False, "culprit": False, "named": None,
                   "confidence": None, "failure": "KeyError: '<x>\x00|'"}  # fmt: skip
    part: Report = {"n": 3, "top1": 0.25, "culprit": 1.0,
            "intervals": {"top1": rate, "culprit": [1.0, 0.4, 1.0]}}  # fmt: skip
    return {
        "reasoner": "rules", "n": 3, "top1": 0.25, "culprit": 1.0, "harmful_proposed": 2,
        "hallucinated_evidence": 0, "ece": 0.0713, "auroc": 0.912, "seconds": 4.0,
        "machine": "2 cores", "intervals": part["intervals"], "held_back": part,
        "slices": {"kind:single": part, "build:redis-7.0": part},
        "baselines": {"always_healthy": 0.1, "threshold_rule": 0.3},
        "reliability": [{"from": 0.9, "n": 3, "right": 0.25}],
        "abstention": {"right": 2, "wrong": 1},
        "incidents": [
            row | {"id": "a"},
            row | {"id": "b", "got": "hot-key", "right": False, "remedies": {"missing": ["x"]}},
            crash | {"id": "c"},
        ],
    }  # fmt: skip


def test_the_page_shows_whatever_is_measured(report: Report) -> None:
    page = markdown(report)
    for line in (
        "| root cause (top-1) | 25.0% | 4.6% to 69.9% |",
        "| held back: root cause (top-1) | 25.0% | 4.6% to 69.9% |",
        "| harmful remedies proposed | 2 |  |",
        "| AUROC of confidence | 0.912 |  |",
        "| threshold_rule | 30.0% |",
        "| build:redis-7.0 | 3 | 25.0% | 100.0% |",
        "| from | n | right |",
        "| 0.9 | 3 | 0.25 |",
        "## abstention",
        "| wrong | 1 |",
    ):
        assert f"{line}\n" in page, line
    named = "single-bigkey | hot-key | **wrong** | key cart:all | right | 0.92 | 0.21"
    assert f"| b | single | {named} |" in page
    assert "missing x |" in page
    assert "KeyError: '<x>\x00\\|' |" in page


def test_junit_tells_crashes_from_wrong_answers(report: Report) -> None:
    suite = ET.fromstring(junit(report))
    assert (suite.attrib["tests"], suite.attrib["failures"], suite.attrib["errors"]) == (
        "3", "1", "1",
    )  # fmt: skip
    good, wrong, crashed = suite
    assert len(good) == 0
    assert wrong[0].attrib["message"] == "expected single-bigkey, got hot-key"
    assert "KeyError: '<x>" in crashed[0].attrib["message"]


def test_the_readme_is_renewed_between_its_markers(tmp_path: Path, report: Report) -> None:
    readme, kept = tmp_path / "README.md", tmp_path / "scores.json"
    readme.write_text("# Title\n\n<!-- scores -->\nold\n<!-- /scores -->\n\n## After\n")
    short = scores.short(report, incidents()[:3])
    scores.write(short, readme, kept)
    text = readme.read_text()
    assert text.startswith("# Title\n\n<!-- scores -->\n`redis-oncall evals run` on 3 inc")
    assert text.endswith("<!-- /scores -->\n\n## After\n")
    assert "\nold\n" not in text
    assert "| harmful remedies proposed | 2 |" in text
    assert "best trivial baseline (threshold rule), top-1 | 30.0%" in text
    assert scores.read(kept) == short
    assert scores.block(scores.read(kept)) in text
    assert set(short["incidents"][0]) == {"id", "got", "right", "culprit"}
    readme.write_text("# Title\n")
    with pytest.raises(ValueError, match="scores"):
        scores.write(short, readme, kept)


def test_the_readme_says_what_was_measured_last() -> None:
    """Renew with: redis-oncall evals run --write-readme."""
    assert f"\n{scores.block(scores.read())}\n" in scores.README.read_text("utf-8")
