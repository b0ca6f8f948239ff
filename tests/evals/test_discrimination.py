"""Which facts tell a sick server from a healthy one, and which say what all servers say."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.incident import Claim, Culprit, Diagnosis, Fact
from evals.discrimination import FEWEST, Answer, Reference, tells, with_carried
from evals.score import Checked, Result, evidence_of, reference_of, summary
from evals.truth import Truth
from tools.reading import Evidence

SICK = Answer("sick", is_incident=True, plain=False, culprits=[Culprit(kind="key", name="a:b")])
QUIET = Answer("h0", is_incident=False, plain=True, culprits=[Culprit()])
BY_DESIGN = Answer("full", is_incident=False, plain=False, culprits=[Culprit()])


def seen(pressure: float, keys: int = 1_000, **more: Any) -> dict[str, dict[str, Any]]:
    usual: dict[str, dict[str, Any]] = {
        "memory_info": {"pressure": pressure, "limit_source": "maxmemory", "used": 5 + keys},
        "persistence": {"status": "ok"},
        "server_info": {"run_id": f"id-{pressure}-{keys}"},
        "config_get": {"parameters": {"hz": "10", "activedefrag": "no"}},
        "clients": {"largest": [{"label": "a", "bytes": 900}, {"label": "b", "bytes": 20}]},
        "command_stats": {"commands": [{"command": "get", "rate": 90.0}]},
        "error_stats": {"errors": []},
    }
    return usual | more


HEALTHY = {f"h{n}": seen(0.3 + n / 40, 1_000 + 37 * n) for n in range(10)}
ILL: dict[str, dict[str, Any]] = seen(
    0.97,
    clients={"largest": [{"label": "a", "bytes": 100}, {"label": "stuck", "bytes": 90_000_000}]},
    command_stats={
        "commands": [{"command": "set", "rate": 50.0}, {"command": "xreadgroup", "rate": 4.0}]
    },
    error_stats={"errors": [{"code": "OOM", "rate": 3.0}]},
    persistence={"status": "err"},
    config_get={"parameters": {"hz": "1", "activedefrag": "no"}},
    top={"rows": [{"key": "a:b"}]},
)
REFERENCE = Reference(HEALTHY, {"sick": ILL, "other": seen(0.5)})


def fact(of: list[str], value: Any, op: Any = "value", tool: str = "") -> Fact:
    return Fact(name="x", evidence=tool or of[0].partition(":")[0], op=op, of=of, value=value)


def cited(server: dict[str, dict[str, Any]]) -> dict[str, tuple[str, dict[str, Any]]]:
    return {tool: (tool, reading) for tool, reading in server.items()}


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("memory_info:pressure", 0.97, True),
        ("memory_info:pressure", 0.45, False),
        ("memory_info:pressure", 0.01, True),  # as unusual at the other end
        ("memory_info:limit_source", "maxmemory", False),
        ("persistence:status", "err", True),
        ("persistence:status", "ok", False),
        ("server_info:run_id", "id-x", False),  # a name differs everywhere and means nothing
        ("config_get:parameters.hz", 1, True),  # compared as the number it is
        ("config_get:parameters.activedefrag", "no", False),
        ("clients:largest.1.bytes", 90_000_000, True),
        ("clients:largest.0.bytes", 100, False),  # whatever the row it stands in
        ("command_stats:commands.0.rate", 50.0, True),  # no healthy server ever called SET
        ("command_stats:commands.1.rate", 4.0, True),
        ("error_stats:errors.0.rate", 3.0, True),
        ("top:rows.0.key", "a:b", True),  # the culprit itself
        ("nowhere:rows.0.key", "z", False),
        ("top:rows.0.bytes", 5, False),  # nobody looked there on a healthy server
    ],
)
def test_a_fact_of_an_incident_has_to_be_unlike_healthy_servers(
    path: str, value: Any, told: bool
) -> None:
    tool, _, rest = path.partition(":")
    assert tells(fact([rest], value, tool=tool), cited(ILL), SICK, REFERENCE) is told


def test_calculated_facts_are_calculated_on_the_others_too() -> None:
    share = ["memory_info:used", "clients:largest.0.bytes"]
    usual = fact(share, 1_100 / 900, "ratio", "memory_info")
    assert not tells(usual, cited(HEALTHY["h1"]), SICK, REFERENCE)
    odd = usual.model_copy(update={"value": 0.000_01})
    assert tells(odd, cited(ILL), SICK, REFERENCE)


@pytest.mark.parametrize(
    ("answer", "path", "value", "told"),
    [
        (QUIET, "memory_info:pressure", 0.3, True),  # sick servers are above it
        (QUIET, "memory_info:pressure", 0.99, False),  # speaks against what is claimed
        (QUIET, "memory_info:limit_source", "maxmemory", False),
        (QUIET, "persistence:status", "ok", True),
        (BY_DESIGN, "memory_info:pressure", 0.99, True),  # why somebody was called
        (BY_DESIGN, "memory_info:pressure", 0.4, True),
        (BY_DESIGN, "memory_info:limit_source", "maxmemory", False),
    ],
)
def test_a_fact_of_no_incident_has_to_be_unlike_sick_ones(
    answer: Answer, path: str, value: Any, told: bool
) -> None:
    tool, _, rest = path.partition(":")
    assert tells(fact([rest], value, tool=tool), cited(HEALTHY["h0"]), answer, REFERENCE) is told


def test_a_server_is_not_compared_with_itself() -> None:
    alone = Reference(HEALTHY | {"odd": seen(0.9)}, {})
    pressure = fact(["pressure"], 0.9, tool="memory_info")
    itself = Answer("odd", is_incident=True, plain=False, culprits=[])
    assert tells(pressure, cited(HEALTHY["h0"]), itself, alone)


def test_what_was_not_measured_is_no_comparison() -> None:
    blind = {"pressure": {"not_measured": "INFO", "because": "refused"}}
    few = {name: HEALTHY[name] for name in list(HEALTHY)[: FEWEST - 1]}
    unseen = {f"u{n}": {"memory_info": blind} for n in range(20)}
    pressure = fact(["pressure"], 0.97, tool="memory_info")
    assert not tells(pressure, cited(ILL), SICK, Reference(few | unseen, {}))


@given(st.integers(0, 12), st.integers(0, 12))
def test_padding_is_not_carried(telling: int, more: int) -> None:
    counted = with_carried(telling, telling + more)
    assert telling <= counted <= telling + more
    assert counted <= 3 * telling


# -- through the score ----------------------------------------------------------------------


def worked(name: str, server: dict[str, dict[str, Any]], cause: str, claims: list[Claim]) -> Result:
    quiet = cause == "no-incident"
    facts = tuple(
        Checked(one.name, exists=True, recomputes=True) for claim in claims for one in claim.facts
    )
    now = datetime.now(UTC)
    evidence = tuple(
        Evidence(id=tool, tool=tool, args={}, reading=reading, measured=True, taken_at=now,
                 target="t", node="n")
        for tool, reading in server.items()
    )  # fmt: skip
    truth = Truth.model_validate(
        {"root_cause": [cause], "culprit": [{}], "contributing": [], "is_incident": not quiet,
         "fault": cause, "build": "redis-7.0", "seed": 1}
    )  # fmt: skip
    said = Diagnosis(
        root_cause=cause, title="", is_incident=not quiet, confidence=0.9, summary="", claims=claims
    )
    return Result(name, truth, held_back=False, diagnosis=said, facts=facts, readings=server,
                  evidence=evidence)  # fmt: skip


PRESSURE = fact(["pressure"], 0.97, tool="memory_info")
SOURCE = fact(["limit_source"], "maxmemory", tool="memory_info")


def suite(claims: list[Claim]) -> list[Result]:
    quiet = [worked(name, server, "no-incident", []) for name, server in HEALTHY.items()]
    return [*quiet, worked("sick", ILL, "noeviction-oom", claims)]


@pytest.mark.parametrize(
    ("claims", "good"),
    [
        ([[PRESSURE]], 1),
        ([[PRESSURE, SOURCE, SOURCE]], 3),
        ([[PRESSURE, SOURCE, SOURCE, SOURCE, SOURCE]], 3),
        ([[SOURCE]], 0),
        ([[PRESSURE], [SOURCE]], 1),
    ],
)
def test_a_telling_fact_carries_two_of_its_own_claim(claims: list[list[Fact]], good: int) -> None:
    results = suite([Claim(text="", facts=facts) for facts in claims])
    count = evidence_of(results[-1], reference_of(results))
    assert (count.good, count.recompute) == (good, sum(map(len, claims)))


def test_a_telling_fact_that_does_not_recompute_carries_nothing() -> None:
    results = suite([Claim(text="", facts=[PRESSURE, SOURCE])])
    broken = Checked("x", exists=True, recomputes=False)
    sound = Checked("y", exists=True, recomputes=True)
    ill = replace(results[-1], facts=(broken, sound))
    assert evidence_of(ill, reference_of(results)).good == 0


def test_the_shares_are_reported_apart() -> None:
    document = summary("x", suite([Claim(text="", facts=[PRESSURE, SOURCE] + 2 * [SOURCE])]), 1.0)
    assert document["evidence"] == {
        "facts": 4, "recomputes": 1.0, "discriminates": 0.75, "discriminates_alone": 0.25,
        "compared_with": 10,
    }  # fmt: skip
    assert document["evidence_precision"] == 0.75


def test_without_healthy_servers_nothing_is_said_about_telling() -> None:
    document = summary("x", suite([Claim(text="", facts=[SOURCE])])[-1:], 1.0)
    assert document["evidence"]["discriminates"] is None
    assert document["evidence_precision"] == 1
