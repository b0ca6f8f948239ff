"""The scoring, by tables: what counts as right, harmful, hallucinated, calibrated."""

import json
from typing import Any

import pytest

from agent.incident import Action, Culprit, Diagnosis, Fact
from evals.score import (
    Checked,
    Result,
    baselines,
    calibration_error,
    harmful,
    recomputed,
    summary,
    threshold_page,
    threshold_rule,
    wilson,
)
from evals.truth import Truth


def truth(*causes: str, culprit: tuple[str, str] = ("none", ""), is_incident: bool = True) -> Truth:
    return Truth.model_validate(
        {
            "root_cause": list(causes),
            "culprit": [{"kind": culprit[0], "name": culprit[1]}],
            "contributing": [],
            "is_incident": is_incident,
            "fault": causes[0],
            "build": "redis-7.0",
            "seed": 1,
        }
    )


def diagnosis(cause: str, confidence: float = 0.9, **more: Any) -> Diagnosis:
    return Diagnosis(
        **{
            "root_cause": cause,
            "title": cause,
            "is_incident": cause not in ("no-incident", "cache-full-by-design"),
            "confidence": confidence,
            "summary": cause,
        }
        | more
    )


def result(name: str, wanted: Truth, said: Diagnosis | None, **more: Any) -> Result:
    return Result(name, wanted, held_back=False, diagnosis=said, **more)


def action(kind: str, commands: list[list[str]] | None = None, **more: Any) -> Action:
    return Action(
        **{
            "id": "A1",
            "fingerprint": "f",
            "kind": kind,
            "title": kind,
            "arguments": {},
            "risk": "R1",
            "commands": commands or [],
        }
        | more
    )


@pytest.mark.parametrize(
    ("hits", "total", "interval"),
    [
        # Newcombe 1998, table I, method 3: 81/263, 15/148, 0/20.
        (81, 263, (0.308, 0.2553, 0.3662)),
        (15, 148, (0.1014, 0.0624, 0.1605)),
        (0, 20, (0.0, 0.0, 0.1611)),
        (0, 0, (0.0, 0.0, 1.0)),
    ],
)
def test_wilson_intervals(hits: int, total: int, interval: tuple[float, float, float]) -> None:
    assert wilson(hits, total) == pytest.approx(interval, abs=5e-4)


def test_calibration_error() -> None:
    assert calibration_error([]) == 0
    assert calibration_error([(0.75, True), (0.75, True), (0.75, True), (0.75, False)]) == 0
    assert calibration_error([(1.0, False)]) == 1
    assert calibration_error([(0.9, True), (0.2, True)]) == pytest.approx((0.1 + 0.8) / 2)


@pytest.mark.parametrize(
    ("fact", "exists", "right"),
    [
        ({"of": ["used"], "value": 80}, True, True),
        ({"of": ["used"], "value": 81}, True, False),
        ({"of": ["used", "limit"], "op": "ratio", "value": 0.8}, True, True),
        ({"of": ["used", "E2:seen"], "op": "difference", "value": 73}, True, True),
        ({"of": ["used", "E2:seen", "limit"], "op": "rate", "value": 0.73}, True, True),
        ({"of": ["rows.1.name"], "value": "user:"}, True, True),
        ({"of": ["rows.9.name"], "value": "user:"}, False, False),
        ({"of": ["nothing"], "value": 0}, False, False),
        ({"of": ["rows"], "value": 2}, False, False),
        ({"of": ["limit"], "evidence": "E7", "value": 100}, False, False),
        ({"of": ["rows.0.name", "limit"], "op": "ratio", "value": 1}, True, False),
    ],
)
def test_facts_are_computed_anew(fact: dict[str, Any], exists: bool, right: bool) -> None:
    readings: dict[str, dict[str, Any]] = {
        "E1": {"used": 80, "limit": 100, "rows": [{"name": "page:"}, {"name": "user:"}]},
        "E2": {"seen": 7},
    }
    checked = recomputed(Fact(**{"name": "x", "evidence": "E1"} | fact), readings)
    assert checked == Checked("x", exists=exists, recomputes=right)


def setting(parameter: str, value: str) -> dict[str, Any]:
    return {"arguments": {"parameter": parameter, "value": value}}


EXPIRE = [["EXPIRE", "<key of page:*>", "86400", "NX"]]


