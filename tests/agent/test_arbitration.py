"""Two diagnoses, one answer: never worse than the rules."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.arbitration import BOTH_SURE, SURE, TIE_WITHIN, UNSURE_BELOW, arbitrate, is_disputed
from agent.claims import how_sure
from agent.incident import Alternative, Claim, Culprit, Diagnosis
from agent.rules import ESCALATE_BELOW
from agent.standing import Standing

VERY_SURE, UNSURE = 0.9, UNSURE_BELOW - 0.1
HEALTHY = ("no-incident", "cache-full-by-design")
READER, OTHER = Culprit(kind="client", name="reader"), Culprit(kind="client", name="other")
SUPPORTED = Standing(telling=("subscriber_unread",), confidence=0.8, culprits=(READER,))
NO_SUPPORT = Standing(against="no signal supports it")
RULED_OUT = Standing(against="ruled out by pel_dominates", contradicted=True, confidence=0.3)


def says(root: str, confidence: float, reasoner: str = "rules", **given_: Any) -> Diagnosis:
    values: dict[str, Any] = {
        "root_cause": root,
        "title": root,
        "is_incident": root not in HEALTHY,
        "confidence": confidence,
        "summary": f"{root} ({how_sure(confidence)}).",
        "claims": [Claim(text=f"{reasoner} saw it", facts=[])],
        "reasoner": reasoner,
    }
    return Diagnosis.model_validate(values | given_)


def model(root: str, confidence: float = VERY_SURE, **given_: Any) -> Diagnosis:
    return says(root, confidence, "openai:test", **given_)


def near(root: str, confidence: float) -> Alternative:
    return Alternative(root_cause=root, confidence=confidence, why_not="")


# -- where the rules did not decide ---------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        (says("unknown", 0.3), "the rules found no cause"),
        (says("unknown", 0.95), "the rules found no cause"),
        (says("single-bigkey", UNSURE), "the rules are unsure (not sure, 40.0 %)"),
        (says("no-incident", UNSURE), "the rules are unsure"),
        (
            says("single-bigkey", 0.8, alternatives=[near("slow-pubsub-cob", 0.78)]),
            "the rules tie single-bigkey with it",
        ),
    ],
    ids=["unknown", "sure of unknown", "unsure", "unsure that it is healthy", "tie"],
)
def test_the_model_wins_where_the_rules_did_not_decide_and_evidence_supports_it(
    rules: Diagnosis, why: str
) -> None:
    end = arbitrate(rules, model("slow-pubsub-cob"), SUPPORTED)
    assert (end.root_cause, end.reasoner) == ("slow-pubsub-cob", "openai:test")
    assert end.overruled is not None
    assert (end.overruled.reasoner, end.overruled.root_cause) == ("rules", rules.root_cause)
    assert end.overruled.confidence == rules.confidence
    assert why in end.overruled.reason
    assert "subscriber_unread" in end.overruled.reason


@pytest.mark.parametrize("standing", [NO_SUPPORT, RULED_OUT])
@pytest.mark.parametrize("rules", [says("unknown", 0.2), says("single-bigkey", UNSURE)])
def test_a_model_that_something_stands_against_never_wins(
    rules: Diagnosis, standing: Standing
) -> None:
    end = arbitrate(rules, model("stream-unbounded"), standing)
    assert (end.root_cause, end.confidence) == (rules.root_cause, rules.confidence)
    assert end.reasoner == "rules"
    assert end.overruled is not None
    assert end.overruled.root_cause == "stream-unbounded"
    assert end.overruled.reason == f"stream-unbounded: {standing.against}"


@pytest.mark.parametrize("healthy", HEALTHY)
@pytest.mark.parametrize("rules", [says("unknown", 0.1), says("single-bigkey", UNSURE)])
def test_that_nothing_is_wrong_is_not_for_the_model_to_say(rules: Diagnosis, healthy: str) -> None:
    end = arbitrate(rules, model(healthy), SUPPORTED)
    assert end.root_cause == rules.root_cause
    assert end.overruled is not None
    assert "for the rules, or a person, to say" in end.overruled.reason


def test_a_tie_is_broken_only_between_the_two() -> None:
    rules = says("single-bigkey", 0.8, alternatives=[near("x", 0.8 - TIE_WITHIN / 2)])
    end = arbitrate(rules, model("slow-pubsub-cob"), SUPPORTED)
    assert (end.root_cause, end.reasoner) == ("single-bigkey", "rules")
    assert is_disputed(end)


def test_a_winner_is_no_surer_than_the_evidence_allows() -> None:
    rules = says("unknown", 0.9)
    weak = Standing(telling=("huge_pages_in_use",), confidence=0.2)
    end = arbitrate(rules, model("thp-or-swap", 1.0), weak)
    assert end.confidence == 0.2
    assert how_sure(0.2) in end.summary
    assert end.escalate
    asserted = model("thp-or-swap", 1.0, alternatives=[near("single-bigkey", 0.9)])
    assert arbitrate(rules, asserted, weak).alternatives == [near("single-bigkey", 0.2)]
    modest = arbitrate(rules, model("slow-pubsub-cob", 0.55), SUPPORTED)
    assert (modest.confidence, modest.escalate) == (0.55, False)


@pytest.mark.parametrize(
    ("named", "standing", "blamed"),
    [
        (READER, SUPPORTED, READER),
        (OTHER, SUPPORTED, READER),
        (Culprit(), SUPPORTED, READER),
        (OTHER, Standing(telling=("s",), confidence=1, culprits=(READER, OTHER)), OTHER),
        (OTHER, Standing(telling=("s",), confidence=1), Culprit()),
    ],
    ids=["the same", "a bystander", "nobody", "the second", "a bystander alone"],
)
def test_only_whom_a_signal_names_is_blamed(
    named: Culprit, standing: Standing, blamed: Culprit
) -> None:
    end = arbitrate(says("unknown", 0.5), model("slow-pubsub-cob", culprit=named), standing)
    assert end.culprit == blamed
    assert blamed.name in end.summary
    assert named == blamed or not named.name or f"“{named.name}”" not in end.summary
    agreed = arbitrate(
        says("slow-pubsub-cob", VERY_SURE), model("slow-pubsub-cob", culprit=named), standing
    )
    assert agreed.culprit == blamed


def test_remedies_cannot_be_had_for_causes_without_evidence() -> None:
    rules = says("organic-growth", UNSURE, contributing=["noeviction-oom"])
    standing = Standing(
        telling=("s",), confidence=1, evidenced=frozenset({"noeviction-oom", "organic-growth"})
    )
    other = model("slow-pubsub-cob", contributing=["single-bigkey", "noeviction-oom"])
    assert arbitrate(rules, other, standing).contributing == ["noeviction-oom"]
    swapped = arbitrate(rules, model("noeviction-oom"), standing)
    assert (swapped.root_cause, swapped.contributing) == ("noeviction-oom", ["organic-growth"])


@pytest.mark.parametrize(
    ("rules", "other", "standing", "kept"),
    [
        (says("unknown", 0.5), model("slow-pubsub-cob"), NO_SUPPORT, True),
        (says("unknown", 0.5), model("slow-pubsub-cob"), RULED_OUT, False),
        (says("unknown", 0.5), model("no-incident"), NO_SUPPORT, False),
        (says("single-bigkey", UNSURE), model("slow-pubsub-cob"), NO_SUPPORT, False),
    ],
    ids=["suspected", "ruled out", "healthy", "the rules name a cause"],
)
def test_an_unknown_keeps_what_the_model_suspects(
    rules: Diagnosis, other: Diagnosis, standing: Standing, kept: bool
) -> None:
    hypothesis = arbitrate(rules, other, standing).hypothesis
    assert (hypothesis is not None) is kept
    if hypothesis is not None:
        assert (hypothesis.title, hypothesis.claims) == (other.title, other.claims)


# -- where they did -------------------------------------------------------------------------


@pytest.mark.parametrize("standing", [SUPPORTED, NO_SUPPORT])
def test_both_sure_and_different_goes_to_a_person(standing: Standing) -> None:
    rules = says("single-bigkey", VERY_SURE)
    end = arbitrate(rules, model("slow-pubsub-cob", 0.95), standing)
    assert end.root_cause == "single-bigkey"
    assert end.confidence < rules.confidence
    assert end.escalate
    assert is_disputed(end)
    assert end.overruled is not None
    assert (end.overruled.root_cause, end.overruled.reason) == ("slow-pubsub-cob", BOTH_SURE)
    assert [other.root_cause for other in end.alternatives] == ["slow-pubsub-cob"]
    assert how_sure(end.confidence) in end.summary
    assert how_sure(rules.confidence) not in end.summary


@pytest.mark.parametrize("weak", [model("slow-pubsub-cob", SURE - 0.01), model("unknown")])
def test_a_model_that_is_not_sure_leaves_sure_rules_alone(weak: Diagnosis) -> None:
    rules = says("single-bigkey", VERY_SURE)
    end = arbitrate(rules, weak, SUPPORTED)
    assert (end.root_cause, end.confidence, end.escalate) == ("single-bigkey", VERY_SURE, False)
    assert end.overruled is not None
    assert "the model is not" in end.overruled.reason
    assert not is_disputed(end)


def test_agreement_keeps_the_rules_confidence_and_claims() -> None:
    rules = says("missing-ttl-prefix-leak", UNSURE, not_measured=["slowlog"])
    other = model("missing-ttl-prefix-leak", 0.99, not_measured=["modules"])
    end = arbitrate(rules, other, RULED_OUT)
    assert (end.confidence, end.reasoner, end.overruled) == (UNSURE, "rules", None)
    assert [claim.text for claim in end.claims] == ["rules saw it"]
    assert end.not_measured == ["slowlog", "modules"]


def test_agreement_keeps_the_culprit_of_the_rules() -> None:
    rules = says("slow-pubsub-cob", VERY_SURE, culprit=OTHER)
    assert arbitrate(rules, model("slow-pubsub-cob", culprit=READER), SUPPORTED).culprit == OTHER


@pytest.mark.parametrize(("rules", "other"), [HEALTHY, HEALTHY[::-1]])
def test_that_nothing_has_to_be_done_is_agreement(rules: str, other: str) -> None:
    end = arbitrate(says(rules, VERY_SURE), model(other), NO_SUPPORT)
    assert (end.root_cause, end.confidence, end.overruled) == (rules, VERY_SURE, None)


def test_nobody_is_guilty_of_nothing() -> None:
    end = arbitrate(says("no-incident", VERY_SURE), model("cache-full-by-design"), SUPPORTED)
    assert end.culprit == Culprit()


def test_naming_the_condition_is_no_disagreement_about_the_cause() -> None:
    rules = says("single-bigkey", VERY_SURE, contributing=["noeviction-oom"])
    end = arbitrate(rules, model("noeviction-oom"), SUPPORTED)
    assert (end.root_cause, end.confidence, end.escalate) == ("single-bigkey", VERY_SURE, False)
    assert end.overruled is not None
    assert "contributes" in end.overruled.reason


def test_a_model_that_failed_is_named_with_its_reason() -> None:
    rules = says("single-bigkey", VERY_SURE)
    end = arbitrate(rules, None, Standing(), "the endpoint answered 429, 3 times")
    assert end.overruled is not None
    assert "429" in end.overruled.reason
    assert end.model_copy(update={"overruled": None}) == rules


def test_without_a_model_nothing_changes() -> None:
    rules = says("single-bigkey", VERY_SURE)
    assert arbitrate(rules, None, Standing()) == rules


CAUSES = st.sampled_from(["unknown", "no-incident", "a", "b", "cache-full-by-design"])
STANDINGS = st.builds(
    Standing,
    against=st.sampled_from(["", "no signal supports it"]),
    telling=st.just(("s1",)),
    contradicted=st.booleans(),
    confidence=st.floats(0, 1),
    culprits=st.sampled_from([(), (READER,)]),
    evidenced=st.frozensets(st.sampled_from(["a", "b"])),
)


@given(CAUSES, st.floats(0, 1), CAUSES, st.floats(0, 1), STANDINGS, st.floats(0, 1))
def test_never_worse_than_the_rules(
    root: str,
    confidence: float,
    other: str,
    its_confidence: float,
    standing: Standing,
    runner_up: float,
) -> None:
    rules = says(root, confidence, alternatives=[near("b", runner_up)])
    its = model(other, its_confidence, culprit=OTHER, contributing=["a"])
    end = arbitrate(rules, its, standing)
    if end.reasoner == "rules":
        assert end.root_cause == root
        assert end.confidence <= confidence
        assert end.overruled is not None or arbitrate(rules, its, RULED_OUT).overruled is None
    else:
        assert not standing.against
        tie = other == "b" and confidence - runner_up < TIE_WITHIN
        assert root == "unknown" or confidence < UNSURE_BELOW or tie
        assert end.is_incident or not rules.is_incident
        assert end.confidence <= min(its_confidence, round(standing.confidence, 2))
        assert end.escalate or end.confidence >= ESCALATE_BELOW
        assert set(end.contributing) <= standing.evidenced - {other}
        assert end.culprit in (*standing.culprits, Culprit())
        assert end.overruled is not None
        assert end.overruled.root_cause == root
    assert Diagnosis.model_validate(end.model_dump()) == end
