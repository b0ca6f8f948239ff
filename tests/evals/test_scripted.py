"""Scripted models on recorded incidents: the scaffold lets a good one help and no bad one harm."""

import hashlib
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from agent.arbitration import BOTH_SURE
from agent.budget import ModelSettings
from agent.facts import index, resolve
from agent.runbook import Library
from agent.runbook_library import load_library
from evals import scores
from evals.every_answer import every_answer
from evals.scripted import PREFIX, label, script_named, work_by_script
from evals.scripted_models import SCRIPTS, Calls, Right
from evals.scripted_view import Shown, read
from evals.suite import OPENAI, Report, run_suite
from evals.truth import SUITES, RecordedIncident, incidents

SHIPPED = incidents()
UNKNOWN = [one for one in SHIPPED if "unknown" in one.truth.root_cause]
BEYOND = incidents(directory=SUITES["beyond"])
CALLS, TOKENS_IN_A_CALL, TOKENS = 4, 12_000, 40_000
"""What an incident may cost in the median. Tokens are our own pessimistic count
(`agent.model_reply.tokens`): no tokenizer is at hand without a download."""


@cache
def books() -> Library:
    return load_library()


def drawn(chosen: list[RecordedIncident], count: int) -> list[RecordedIncident]:
    """The same ones each time, chosen by nobody."""
    return sorted(chosen, key=lambda one: hashlib.sha256(one.id.encode()).digest())[:count]


def some(count: int) -> list[RecordedIncident]:
    """Where a lie is easiest to believe, and as many others."""
    return drawn(UNKNOWN, count) + drawn([one for one in SHIPPED if one not in UNKNOWN], count)


def worked(chosen: list[RecordedIncident], script: str) -> Report:
    return run_suite(chosen, OPENAI, settings=ModelSettings(PREFIX + script), jobs=1)


@pytest.mark.timeout(600)
@pytest.mark.long
def test_a_model_that_is_right_where_the_rules_are_not_sure_ends_right() -> None:
    """Through the arbitration; where no signal speaks for its cause alone, as a hypothesis."""
    report = worked(BEYOND, "right")
    rows = report["incidents"]
    won = [row for row in rows if row["right"]]
    assert len(won) >= 10
    assert {(row["decided_by"], row["overruled"]) for row in won} == {
        ("openai:scripted:right", "unknown")
    }
    assert len({tuple(row["expected"]) for row in won}) >= 3
    titles = {cause.id: cause.title for cause in books().causes().values()}
    unknown = [row for row in rows if row["got"] == "unknown"]
    assert len(unknown) >= 4
    for row in unknown:
        assert (row["decided_by"], row["hypothesis"]) == ("rules", titles[row["expected"][0]])
    disputed = [row for row in rows if row not in won and row not in unknown]
    assert disputed
    assert all(row["escalated"] and row["overruled"] in row["expected"] for row in disputed)
    assert all(row["culprit"] for row in rows if row["got"] in row["expected"])
    assert (report["harmful_proposed"], report["hallucinated_evidence"]) == (0, 0)
    use = report["model_use"]
    assert use["calls_an_incident"]["median"] <= CALLS
    assert use["input_tokens_in_a_call"]["median"] <= TOKENS_IN_A_CALL
    assert use["tokens_an_incident"]["median"] <= TOKENS
    assert use["cacheable_share"] > 0.5
    assert report["model"] == "scripted: right"


@pytest.mark.parametrize(("script", "count"), [("wrong", 5), ("accuser", 3), ("denier", 3)])
@pytest.mark.timeout(600)
def test_a_model_that_is_wrong_and_cites_true_evidence_makes_nothing_worse(
    script: str, count: int
) -> None:
    alone = {row["id"]: row for row in scores.read()["incidents"]}
    report = worked(some(count), script)
    for row in report["incidents"]:
        before = alone[row["id"]]
        told = (row["got"], row["right"], row["culprit"], row["harm"])
        assert told == (before["got"], before["right"], before["culprit"], []), row
        assert not row["failure"]
    assert (report["false_positive_rate"], report["hallucinated_evidence"]) == (0, 0)