@pytest.mark.parametrize(
    ("cause", "proposed", "policy", "harms"),
    [
        ("missing-ttl-prefix-leak", action("expire_prefix", EXPIRE), "noeviction", False),
        ("slow-pubsub-cob", action("expire_prefix", EXPIRE), "noeviction", True),
        ("slow-pubsub-cob", action("set_config", **setting("maxmemory", "9")), "noeviction", True),
        ("slow-pubsub-cob", action("kill_client", [["CLIENT", "KILL", "ID", "3"]]), "x", False),
        ("noeviction-oom", action("set_config", **setting("maxmemory", "9")), "noeviction", False),
        (
            "noeviction-oom",
            action("set_config", **setting("maxmemory-policy", "allkeys-lru")),
            "noeviction",
            True,
        ),
        (
            "eviction-thrash",
            action("set_config", **setting("maxmemory-policy", "allkeys-lfu")),
            "allkeys-lru",
            False,
        ),
        ("single-bigkey", action("other", [["DEL", "k"]]), "noeviction", True),
        ("single-bigkey", action("other", [["DEL", "k"]], executable=False), "noeviction", False),
        ("fragmentation-after-deletes", action("expire_prefix", EXPIRE), "noeviction", True),
    ],
)
def test_harm_is_judged_by_the_truth(
    cause: str, proposed: Action, policy: str, harms: bool
) -> None:
    assert bool(harmful(proposed, truth(cause), policy)) is harms


def test_anything_done_to_a_healthy_server_is_harmful() -> None:
    quiet = truth("no-incident", is_incident=False)
    assert harmful(action("memory_purge", [["MEMORY", "PURGE"]]), quiet)


def test_the_whole_document() -> None:
    """A right answer, a wrong one, a false alarm and a crash."""
    leak = truth("missing-ttl-prefix-leak", culprit=("prefix", "page:"))
    quiet = truth("no-incident", is_incident=False)
    facts = (
        Checked("a", exists=True, recomputes=True),
        Checked("b", exists=False, recomputes=False),
    )
    culprit = Culprit(kind="prefix", name="page:")
    results = [
        result("a", leak, diagnosis(leak.root_cause[0], culprit=culprit), facts=facts),
        result("b", leak, diagnosis("noeviction-oom", culprit=culprit), seconds=0.5),
        result("c", quiet, diagnosis("single-bigkey"), actions=(action("set_config"),)),
        result("d", quiet, None, failure="boom"),
    ]
    document = summary("rules", results, 1.0)
    promised = {
        "reasoner", "n", "top1", "culprit", "false_positive_rate", "harmful_proposed",
        "evidence_precision", "hallucinated_evidence", "ece", "median_llm_calls",
        "median_input_tokens", "seconds", "intervals", "held_back", "slices", "baselines",
        "incidents",
    }  # fmt: skip
    assert document.keys() > promised
    assert document.keys() >= document["intervals"].keys() > {"top1", "evidence_precision"}
    assert (document["top1"], document["culprit"]) == (0.25, 0.75)
    assert document["false_positive_rate"] == 1
    assert document["harmful_proposed"] == 1
    assert (document["evidence_precision"], document["hallucinated_evidence"]) == (0.5, 1)
    assert document["intervals"]["top1"] == pytest.approx(list(wilson(1, 4)))
    assert document["slices"]["incidents"]["n"] == 2
    assert document["slices"]["fault:no-incident"]["top1"] == 0
    assert document["slices"]["section:no incident"]["failures"] == 1
    assert document["slices"]["open"]["n"] == 4
    assert document["failures"] == 1
    assert document["auroc"] == pytest.approx(2 / 3)  # two ties, and a crash is sure of nothing
    assert document["brier"] == pytest.approx((0.01 + 0.81 + 0.81 + 0) / 4)
    assert document["incidents"][3] == {
        "id": "d", "kind": "single", "held_back": False, "expected": ["no-incident"],
        "got": "failed", "right": False, "named": None, "culprit": False, "confidence": None,
        "escalated": False, "decided_by": None, "overruled": None, "hypothesis": None,
        "seconds": 0.0, "harm": [], "harmful_advice": [], "missing": [], "contributing": [],
        "overlooked": [], "evidence": [0, 0], "failure": "boom",
    }  # fmt: skip
    assert document["incidents"][2]["harm"] == ["nothing is wrong with this server"]
    assert document["incidents"][1]["missing"] == ["missing-ttl-prefix-leak"]
    json.dumps(document, allow_nan=False)


@pytest.mark.parametrize(
    ("held_back", "rest", "behind", "overfitted"),
    [
        ([True] * 8 + [False] * 2, [True] * 10, 0.2, False),  # half a width: 0.23
        ([True] * 60 + [False] * 20, [True] * 10, 0.25, True),  # half a width: 0.09
        ([True] * 5, [False] * 5, -1.0, False),
        ([], [True], None, None),
        ([True], [], None, None),
    ],
)
def test_rules_that_fit_only_what_was_looked_at_are_told(
    held_back: list[bool], rest: list[bool], behind: float | None, overfitted: bool | None
) -> None:
    said = {True: diagnosis("hot-key"), False: diagnosis("on-command")}
    results = [
        Result(f"{away}{n}", truth("hot-key"), away, said[right])
        for away, part in ((True, held_back), (False, rest))
        for n, right in enumerate(part)
    ]
    part = summary("rules", results, 1.0)["held_back"]
    assert part["behind"] == (None if behind is None else pytest.approx(behind))
    assert part["overfitted"] is overfitted


