"""The way of an incident through the graph, on a real server, with people at the gate."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from redis import Redis

from agent.context import Case, Context, ReasonerUnavailable, Target
from agent.graph import build_graph
from agent.incident import Approval, DiagnosisDraft, Incident
from agent.memory_journal import MemoryJournal
from agent.policy import Policy
from agent.precedents import Earlier, Precedent
from agent.rules import Rules
from agent.run import advance
from agent.runbook_library import load_library
from evals import servers
from evals.pouring import pour
from tools.connection import Connection
from tools.opening import open_for_reading, open_for_remedies

pytestmark = pytest.mark.usefixtures("close_samples")


def fill_sessions(port: int) -> None:
    """Keys without TTL under one prefix, up to 93 % of maxmemory, beside ordinary keys."""
    client = Redis(port=port)
    # Expiries take memory, too.
    pour(port, (("SET", f"session:{i:06d}", "x" * 3_600) for i in range(5_000)))
    pour(port, (("SET", f"page:{i}", "y" * 100, "EX", 3_600) for i in range(250)))
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] / 0.93))
    client.close()


class Silent:
    """A model that is never there."""

    name = "openai:absent"

    async def investigate(
        self, case: Case, previous: object = None, mismatches: object = ()
    ) -> DiagnosisDraft:
        raise ReasonerUnavailable("the endpoint refused the connection")


class Inventor:
    """A model that cites evidence which does not exist, however often it is corrected."""

    name = "openai:inventor"

    def __init__(self) -> None:
        self.corrections: list[list[str]] = []

    async def investigate(
        self, case: Case, previous: object = None, mismatches: tuple[str, ...] = ()
    ) -> DiagnosisDraft:
        self.corrections.append(list(mismatches))
        return DiagnosisDraft.model_validate(
            {
                "root_cause": "single-bigkey",
                "confidence": 1.0,
                "claims": [
                    {
                        "text": "One key holds {share} of the data.",
                        "facts": [{"name": "share", "evidence": "E999", "of": ["bytes"]}],
                    }
                ],
                "reasoner": self.name,
            }
        )


async def context_for(
    server: servers.Server, model: object = None
) -> tuple[Context, MemoryJournal, Connection]:
    connection = await open_for_reading(server.url)
    target = Target("cache-1", server.url, remedy_url=server.url, environment="staging")
    now = datetime.now(UTC)
    incident = Incident(
        id="one",
        status="queued",
        severity="critical",
        title="RedisMemoryHigh",
        target=target.name,
        question="RedisMemoryHigh: memory is above 85 %",
        opened_at=now,
        updated_at=now,
    )
    journal = MemoryJournal(incident)
    library = load_library()
    context = Context(
        target=target,
        connection=connection,
        open_for_remedies=lambda: open_for_remedies(target.remedy_url),
        journal=journal,
        library=library,
        rules=Rules(library),
        model=model,  # type: ignore[arg-type]
        policy=Policy(verify_for=timedelta(seconds=3)),
    )
    return context, journal, connection


def no(prefix: str, why: str) -> Precedent:
    return Precedent(
        incident="inc-1", kind="expire_prefix", title="Expire", status="rejected", by="ann",
        arguments={"prefix": prefix, "ttl_seconds": 1}, why=why,
        at=datetime(2026, 11, 27, 3, tzinfo=UTC),
    )  # fmt: skip


@pytest.fixture
def leaking(start_server: Callable[..., servers.Server]) -> servers.Server:
    server = start_server("valkey-9.1")
    fill_sessions(server.port)
    return server


async def test_an_incident_goes_from_alert_to_gate_to_verified(leaking: servers.Server) -> None:
    context, journal, connection = await context_for(leaking)
    graph = build_graph(InMemorySaver())
    # Last time somebody said no to the same for other numbers, and to another prefix.
    journal.before = Earlier(actions=[no("session:", "sessions are for ever"), no("page:", "")])

    await advance(graph, context, await journal.incident())
    waiting = await journal.incident()
    assert waiting.status == "awaiting_approval"
    (known,) = [piece for piece in waiting.evidence if piece.tool == "earlier_incidents"]
    assert "sessions are for ever" in known.summary
    assert waiting.diagnosis is not None
    assert waiting.diagnosis.root_cause == "missing-ttl-prefix-leak"
    assert waiting.diagnosis.culprit.name == "session:"

    # Resuming without a decision changes nothing, however often.
    await advance(graph, context, waiting)
    assert await journal.incident() == waiting

    chosen = next(a for a in waiting.plan.actions if a.kind == "expire_prefix")
    said = "rejected by ann on 2026-11-27 03:00 UTC: sessions are for ever (inc-1)"
    assert chosen.notes == [f"the same was {said}"]
    assert {tuple(a.notes) for a in waiting.plan.actions if a.id != chosen.id} == {()}
    approval = Approval(by="ada", role="admin", at=datetime.now(UTC))
    for action in waiting.plan.actions:
        if action.id == chosen.id:
            decided = action.model_copy(update={"status": "approved", "approvals": [approval]})
        elif action.executable:
            decided = action.model_copy(update={"status": "rejected", "rejected_by": "ada"})
        else:
            continue
        await journal.save_action(decided)
    await advance(graph, context, waiting)

    done = await journal.incident()
    ended = next(a for a in done.plan.actions if a.id == chosen.id)
    assert ended.status == "verified", ended.comment
    # The keys go when their time is over: until then the alert is right to fire.
    still = [entry["name"] for entry in ended.outcome["signals"]["still"]]
    assert "alert memory_info.pressure" in still
    assert "alert keyspace.expires_share" in {
        e["name"] for e in ended.outcome["signals"]["cleared"]
    }
    assert done.status == "needs_human"
    assert f"expected to show by {ended.outcome['expected_by']}" in done.ended_because
    again = {piece.id: piece for piece in done.evidence if piece.id in ended.outcome["evidence"]}
    assert {piece.summary.partition(":")[0] for piece in again.values()} == {f"after {ended.id}"}
    with Redis(port=leaking.port) as client:
        assert client.ttl("session:000001") > 0
        assert client.ttl("page:1") <= 3_600
    await connection.close()


async def test_without_the_model_the_rules_decide_and_it_is_said(leaking: servers.Server) -> None:
    context, journal, connection = await context_for(leaking, Silent())
    await advance(build_graph(InMemorySaver()), context, await journal.incident())
    diagnosis = (await journal.incident()).diagnosis
    assert diagnosis is not None
    assert diagnosis.root_cause == "missing-ttl-prefix-leak"
    assert diagnosis.reasoner == "rules"
    await connection.close()


async def test_invented_evidence_goes_back_twice_and_never_through(leaking: servers.Server) -> None:
    inventor = Inventor()
    context, journal, connection = await context_for(leaking, inventor)
    await advance(build_graph(InMemorySaver()), context, await journal.incident())
    diagnosis = (await journal.incident()).diagnosis
    assert diagnosis is not None
    assert diagnosis.root_cause == "missing-ttl-prefix-leak"
    assert diagnosis.reasoner == "rules"
    assert len(inventor.corrections) == 3
    assert inventor.corrections[0] == []
    assert "E999" in inventor.corrections[1][0]
    await connection.close()
