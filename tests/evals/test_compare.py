"""Two reports side by side: what was fixed, broken, said otherwise."""

import json
from pathlib import Path
from typing import Any

import pytest

from evals.compare import Report, compare, markdown
from tests.acceptance.program import run


def row(name: str, got: str, **more: Any) -> Report:
    right = got == "single-bigkey"
    return {
        "id": name, "expected": ["single-bigkey"], "got": got, "right": right,
        "named": {"kind": "key", "name": "cart:all"}, "culprit": True, "confidence": 0.9,
    } | more  # fmt: skip


def report(*rows: Report, interval: tuple[float, float] = (0.4, 0.9), **more: Any) -> Report:
    top1 = sum(one["right"] for one in rows) / len(rows)
    return {
        "reasoner": "rules", "n": len(rows), "top1": top1, "harmful_proposed": 0,
        "intervals": {"top1": [top1, *interval]}, "incidents": list(rows), "slices": {},
    } | more  # fmt: skip


GOOD, BAD = "single-bigkey", "hot-key"
BEFORE = report(
    row("a", GOOD), row("b", GOOD), row("c", BAD), row("d", GOOD), row("e", GOOD), row("g", GOOD)
)
AFTER = report(
    row("a", GOOD),
    row("b", BAD),
    row("c", GOOD),
    row("d", GOOD, confidence=0.4),
    row("e", GOOD, named={"kind": "key", "name": "x"}, culprit=False),
    row("f", GOOD),
    interval=(0.91, 0.99),
)


def test_an_incident_that_is_gone_is_a_regression() -> None:
    whole, part = report(row("a", GOOD), row("b", GOOD)), report(row("a", GOOD))
    assert compare(whole, part)["regressed"]
    assert not compare(part, whole)["regressed"]


def test_each_incident_that_moved_is_named() -> None:
    comparison = compare(BEFORE, AFTER)
    named = {
        name: [one["id"] for one in comparison[name]]
        for name in ("fixed", "broken", "culprit_fixed", "culprit_broken", "changed")
    }
    assert named == {
        "fixed": ["c"], "broken": ["b"], "culprit_fixed": [], "culprit_broken": ["e"],
        "changed": ["d", "e"],
    }  # fmt: skip
    assert (comparison["only_before"], comparison["only_after"]) == (["g"], ["f"])
    assert comparison["regressed"]
    (top1,) = [one for one in comparison["metrics"] if one["name"] == "top1"]
    assert top1["difference"] == pytest.approx(0)
    assert top1["intervals_overlap"] is False
    page = markdown(comparison)
    assert "## Broken (1)\n\n- b (single-bigkey): single-bigkey cart:all 90%" in page
    assert "→ hot-key cart:all 90%" in page


def test_nothing_changed_is_said() -> None:
    comparison = compare(BEFORE, BEFORE)
    assert not comparison["regressed"]
    assert "Nothing changed." in markdown(comparison)


def test_more_harm_is_a_regression_though_every_answer_is_the_same() -> None:
    assert compare(BEFORE, BEFORE | {"harmful_proposed": 1})["regressed"]
    assert not compare(BEFORE | {"harmful_proposed": 1}, BEFORE)["regressed"]


def test_slices_are_compared_where_both_have_them() -> None:
    part = {"n": 2, "top1": 0.5, "intervals": {"top1": [0.5, 0.1, 0.9]}}
    better = {"n": 2, "top1": 1.0, "intervals": {"top1": [1.0, 0.3, 1.0]}}
    old = BEFORE | {"slices": {"kind:single": part, "build:x": part}}
    new = BEFORE | {"slices": {"kind:single": better}}
    moved = [one for one in compare(old, new)["metrics"] if one["difference"]]
    assert [(one["name"], one["intervals_overlap"]) for one in moved] == [
        ("kind:single: top1", True)
    ]


def test_the_command_prints_and_judges(tmp_path: Path) -> None:
    before, after = tmp_path / "a.json", tmp_path / "b.json"
    before.write_text(json.dumps(BEFORE))
    after.write_text(json.dumps(AFTER))
    shown = run("evals", "compare", str(before), str(after), "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout) == compare(BEFORE, AFTER)
    assert run("evals", "compare", str(before), str(after), "--fail-on-regression").returncode == 1
    assert run("evals", "compare", str(before), str(before), "--fail-on-regression").returncode == 0
    after.write_text("{}")
    wrong = run("evals", "compare", str(before), str(after))
    assert wrong.returncode == 2
    assert "not a report" in wrong.stderr
    assert run("evals", "compare", str(before), str(tmp_path / "none")).returncode == 2
