"""The control: one question, one answer, scored as it is."""

import json
from typing import Any

import httpx
import pytest
import respx

from agent.budget import ModelSettings
from agent.functions import SUBMIT
from agent.model import Model
from agent.runbook_library import load_library
from evals.alone import form, work_alone
from evals.run import opened
from evals.score import Result
from evals.truth import incidents
from tests.agent.endpoint import BASE, KEY, URL, reply, requests
from tools.reads import READS

LIBRARY = load_library()
ONE = next(one for one in incidents() if one.truth.is_incident)


async def worked(answer: httpx.Response) -> Result:
    route = respx.post(URL).mock(return_value=answer)
    model = Model(ModelSettings("test", KEY, BASE))
    try:
        return await work_alone(ONE, model, LIBRARY)
    finally:
        await model.close()
        assert route.called


def fact(path: str, value: Any, evidence: str = "E1") -> dict[str, Any]:
    return {"name": "n", "evidence": evidence, "op": "value", "of": [path], "unit": "",
            "value": value}  # fmt: skip


def answer(**changes: Any) -> dict[str, Any]:
    return {
        "root_cause": ONE.truth.root_cause[0],
        "confidence": 0.9,
        "culprit": ONE.truth.culprit[0].model_dump(),
        "contributing": [],
        "claims": [],
    } | changes


def asked() -> str:
    """The one request, whole."""
    (request,) = requests()
    return json.dumps(request["messages"])


@respx.mock
async def test_it_is_asked_once_with_what_was_seen_and_no_scaffold() -> None:
    result = await worked(reply((SUBMIT, answer())))
    assert result.right
    assert result.culprit_right
    assert (result.usage.llm_calls, result.usage.input_tokens) == (1, 1_000)
    text = asked()
    for seen in ("memory_info", "slowlog", "clients", "keyspace", "command_stats"):
        assert f'\\"tool\\":\\"{seen}\\"' in text
    for cause in LIBRARY.causes():
        assert f"- {cause}: " in text
    for scaffold in ("rules_ranking", "Runbook", "supported by", "stream_dominates_memory"):
        assert scaffold not in text
    assert len(text) < 60_000


@respx.mock
async def test_its_own_numbers_are_looked_up() -> None:
    version = await _version()
    claims = [
        {"text": "A true one.", "facts": [fact("redis_version", version)]},
        {"text": "A wrong one.", "facts": [fact("redis_version", "0.0.1")]},
        {"text": "An invented one.", "facts": [fact("no.such.path", 7)]},
        {"text": "One that cannot be read.", "facts": "none"},
    ]
    result = await worked(reply((SUBMIT, answer(claims=claims))))
    assert [(one.exists, one.recomputes) for one in result.facts] == [
        (True, True), (True, False), (False, False),
    ]  # fmt: skip


async def _version() -> str:
    reading = await READS["server_info"].call(opened(ONE, LIBRARY).connection, {})
    return str(reading.model_dump()["redis_version"])


@respx.mock
async def test_json_in_the_text_will_do() -> None:
    text = f"Here it is:\n```json\n{json.dumps(answer(culprit='the big one'))}\n```"
    result = await worked(reply(text=text))
    assert result.right
    assert not result.culprit_right


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (reply(text="I think memory is full."), "cannot be used"),
        (reply((SUBMIT, {"confidence": 1})), "cannot be used"),
        (reply(text='{"root_cause":' + "[" * 9_000 + "}"), "cannot be used"),
        (reply((SUBMIT, "[1, 2]")), "cannot be used"),
        (httpx.Response(401, json={"error": {"message": KEY}}), "the API key was refused"),
    ],
)
@respx.mock
async def test_no_answer_is_a_wrong_one_and_is_not_asked_for_again(
    response: httpx.Response, why: str
) -> None:
    result = await worked(response)
    assert (result.got, result.right) == ("failed", False)
    assert why in result.failure
    assert KEY not in result.failure
    assert len(respx.calls) == 1


def test_the_form_is_strict() -> None:
    """Endpoints that enforce a schema refuse one with an optional or a further property."""

    def objects(node: Any) -> list[dict[str, Any]]:
        if isinstance(node, list):
            return [each for part in node for each in objects(part)]
        if not isinstance(node, dict):
            return []
        own = [node] if node.get("type") == "object" else []
        return own + [each for part in node.values() for each in objects(part)]

    function = form(sorted(LIBRARY.causes()))["function"]
    found = objects(function["parameters"])
    assert len(found) >= 4  # the submission, a culprit, a claim, a fact
    for each in found:
        assert each["additionalProperties"] is False
        assert sorted(each["required"]) == sorted(each["properties"])
    assert function["parameters"]["properties"]["root_cause"]["enum"] == sorted(LIBRARY.causes())
