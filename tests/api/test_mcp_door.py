"""Who is heard by MCP, how many at a time, and how much they are told."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest

from api import looking, looks, sign_ins
from api.app import create_app
from api.mcp import resources, shown
from api.mcp.resources import KINDS
from api.mcp.tools import TOOLS
from api.problems import Problem
from api.service import LOOKS_AT_A_TIME
from api.settings import Settings
from tests.api.agents import ACCEPT, INITIALIZE, call, data_of, in_process, said_by
from tests.api.serving import serving, until
from tests.api.test_incidents_api import opened
from tests.test_house_rules import ROOT
from tools.reads import READS

LIST_TARGETS = {
    "jsonrpc": "2.0", "id": 1, "method": "tools/call",
    "params": {"name": "list_targets", "arguments": {}},
}  # fmt: skip


@pytest.fixture
async def client_of_none(settings: Callable[..., Settings]) -> AsyncIterator[httpx2.AsyncClient]:
    """Of a service in this process whose targets are not there."""
    async with serving(create_app(settings(), worker=False)) as http:
        yield http


@pytest.mark.parametrize(
    ("config", "headers", "status"),
    [
        ({"tokens": []}, {}, 200),
        ({"tokens": []}, {"Host": "evil.example"}, 403),
        ({"tokens": []}, {"Origin": "https://evil.example"}, 403),
        ({"tokens": []}, {"X-Forwarded-For": "192.0.2.7"}, 403),
        ({"http": {"hosts": ["oncall.example"]}}, {"Host": "evil.example"}, 421),
        ({"http": {"hosts": ["oncall.example"]}}, {"Origin": "https://oncall.example"}, 200),
        ({"http": {"url": "https://oncall.example/x"}}, {"Origin": "https://oncall.example"}, 200),
        ({}, {"Origin": "null"}, 403),
    ],
)
async def test_only_this_machine_or_the_services_own_names(
    settings: Callable[..., Settings], config: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    async with serving(create_app(settings(**config), worker=False), "viewer") as http:
        if "tokens" in config:
            del http.headers["Authorization"]
        response = await http.post("/mcp", json=LIST_TARGETS, headers=ACCEPT | headers)
        assert response.status_code == status, response.text
        if status == 200:
            assert "cache-eu" in response.json()["result"]["content"][0]["text"]


async def test_whoever_guesses_tokens_has_to_wait(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_ins, "MOST_FAILURES", 2)
    async with serving(create_app(settings(), worker=False), "roc_wrong01_x") as http:
        codes = [(await http.post("/mcp", json=INITIALIZE)).status_code for _ in range(4)]
    assert codes == [401, 401, 429, 429]


async def test_incidents_come_in_pages(
    client_of_none: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "LISTED", 1)
    ids = {(await opened(client_of_none, name))["id"] for name in ("cache-eu", "cache-us")}
    found, cursor = [], None
    async with in_process(client_of_none) as speaking:
        while True:
            page = await speaking.list_resources(cursor=cursor)
            found += [one.uri for one in page.resources]
            if (cursor := page.next_cursor) is None:
                break
        listed = data_of(await call(speaking, "list_incidents", limit=1, status=["queued"]))
    assert len(found) == len(set(found))
    assert {f"redis-oncall://incidents/{one}" for one in ids} <= set(found)
    assert listed["next_cursor"] in ids


async def test_a_long_list_goes_on(settings: Callable[..., Settings]) -> None:
    targets = [{"name": f"c{n}", "url": "redis://127.0.0.1:1"} for n in range(150)]
    async with (
        serving(create_app(settings(targets=targets), worker=False)) as http,
        in_process(http) as speaking,
    ):
        first = await call(speaking, "list_targets")
        rest = await call(speaking, "list_targets", start=100)
    assert "`start` leads to the rest" in first
    assert '"c99"' in first
    assert '"c149"' not in first
    assert '"c149"' in rest
    assert '"c99"' not in rest


async def test_looks_at_a_time_are_bounded_and_wait_for_each_other(
    client_of_none: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, begun = asyncio.Event(), list[str]()

    async def waiting(_: Any, tool: str, args: Any) -> Any:
        begun.append(tool)
        await go.wait()
        raise Problem(503, "enough")

    monkeypatch.setattr(looks.Looks, "look", waiting)
    monkeypatch.setattr(looking.ROOM, "most_of_one", 3)
    body = {"target": "cache-eu", "tool": "server_info"}
    asked = [asyncio.create_task(client_of_none.post("/v1/looks", json=body)) for _ in range(4)]
    done, others = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    assert "3 looks of yours are being answered" in done.pop().result().json()["detail"]
    await until(lambda: asyncio.sleep(0, len(begun) == LOOKS_AT_A_TIME))
    go.set()
    await asyncio.gather(*others)
    assert len(begun) == 3
    assert not looking.ROOM.taken


async def test_what_is_no_json_is_not_sent(client_of_none: httpx2.AsyncClient) -> None:
    async with in_process(client_of_none) as speaking:
        wanted = {"target": "cache-eu", "keys": ["\ud800"]}
        refused = await speaking.call_tool("stream_info", wanted)
    assert said_by(refused).startswith("the arguments cannot be sent")


def test_what_is_large_comes_in_parts() -> None:
    keys = [{"key": f"k:{n}", "bytes": n, "type": "string" * 20} for n in range(5_000)]
    text = shown.data("It", {"reading": {"keys": keys}}, "Ask for the rest.")
    assert len(text) < shown.MOST_CHARACTERS + 1_000
    assert "Ask for the rest." in text.partition("\n")[0]
    assert shown.part_of({"keys": keys}, "keys", 4_999) == keys[4_999:]
    assert shown.part_of({"keys": keys}, "keys.7.bytes", 0) == 7
    wide = {str(n): "x" * 100 for n in range(2_000)}
    assert len(shown.data("It", wide)) < shown.MOST_CHARACTERS
    assert "9 characters more from start=24000 on" in shown.prose("It", "y" * 24_009)
    assert "Ask for" not in shown.data("It", {"small": 1}, "Ask for the rest.")
    turned = {"name": "\u202e<b>"}
    assert resources._whole(turned) == '{"name":"\\u202e\\u003cb\\u003e"}'


def test_the_readme_configures_both_transports_and_names_every_tool_of_the_record() -> None:
    text = (ROOT / "api/README.md").read_text(encoding="utf-8")
    section = text.split("\n## Other agents\n")[1].split("\n## ")[0]
    blocks = [json.loads(block.split("\n```")[0]) for block in section.split("```json\n")[1:]]
    configured = [next(iter(one.values()))["redis-oncall"] for one in blocks]
    assert any(one.get("args") == ["mcp"] for one in configured)
    assert any(one.get("url", "").endswith("/mcp") for one in configured)
    missing = [name for name in TOOLS.keys() - READS if f"`{name}`" not in section]
    assert missing == []
    assert all(f"`{kind.template}`" in section for kind in KINDS)
