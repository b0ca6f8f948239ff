"""A model's part of an incident, from the database: read, without secrets, and held again."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from httpx2 import AsyncClient
from rich.console import Console
from typer import Exit

from agent import replayed
from agent.budget import DayCaps, ModelSettings
from agent.context import Case, Context, Target
from agent.exchange import KeptExchange
from agent.functions import SUBMIT
from agent.incident import Alert, DiagnosisDraft, Incident
from agent.model import Model
from agent.reasoner import OpenAIReasoner
from agent.replayed import Replay
from agent.rules import Rules
from agent.run import investigate
from agent.runbook import Library
from agent.runbook_library import load_library
from api.cli import transcript as cli
from api.store import exchanges, incidents, leases, trail
from api.store.database import Database, database_url
from api.store.exchanges import SqlLedger
from api.store.journal import SqlJournal
from api.store.migrate import migrate
from evals.truth import INCIDENTS
from tests.agent.desk import Desk
from tests.agent.desk import library as tiny_library
from tests.agent.endpoint import BASE, KEY, SUBMISSION, URL, reply
from tests.api.serving import as_role
from tests.api.test_exchanges import MOST, exchange
from tests.api.test_incidents_api import journal_of, opened, service_of
from tests.api.trails import KEYS
from tools.connection import Connection
from tools.reading import Evidence
from tools.recording import RecordedConnection

RECORDING = INCIDENTS / "amber-harbor-90.jsonl.gz"
SETTINGS = ModelSettings("test", KEY, BASE)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """SQLite alone: what is told apart here is what was said, not where it is kept."""
    database = Database(database_url(f"sqlite:///{tmp_path / 'store.db'}"))
    await migrate(database)
    await trail.begin(database, KEYS)
    yield database
    await database.close()


@pytest.fixture(scope="module")
def library() -> Library:
    return load_library()


async def refuse() -> Connection:
    raise AssertionError("nothing is written here")


class Overheard(Rules):
    """The rules, and what they said: for a model that says the same."""

    said: dict[str, Any]

    async def investigate(self, case: Case, *_: Any) -> DiagnosisDraft:
        draft = await super().investigate(case)
        self.said = draft.model_dump(mode="json") | {"claims": [draft.claims[0].model_dump()]}
        return draft


def invented(submission: dict[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = json.loads(json.dumps(submission))
    changed["claims"][0]["facts"][0]["of"] = ["no.such.path"]
    return changed


def calling(*calls: tuple[str, Any]) -> httpx.Response:
    return reply(*calls, usage=(2_000, 100))


def failing(status: int, message: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message}})


Said = dict[str, Any]
STORIES: dict[str, list[Callable[[Said], httpx.Response]]] = {
    "looks, then submits": [
        lambda _: calling(("latency_histogram", {}), ("latency_doctor", {})),
        lambda right: calling((SUBMIT, right)),
    ],
    "is corrected once": [
        lambda right: calling((SUBMIT, invented(right))),
        lambda right: calling((SUBMIT, right)),
    ],
    "is never right": [lambda right: calling((SUBMIT, invented(right)))] * 6,
    "calls what there is not, with what is no JSON": [
        lambda _: calling(("flush_everything", {}), ("slowlog", '{"broken')),
        lambda right: calling((SUBMIT, right)),
    ],
    "refuses": [lambda _: httpx.Response(401, text="no")],
    "knows no functions": [
        lambda _: failing(400, "tools are not supported by this model"),
        lambda right: reply(text=json.dumps(right), usage=(2_000, 100)),
    ],
    "has a small window": [
        lambda _: failing(400, "This model's maximum context length is 8192 tokens."),
        lambda right: calling((SUBMIT, right)),
    ],
    "keeps looking": [lambda _: calling(("slowlog", {}))] * 6,
}


async def worked(
    database: Database, library: Library, story: str
) -> tuple[Incident, list[KeptExchange], list[Evidence]]:
    """An incident with a model that behaves so; what is in the database afterwards."""
    async with database.writing() as session:
        opened = await incidents.open_incident(
            session, title="t", target="cache", question="RedisMemoryHigh"
        )
    lease = await leases.acquire(database, "cache", opened.id, "me")
    assert lease is not None
    journal = SqlJournal(database, opened.id, 1, lease)
    model, rules = Model(SETTINGS), Overheard(library)
    context = Context(
        target=Target("cache", "", memory_limit=1 << 40),
        connection=RecordedConnection(RECORDING),
        open_for_remedies=refuse,
        journal=journal,
        library=library,
        rules=rules,
        model=OpenAIReasoner(model, library),
    )
    replies = iter(STORIES[story])
    respx.post(URL).mock(side_effect=lambda _: next(replies)(rules.said))
    try:
        await investigate(context, await journal.incident())
    finally:
        await model.close()
    incident = await journal.incident()
    async with database.reading() as session:
        kept = await exchanges.transcript(session, incident.id, 0, 100)
    return incident, kept, await journal.evidence()


@pytest.mark.parametrize("story", STORIES)
@respx.mock
async def test_a_replay_gives_the_same_diagnosis(
    database: Database, library: Library, story: str
) -> None:
    incident, kept, evidence = await worked(database, library, story)
    lessons = story == "knows no functions"  # learned within one call
    assert len(kept) == len(respx.calls) - lessons
    respx.reset()
    again = await replayed.replay(incident, kept, evidence, library, SETTINGS)
    assert again == Replay(len(kept), "", incident.diagnosis), again.departed
    assert again.same
    assert not respx.calls


@respx.mock
async def test_a_replay_says_where_it_departs_and_what_is_different(
    database: Database, library: Library
) -> None:
    incident, kept, evidence = await worked(database, library, "looks, then submits")
    first, last = kept
    looked = next(piece for piece in evidence if piece.tool == "latency_histogram")
    assert looked.id not in first.evidence

    async def departed(
        exchanges: list[KeptExchange], pieces: list[Evidence], **incident_is: Any
    ) -> str:
        other = incident.model_copy(update=incident_is)
        return (await replayed.replay(other, exchanges, pieces, library, SETTINGS)).departed

    assert "exchange 1, message 2 (user): character" in await departed(
        kept, evidence, question="Why?"
    )
    other = looked.model_copy(update={"reading": {"not": "what it was"}})
    seen = [other if piece is looked else piece for piece in evidence]
    assert "exchange 2, message 4 (tool): character" in await departed(kept, seen)
    # An earlier attempt, which saw another server, is of no account.
    earlier = other.model_copy(update={"id": "E0"})
    assert await departed(kept, [earlier, *evidence]) == ""
    without = [piece for piece in evidence if piece is not looked]
    assert await departed(kept, without) == "latency_histogram {} is looked at, which it was not"
    assert await departed([first], evidence) == "the model is asked once more than it was"
    assert await departed([*kept, last], evidence) == (
        "the diagnosis stands before the last 1 of the kept replies"
    )
    fewer = first.model_copy(update={"tools": first.tools[:-1]})
    assert "first difference: submit_diagnosis" in await departed([fewer, last], evidence)
    with pytest.raises(ValueError, match=r"attempt 7 at .* asked no model"):
        await departed(kept, evidence, attempt=7)
    assert incident.diagnosis is not None
    then = incident.diagnosis.model_copy(update={"confidence": 0.01, "escalate": True})
    was = incident.model_copy(update={"diagnosis": then})
    again = await replayed.replay(was, kept, evidence, library, SETTINGS)
    assert again.differences == ("confidence", "escalate")
    assert not again.same


@respx.mock
async def test_the_command_replays_what_the_service_has(
    database: Database,
    library: Library,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    incident, kept, evidence = await worked(database, library, "looks, then submits")
    path = f"/v1/incidents/{incident.id}"
    answers = {path: incident.model_dump(mode="json")} | {
        f"{path}/evidence/{piece.id}": piece.model_dump(mode="json") for piece in evidence
    }

    def call(method: str, asked: str, **query: Any) -> Any:
        if not asked.endswith("/transcript"):
            return answers[asked]
        at = int(query["cursor"] or 0)
        items = [kept[at].model_dump(mode="json")]
        return {"items": items, "next_cursor": "1" if at == 0 else None}

    async def printed(*, as_json: bool) -> str:
        # A command has its own event loop.
        await asyncio.to_thread(cli.replay, incident.id, as_json=as_json)
        return capsys.readouterr().out

    monkeypatch.setattr(cli, "call", call)
    for name in ("REDIS_ONCALL_CONFIG", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    said = await printed(as_json=False)
    assert said.startswith("the same: 2 replies given again, diagnosis ")
    document = json.loads(await printed(as_json=True))
    assert document["same"] is True
    assert document["diagnosis"] == json.loads(incident.model_dump_json())["diagnosis"]
    kept[1].tools.append("flush_everything")
    with pytest.raises(Exit):
        await printed(as_json=False)
    assert "flush_everything" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("of", "path"),
    [("inc-1", "/v1/incidents/inc-1"), ("thread-1", "/v1/chat/threads/thread-1")],
)
def test_the_command_shows_incidents_and_threads(
    of: str, path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = KeptExchange(**exchange(failure="the quota is spent", reply=None).model_dump(), id=7)

    def call(method: str, asked: str, **_: Any) -> Any:
        assert (method, asked) == ("GET", f"{path}/transcript")
        return {"items": [kept.model_dump(mode="json")], "next_cursor": None}

    monkeypatch.setattr(cli, "call", call)
    cli.show(of, as_json=True, full=False)
    assert json.loads(capsys.readouterr().out)["items"][0]["id"] == 7
    cli.show(of, as_json=False, full=False)
    assert "no usable reply: the quota is spent" in capsys.readouterr().out


SECRETS = ("hunter2", "4111111111111111", "sk-live0123456789abcdefghij", "eve@example.com")
HOSTILE = f"redis://u:{SECRETS[0]}@h/0 card {SECRETS[1]} key {SECRETS[2]} mail {SECRETS[3]}"


@respx.mock
async def test_no_planted_secret_is_in_a_transcript(client: AsyncClient, library: Library) -> None:
    """In a client's name, in an alert's annotation, and in what the model makes of them."""
    one = await opened(client, question="why?")
    journal = await journal_of(client, one["id"])
    incident = await journal.incident()
    incident.alerts.append(
        Alert(
            source="x", name="A", fingerprint="f", starts_at=datetime.now(UTC),
            annotations={"description": HOSTILE},
        )
    )  # fmt: skip
    desk = Desk(clients={"clients": [{"name": HOSTILE}]})
    desk.incident, desk.ledger = incident, journal.ledger  # type: ignore[assignment]
    submission = SUBMISSION | {"alternatives": [
        {"root_cause": "slow-pubsub-cob", "confidence": 0.1, "why_not": HOSTILE}
    ]}  # fmt: skip
    respx.post(URL).side_effect = [
        reply(("clients", {}), text=HOSTILE), reply((SUBMIT, submission), text=HOSTILE)
    ]  # fmt: skip
    model = Model(SETTINGS)
    await OpenAIReasoner(model, tiny_library()).investigate(desk)
    await model.close()
    response = await client.get(f"/v1/incidents/{one['id']}/transcript")
    assert [item["failure"] for item in response.json()["items"]] == ["", ""]
    said = response.text
    assert "mail [redacted e-mail]" in said
    assert [secret for secret in SECRETS if secret in said] == []


async def test_a_transcript_is_read_by_viewers_in_pages(client: AsyncClient) -> None:
    one = await opened(client)
    journal = await journal_of(client, one["id"])
    for _ in range(3):
        await journal.ledger.reserve("openai:m", MOST)
        await journal.ledger.keep(exchange())
    path = f"/v1/incidents/{one['id']}/transcript"
    first = (await client.get(path, params={"limit": 2}, headers=as_role("viewer"))).json()
    assert len(first["items"]) == 2
    rest = (await client.get(path, params={"cursor": first["next_cursor"]})).json()
    assert (len(rest["items"]), rest["next_cursor"]) == (1, None)
    assert (await client.get(path, headers={"Authorization": ""})).status_code == 401
    assert (await client.get(path, headers=as_role("roc_source1_x"))).status_code == 403
    assert (await client.get("/v1/incidents/none/transcript")).status_code == 404
    shown = (await client.get(f"/v1/incidents/{one['id']}")).json()["usage"]
    assert (shown["llm_calls"], shown["dollars"]) == (3, pytest.approx(0.03))


async def test_a_thread_is_read_by_who_asked_in_it(client: AsyncClient) -> None:
    question = {"message": "what does pressure mean?"}
    asked = await client.post("/v1/chat", json=question, headers=as_role("responder"))
    thread = asked.json()["thread_id"]
    ledger = SqlLedger(service_of(client).database, DayCaps(), thread_id=thread)
    await ledger.reserve("openai:m", MOST)
    await ledger.keep(exchange(purpose="chat"))
    path = f"/v1/chat/threads/{thread}/transcript"
    own = (await client.get(path, headers=as_role("responder"))).json()
    assert [item["purpose"] for item in own["items"]] == ["chat"]
    assert (await client.get(path, headers=as_role("admin"))).status_code == 404


async def test_usage_is_told_by_day_with_the_caps(client: AsyncClient) -> None:
    empty = (await client.get("/v1/usage", headers=as_role("viewer"))).json()
    assert empty["items"] == []
    assert empty["caps"]["calls"] == 600
    ledger = SqlLedger(service_of(client).database, DayCaps(), thread_id="thread-1")
    await ledger.reserve("openai:m", MOST)
    await ledger.keep(exchange(purpose="chat"))
    (today,) = (await client.get("/v1/usage")).json()["items"]
    assert (today["calls"], today["input_tokens"], today["dollars"]) == (1, 3_000, 0.01)
    assert (await client.get("/v1/usage", params={"cursor": today["day"]})).json()["items"] == []


def test_a_transcript_is_readable_in_80_columns_and_moves_no_terminal() -> None:
    escape, message = "\x1b[2J\x1b]0;owned\x07", "m" * 300
    kept = KeptExchange(
        **exchange(
            messages=[{"role": "system" + escape, "content": escape + message + "\nline\n" * 40}],
            tools=["slowlog" + escape],
            reply={"role": "assistant", "content": escape, "tool_calls": [
                {"function": {"name": "submit" + escape, "arguments": {"odd": escape}}}, "odd",
            ]},
            failure=escape,
        ).model_dump(),
        id=1,
    )  # fmt: skip
    for full in (False, True):
        out = io.StringIO()
        Console(file=out, width=80, force_terminal=False).print(cli.rendered([kept], full=full))
        text = out.getvalue()
        assert max(map(len, text.splitlines())) <= 80
        assert {c for c in text if not c.isprintable()} == {"\n"}
        assert "3,000 tokens in (2,000 cached), 100 out, $0.0100" in text
        assert ("more lines" in text) != full


def test_a_reply_that_comes_back_as_a_message_is_shown_once() -> None:
    said = {"role": "assistant", "content": "I look first."}
    both = [
        KeptExchange(**exchange(reply=said).model_dump(), id=1),
        KeptExchange(**exchange(messages=[said, {"role": "tool", "content": "E7"}]).model_dump(),
                     id=2),
    ]  # fmt: skip
    out = io.StringIO()
    Console(file=out, width=80).print(cli.rendered(both, full=False))
    assert out.getvalue().count("I look first.") == 1