@pytest.mark.parametrize(
    "one", drawn([one for one in SHIPPED if one.truth.kind == "single"], 3), ids=lambda one: one.id
)
async def test_where_both_are_sure_and_differ_a_person_gets_both(one: RecordedIncident) -> None:
    result = await work_by_script(one, books(), "wrong")
    said = result.diagnosis
    assert said is not None
    assert said.overruled is not None
    assert (result.right, said.escalate, said.reasoner) == (True, True, "rules")
    assert (said.overruled.reasoner, said.overruled.reason) == ("openai:scripted:wrong", BOTH_SURE)
    assert said.overruled.root_cause in [other.root_cause for other in said.alternatives]


UNSURE = ("organic-growth", "rss-not-returned-after-peak")
"""Faults of which the rules are unsure, or that they tie with others."""


async def test_no_answer_at_all_makes_the_rules_worse() -> None:
    """Every cause of the catalogue, as surely as can be said, with and without a bystander."""
    unsure = [one for one in SHIPPED if one.truth.fault in UNSURE]
    for one in drawn(UNKNOWN, 6) + drawn(unsure, 3):
        answers = await every_answer(one, books())
        assert len(answers) == 2 * (len(books().causes()) + 2)
        assert [answer for answer in answers if answer.changed or not answer.right] == []


async def test_beyond_the_rules_only_the_truth_can_become_the_answer() -> None:
    for one in drawn(BEYOND, 5):
        changed = [a for a in await every_answer(one, books()) if a.changed]
        assert {answer.said for answer in changed} <= {*one.truth.root_cause}
        assert all(answer.right for answer in changed)


async def test_a_model_that_only_looks_ends_at_its_caps_and_the_rules_decide() -> None:
    (one,) = drawn([one for one in SHIPPED if one.truth.kind == "single"], 1)
    result = await work_by_script(one, books(), "endless")
    caps = ModelSettings("")
    assert result.right
    assert 1 < len(result.exchanges) <= caps.max_calls
    assert result.usage.input_tokens + result.usage.output_tokens <= caps.max_tokens


class Reader(Right):
    """Keeps what it was shown."""

    seen: list[Shown]

    def answer(self, request: Mapping[str, Any]) -> Calls:
        self.seen.append(read(request))
        return super().answer(request)


async def test_what_a_script_reads_in_a_request_is_what_was_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(SCRIPTS, "reader", Reader)
    for one in drawn(SHIPPED, 2):
        Reader.seen = []
        result = await work_by_script(one, books(), "reader")
        evidence = index(result.evidence)
        first, last = Reader.seen[0], Reader.seen[-1]
        assert first.ranking
        assert first.looks >= {"bigkeys", "clients"}
        assert set(first.causes) >= {*books().causes(), "unknown"}
        assert last.turns == len(Reader.seen) - 1
        leaves = [*last.leaves()]
        assert len({leaf.tool for leaf in leaves}) > 5
        for leaf in leaves:
            value = resolve(leaf.path, leaf.evidence, evidence)
            if isinstance(leaf.value, float):
                assert math.isclose(leaf.value, float(value), rel_tol=1e-3), leaf
            elif not isinstance(leaf.value, str):
                assert leaf.value == value, leaf


def test_a_scripted_model_is_never_taken_for_a_model() -> None:
    assert (script_named("gpt-5"), label("gpt-5")) == (None, "gpt-5")
    assert (script_named("scripted:right"), label("scripted:right")) == ("right", "scripted: right")
    with pytest.raises(ValueError, match="'scripted:oracle' is not one of scripted:right"):
        script_named("scripted:oracle")
    with pytest.raises(ValueError, match="answers only the reasoner 'openai'"):
        run_suite(SHIPPED[:1], "openai-alone", settings=ModelSettings("scripted:right"))
