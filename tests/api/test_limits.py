"""What a request may be; and that nobody else waits for whoever exceeds it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient
from hypothesis import given
from hypothesis import strategies as st

from api import connections, events, limits
from api.app import create_app
from api.json_shape import DEEPEST_JSON, LONGEST_NUMBER, MOST_BRACKETS, json_too_much
from api.limits import LONGEST_TARGET, MOST_HEADERS
from api.settings import Settings
from api.store import processes
from tests.api.serving import as_role, serving, until
from tests.api.test_incidents_api import opened, service_of

JSON = {"content-type": "application/json"}
ALERTS = "/v1/alerts/generic"


def nested(depth: int) -> bytes:
    return b'{"a":[' * (depth // 2) + b"[]" * (depth % 2) + b"]}" * (depth // 2)


@pytest.mark.parametrize(
    ("body", "because"),
    [
        (nested(DEEPEST_JSON), None),
        (nested(DEEPEST_JSON + 1), "nested deeper"),
        (b"[" * 100_000, "nested deeper"),
        (b"[]" * MOST_BRACKETS, "arrays and objects"),
        (b'["' + b"[{" * 1_000 + b'", "\\"[[[", {"\\\\": "]"}]', None),
        (b"[" + b"9" * LONGEST_NUMBER + b"]", None),
        (b"[-1" + b"0" * LONGEST_NUMBER + b".5]", "digits"),
        (b"[1e" + b"9" * 5_000 + b"]", "digits"),
        (b'["' + b"9" * 5_000 + b'"]', None),
        ("[]".encode("utf-16"), "UTF-8"),
        ("[]".encode("utf-16-le"), "UTF-8"),
        (b'"\xff"', "UTF-8"),
        (b"", None),
    ],
)
async def test_json_of_another_shape_is_not_even_parsed(
    client: AsyncClient, body: bytes, because: str | None
) -> None:
    told = json_too_much(body)
    assert (told is None) if because is None else (because in (told or ""))
    response = await client.post(ALERTS, content=body, headers=JSON)
    assert response.status_code == 422  # none of them is a message
    if because is not None:
        (error,) = response.json()["errors"]
        assert (error["field"], error["message"]) == ("body", told)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_what_is_not_deep_passes_whatever_its_texts_hold(value: Any) -> None:
    assert json_too_much(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")) is None


@pytest.mark.parametrize("text", [b'"', b'"\\', b'"\\"', b'\\"', b"[]", b"[", b'"[\\\\"', b"9 "])
def test_no_body_takes_long_to_be_looked_at(text: bytes) -> None:
    body = text * (limits.LARGEST_ALERTS // len(text))
    started = time.process_time()
    json_too_much(body)
    assert time.process_time() - started < 2  # quadratic would be hours


async def test_a_long_query_and_many_headers_are_refused(client: AsyncClient) -> None:
    for path, headers, code in (
        (f"/v1/incidents?target={'x' * LONGEST_TARGET}", {}, 414),
        (f"/v1/incidents/{'x' * LONGEST_TARGET}", {}, 414),
        ("/v1/incidents", {f"x-{n}": "1" for n in range(MOST_HEADERS)}, 431),
        ("/v1/incidents", {"x-large": "x" * limits.LARGEST_HEADERS}, 431),
    ):
        response = await client.get(path, headers=headers)
        assert response.status_code == code
        assert response.headers["content-type"] == "application/problem+json"


async def trickle(seconds: float) -> AsyncIterator[bytes]:
    yield b'{"alerts":'
    await asyncio.sleep(seconds)
    yield b"[]}"


async def test_a_body_that_does_not_come_is_not_waited_for(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.1)
    response = await client.post(ALERTS, content=trickle(30), headers=JSON)
    assert response.status_code == 408


async def test_all_bodies_together_are_bounded_and_given_back(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LARGEST_BODIES", 1_000)
    large = json.dumps({"alerts": [], "x": "y" * 900})
    waiting = asyncio.create_task(client.post(ALERTS, content=trickle(1), headers=JSON))
    await asyncio.sleep(0.1)
    full = await client.post(ALERTS, content=large + " " * 80, headers=JSON)
    assert full.status_code == 503
    assert int(full.headers["retry-after"]) > 0
    assert (await waiting).status_code == 202
    for _ in range(3):  # whatever came of it, nothing is held any more
        assert (await client.post(ALERTS, content=large, headers=JSON)).status_code == 202
        assert (await client.post(ALERTS, content="[" * 900, headers=JSON)).status_code == 422


async def test_too_many_at_a_time_are_asked_to_come_back_and_probes_are_answered(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_REQUESTS", 1)
    await processes.say_alive(service_of(client).database, "elsewhere:1:a", "worker")
    waiting = asyncio.create_task(client.post(ALERTS, content=trickle(1), headers=JSON))
    await asyncio.sleep(0.1)
    full = await client.get("/v1/incidents")
    assert full.status_code == 503
    assert int(full.headers["retry-after"]) > 0
    for path in limits.ALWAYS:
        assert (await client.get(path)).status_code == 200
    assert (await waiting).status_code == 202
    assert (await client.get("/v1/incidents")).status_code == 200


async def test_one_person_cannot_take_every_stream(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MOST_OF_ONE_PERSON", 2)
    monkeypatch.setattr(events, "MOST_STREAMS", 3)
    async with serving(create_app(settings(), worker=False)) as client:
        path = f"/v1/incidents/{(await opened(client, 'cache-eu'))['id']}/events"

        def listen(role: str) -> "asyncio.Task[Any]":
            return asyncio.create_task(client.get(path, headers=as_role(role)))

        async def are_open() -> bool:
            return events._streams.total() == len(listening)

        listening = [listen("viewer"), listen("viewer")]
        await until(are_open)
        assert (await client.get(path, headers=as_role("viewer"))).status_code == 503
        listening.append(listen("approver"))
        await until(are_open)
        assert (await client.get(path, headers=as_role("admin"))).status_code == 503
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
        assert events._streams == {}


def test_the_readme_states_the_limits_as_they_are() -> None:
    from api import chat, looking, sign_ins
    from api.alerts import parsed
    from api.store import group_commit

    readme = Path("api/README.md").read_text()
    table = readme.split("\n## Limits\n")[1].split("\n## ")[0]
    wait = f"for {group_commit.ANSWER_SECONDS:.0f} s at most"
    assert f"{group_commit.MOST_WAITING:,} alerts may wait for theirs, {wait}" in readme
    for value in (
        f"{limits.LARGEST_ALERTS // 1024**2} MiB", f"{limits.LARGEST_BODY // 1024} KiB",
        f"{limits.LARGEST_OF_ANYBODY // 1024} KiB", f"{limits.LARGEST_UNKNOWN // 1024**2} MiB",
        f"{MOST_BRACKETS // 2:,} arrays", f"{limits.LARGEST_BODIES // 1024**2} MiB",
        f"{limits.BODY_SECONDS} s", f"{LONGEST_TARGET // 1024} KiB", f"{MOST_HEADERS} headers",
        f"{DEEPEST_JSON} levels", f"{LONGEST_NUMBER} digits", f"{limits.MOST_REQUESTS} at a time",
        f"{connections.HEAD_SECONDS:.0f} s", f"{connections.LARGEST_UNREAD // 1024} KiB",
        f"{limits.LARGEST_HEADERS // 1024} KiB",
        f"{connections.MOST_CONNECTIONS}, then 503", f"{connections.MOST_OPEN}, then closed",
        f"{connections.KEEP_ALIVE_SECONDS} s", f"{events.MOST_STREAMS} in all",
        f"{events.MOST_OF_ONE_PERSON} of a person", f"{parsed.MOST_ALERTS:,} alerts",
        f"{parsed.MOST_LABELS} labels", f"{parsed.LONGEST_TEXT:,} characters",
        f"{chat.ROOM.most} in all, {chat.ROOM.most_of_one} of a person",
        f"{looking.ROOM.most} in all, {looking.ROOM.most_of_one} of a person",
        f"{sign_ins.MOST_FAILURES} in {sign_ins.WINDOW_SECONDS:.0f} s",
    ):  # fmt: skip
        assert value in table, value


async def test_a_request_that_was_cut_off_has_asked_for_nothing() -> None:
    """What arrived of it would be a whole message: nobody gets to see it."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b'{"alerts":[]}', "more_body": True},
        {"type": "http.disconnect"},
    ]
    seen: list[Any] = []

    async def app(*asked: Any) -> None:
        seen.append(asked)

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        seen.append(message)

    scope = {"type": "http", "method": "POST", "path": ALERTS, "query_string": b"", "headers": []}
    await limits.Limits(app)(scope, receive, send)
    assert seen == []
