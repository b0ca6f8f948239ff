"""Hashed names: none that is true is sent, the answer is about the true ones."""

import json
from typing import Any

import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from agent.budget import ModelSettings
from agent.chat import answer
from agent.claims import check
from agent.incident import Alert, Claim, Diagnosis
from agent.model import Model
from agent.reasoner import OpenAIReasoner
from agent.veil import NAMES, PROSE, Veil
from tests.agent.chatting import Kept, solved
from tests.agent.desk import AT, Desk, library, piece, some_evidence
from tests.agent.endpoint import BASE, KEY, SUBMISSION, URL, fact, reply, requests
from tools.reads import READS

TRUE = (
    "session:",
    "user:42:",
    "orders-feed",
    "billing-worker",
    "cache-1",
    "10.20.30.40",
    "checkout",
)


@pytest.fixture
async def model() -> Any:
    made = Model(ModelSettings("test", api_key=KEY, base_url=BASE), Veil(b"k" * 32))
    yield made
    await made.close()


def hidden_prefix(request: dict[str, Any], index: int = 0) -> str:
    """What the model is shown in the place of the prefix `session:`."""
    text = "\n".join(str(message["content"]) for message in request["messages"])
    at = text.index('"prefixes.N.{prefix')
    rows = json.loads(text[text.index(":", at) + 1 :].partition("}")[0] + "}")
    return str(rows[str(index)][0])


def desk() -> Desk:
    made = Desk(stream_info={"streams": [{"key": "orders-feed", "length": 9}]})
    made.incident.alerts = [
        Alert(source="x", name="RedisMemoryHigh", fingerprint="f", starts_at=AT,
              labels={"alertname": "RedisMemoryHigh", "instance": "10.20.30.40:6379"},
              annotations={"summary": "session: keys of checkout@eu fill cache-1 at 10.20.30.40"})
    ]  # fmt: skip
    made.evidence.append(piece(5, "clients", {"largest": [{"label": "billing-worker"}]}))
    return made


@respx.mock
async def test_no_true_name_is_sent_and_the_culprit_is_the_true_one(model: Model) -> None:
    case = desk()
    books = library()
    (book,) = books.runbooks
    books.runbooks = [
        book.model_copy(update={"body": "When billing-worker stalls, trim session: keys"})
    ]
    case.runbooks = books

    def obliging(request: Any) -> Any:
        name = hidden_prefix(json.loads(request.content))
        if len(requests()) == 0:
            return reply(
                ("stream_info", {"keys": [name + "7"]}), ("read_runbook", {"id": "memory-pressure"})
            )
        draft = {**SUBMISSION, "culprit": {"kind": "prefix", "name": name}}
        claim = {"text": f"'{name}' holds {{bytes}}.",
                 "facts": [fact("bytes", "E2", "prefixes.0.bytes", "bytes")]}  # fmt: skip
        return reply(("submit_diagnosis", {**draft, "claims": [claim]}))

    respx.post(URL).mock(side_effect=obliging)
    draft = await OpenAIReasoner(model, books).investigate(case)
    assert case.looks == [("stream_info", {"keys": ["session:7"]})]
    diagnosis = check(draft, case.evidence, library())
    assert isinstance(diagnosis, Diagnosis), diagnosis
    assert diagnosis.culprit.name == "session:"
    assert "'session:' holds 60.0 MiB" in diagnosis.claims[0].text
    again = await OpenAIReasoner(model, books).investigate(
        case, draft, ["the culprit 'session:' is odd"]
    )
    assert again.culprit.name == "session:"
    for request in requests():
        told = json.dumps(request["messages"], ensure_ascii=False)
        assert [name for name in TRUE if name in told] == []


@respx.mock
async def test_chat_is_told_no_true_name_and_answers_with_them(model: Model) -> None:
    case = desk()

    def obliging(request: Any) -> Any:
        name = hidden_prefix(json.loads(request.content))
        claim = {"text": f"'{name}' holds {{bytes}}.",
                 "facts": [fact("bytes", "E2", "prefixes.0.bytes", "bytes")]}  # fmt: skip
        return reply(("submit_answer", {"claims": [claim], "cannot_answer": ""}))

    respx.post(URL).mock(side_effect=obliging)
    said = await answer(
        "Which of user:42:, session: and orders-feed deserves another owner?",
        incident=case.incident, evidence=case.evidence, library=library(), model=model,
        target="cache-1", targets=["cache-1"], look=case.look,
        history=[{"role": "user", "content": "and billing-worker on 10.20.30.40?"}],
    )  # fmt: skip
    assert "'session:' holds 60.0 MiB" in said.answer, said.answer
    assert len(requests()) == 1
    told = json.dumps(requests()[0]["messages"], ensure_ascii=False)
    assert [name for name in TRUE if name in told and name != "checkout"] == []


