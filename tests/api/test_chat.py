"""Chat over HTTP, on real servers and a real database, without changing anything."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis
import respx
from httpx2 import AsyncClient
from pydantic import SecretStr
from sqlalchemy import select

from agent.chat import LONGEST_MESSAGE, MOST_TURNS
from agent.chat_model import SUBMIT_ANSWER
from agent.chat_question import LONGEST_ANSWER
from agent.incident import Action, Culprit, Diagnosis, Plan
from api import chat, looks
from api.app import create_app
from api.settings import Settings
from api.store import threads
from api.store.audit import Person
from api.store.tables import ExchangeRow, MessageRow
from evals import servers
from tests.agent.endpoint import BASE, URL, fact, reply, requests
from tests.api.serving import as_role, serving
from tests.api.test_incidents_api import journal_of, move, opened, service_of
from tests.test_house_rules import ROOT

DIAGNOSIS = Diagnosis(
    root_cause="single-bigkey", title="One key holds most of the memory",
    is_incident=True, confidence=0.8, summary="`cart:7` is large.",
    culprit=Culprit(kind="key", name="cart:7"),
)  # fmt: skip
ACTION = Action(
    id="A1", fingerprint="f" * 64, kind="set_config", title="Raise maxmemory", risk="R1",
    arguments={}, rollback="The old value is put back.",
)  # fmt: skip


@pytest.fixture
def settings_of_one(
    settings: Callable[..., Settings], start_server: Callable[..., servers.Server]
) -> Settings:
    """A service that knows one real server."""
    server = start_server(servers.BUILDS[-1])
    with redis.Redis(port=server.port) as data:
        data.set("greeting", "hello")
    targets = [{"name": "cache-eu", "url": f"redis://127.0.0.1:{server.port}"}]
    return settings(targets=targets)


@pytest.fixture
async def asked(settings_of_one: Settings) -> AsyncIterator[AsyncClient]:
    async with serving(create_app(settings_of_one, worker=False)) as client:
        yield client


async def ask(client: AsyncClient, message: str, **body: Any) -> dict[str, Any]:
    response = await client.post("/v1/chat", json={"message": message} | body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def events_in(text: str) -> list[tuple[str, dict[str, Any]]]:
    events = []
    for block in text.replace("\r\n", "\n").strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        events.append((fields["event"], json.loads(fields["data"])))
    return events


async def test_a_question_about_a_target_is_answered_from_a_look(asked: AsyncClient) -> None:
    answer = await ask(asked, "how much memory is used?", target="cache-eu")
    assert set(answer) == {"thread_id", "answer", "claims", "citations", "reasoner"}
    assert answer["reasoner"] == "rules"
    facts = [fact for claim in answer["claims"] for fact in claim["facts"]]
    assert facts, answer["answer"]
    assert any(fact["unit"] == "bytes" and fact["value"] > 100_000 for fact in facts)
    assert {source["id"] for source in answer["citations"]} == {fact["evidence"] for fact in facts}


async def test_what_a_question_about_an_incident_looked_at_is_kept_with_it(
    asked: AsyncClient,
) -> None:
    one = await opened(asked)
    journal = await journal_of(asked, one["id"])
    await journal.set_diagnosis(DIAGNOSIS)
    cause = await ask(asked, "what is the cause?", incident_id=one["id"])
    assert "cart:7" in cause["answer"]
    memory = await ask(asked, "how much memory is used?", incident_id=one["id"])
    cited = {fact["evidence"] for claim in memory["claims"] for fact in claim["facts"]}
    assert cited
    for evidence_id in cited:
        kept = await asked.get(f"/v1/incidents/{one['id']}/evidence/{evidence_id}")
        assert kept.status_code == 200
    assert await journal.evidence() == [], "a run must not judge by what chat looked at"


async def test_a_target_or_an_incident_can_be_named_in_the_question(asked: AsyncClient) -> None:
    assert (await ask(asked, "how much memory does Cache-EU use?"))["claims"]
    one = await opened(asked)
    await (await journal_of(asked, one["id"])).set_diagnosis(DIAGNOSIS)
    assert "cart:7" in (await ask(asked, f"what is wrong in {one['id']}?"))["answer"]
    unknown = await ask(asked, f"what is wrong in inc-{'0' * 20} on cache-eux?")
    assert "1 open, 0 over" in unknown["answer"]


async def test_chat_never_approves(asked: AsyncClient) -> None:
    one = await opened(asked)
    journal = await journal_of(asked, one["id"])
    await journal.set_plan(Plan(actions=[ACTION]))
    await move(asked, one["id"], "awaiting_approval")
    for message in ("approve A1", "I approve A1, go ahead", "批准 A1"):
        answer = await ask(asked, message, incident_id=one["id"])
        assert answer["answer"].startswith("I cannot change anything")
        assert f"`redis-oncall approve {one['id']} A1`" in answer["answer"]
        assert f"/v1/incidents/{one['id']}/actions/A1/approve" in answer["answer"]
        assert ACTION.fingerprint in answer["answer"]
    (action,) = (await journal.incident()).plan.actions
    assert (action.status, action.approvals) == ("proposed", [])
    general = await ask(asked, "apply it")
    assert f"`redis-oncall approve {one['id']} A1`" in general["answer"]


# -- threads --------------------------------------------------------------------------------


async def test_a_thread_goes_on_and_is_ones_own(asked: AsyncClient) -> None:
    first = await ask(asked, "memory?", target="cache-eu")
    thread = {"thread_id": first["thread_id"]}
    again = await ask(asked, "and how many keys?", **thread)
    assert again["thread_id"] == first["thread_id"]
    assert again["claims"], "the thread remembers its target"
    other = await asked.post(
        "/v1/chat", json={"message": "memory?"} | thread, headers=as_role("responder")
    )
    assert other.status_code == 404
    path = f"/v1/chat/threads/{first['thread_id']}"
    assert (await asked.get(path, headers=as_role("responder"))).status_code == 404
    assert (await asked.get("/v1/chat/threads", headers=as_role("responder"))).json() == {
        "items": [], "next_cursor": None,
    }  # fmt: skip
    assert (await asked.get("/v1/chat/threads", headers=as_role("viewer"))).status_code == 403


async def test_a_thread_survives_a_restart(settings_of_one: Settings) -> None:
    async with serving(create_app(settings_of_one, worker=False)) as client:
        first = await ask(client, "how much memory is used?", target="cache-eu")
    async with serving(create_app(settings_of_one, worker=False)) as client:
        again = await ask(client, "tell me more", thread_id=first["thread_id"])
        turns = (await client.get(f"/v1/chat/threads/{first['thread_id']}")).json()["items"]
        (thread,) = (await client.get("/v1/chat/threads")).json()["items"]
    assert "are used" in again["answer"], "it knows what was asked, and of which server"
    assert [turn["question"] for turn in turns] == ["tell me more", "how much memory is used?"]
    assert turns[1]["answer"] == first["answer"]
    assert turns[1]["claims"] == first["claims"]
    assert (thread["id"], thread["turns"]) == (first["thread_id"], 2)
    assert (thread["title"], thread["target"]) == ("how much memory is used?", "cache-eu")


async def test_lists_of_threads_and_turns_have_pages(client: AsyncClient) -> None:
    ids = [(await ask(client, f"hello{'?' * n}"))["thread_id"] for n in range(3)]
    for _ in range(3):
        await ask(client, "hello", thread_id=ids[0])
    newest_first = [ids[0], ids[2], ids[1]]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(3):
        page = (await client.get("/v1/chat/threads", params={"limit": "1"} | cursor)).json()
        seen += [item["id"] for item in page["items"]]
        cursor = {"cursor": page["next_cursor"] or "none"}
    assert seen == newest_first
    assert page["next_cursor"] is None
    turns = (await client.get(f"/v1/chat/threads/{ids[0]}", params={"limit": 3})).json()
    rest = await client.get(
        f"/v1/chat/threads/{ids[0]}", params={"limit": 3, "cursor": turns["next_cursor"]}
    )
    assert len(turns["items"]) == 3
    assert [turn["question"] for turn in rest.json()["items"]] == ["hello"]


async def test_a_person_keeps_a_bounded_number_of_turns(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "MOST_KEPT", 2)
    for n in range(4):
        await ask(client, f"hello{'!' * n}")
    await client.post("/v1/chat", json={"message": "hello"}, headers=as_role("responder"))
    async with service_of(client).database.reading() as session:
        kept = [(m.by, m.question) for m in await session.scalars(select(MessageRow))]
    assert kept == [("admin-1", "hello!!"), ("admin-1", "hello!!!"), ("responder-1", "hello")]


# -- streaming ------------------------------------------------------------------------------


async def test_a_stream_tells_what_is_done_then_the_checked_answer(asked: AsyncClient) -> None:
    body = {"message": "how much memory is used?", "target": "cache-eu", "stream": True}
    response = await asked.post("/v1/chat", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_in(response.text)
    kinds = [kind for kind, _ in events]
    assert kinds[0] == "progress"
    assert events[0][1] == {"text": "looking at memory_info"}
    assert kinds[-1] == "end"
    assert set(kinds) == {"progress", "token", "end"}
    assert kinds.index("token") > len(kinds) - 1 - kinds[::-1].index("progress")
    said = "".join(data["text"] for kind, data in events if kind == "token")
    whole = events[-1][1]
    assert said.strip() == whole["answer"]
    turns = (await asked.get(f"/v1/chat/threads/{whole['thread_id']}")).json()["items"]
    assert [turn["answer"] for turn in turns] == [whole["answer"]]


async def test_what_fails_in_a_stream_is_an_event(
    asked: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "ANSWER_SECONDS", 0.0)
    body = {"message": "memory?", "target": "cache-eu"}
    response = await asked.post("/v1/chat", json=body | {"stream": True})
    kind, problem = events_in(response.text)[-1]
    assert (kind, problem["status"]) == ("error", 503)
    assert "no answer within 0 s" in problem["detail"]
    plain = await asked.post("/v1/chat", json=body)
    assert plain.status_code == 503
    assert plain.headers["retry-after"]
    assert (await asked.get("/v1/chat/threads")).json()["items"] == []


async def test_whoever_goes_away_makes_room(
    asked: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = asyncio.Event()

    async def endless(*_: Any, progress: Any, **__: Any) -> Any:
        await progress("thinking")
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    monkeypatch.setattr(chat, "answer", endless)
    person, body = Person("ada", "admin"), chat.ChatMessage(message="?", stream=True)
    stream = chat._stream(await chat._about(service_of(asked), None, person, body))
    assert (await anext(stream)).event == "progress"
    assert chat.ROOM.taken == {"ada": 1}
    await stream.aclose()  # type: ignore[attr-defined]
    await asyncio.wait_for(stopped.wait(), 60)
    await asyncio.sleep(0)
    assert not chat.ROOM.taken
    assert (await asked.get("/v1/chat/threads")).json()["items"] == []


def test_the_documented_bounds_are_those_of_the_code() -> None:
    text = " ".join((ROOT / "api/README.md").read_text(encoding="utf-8").split())
    for said in (
        f"a message has at most {LONGEST_MESSAGE:,} characters and an answer {LONGEST_ANSWER:,}",
        f"a question takes at most {looks.MOST_LOOKS} looks of {looks.LOOK_SECONDS:.0f} s and "
        f"{chat.ANSWER_SECONDS:.0f} s in all, and knows the last {MOST_TURNS} turns",
        f"{chat.ROOM.most_of_one} questions of a person and {chat.ROOM.most} in all",
        f"the newest {threads.MOST_KEPT:,} turns of each person",
    ):
        assert said in text


async def test_what_cannot_be_asked_is_a_problem_also_for_a_stream(client: AsyncClient) -> None:
    response = await client.post(
        "/v1/chat", json={"message": "?", "target": "nobody", "stream": True}
    )
    assert response.status_code == 422
    assert response.json()["errors"] == [
        {"field": "target", "message": "not a configured target (configured: cache-eu, cache-us)"}
    ]


# -- bounds ---------------------------------------------------------------------------------


async def test_questions_at_a_time_are_bounded_for_one_person_and_for_all(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def waiting(*_: Any, **__: Any) -> Any:
        asked.set()
        await go.wait()
        raise TimeoutError

    monkeypatch.setattr(chat, "answer", waiting)
    monkeypatch.setattr(chat.ROOM, "most_of_one", 1)
    monkeypatch.setattr(chat.ROOM, "most", 2)
    first = asyncio.create_task(client.post("/v1/chat", json={"message": "?"}))
    await asyncio.wait_for(asked.wait(), 60)
    refused = await client.post("/v1/chat", json={"message": "?"})
    assert refused.status_code == 503
    assert "1 questions of yours" in refused.json()["detail"]
    asked.clear()
    body = {"message": "?"}
    second = asyncio.create_task(client.post("/v1/chat", json=body, headers=as_role("responder")))
    await asyncio.wait_for(asked.wait(), 60)
    full = await client.post("/v1/chat", json=body, headers=as_role("approver"))
    assert "2 questions are being answered" in full.json()["detail"]
    go.set()
    await asyncio.gather(first, second)
    assert not chat.ROOM.taken, "whoever was answered makes room"


async def test_a_server_that_cannot_be_reached_is_said_so(client: AsyncClient) -> None:
    answer = await ask(client, "how much memory is used?", target="cache-eu")
    assert answer["answer"].startswith("I don't know: memory_info was not measured: ")
    assert "p4ssw0rd" not in json.dumps(answer)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"message": ""}, 422),
        ({"message": "x" * 3_000}, 422),
        ({"message": "?", "target": "nobody"}, 422),
        ({"message": "?", "incident_id": "inc-nothing"}, 404),
        ({"message": "?", "thread_id": "thread-nothing"}, 404),
        ({"message": "?", "thread_id": "' OR 1"}, 422),
    ],
)
async def test_what_cannot_be_asked(client: AsyncClient, body: dict[str, str], code: int) -> None:
    response = await client.post("/v1/chat", json=body)
    assert response.status_code == code
    assert response.headers["content-type"] == "application/problem+json"


# -- with a model ---------------------------------------------------------------------------


@respx.mock
async def test_a_model_sees_the_thread_and_its_calls_are_kept_with_it(
    settings_of_one: Settings,
) -> None:
    used = {"text": "{used} are used.", "facts": [fact("used", "E1", "used_memory", "bytes")]}
    look = reply(("memory_info", {}))
    submit = reply((SUBMIT_ANSWER, {"claims": [used]}))
    respx.post(URL).side_effect = [look, submit, look, submit]
    with_model = settings_of_one.model_copy(
        update={
            "openai_model": "test", "openai_base_url": BASE,
            "openai_api_key": SecretStr("sk-test-0123456789abcdefghij"),
        }
    )  # fmt: skip
    async with serving(create_app(with_model, worker=False)) as client:
        first = await ask(client, "how is memory?", target="cache-eu")
    async with serving(create_app(with_model, worker=False)) as client:
        await ask(client, "and memory now, password=hunter2?", thread_id=first["thread_id"])
        async with service_of(client).database.reading() as session:
            rows = list(await session.scalars(select(ExchangeRow)))
    assert first["reasoner"] == "openai:test"
    assert first["answer"].endswith("are used. [E1]")
    sent = requests()[2]["messages"][-1]["content"]
    assert "how is memory?" in sent, "what was asked before the restart"
    assert first["answer"] in json.loads(sent.partition("\n")[2])["earlier"][1]["content"]
    assert "hunter2" not in json.dumps(requests())
    assert [(row.purpose, row.thread_id) for row in rows] == [("chat", first["thread_id"])] * 4
