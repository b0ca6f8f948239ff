"""The evidence check: what cannot be computed from evidence is not said."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.claims import check, check_claim, literal_names
from agent.facts import index
from agent.incident import (
    Alternative,
    Claim,
    ClaimDraft,
    Culprit,
    Diagnosis,
    DiagnosisDraft,
    FactDraft,
    HypothesisDraft,
)
from tests.agent.desk import MIB, fact, library, piece, some_evidence

KNOWN = index(some_evidence())


def said(text: str, *facts: FactDraft) -> Claim | list[str]:
    known = index(some_evidence())
    return check_claim(
        ClaimDraft(text=text, facts=list(facts)), known, literal_names([*known.values()])
    )


def refusal(text: str, *facts: FactDraft) -> str:
    result = said(text, *facts)
    assert isinstance(result, list), f"accepted: {result.text}"
    return "\n".join(result)


def test_a_claim_gets_its_numbers_from_evidence() -> None:
    claim = said(
        "{prefix} holds {bytes} of {used}; user:42: is not the cause.",
        fact("prefix", "E2", "value", "text", "prefixes.0.prefix"),
        fact("bytes", "E2", "value", "bytes", "prefixes.0.bytes"),
        fact("used", "E1", "value", "bytes", "used_memory"),
    )
    assert isinstance(claim, Claim)
    assert claim.text == '"session:" holds 60.0 MiB of 96.0 MiB; user:42: is not the cause.'
    assert [each.value for each in claim.facts] == ["session:", 60 * MIB, 96 * MIB]


USED = fact("used", "E1", "value", "bytes", "used_memory")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{used} of 100 MiB are used", "'100' in the text is no fact"),
        ("{used} are used, half of the limit", "'half'"),
        ("{used} are used by millions of keys", "'millions'"),
        ("{used} on Redis 7.0", "'7.0'"),
        ("{used} used, ½ of it wasted", "'½'"),
        ("{used} in `user:43:`", "'`user:43:`'"),
        ("{used} under 96 keys", "'96'"),  # a prefix is called so: still a number
        ("{used} of {limit}", "{limit} has no fact"),
        ("memory is used", "the fact 'used' is not used"),
        ("{used} and {{used}}", "a brace in the text"),
        ("{used} and }", "a brace in the text"),
        ("{used.__class__}", "has no fact"),
        ("{used} and {}", "{} has no fact"),
    ],
)  # fmt: skip
def test_a_claim_that_says_more_than_its_facts_is_refused(text: str, why: str) -> None:
    assert why in refusal(text, USED)


def test_two_facts_of_one_name_are_refused() -> None:
    assert "two facts are called 'used'" in refusal("{used}", USED, USED)


def test_a_fact_name_must_be_a_name() -> None:
    assert "no fact name" in refusal("{1}", fact("1", "E1", "value", "bytes", "used_memory"))


@pytest.mark.parametrize("text", ["`user:42:` is large", "user:42:, E2 and p99 stand out", "(E1)"])
def test_names_from_evidence_and_words_of_the_trade_may_hold_digits(text: str) -> None:
    assert isinstance(said(f"{{used}} {text}", USED), Claim)


def test_a_value_is_never_read_as_a_placeholder_again() -> None:
    known = index([piece(1, "bigkeys", {"key": "{used}", "used": 7})])
    draft = ClaimDraft(
        text="{key} {used}",
        facts=[fact("key", "E1", "value", "text", "key"), fact("used", "E1", "value", "", "used")],
    )
    claim = check_claim(draft, known)
    assert isinstance(claim, Claim)
    assert claim.text == '"{used}" 7'


def test_a_hostile_name_comes_out_printable() -> None:
    known = index([piece(1, "bigkeys", {"key": "a\x1b[31m\u202e\n<b>"})])
    named = fact("key", "E1", "value", "text", "key")
    claim = check_claim(ClaimDraft(text="{key}", facts=[named]), known)
    assert isinstance(claim, Claim)
    assert claim.text.isprintable()
    assert isinstance(check_claim(ClaimDraft(text="{key}\x1b[J", facts=[named]), known), list)


@given(st.text(max_size=80))
def test_no_digit_passes_without_a_fact(text: str) -> None:
    result = check_claim(ClaimDraft(text=text + "{used}", facts=[USED]), KNOWN)
    if isinstance(result, Claim):
        words = {"p50", "p90", "p95", "p99", "p999", "p99.9", "ipv4", "ipv6", "utf-8", "resp2"}
        plain = result.text.replace("96.0 MiB", " ").lower()
        left = [word for word in plain.split() if any(map(str.isdecimal, word))]
        assert all(
            any(term in word for term in {*words, "resp3", "e1", "e2", "e3", "e4"}) for word in left
        )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{used} by a couple of clients", "'a couple of' in the text is no fact"),
        ("{used} by millions of keys", "'millions'"),
        ("{used} by “millions” and Millions", "'Millions' in the text is no fact"),
        ("{used} MiB are used", "'MiB' after {used}: give the fact its unit instead"),
        ("{used} are used per second", "'per second' after {used}: a rate is a fact of its own"),
        ("{used}k are used", "'{used}k': a placeholder stands by itself"),
        ("{used} us\u200bed", "the character U+200B, zero width space, may not stand in a text"),
        ("{used} by \u043ene key", "the character U+043E"),
        ("{used} ![a](https://evil.example/q)", "a link or mark-up may not stand in a text"),
        ("{used} <img src=x>", "a link or mark-up may not stand in a text"),
        ("{used} [ok](javascript:x)", "a link or mark-up may not stand in a text"),
        ("{used}, most of the limit", "'most of' in the text, but no share above one half"),
        ("{used} and {\x1b[J}", "{\\x1b[J} has no fact"),
        ("{used}, the vast majority", "'vast majority' in the text"),
    ],
)
def test_what_a_sentence_may_not_say_in_its_own_words(text: str, why: str) -> None:
    named = {**KNOWN, "E5": piece(5, "bigkeys", {"key": "millions"})}
    result = check_claim(
        ClaimDraft(text=text, facts=[USED]), named, literal_names([*named.values()])
    )
    assert isinstance(result, list)
    assert any(why in each for each in result), result
    assert all(each.isprintable() for each in result)


SEEN = [
    USED,
    fact("limit", "E1", "value", "", "limit"),
    fact("pressure", "E1", "value", "", "pressure"),
    fact("policy", "E1", "value", "text", "maxmemory_policy"),
    fact("prefix", "E2", "value", "text", "prefixes.0.prefix"),
    fact("keys", "E2", "value", "", "prefixes.0.keys"),
    fact("share", "E2", "ratio", "ratio", "prefixes.0.bytes", "bytes_seen"),
    fact("forever", "E2", "value", "", "prefixes.0.without_ttl_share"),
]


@pytest.mark.parametrize(
    "text",
    [
        "Memory is at {pressure} of its limit: {used} of {limit}.",
        "{forever} of the keys under {prefix} have no TTL, so nothing ever removes them.",
        "With the policy {policy} and {pressure} pressure, writes will soon fail with OOM errors.",
        "One prefix, {prefix}, dominates: {share} of the sampled bytes.",
        "Most of the sampled bytes ({share}) belong to keys that start with {prefix}.",
        "Evidence E2 shows {keys} keys under {prefix}, an even share of which is hot.",
        "Used memory ({used}) is within a few percent of the limit ({limit}).",
        "The key `user:42:` is not large enough to explain {used}.",
        "A single prefix holds {keys} of the keys; the second sample shows the same {used}.",
        "The dataset is dominated by {prefix} (about {share} of the sampled bytes).",
        "O(N) commands and p99 latency do not explain {used}, one of the clients might.",
    ],
)
def test_what_a_careful_model_writes_passes(text: str) -> None:
    claim = said(text, *(each for each in SEEN if f"{{{each.name}}}" in text))
    assert isinstance(claim, Claim), claim


@pytest.mark.parametrize(("whole", "holds"), [("E2:bytes_seen", False), ("limit", True)])
def test_most_of_it_wants_a_share_above_one_half(whole: str, holds: bool) -> None:
    share = fact("share", "E1", "ratio", "ratio", "mem_aof", whole)
    known = index([piece(1, "memory_info", {"mem_aof": 0, "limit": 0}), *some_evidence()[1:]])
    known["E1"].reading.update(mem_aof=30 * MIB, limit=50 * MIB)
    result = check_claim(ClaimDraft(text="Most of it: {share}.", facts=[share]), known)
    assert isinstance(result, Claim) is holds


# -- the diagnosis --------------------------------------------------------------------------


def draft(**given_: Any) -> DiagnosisDraft:
    values: dict[str, Any] = {
        "root_cause": "missing-ttl-prefix-leak",
        "confidence": 0.82,
        "culprit": Culprit(kind="prefix", name="session:"),
        "contributing": ["noeviction-oom"],
        "claims": [ClaimDraft(text="{used} are used.", facts=[USED])],
        "reasoner": "openai:test",
    }
    return DiagnosisDraft.model_validate(values | given_)


def checked(**given_: Any) -> Diagnosis | list[str]:
    return check(draft(**given_), some_evidence(), library())


def test_a_diagnosis_that_holds() -> None:
    diagnosis = checked()
    assert isinstance(diagnosis, Diagnosis)
    assert diagnosis.title == "Keys under one prefix never expire"
    assert diagnosis.is_incident
    assert diagnosis.summary == (
        "Keys under one prefix never expire: prefix “session:” (fairly sure, 82.0 %). "
        "96.0 MiB are used."
    )


@pytest.mark.parametrize(
    ("root", "is_incident"),
    [
        ("cache-full-by-design", False),
        ("no-incident", False),
        ("unknown", True),
        ("noeviction-oom", True),
    ],
)  # fmt: skip
def test_whether_it_is_an_incident_follows_from_the_cause(root: str, is_incident: bool) -> None:
    diagnosis = checked(root_cause=root, contributing=[], culprit=Culprit())
    assert isinstance(diagnosis, Diagnosis)
    assert diagnosis.is_incident is is_incident


@pytest.mark.parametrize("root", ["unknown", "no-incident"])
def test_nothing_found_needs_no_claim(root: str) -> None:
    assert isinstance(
        checked(root_cause=root, contributing=[], claims=[], culprit=Culprit()), Diagnosis
    )


def test_unknown_goes_to_a_person() -> None:
    diagnosis = checked(root_cause="unknown", culprit=Culprit())
    assert isinstance(diagnosis, Diagnosis)
    assert diagnosis.escalate


SUSPICION = HypothesisDraft(title="A new client", claims=[ClaimDraft(text="{used}", facts=[USED])])


@pytest.mark.parametrize(
    ("given_", "why"),
    [
        ({"root_cause": "gremlins"}, "root_cause 'gremlins' is not in the catalogue"),
        ({"contributing": ["gremlins"]}, "contributing 'gremlins' is not in the catalogue"),
        ({"contributing": ["unknown"]}, "contributing 'unknown' is not"),
        ({"contributing": ["missing-ttl-prefix-leak"]}, "cannot contribute to itself"),
        ({"claims": []}, "at least one claim"),
        ({"culprit": Culprit(kind="prefix", name="cart:")}, "'cart:' occurs in no evidence"),
        ({"culprit": Culprit(kind="key", name="session:")}, "occurs in no evidence as a key"),
        ({"culprit": Culprit(kind="client", name="")}, "needs a name"),
        ({"culprit": Culprit(kind="none", name="session:")}, "kind none has no name"),
        ({"culprit": Culprit(kind="config", name="timeout")}, "occurs in no evidence"),
        ({"culprit": Culprit(kind="host", name="10.0.0.1")}, "occurs in no evidence"),
        (
            {"root_cause": "no-incident", "contributing": [],
             "culprit": Culprit(kind="prefix", name="session:")},
            "no-incident has no culprit",
        ),
        ({"hypothesis": SUSPICION}, "only with root_cause 'unknown'"),
        (
            {"root_cause": "unknown", "hypothesis": HypothesisDraft(title="Ghosts")},
            "a hypothesis needs at least one claim",
        ),
        (
            {"alternatives": [Alternative(root_cause="x", confidence=0.1, why_not="no")]},
            "alternative 'x' is not in the catalogue",
        ),
        (
            {"alternatives": [Alternative(root_cause="unknown", confidence=0, why_not="only 3 %")]},
            "why_not: '3' is a number without a fact",
        ),
        (
            {"alternatives": [Alternative(root_cause="unknown", confidence=0, why_not="{used}")]},
            "why_not: no placeholder can stand here: say it without numbers",
        ),
        (
            {"alternatives": [Alternative(root_cause="unknown", confidence=0, why_not="x" * 401)]},
            "why_not: longer than 400 characters",
        ),
        (
            {"alternatives": [Alternative(root_cause="unknown", confidence=0, why_not="нет")]},
            "why_not: the character U+043D",
        ),
        ({"claims": [ClaimDraft(text="{used} of 9", facts=[USED])]}, "claim 1: '9' in the text"),
    ],
)  # fmt: skip
def test_what_does_not_hold_is_said_exactly(given_: dict[str, Any], why: str) -> None:
    mismatches = checked(**given_)
    assert isinstance(mismatches, list)
    assert any(why in mismatch for mismatch in mismatches), mismatches


@pytest.mark.parametrize(
    "culprit",
    [
        Culprit(kind="key", name="user:42:"),
        Culprit(kind="config", name="maxmemory"),
        Culprit(kind="config", name="maxmemory-policy"),
        Culprit(kind="host", name="127.0.0.1:6379"),
        Culprit(kind="host", name="cache-1"),
        Culprit(),
    ],
    ids=lambda culprit: f"{culprit.kind}",
)
def test_culprits_named_in_evidence(culprit: Culprit) -> None:
    assert isinstance(checked(culprit=culprit), Diagnosis)


def test_a_hypothesis_is_checked_like_a_claim() -> None:
    unknown: dict[str, Any] = {"root_cause": "unknown", "culprit": Culprit(), "claims": []}
    good = checked(**unknown, hypothesis=SUSPICION)
    assert isinstance(good, Diagnosis)
    assert good.hypothesis is not None
    assert good.hypothesis.claims[0].text == "96.0 MiB"
    wrong = SUSPICION.model_copy(update={"title": "99 problems"})
    assert isinstance(checked(**unknown, hypothesis=wrong), list)


def test_text_that_the_rules_compute_may_hold_numbers() -> None:
    other = Alternative(root_cause="unknown", confidence=0, why_not="scored 0.3 of 4")
    half = ClaimDraft(text="Half of {used} is idle.", facts=[USED])
    assert isinstance(checked(alternatives=[other], claims=[half], reasoner="rules"), Diagnosis)
    assert isinstance(checked(alternatives=[other]), list)
    assert isinstance(checked(claims=[half]), list)


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_no_submission_crashes_the_check(root: str, name: str, text: str) -> None:
    result = checked(
        root_cause=root,
        culprit=Culprit(kind="key", name=name),
        claims=[ClaimDraft(text=text, facts=[USED])],
    )
    assert isinstance(result, list)
    assert all(mismatch.isprintable() for mismatch in result)
