"""Two diagnoses, one answer: never worse than the rules."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.arbitration import TIE_WITHIN, UNSURE_BELOW, arbitrate
from agent.claims import how_sure
from agent.incident import Alternative, Claim, Culprit, Diagnosis

SURE, UNSURE = 0.9, UNSURE_BELOW - 0.1


def says(root: str, confidence: float, reasoner: str = "rules", **given_: Any) -> Diagnosis:
    values: dict[str, Any] = {
        "root_cause": root,
        "title": root,
        "is_incident": root not in ("no-incident", "cache-full-by-design"),
        "confidence": confidence,
        "summary": f"{root} ({how_sure(confidence)}).",
        "claims": [Claim(text=f"{reasoner} saw it", facts=[])],
        "reasoner": reasoner,
    }
    return Diagnosis.model_validate(values | given_)


def model(root: str, confidence: float = SURE, **given_: Any) -> Diagnosis:
    return says(root, confidence, "openai:test", **given_)


@pytest.mark.parametrize(
    "rules",
    [
        says("unknown", 0.3),
        says("unknown", 0.95),
        says("single-bigkey", UNSURE),
        says(
            "single-bigkey",
            0.8,
            alternatives=[Alternative(root_cause="x", confidence=0.8 - TIE_WITHIN / 2, why_not="")],
        ),
    ],
    ids=["unknown", "sure of unknown", "unsure", "tie"],
)
def test_the_model_wins_where_the_rules_did_not_decide_and_evidence_supports_it(
    rules: Diagnosis,
) -> None:
    end = arbitrate(rules, model("slow-pubsub-cob"), {"subscriber_unread"}, set())
    assert (end.root_cause, end.reasoner) == ("slow-pubsub-cob", "openai:test")
    assert end.overruled is not None
    assert (end.overruled.reasoner, end.overruled.root_cause) == ("rules", rules.root_cause)
    assert "subscriber_unread" in end.overruled.reason


@pytest.mark.parametrize(
    ("supported", "ruled_out", "reason"),
    [
        (set(), set(), "no signal supports it"),
        (set(), {"pel_dominates"}, "ruled out by pel_dominates"),
        ({"stream_grows"}, {"pel_dominates"}, "ruled out by pel_dominates"),
    ],
)
def test_an_unsupported_or_ruled_out_model_never_wins(
    supported: set[str], ruled_out: set[str], reason: str
) -> None:
    rules = says("unknown", 0.2)
    end = arbitrate(rules, model("stream-unbounded"), supported, ruled_out)
    assert (end.root_cause, end.confidence, end.reasoner) == ("unknown", 0.2, "rules")
    assert end.overruled is not None
    assert end.overruled.root_cause == "stream-unbounded"
    assert reason in end.overruled.reason


def test_both_sure_and_different_goes_to_a_person() -> None:
    rules = says("single-bigkey", SURE)
    end = arbitrate(rules, model("slow-pubsub-cob", 0.95), {"subscriber_unread"}, set())
    assert end.root_cause == "single-bigkey"
    assert end.confidence < rules.confidence
    assert end.escalate
    assert end.overruled is not None
    assert end.overruled.root_cause == "slow-pubsub-cob"
    assert [other.root_cause for other in end.alternatives] == ["slow-pubsub-cob"]
    assert how_sure(end.confidence) in end.summary
    assert how_sure(rules.confidence) not in end.summary


@pytest.mark.parametrize("weak", [model("slow-pubsub-cob", UNSURE), model("unknown")])
def test_a_model_that_is_not_sure_leaves_sure_rules_alone(weak: Diagnosis) -> None:
    rules = says("single-bigkey", SURE)
    end = arbitrate(rules, weak, {"subscriber_unread"}, set())
    assert (end.root_cause, end.confidence, end.escalate) == ("single-bigkey", SURE, False)
    assert end.overruled is not None


def test_agreement_keeps_the_rules_confidence_and_gathers_the_claims() -> None:
    found = Culprit(kind="prefix", name="session:")
    rules = says("missing-ttl-prefix-leak", UNSURE, not_measured=["slowlog"])
    other = model("missing-ttl-prefix-leak", 0.99, culprit=found, not_measured=["modules"])
    end = arbitrate(rules, other, set(), {"anything"})
    assert (end.confidence, end.reasoner, end.overruled) == (UNSURE, "rules", None)
    assert end.culprit == found
    assert [claim.text for claim in end.claims] == ["rules saw it", "openai:test saw it"]
    assert end.not_measured == ["slowlog", "modules"]


def test_agreement_keeps_the_culprit_of_the_rules() -> None:
    mine, other = Culprit(kind="key", name="a"), Culprit(kind="key", name="b")
    end = arbitrate(
        says("single-bigkey", SURE, culprit=mine),
        model("single-bigkey", culprit=other),
        set(),
        set(),
    )
    assert end.culprit == mine


@pytest.mark.parametrize(
    ("rules", "other"),
    [("cache-full-by-design", "no-incident"), ("no-incident", "cache-full-by-design")],
)
def test_that_nothing_has_to_be_done_is_agreement(rules: str, other: str) -> None:
    end = arbitrate(says(rules, SURE), model(other), set(), set())
    assert (end.root_cause, end.confidence, end.overruled) == (rules, SURE, None)


def test_naming_the_condition_is_no_disagreement_about_the_cause() -> None:
    rules = says("single-bigkey", SURE, contributing=["noeviction-oom"])
    end = arbitrate(rules, model("noeviction-oom"), {"oom_errors"}, set())
    assert (end.root_cause, end.confidence, end.escalate) == ("single-bigkey", SURE, False)
    assert end.overruled is not None
    assert "contributes" in end.overruled.reason


def test_no_incident_does_not_win_over_unknown() -> None:
    assert arbitrate(says("unknown", 0.1), model("no-incident"), set(), set()).is_incident


def test_a_model_that_failed_is_named_with_its_reason() -> None:
    rules = says("single-bigkey", SURE)
    end = arbitrate(rules, None, set(), set(), "the endpoint answered 429, 3 times")
    assert end.overruled is not None
    assert "429" in end.overruled.reason
    assert end.model_copy(update={"overruled": None}) == rules


def test_without_a_model_nothing_changes() -> None:
    rules = says("single-bigkey", SURE)
    assert arbitrate(rules, None, set(), set()) == rules


CAUSES = st.sampled_from(["unknown", "no-incident", "a", "b", "cache-full-by-design"])
SIGNALS = st.sets(st.sampled_from(["s1", "s2"]))


@given(CAUSES, st.floats(0, 1), CAUSES, st.floats(0, 1), SIGNALS, SIGNALS, st.floats(0, 1))
def test_never_worse_than_the_rules(
    root: str,
    confidence: float,
    other: str,
    its_confidence: float,
    supported: set[str],
    ruled_out: set[str],
    runner_up: float,
) -> None:
    alternatives = [Alternative(root_cause="c", confidence=runner_up, why_not="")]
    rules = says(root, confidence, alternatives=alternatives)
    end = arbitrate(rules, model(other, its_confidence), supported, ruled_out)
    assert end.confidence <= max(confidence, its_confidence)
    if end.reasoner != "rules":
        assert supported
        assert not ruled_out
        tie = confidence - runner_up < TIE_WITHIN
        assert root == "unknown" or confidence < UNSURE_BELOW or tie
    else:
        assert end.root_cause == root
        assert end.confidence <= confidence
    if end.root_cause != other and end.reasoner == "rules" and end.overruled is None:
        assert not end.is_incident
