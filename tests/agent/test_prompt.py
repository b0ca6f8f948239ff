"""The prompt: what never changes comes first, runbooks whole, within a budget, all of it true."""

import json
import random
from itertools import pairwise
from typing import Any

import pytest
import respx

from agent.case import CaseFile
from agent.claims import check_claim
from agent.digest import bounded
from agent.facts import index, resolve
from agent.functions import SUBMIT, may_be_asked_for, read_functions, submit_function
from agent.incident import Alert, Claim, RunbookMatch
from agent.model_reply import CHARACTERS_PER_TOKEN
from agent.prompt import (
    EXAMPLE_CLAIM,
    EXAMPLE_PRINTED,
    EXAMPLE_READING,
    RUNBOOK_CHARACTERS,
    incident_message,
    shown_runbooks,
    system_message,
    whole,
)
from agent.reasoner import OpenAIReasoner
from agent.redaction import redact
from agent.runbook import Library
from agent.runbook_library import load_library, match
from evals.run import opened
from evals.truth import RecordedIncident, incidents
from tests.agent.desk import AT, Desk, incident, piece, some_evidence
from tests.agent.endpoint import DONE, URL, Make, reply, requests
from tests.agent.strict_rules import violations
from tests.agent.test_digest import assert_true, shown_paths
from tools.reads import READS

LIBRARY = load_library()
MOST_TOKENS = 12_000
"""In a call, by our own pessimistic count."""


def alerted(name: str) -> Any:
    alert = Alert(source="x", name=name, fingerprint="f", starts_at=AT)
    return incident(alerts=[alert], runbooks=match(LIBRARY, [alert]))


def matching(case: Any) -> Library:
    return Library(runbooks=[book for book in LIBRARY.runbooks if book.id in ids(case)])


def ids(case: Any) -> list[str]:
    return [found.id for found in case.runbooks]


def test_the_example_shows_what_code_would_print_and_cannot_be_passed_off_as_evidence() -> None:
    tank = piece(0, "any", EXAMPLE_READING)
    printed = check_claim(EXAMPLE_CLAIM, index([tank]))
    assert isinstance(printed, Claim)
    assert printed.text == EXAMPLE_PRINTED
    system = system_message(LIBRARY)["content"]
    assert EXAMPLE_PRINTED in system
    assert json.dumps(bounded(EXAMPLE_READING), separators=(",", ":")) in system
    assert EXAMPLE_CLAIM.model_dump_json() in system
    parroted = check_claim(EXAMPLE_CLAIM, index(some_evidence()))
    assert isinstance(parroted, list)
    assert all("there is no evidence 'E0'" in mismatch for mismatch in parroted)


def test_runbooks_are_whole_as_far_as_there_is_room_best_match_first() -> None:
    case = alerted("RedisOutOfMemoryErrors")
    assert "memory-pressure" in ids(case)
    text = shown_runbooks(case, matching(case))
    by_id = {book.id: book for book in LIBRARY.runbooks}
    shown = {name: whole(by_id[name]) in text for name in ids(case)}
    best = [name for name in ids(case) if name != "memory-pressure"]
    assert shown[best[0]]
    assert sum(shown.values()) >= 2
    assert all(f"# Runbook {name}" in text for name in ids(case))
    assert text.index(f"# Runbook {best[0]}") < text.index("# Runbook memory-pressure")
    assert len(text) < RUNBOOK_CHARACTERS + 600
    assert "<!--" not in text
    assert "## What not to do" in text


def test_one_runbook_alone_is_always_whole() -> None:
    for book in LIBRARY.runbooks:
        case = incident(runbooks=[RunbookMatch(id=book.id, why="")])
        text = shown_runbooks(case, Library(runbooks=[book]))
        assert text.endswith(redact(whole(book))), book.id


def test_a_smaller_window_costs_runbooks_first_then_readings() -> None:
    case = alerted("RedisOutOfMemoryErrors")
    books = matching(case)
    sizes = []
    for limit in (18_000, 12_000, 6_000, 600):
        content = incident_message(case, books, some_evidence(), [], limit=limit)["content"]
        sizes.append(len(content))
        data = json.loads(content.rpartition("\n")[2])
        assert [each["evidence"] for each in data["evidence"]] == ["E1", "E2", "E4", "E3"]
        assert ("## Symptoms" in content) is (limit > 9_000)
    assert sizes == sorted(sizes, reverse=True)


def test_an_alert_of_any_size_is_bounded() -> None:
    loud = {f"label_{n}": "x" * 5_000 for n in range(500)}
    alerts = [
        Alert(source="x", name="A", fingerprint="f", starts_at=AT, labels=loud, annotations=loud)
    ] * 50
    case = incident(alerts=alerts, question="why? " * 10_000)
    assert len(incident_message(case, Library(runbooks=[]), [], [])["content"]) < 120_000


