"""Chat about an incident or a target, without a model and without changing anything."""

import json
from collections.abc import AsyncIterator, Callable

import pytest
import redis
from httpx2 import AsyncClient

from agent.incident import Culprit, Diagnosis
from api.app import create_app
from api.settings import Settings
from evals import servers
from tests.api.serving import as_role, serving
from tests.api.test_incidents_api import journal_of, opened


@pytest.fixture
async def asked(
    settings: Callable[..., Settings], start_server: Callable[..., servers.Server]
) -> AsyncIterator[AsyncClient]:
    """A service that knows one real server."""
    server = start_server(servers.BUILDS[-1])
    with redis.Redis(port=server.port) as data:
        data.set("greeting", "hello")
    targets = [{"name": "cache-eu", "url": f"redis://127.0.0.1:{server.port}"}]
    async with serving(create_app(settings(targets=targets), worker=False)) as client:
        yield client


async def test_a_question_about_a_target_is_answered_from_a_look(asked: AsyncClient) -> None:
    response = await asked.post(
        "/v1/chat", json={"message": "how much memory is used?", "target": "cache-eu"}
    )
    assert response.status_code == 200, response.text
    reply = response.json()
    assert set(reply) == {"thread_id", "answer", "claims", "citations", "reasoner"}
    assert reply["reasoner"] == "rules"
    facts = [fact for claim in reply["claims"] for fact in claim["facts"]]
    assert facts, reply["answer"]
    assert any(fact["unit"] == "bytes" and fact["value"] > 100_000 for fact in facts)


async def test_what_a_question_about_an_incident_looked_at_is_kept_with_it(
    asked: AsyncClient,
) -> None:
    one = await opened(asked)
    journal = await journal_of(asked, one["id"])
    await journal.set_diagnosis(
        Diagnosis(
            root_cause="single-bigkey", title="One key holds most of the memory",
            is_incident=True, confidence=0.8, summary="`cart:7` is large.",
            culprit=Culprit(kind="key", name="cart:7"),
        )
    )  # fmt: skip
    about = {"incident_id": one["id"]}
    cause = await asked.post("/v1/chat", json={"message": "what is the cause?"} | about)
    assert "cart:7" in cause.json()["answer"]
    memory = await asked.post("/v1/chat", json={"message": "how much memory is used?"} | about)
    cited = {fact["evidence"] for claim in memory.json()["claims"] for fact in claim["facts"]}
    assert cited
    for evidence_id in cited:
        kept = await asked.get(f"/v1/incidents/{one['id']}/evidence/{evidence_id}")
        assert kept.status_code == 200
    assert await journal.evidence() == [], "a run must not judge by what chat looked at"


async def test_a_thread_goes_on_and_is_ones_own(asked: AsyncClient) -> None:
    first = await asked.post("/v1/chat", json={"message": "memory?", "target": "cache-eu"})
    thread = {"thread_id": first.json()["thread_id"]}
    again = await asked.post("/v1/chat", json={"message": "memory?"} | thread)
    assert again.json()["thread_id"] == thread["thread_id"]
    assert again.json()["claims"], "the thread remembers its target"
    other = await asked.post(
        "/v1/chat", json={"message": "memory?"} | thread, headers=as_role("responder")
    )
    assert other.status_code == 404


async def test_a_streamed_answer_is_the_same_answer(asked: AsyncClient) -> None:
    body = {"message": "how much memory is used?", "target": "cache-eu", "stream": True}
    response = await asked.post("/v1/chat", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    said, whole = "", None
    for block in response.text.replace("\r\n", "\n").strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        data = json.loads(fields["data"])
        if fields["event"] == "token":
            said += data["text"]
        elif fields["event"] == "end":
            whole = data
    assert whole is not None
    assert said.strip() == whole["answer"]


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
