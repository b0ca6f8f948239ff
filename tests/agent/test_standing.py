"""What the signals say of a cause that a model names, with the real catalogue of causes."""

from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.incident import ClaimDraft, Culprit, FactDraft
from agent.rules import rank
from agent.runbook import Library
from agent.runbook_library import load_library
from agent.signals import SIGNALS, Signal, Signals
from agent.standing import Standing, standing_of
from tools.reading import NotMeasured

KEY = Culprit(kind="key", name="cart")
CLAIM = ClaimDraft(text="{x}", facts=[FactDraft(name="x", evidence="E1", of=["a"])])


@cache
def books() -> Library:
    return load_library()


def seen(fired: Sequence[str], unmeasured: Sequence[str] = ()) -> Signals:
    assert {*fired, *unmeasured} <= set(SIGNALS)
    blames = {"key_dominates": KEY}
    return Signals(
        fired={name: Signal(name, CLAIM, blames.get(name), 1.0) for name in fired},
        absent=set(SIGNALS) - {*fired, *unmeasured},
        not_measured={n: NotMeasured(not_measured=n, because="NOPERM") for n in unmeasured},
    )


def standing(
    cause: str,
    fired: Sequence[str],
    unmeasured: Sequence[str] = (),
    rules_cause: str = "unknown",
    text: str = "RedisMemoryHigh",
) -> Standing:
    signals = seen(fired, unmeasured)
    return standing_of(cause, rules_cause, signals, rank(signals, books(), text), books())


def test_a_cause_whose_defining_sign_fired_may_stand() -> None:
    found = standing("single-bigkey", ["key_dominates", "memory_pressure"])
    assert (found.against, found.contradicted) == ("", False)
    assert found.telling == ("key_dominates",)
    assert found.culprits == (KEY,)
    assert "single-bigkey" in found.evidenced
    assert 0.5 < found.confidence <= 0.95


@pytest.mark.parametrize(
    ("cause", "fired", "unmeasured", "against"),
    [
        ("single-bigkey", ["no_outlier"], [], "no signal supports it"),
        ("gremlins", ["memory_pressure"], [], "no signal supports it"),
        ("no-incident", ["low_pressure"], [], "no signal supports it"),
        (
            "single-bigkey", ["memory_pressure"], [],
            "it needs key_dominates, which was looked for and is not there",
        ),
        (
            "single-bigkey", ["memory_pressure"], ["key_dominates"],
            "it needs key_dominates, which could not be measured",
        ),
        (
            # Each is common on healthy servers: two of them are no defining sign.
            "bigkey-delete-stall", ["lazy_freeing_off", "commands_are_slow"], ["freeing_stalls"],
            "it needs freeing_stalls, which could not be measured",
        ),
        (
            "slow-pubsub-cob", ["clients_hold_memory", "memory_pressure"], ["subscriber_unread"],
            "it needs subscriber_unread, which could not be measured",
        ),
        (
            "module-memory", ["memory_pressure", "modules_loaded"], [],
            "it needs keys_do_not_explain_dataset, which was looked for and is not there",
        ),
        (
            "encoding-conversion", ["memory_pressure", "memory_grows"], [],
            "what supports it supports much else as well: memory_grows, memory_pressure",
        ),
        (
            "organic-growth",
            ["no_outlier", "keys_expire_normally", "memory_pressure", "hit_ratio_healthy"], [],
            "what supports it supports much else as well: hit_ratio_healthy, "
            "keys_expire_normally, memory_pressure, no_outlier",
        ),
        (
            "missing-ttl-prefix-leak", ["prefix_never_expires", "tiny_values"], [],
            "ruled out by tiny_values",
        ),
        (
            "wrong-threshold-false-alarm", ["raw_memory_above_counted", "errors_rising"], [],
            "it does not explain errors_rising",
        ),
        (
            "noeviction-oom", ["memory_full", "noeviction_policy", "clients_hold_memory"], [],
            "it does not explain clients_hold_memory",
        ),
        (
            "fork-cow-memory", ["child_copies_memory", "key_dominates", "memory_pressure"], [],
            "",
        ),
        (
            "thp-or-swap", ["huge_pages_in_use", "key_dominates", "memory_pressure"], [],
            "single-bigkey is better supported, by key_dominates, memory_pressure",
        ),
    ],
)  # fmt: skip
def test_what_stands_against_a_cause(
    cause: str, fired: list[str], unmeasured: list[str], against: str
) -> None:
    found = standing(cause, fired, unmeasured)
    assert found.against == against
    assert found.contradicted is against.startswith("ruled out")


@pytest.mark.parametrize(
    ("cause", "sign", "unseen"),
    [
        ("stream-pel-growth", "deliveries_not_acknowledged", "stream_dominates"),
        ("module-memory", "modules_loaded", "keys_do_not_explain_dataset"),
    ],
)  # fmt: skip
def test_a_sign_of_this_cause_alone_makes_up_for_one_that_nobody_could_see(
    cause: str, sign: str, unseen: str
) -> None:
    """With little confidence; and not where it was looked for and is not there."""
    found = standing(cause, [sign, "memory_pressure"], [unseen])
    assert (found.against, found.confidence) == ("", 0.45)
    assert "looked for" in standing(cause, [sign, "memory_pressure"]).against


def test_the_rules_own_cause_is_a_rival_whatever_stands_against_it() -> None:
    fired = ["prefix_never_expires", "few_keys_expire", "memory_pressure", "huge_pages_in_use"]
    told = standing("thp-or-swap", [*fired, "scripts_pile_up"], rules_cause="lua-script-cache")
    assert "better supported" in told.against


def test_nearly_as_well_supported_is_enough() -> None:
    """The rules themselves call it no clear lead."""
    fired = ["key_dominates", "child_copies_memory", "copies_threaten_limit"]
    assert standing("single-bigkey", fired, rules_cause="fork-cow-memory").against == ""


def test_what_nobody_asked_about_does_not_tell() -> None:
    fired = ["freed_pages_kept", "commands_are_slow"]
    asked = standing("rss-not-returned-after-peak", fired, text="resident memory is high")
    assert asked.against == ""
    other = standing("rss-not-returned-after-peak", fired, text="RedisLatencyHigh")
    assert other.against == "no signal supports it"


@given(
    st.lists(st.sampled_from(sorted(SIGNALS)), max_size=12, unique=True),
    st.lists(st.sampled_from(sorted(SIGNALS)), max_size=12, unique=True),
    st.data(),
)
def test_whatever_fired_nothing_contradicted_or_blind_may_stand(
    fired: list[str], unmeasured: list[str], data: st.DataObject
) -> None:
    unmeasured = [name for name in unmeasured if name not in fired]
    cause = data.draw(st.sampled_from(sorted(books().causes())))
    entry = books().causes()[cause]
    found = standing(cause, fired, unmeasured)
    if set(entry.ruled_out_by) & set(fired) or not set(entry.needs) <= set(fired):
        assert found.against
    if not found.against:
        assert set(found.telling) & set(entry.supported_by)
        assert 0 <= found.confidence <= 0.95
