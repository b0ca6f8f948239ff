"""Where requests go and what they carry, for the usual styles of addresses."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx

from agent.budget import Budget, ModelSettings
from agent.context import ReasonerUnavailable
from agent.endpoint import address
from agent.model import Model
from tests.agent.endpoint import KEY, reply
from tests.agent.wire import Line, serving, whole
from tests.answering import answering

HELLO = [{"role": "user", "content": "hello"}]
OLD = "2024-10-21"
AZURE = "https://ours.openai.azure.com"
DEPLOYMENT = f"{AZURE}/openai/deployments/gpt-4o"


@pytest.mark.parametrize(
    ("base_url", "version", "goes_to"),
    [
        ("https://api.openai.com/v1", "", "https://api.openai.com/v1/chat/completions"),
        ("http://127.0.0.1:9/v1/", "", "http://127.0.0.1:9/v1/chat/completions"),
        ("http://127.0.0.1:9/v1/chat/completions", "", "http://127.0.0.1:9/v1/chat/completions"),
        (f"{AZURE}/openai/v1/", "", f"{AZURE}/openai/v1/chat/completions"),
        (AZURE, "", f"{AZURE}/openai/v1/chat/completions"),
        (AZURE, OLD, f"{DEPLOYMENT}/chat/completions?api-version={OLD}"),
        (f"{AZURE}/openai", OLD, f"{DEPLOYMENT}/chat/completions?api-version={OLD}"),
        (f"{DEPLOYMENT}?api-version={OLD}", "", f"{DEPLOYMENT}/chat/completions?api-version={OLD}"),
        (
            f"{DEPLOYMENT}/chat/completions?api-version={OLD}",
            "1999-01-01",
            f"{DEPLOYMENT}/chat/completions?api-version={OLD}",
        ),
        (
            f"{AZURE}/openai/v1/?api-version=preview",
            "",
            f"{AZURE}/openai/v1/chat/completions?api-version=preview",
        ),
        (
            "https://x.services.ai.azure.com/models",
            OLD,
            f"https://x.services.ai.azure.com/models/chat/completions?api-version={OLD}",
        ),
    ],
)
@respx.mock
async def test_every_style_of_address(base_url: str, version: str, goes_to: str) -> None:
    route = respx.post(url__regex=".*").mock(return_value=reply(text="hi"))
    request = await asked(route, base_url=base_url, api_version=version, model="gpt-4o")
    assert str(request.url) == goes_to
    azure = "azure.com" in base_url
    assert request.headers.get("api-key") == (KEY if azure else None)
    assert request.headers.get("authorization") == (None if azure else f"Bearer {KEY}")


async def asked(route: Any, **settings: Any) -> Any:
    """The request of one call."""
    model = Model(ModelSettings(**({"model": "m", "api_key": KEY} | settings)))
    try:
        await model.ask(HELLO, [], Budget(model.settings))
    finally:
        await model.close()
    return route.calls.last.request


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
@respx.mock
async def test_headers_of_a_gateway_are_sent_and_win(name: str) -> None:
    route = respx.post(url__regex=".*").mock(return_value=reply(text="hi"))
    headers = {name: "Basic Z2F0ZQ==", "X-Team": "sre"}
    request = await asked(route, base_url="https://gate.example/v1", headers=headers)
    assert request.headers.get_list("authorization") == ["Basic Z2F0ZQ=="]
    assert request.headers["x-team"] == "sre"


@respx.mock
async def test_the_key_is_sent_without_the_newline_of_its_file() -> None:
    route = respx.post(url__regex=".*").mock(return_value=reply(text="hi"))
    request = await asked(route, base_url="https://x.example/v1", api_key=f"{KEY}\n")
    assert request.headers["authorization"] == f"Bearer {KEY}"


def test_no_address_shows_a_secret() -> None:
    settings = ModelSettings("m", KEY, "https://u:hunter2@h/v1", proxy="http://p:hunter2@p:1")
    assert "hunter2" not in repr(settings)
    assert address(settings).base_url == "https://u:hunter2@h/v1"


@pytest.mark.parametrize("as_json", [True, False])
@respx.mock
async def test_a_key_that_looks_like_none_is_not_repeated(as_json: bool) -> None:
    key, gate = "0f3c9a7d5e1b4826", 'pass"word of the gate'
    said = f"No such key: {key} {gate}"
    body = httpx.Response(400, json={"error": {"message": said}})
    respx.post(url__regex=".*").mock(
        return_value=body if as_json else httpx.Response(400, text=said)
    )
    model = Model(ModelSettings("m", key, "https://x.example/v1", headers={"X-Gate": gate}))
    with pytest.raises(ReasonerUnavailable, match="No such key") as refused:
        await model.ask(HELLO, [], Budget(model.settings))
    await model.close()
    assert key not in str(refused.value)
    assert "word of the gate" not in str(refused.value)


@respx.mock
async def test_an_address_without_a_path_is_completed_once() -> None:
    def v1_only(request: httpx.Request) -> httpx.Response:
        found = request.url.path == "/v1/chat/completions"
        return reply(text="hi") if found else httpx.Response(404, text="Not Found")

    route = respx.post(url__regex=".*").mock(side_effect=v1_only)
    model = Model(ModelSettings("m", KEY, "http://127.0.0.1:9"))
    for _ in range(2):
        assert (await model.ask(HELLO, [], Budget(model.settings))).text == "hi"
    await model.close()
    assert [call.request.url.path for call in route.calls] == [
        "/chat/completions",
        "/v1/chat/completions",
        "/v1/chat/completions",
    ]


@respx.mock
async def test_an_address_where_nothing_is_says_so() -> None:
    respx.post(url__regex=".*").mock(return_value=httpx.Response(404, text="Not Found"))
    model = Model(ModelSettings("m", KEY, "http://127.0.0.1:9"))
    for _ in range(2):
        with pytest.raises(ReasonerUnavailable, match="404: no such model or path"):
            await model.ask(HELLO, [], Budget(model.settings))
    await model.close()
    paths = [call.request.url.path for call in respx.calls]
    assert paths == ["/chat/completions", "/v1/chat/completions", "/chat/completions"]


@respx.mock
async def test_a_redirect_is_not_followed_with_the_prompt() -> None:
    respx.post("https://a.example/v1/chat/completions").mock(
        return_value=httpx.Response(307, headers={"location": "https://b.example/v1/"})
    )
    elsewhere = respx.route(host="b.example").mock(return_value=reply(text="hi"))
    model = Model(ModelSettings("m", KEY, "https://a.example/v1", headers={"X-Key": "s3cret"}))
    with pytest.raises(ReasonerUnavailable, match="answered 307, a redirect"):
        await model.ask(HELLO, [], Budget(model.settings))
    await model.close()
    assert not elsewhere.called


@pytest.fixture
async def gateway(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # not ours to read
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with serving(whole(reply(text="hi"))) as wire:
        yield wire


async def test_a_proxy_is_used_if_it_is_configured_and_only_then(gateway: Any) -> None:
    proxy = gateway.url.removesuffix("/v1")
    through = Model(ModelSettings("m", KEY, "http://llm.invalid/v1", proxy=proxy))
    assert (await through.ask(HELLO, [], Budget(through.settings))).text == "hi"
    assert gateway.heads[0].startswith("POST http://llm.invalid/v1/chat/completions ")
    direct = Model(ModelSettings("m", KEY, gateway.url))
    assert (await direct.ask(HELLO, [], Budget(direct.settings))).text == "hi"
    assert gateway.heads[1].startswith("POST /v1/chat/completions ")
    await through.close()
    await direct.close()


async def test_certificates_that_cannot_be_read_are_no_crash(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("not a certificate")
    model = Model(ModelSettings("m", KEY, "https://llm.invalid/v1", ca_file=str(file)))
    with pytest.raises(ReasonerUnavailable, match="client cannot be set up"):
        await model.ask(HELLO, [], Budget(model.settings))


async def test_tls_to_a_port_without_tls_cannot_be_reached() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with answering(plain) as port:
        model = Model(ModelSettings("m", KEY, f"https://127.0.0.1:{port}/v1"))
        with pytest.raises(ReasonerUnavailable, match="cannot be reached"):
            await model.ask(HELLO, [], Budget(model.settings))
        await model.close()


async def test_an_error_without_end_is_not_read_to_its_end() -> None:
    sent = 0

    async def endless(line: Line) -> None:
        nonlocal sent
        line.writer.write(b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n")
        while sent < 50_000_000:
            await line.piece(b"x" * 100_000)
            sent += 100_000

    async with serving(endless) as wire:
        model = Model(ModelSettings("m", base_url=wire.url))
        try:
            with pytest.raises(ReasonerUnavailable, match="answered 400: xxx"):
                await model.ask(HELLO, [], Budget(model.settings))
        finally:
            await model.close()
    assert sent < 50_000_000