@respx.mock
async def test_an_incident_that_chat_looks_up_brings_no_true_name(model: Model) -> None:
    """After a restart nobody knows a name yet: its own evidence tells them first."""
    other = solved(id="inc-2", title="RedisMemoryHigh on checkout-7.internal")
    assert other.diagnosis is not None
    other.diagnosis.claims.append(Claim(text='"user:42:" is the largest.', facts=[]))
    calls = reply(("list_incidents", {}), ("get_incident", {"incident_id": "inc-2"}))
    respx.post(URL).side_effect = [
        calls,
        reply(("submit_answer", {"claims": [], "cannot_answer": "x"})),
    ]
    await answer(
        "which machine ought I to worry about", incident=None, evidence=[], library=library(),
        model=model, records=Kept(other, evidence={"inc-2": some_evidence()}),
    )  # fmt: skip
    told = json.dumps(requests()[-1]["messages"], ensure_ascii=False)
    assert "holds 60.0 MiB" in told
    assert [name for name in (*TRUE, "checkout-7") if name in told] == []


def test_names_of_this_case_are_known_however_many_there_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.veil.MOST_NAMES", 3)
    veil = Veil()
    for name in ("old-a", "old-b", "mine-a", "mine-b"):
        veil.name(name)
    assert "mine" not in veil.text("mine-a and mine-b")


@given(st.text(min_size=1, max_size=40))
def test_every_name_comes_back(name: str) -> None:
    veil = Veil(b"k" * 32)
    assert veil.reveal(veil.name(name)) == name
    assert veil.name(name) == Veil(b"k" * 32).name(name)


@given(st.from_regex(r"[a-z]{6,8}:[0-9]{1,6}(:[a-z]{3,8})?", fullmatch=True))
def test_names_keep_their_structure_and_nothing_else(name: str) -> None:
    other = Veil(b"k" * 32).name(name)
    assert other.count(":") == name.count(":")
    assert other.split(":")[1].isdigit()
    assert name.split(":")[0] not in other


def test_a_name_with_quotes_is_found_in_sentences_and_ours_is_told() -> None:
    """A sentence puts names in quotes, and what is in them behind a backslash."""
    veil = Veil(b"k" * 32)
    other = veil.name('we"ird-acme-*')
    assert veil.text('Connections of "we\\"ird-acme-*" rose.').count("acme") == 0
    assert veil.name("(unnamed) acme-py").startswith("(unnamed) ")
    assert "acme" not in other + veil.name("(unnamed) acme-py")


def test_another_key_gives_other_names() -> None:
    assert Veil(b"a" * 32).name("session:") != Veil(b"b" * 32).name("session:")


def test_a_prefix_is_the_start_of_its_keys() -> None:
    veil = Veil()
    assert veil.name("session:42").startswith(veil.name("session:"))


def test_what_a_look_found_is_hidden_in_sentences_too() -> None:
    veil = Veil()
    for name in ("user", "user:42:", "orders-feed"):
        veil.name(name)
    text = veil.text("user:42: and username, orders-feed; the user")
    assert "user:42:" not in text
    assert "orders-feed" not in text
    assert "username" in text
    assert veil.reveal(text) == "user:42: and username, orders-feed; the user"


def test_marks_of_redaction_stay() -> None:
    assert ":[redacted e-mail]:" in Veil().name("mail:[redacted e-mail]:x")


PLAIN = frozenset(
    {
        "after", "aof_last_bgrewrite_status", "aof_last_write_status", "artefact", "at", "before",
        "blocked_by",
        "bytes_are", "change", "code", "command", "context", "counted_by", "encoding", "engine",
        "event", "first_after",
        "flags", "flavour", "growth_from", "how", "kind", "last_delivered_id", "library",
        "last_before", "limit_source", "link",
        "master_link_status", "master_replid", "maxmemory_policy", "mem_allocator", "os", "pace",
        "parameters", "provider", "rdb_last_bgsave_status", "reason", "redis_mode", "redis_version",
        "restarted_at", "resume", "role", "run_id",
        "sample_stopped_because", "season", "since", "source", "state", "stopped_because", "sure",
        "touches", "type", "types", "unknown", "until", "valkey_version", "version", "way",
    }
)  # fmt: skip
"""Texts of readings that name nothing of the house: words of ours, of the server, of a build."""


def texts_of(model: type[BaseModel]) -> set[str]:
    found: set[str] = set()
    schema = model.model_json_schema()
    for part in [schema, *schema.get("$defs", {}).values()]:
        for name, field in part.get("properties", {}).items():
            if '"string"' in json.dumps(field) and part.get("title") != "NotMeasured":
                found.add(name)
    return found


@pytest.mark.parametrize("tool", READS)
def test_every_text_of_every_reading_is_known_to_be_a_name_or_not(tool: str) -> None:
    assert texts_of(READS[tool].reading) <= NAMES | PROSE | PLAIN
