"""Model endpoints that are slow, refuse, break or answer nonsense."""

import asyncio
import json
from typing import Any

import httpx
import pytest
import respx

from agent.budget import ModelSettings
from agent.context import Reasoner, ReasonerUnavailable
from agent.functions import SUBMIT
from agent.model import Model
from agent.reasoner import OpenAIReasoner
from tests.agent.desk import Desk, library
from tests.agent.endpoint import DONE, KEY, URL, Make, reply, requests


@respx.mock
async def test_429_then_success(desk: Desk, reasoner: Make) -> None:
    busy = httpx.Response(
        429, json={"error": {"message": "slow down"}}, headers={"retry-after": "0"}
    )
    respx.post(URL).side_effect = [busy, httpx.Response(503, text="x"), reply(DONE)]
    assert await reasoner().investigate(desk)
    assert len(respx.calls) == 3


@pytest.mark.parametrize(
    ("response", "calls", "reason"),
    [
        (httpx.Response(429, json={"error": {"message": "slow"}}), 3, "answered 429, 3 times"),
        (
            httpx.Response(429, json={"error": {}}, headers={"retry-after": "3600"}),
            1,
            "asks to wait 3600 s: more than is left",
        ),
        (
            httpx.Response(429, headers={"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}),
            1,
            "more than is left",
        ),
        (
            httpx.Response(429, json={"error": {"code": "insufficient_quota", "message": "x"}}),
            1,
            "quota is spent",
        ),
        (httpx.Response(500, text="oops"), 3, "answered 500, 3 times"),
        (
            httpx.Response(401, json={"error": {"message": f"Incorrect API key: {KEY}"}}),
            1,
            "401: the API key was refused",
        ),
        (httpx.Response(404, text="no"), 1, "404: no such model"),
        (httpx.Response(400, json={"error": {"message": f"bad {KEY}"}}), 2, "answered 400"),
        (httpx.Response(200, text="<html>proxy</html>"), 1, "did not answer in JSON"),
        (httpx.Response(200, json=[1]), 2, "reply was empty"),
        (httpx.Response(200, json={}), 2, "reply was empty"),
        (httpx.Response(200, json={"choices": []}), 2, "reply was empty"),
        (httpx.Response(200, json={"choices": [{"message": None}]}), 2, "reply was empty"),
        (
            httpx.Response(200, json={"choices": [{"message": {"tool_calls": [{"function": 1}]}}]}),
            2,
            "reply was empty",
        ),
        (reply(text="I refuse."), 2, "submitted nothing"),
        (reply(text=""), 2, "reply was empty"),
        (reply((SUBMIT, "{}")), 2, "cannot be used: root_cause: Field required"),
        (reply(text='{"a": 1}'), 2, "cannot be used"),
    ],
)  # fmt: skip
@respx.mock
async def test_every_failure_is_bounded_and_has_a_plain_reason(
    desk: Desk, reasoner: Make, response: httpx.Response, calls: int, reason: str
) -> None:
    respx.post(URL).mock(return_value=response)
    with pytest.raises(ReasonerUnavailable) as unavailable:
        await reasoner(max_calls=2).investigate(desk)
    assert reason in str(unavailable.value)
    assert len(respx.calls) == calls
    assert KEY not in str(unavailable.value)


@respx.mock
async def test_connection_refused_is_tried_once_more(desk: Desk, reasoner: Make) -> None:
    respx.post(URL).mock(side_effect=httpx.ConnectError("refused"))
    with pytest.raises(ReasonerUnavailable, match="cannot be reached, 2 times"):
        await reasoner().investigate(desk)
    assert len(respx.calls) == 2


async def test_a_port_where_nobody_listens(desk: Desk, reasoner: Make) -> None:
    with pytest.raises(ReasonerUnavailable, match="cannot be reached"):
        await reasoner().investigate(desk)


async def test_a_time_out_ends_the_call(desk: Desk) -> None:
    """A real endpoint that accepts and never answers."""
    hung_up = asyncio.Event()

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client hangs up
        writer.close()
        await writer.wait_closed()
        hung_up.set()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = ModelSettings("test", KEY, f"http://127.0.0.1:{port}/v1", seconds_per_call=3.0)
    model = Model(settings)
    with pytest.raises(ReasonerUnavailable, match="did not answer within"):
        await OpenAIReasoner(model, library()).investigate(desk)
    await model.close()
    try:
        async with asyncio.timeout(10):
            await hung_up.wait()
    finally:
        server.close()
        await server.wait_closed()


@respx.mock
async def test_a_look_that_hangs_meets_the_cap_on_seconds(desk: Desk, reasoner: Make) -> None:
    async def hang(tool: str, arguments: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    desk.look = hang  # type: ignore[method-assign]
    respx.post(URL).mock(return_value=reply(("slowlog", {})))
    with pytest.raises(ReasonerUnavailable, match=r"cap of 0\.5 s"):
        await reasoner(seconds_per_incident=0.5).investigate(desk)


@respx.mock
async def test_parameters_an_endpoint_does_not_know_are_left_out(
    desk: Desk, reasoner: Make
) -> None:
    known = {"model", "messages", "tools", "max_tokens"}

    def picky(request: httpx.Request) -> httpx.Response:
        for name in json.loads(request.content):
            if name not in known:
                message = f"Unsupported parameter: '{name}'"
                return httpx.Response(400, json={"error": {"message": message, "param": name}})
        return reply(DONE)

    respx.post(URL).mock(side_effect=picky)
    assert await reasoner(max_calls=1).investigate(desk)
    assert set(requests()[-1]) == known


@respx.mock
async def test_nothing_comes_from_the_environment(
    desk: Desk, reasoner: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-the-shell-0123456789")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/elsewhere")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-shell")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-shell")
    respx.post(URL).mock(return_value=reply(DONE))
    await reasoner(api_key="", headers={"X-Team": "sre"}).investigate(desk)
    headers = respx.calls[0].request.headers
    assert "shell" not in str(dict(headers))
    assert headers["x-team"] == "sre"


def test_settings_keep_their_secrets() -> None:
    settings = ModelSettings("m", KEY, "http://u:hunter2@h/v1", {"Authorization": "hunter2"})
    assert KEY not in repr(settings)
    assert "hunter2" not in repr(settings)


def test_it_is_a_reasoner() -> None:
    mind: Reasoner = OpenAIReasoner(Model(ModelSettings("gpt-test")))
    assert mind.name == "openai:gpt-test"