@respx.mock
async def test_two_incidents_share_everything_up_to_their_runbooks(reasoner: Make) -> None:
    respx.post(URL).mock(side_effect=lambda _: reply(DONE))
    mind = OpenAIReasoner(reasoner()._model, LIBRARY)
    for number, alert in enumerate(("RedisReplicationBroken", "RedisMemoryHigh")):
        desk = Desk()
        desk.incident = alerted(alert).model_copy(update={"id": f"I{number}"})
        desk.runbooks = matching(desk.incident)
        desk.evidence = some_evidence()[number:]
        await mind.investigate(desk)
    first, second = requests()
    assert json.dumps(first["tools"]) == json.dumps(second["tools"])
    assert first["messages"][0] == second["messages"][0]
    assert first["messages"][1] != second["messages"][1]


@respx.mock
async def test_a_turn_only_appends_to_the_one_before(desk: Desk, reasoner: Make) -> None:
    looks = [reply(("slowlog", {})), reply(("modules", {}), ("clients", {})), reply(DONE)]
    respx.post(URL).side_effect = looks
    await reasoner().investigate(desk)
    turns = [request["messages"] for request in requests()]
    for before, after in pairwise(turns):
        assert json.dumps(after[: len(before)]) == json.dumps(before)
        assert len(after) > len(before)


def test_tool_schemas_are_small_and_in_a_stable_order() -> None:
    offered = read_functions(READS)
    assert [each["function"]["name"] for each in offered] == may_be_asked_for(READS)
    assert len(json.dumps(offered)) < 280 * len(offered)
    for each in offered:
        assert each["function"]["description"]
        properties = each["function"]["parameters"]["properties"]
        assert set(properties) <= set(READS[each["function"]["name"]].args.model_fields)


def test_the_submission_is_valid_by_the_strict_rules() -> None:
    submit = submit_function([*LIBRARY.causes(), "unknown", "no-incident"])["function"]
    assert submit["name"] == SUBMIT
    assert submit["strict"] is True
    assert violations(submit["parameters"]) == []
    root = submit["parameters"]["properties"]["root_cause"]["enum"]
    assert len(root) == len(LIBRARY.causes()) + 2


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (lambda s: s["required"].pop(), "required"),
        (lambda s: s.pop("additionalProperties"), "additionalProperties"),
        (lambda s: s["properties"]["confidence"].update(default=0.5), "default"),
        (lambda s: s["properties"]["culprit"].update(description="x"), "beside $ref"),
        (lambda s: s["properties"]["confidence"].pop("type"), "no type"),
        (lambda s: s["properties"]["confidence"].update(enum=list(range(501))), "enum"),
    ],
)
def test_the_strict_rules_catch_what_they_should(break_it: Any, why: str) -> None:
    schema = submit_function(["unknown"])["function"]["parameters"]
    break_it(schema)
    assert any(why in violation for violation in violations(schema))


def sample() -> list[RecordedIncident]:
    return random.Random(11).sample(incidents(), 4)


@pytest.mark.parametrize("recorded", sample(), ids=lambda each: each.id)
async def test_what_the_prompt_shows_of_a_recorded_incident_is_true(
    recorded: RecordedIncident,
) -> None:
    context = opened(recorded, LIBRARY)
    case = CaseFile(context, await context.journal.incident(), LIBRARY, [])
    for tool, each in READS.items():
        if not any(field.is_required() for field in each.args.model_fields.values()):
            await case.look(tool, {})
    runbooks = match(LIBRARY, case.incident.alerts)
    case.incident.runbooks = runbooks
    content = incident_message(case.incident, matching(case.incident), case.evidence, [])["content"]
    stable = [system_message(LIBRARY)["content"], json.dumps(read_functions(READS))]
    assert len("".join([content, *stable])) < CHARACTERS_PER_TOKEN * MOST_TOKENS
    known = index(case.evidence)
    checked = 0
    for each in json.loads(content.rpartition("\n")[2])["evidence"]:
        reading = each.get("reading")
        if isinstance(reading, dict) and "too_large_to_show" not in reading:
            for path, value in shown_paths(reading):
                assert_true(value, _plain(known[each["evidence"]].reading, path))
                resolve(path, each["evidence"], known)
                checked += 1
    assert checked > 60


def _plain(reading: Any, path: str) -> Any:
    for step in path.split("."):
        reading = reading[int(step)] if isinstance(reading, list) else reading[step]
    return reading
