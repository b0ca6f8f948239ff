"""Whatever a model's endpoint does, the graph ends with the rules' diagnosis and says why."""

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import respx

from agent.budget import ModelSettings
from agent.functions import SUBMIT
from agent.incident import Diagnosis, Incident
from agent.model import Model
from agent.reasoner import OpenAIReasoner
from agent.runbook import Library
from agent.runbook_library import load_library
from evals.run import diagnose
from evals.truth import RecordedIncident, incidents
from tests.agent.endpoint import BASE, KEY, SUBMISSION, URL, fact, reply, requests
from tests.agent.wire import Line, serving

CAP = 3.0
"""Seconds that the model may take for the incident."""


@pytest.fixture(scope="module")
def catalogue() -> Library:
    return load_library()


@pytest.fixture(scope="module")
def recorded() -> RecordedIncident:
    return next(one for one in incidents() if "missing-ttl-prefix-leak" in one.truth.root_cause)


@asynccontextmanager
async def minded(library: Library, url: str = BASE, **more: Any) -> AsyncIterator[OpenAIReasoner]:
    settings = {"seconds_per_call": CAP / 2, "seconds_per_incident": CAP} | more
    model = Model(ModelSettings("test", KEY, url, **settings))
    await model._endpoint._open()  # loading the library takes a second, once in a process
    try:
        yield OpenAIReasoner(model, library)
    finally:
        await model.close()


_ALONE: dict[str, Diagnosis] = {}


@pytest.fixture
async def alone(recorded: RecordedIncident, catalogue: Library) -> Diagnosis:
    """What the rules say without a model."""
    if recorded.id not in _ALONE:
        incident, _ = await diagnose(recorded, catalogue)
        assert incident.diagnosis is not None
        _ALONE[recorded.id] = incident.diagnosis
    return _ALONE[recorded.id]


def the_rules_stand(incident: Incident, alone: Diagnosis, because: str) -> None:
    diagnosis = incident.diagnosis
    assert diagnosis is not None
    assert diagnosis.overruled is not None
    assert re.search(because, diagnosis.overruled.reason)
    assert diagnosis.model_copy(update={"overruled": None}) == alone
    assert KEY not in incident.model_dump_json()


# -- the wire --------------------------------------------------------------------------------


async def hung(line: Line) -> None:
    await line.until_hung_up()


async def babbling(line: Line) -> None:
    """Never comes to an end."""
    await line.begin()
    while True:
        await line.piece(b'data: {"choices": [{"delta": {"content": "hm, "}}]}\n\n')


@pytest.mark.parametrize(
    ("script", "because"),
    [
        (hung, "did not answer within"),
        (babbling, "did not answer within|reply is too large"),
    ],
)
async def test_a_hung_endpoint_costs_no_more_than_the_cap(
    recorded: RecordedIncident,
    catalogue: Library,
    alone: Diagnosis,
    script: Callable[[Line], Any],
    because: str,
) -> None:
    async with serving(script) as wire, minded(catalogue, wire.url) as mind:
        incident, _ = await diagnose(recorded, catalogue, mind)
        spent = mind._model.budget(incident.id).seconds
    the_rules_stand(incident, alone, because)
    assert spent < CAP + 20  # of a busy machine; the endpoint itself would never have ended
    assert len(wire.bodies) == 1


async def test_nobody_listens(
    recorded: RecordedIncident, catalogue: Library, alone: Diagnosis
) -> None:
    async with minded(catalogue, seconds_per_call=30.0, seconds_per_incident=60.0) as mind:
        incident, _ = await diagnose(recorded, catalogue, mind)
    the_rules_stand(incident, alone, "the model's endpoint cannot be reached")


async def test_a_dead_endpoint_costs_the_next_incidents_nothing(
    recorded: RecordedIncident, catalogue: Library, alone: Diagnosis
) -> None:
    async with serving(hung) as wire, minded(catalogue, wire.url, seconds_per_call=0.5) as mind:
        for _ in range(3):
            await diagnose(recorded, catalogue, mind)
        asked = len(wire.bodies)
        incident, _ = await diagnose(recorded, catalogue, mind)
    the_rules_stand(incident, alone, "failed 3 times in a row")
    assert len(wire.bodies) == asked <= 3


# -- what it says ----------------------------------------------------------------------------


def with_claim(text: str, evidence: str) -> dict[str, Any]:
    facts = [fact("x", evidence, "used_memory", "bytes")]
    return SUBMISSION | {"claims": [{"text": text, "facts": facts}]}


OUT_OF_QUOTA = httpx.Response(
    429, json={"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
)
CASES: dict[str, tuple[httpx.Response, str]] = {
    "out of quota": (OUT_OF_QUOTA, "answered 429: the quota is spent"),
    "a storm of 500": (httpx.Response(500, text="storm"), "answered 500"),
    "the key is refused": (
        httpx.Response(401, json={"error": {"message": f"Incorrect API key: {KEY}"}}),
        "401: the API key was refused",
    ),
    "a proxy's login page": (httpx.Response(200, text="<html>"), "did not answer in JSON"),
    "a refusal": (reply(text="I cannot help with that."), "submitted nothing"),
    "an empty reply": (reply(text=""), "reply was empty"),
    "malformed arguments": (reply((SUBMIT, '{"root_cause": "mis')), "not valid JSON"),
    "an unknown tool, for ever": (reply(("flush_everything", {})), "kept asking for tools"),
    "looks without end": (reply(*[("slowlog", {})] * 5), "kept asking for tools"),
    "invented evidence": (reply((SUBMIT, with_claim("{x}", "E999"))), "no evidence 'E999'"),
    "an invented number": (reply((SUBMIT, with_claim("{x} of 4 GiB", "E1"))), "'4' in the text"),
    "a cause of its own": (
        reply((SUBMIT, SUBMISSION | {"root_cause": "gremlins", "claims": []})),
        "gremlins",
    ),
    "two answers at once": (
        reply((SUBMIT, SUBMISSION), (SUBMIT, SUBMISSION | {"root_cause": "unknown"})),
        "several submissions that differ",
    ),
}


@pytest.mark.parametrize("case", CASES)
@respx.mock
async def test_whatever_the_model_says_the_rules_stand(
    recorded: RecordedIncident, catalogue: Library, alone: Diagnosis, case: str
) -> None:
    response, because = CASES[case]
    respx.post(URL).mock(side_effect=lambda _: response)
    async with minded(
        catalogue, seconds_per_call=30.0, seconds_per_incident=60.0, max_tokens=200_000
    ) as mind:
        incident, _ = await diagnose(recorded, catalogue, mind)
    the_rules_stand(incident, alone, because)
    assert len(requests()) <= 6
    assert all(json.dumps(request).count(KEY) == 0 for request in requests())