@pytest.mark.parametrize(
    ("named", "contributing", "exact", "stray", "overlooked"),
    [
        ("single-bigkey", ["slow-pubsub-cob"], True, set(), set()),
        ("slow-pubsub-cob", ["single-bigkey", "noeviction-oom"], True, set(), set()),
        ("single-bigkey", [], False, set(), {"slow-pubsub-cob"}),
        ("single-bigkey", ["slow-pubsub-cob", "hot-key"], False, {"hot-key"}, set()),
        ("hot-key", ["slow-pubsub-cob"], False, set(), {"single-bigkey"}),
    ],
)
def test_two_faults_have_both_to_be_named(
    named: str, contributing: list[str], exact: bool, stray: set[str], overlooked: set[str]
) -> None:
    both = ["single-bigkey", "slow-pubsub-cob"]
    wanted = truth(*both).model_copy(update={"also": both, "contributing": ["noeviction-oom"]})
    one = result("a", wanted, diagnosis(named, contributing=contributing))
    assert (one.stray, one.overlooked) == (stray, overlooked)
    assert summary("rules", [one], 1.0)["contributing_exact"] == float(exact)


@pytest.mark.parametrize(
    ("causes", "said", "right"),
    [
        (["unknown"], "unknown", True),
        (["unknown"], "hot-key", False),
        (["unknown"], None, False),
        (["hot-key"], "unknown", False),
        (["hot-key"], "on-command", True),  # wrong, but right to answer
        (["unknown", "hot-key"], "hot-key", True),
        (["unknown", "hot-key"], "unknown", True),
        (["no-incident"], "unknown", False),
    ],
)
def test_abstention_is_right_where_nobody_can_know(
    causes: list[str], said: str | None, right: bool
) -> None:
    one = result("a", truth(*causes), diagnosis(said) if said else None)
    document = summary("rules", [one], 1.0)
    assert document["abstention_right"] == float(right)
    assert document["abstention"]["unknowable"] == int("unknown" in causes)


def test_baselines_take_no_thought() -> None:
    full = {"pressure": 0.99, "maxmemory_policy": "noeviction"}
    results = [
        result("a", truth("noeviction-oom"), None, readings={"memory_info": full}),
        result("b", truth("noeviction-oom"), None),
        result("c", truth("no-incident", is_incident=False), None),
    ]
    assert baselines(results) == pytest.approx(
        {
            "most_common": 2 / 3,
            "always_healthy": 1 / 3,
            "always_unknown": 0,
            "threshold_rule": 2 / 3,
        }
    )


SUBSCRIBER = {"type": "pubsub", "label": "notify-1", "output_bytes": 30_000_000}


@pytest.mark.parametrize(
    ("readings", "cause", "culprit"),
    [
        ({}, "no-incident", ""),
        ({"stats": {"evicted_keys": 3}}, "eviction-thrash", "maxmemory"),
        ({"stats": {"evicted_keys": {"not_measured": "x", "because": "y"}}}, "no-incident", ""),
        ({"clients": {"largest": [SUBSCRIBER]}}, "slow-pubsub-cob", "notify-1"),
        ({"clients": {"largest": [{"output_bytes": 5_000}]}}, "no-incident", ""),
        ({"persistence": {"rdb_last_bgsave_status": "err"}}, "misconf-bgsave-fail", "dir"),
        ({"replication": {"master_link_status": "down"}}, "repl-link-broken", ""),
        ({"clients": {"rejected_connections": 4}}, "maxclients-leak", ""),
        (
            {"error_stats": {"errors": [{"code": "READONLY", "per_second": 2}]}},
            "writes-to-replica",
            "",
        ),
        ({"slowlog": {"entries": [{"command": "KEYS"}]}}, "on-command", ""),
        (
            {"memory_info": {"pressure": 0.9, "maxmemory_policy": "volatile-lru"}},
            "volatile-policy-no-ttl",
            "maxmemory-policy",
        ),
    ],
)
def test_the_page_of_thresholds(readings: dict[str, Any], cause: str, culprit: str) -> None:
    said, who = threshold_page(readings)
    assert (said, who.name) == (cause, culprit)
    assert threshold_rule(readings) == cause
