"""After an action, what the cause and the alert rest on is looked at again on the server."""

from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import redis

from agent import executor, verification
from agent.case import CaseFile
from agent.context import Context
from agent.incident import Alert, Diagnosis, Severity
from agent.relook import still_firing
from agent.runbook_library import load_library
from agent.steps import conclude
from evals.servers import Server
from tests.agent.operating import NOW, Desk
from tools.remedies.vitals import MIB


@pytest.fixture
async def desk(start_server: Callable[..., Server]) -> AsyncIterator[Desk]:
    made = Desk(start_server("valkey-9.1", "--maxmemory", "20mb"))
    yield made
    if made.reading is not None:
        await made.reading.close()


async def full(
    desk: Desk, severity: Severity = "critical", cause: str = "noeviction-oom"
) -> Context:
    """A server at its limit that refuses writes, and its diagnosis, with the evidence for it."""
    with closing(redis.Redis(port=desk.server.port)) as client:
        number = 0
        while int(client.info("memory")["used_memory"]) < 18.6 * MIB:
            client.set(f"page:{(number := number + 1)}", b"x" * 100_000)
    context = replace(await desk.context(), library=load_library())
    incident = await desk.journal.incident()
    incident.alerts = [
        Alert(source="t", name="RedisMemoryHigh", fingerprint="f", starts_at=NOW, severity=severity)
    ]
    desk.journal._incident = incident
    case = CaseFile(context, incident, context.library, [])
    await case.look("memory_info", {})
    await case.look("config_get", {})
    await desk.journal.set_diagnosis(
        Diagnosis(root_cause=cause, title="Full", is_incident=True, confidence=0.9, summary="full")
    )
    return context


async def raised(desk: Desk, context: Context, limit: int) -> Any:
    arguments = {"parameter": "maxmemory", "value": str(limit)}
    applied = await executor.apply(context, await desk.approved("set_config", arguments))
    return await verification.verify(context, applied)


async def test_a_limit_with_room_clears_the_alerts_own_signal(desk: Desk) -> None:
    context = await full(desk)
    ended = await raised(desk, context, 60 * MIB)
    assert ended.status == "verified", ended.comment
    signals = ended.outcome["signals"]
    assert {"alert memory_info.pressure", "memory_pressure"} <= {
        entry["name"] for entry in signals["cleared"]
    }
    assert "the alert's signal cleared: memory_info.pressure from 9" in ended.comment
    incident = await desk.journal.incident()
    assert conclude(incident)[0] == "resolved"
    again = [piece for piece in incident.evidence if piece.id in ended.outcome["evidence"]]
    assert again
    assert all(piece.summary.startswith("after A1: ") for piece in again)
    assert min(piece.taken_at for piece in again) > NOW


async def test_an_alert_that_still_fires_is_not_resolved_and_the_action_stays(desk: Desk) -> None:
    """The limit was raised as approved, and that was too little: nothing is undone for that."""
    context = await full(desk, "warning")
    ended = await raised(desk, context, 22 * MIB)
    assert ended.status == "verified", ended.comment
    assert "the alert's own signal still fires: memory_info.pressure from 9" in ended.comment
    incident = await desk.journal.incident()
    status, because = conclude(incident)
    assert (status, "its alert still fires: memory_info.pressure from " in because) == (
        "needs_human", True,
    )  # fmt: skip


async def test_a_warning_that_goes_on_under_a_critical_alert_is_told_and_no_more(
    desk: Desk,
) -> None:
    context = await full(desk, "critical")
    ended = await raised(desk, context, 22 * MIB)  # below 90 %, above 75 %
    names = {state: [e["name"] for e in found] for state, found in ended.outcome["signals"].items()}
    assert "alert memory_info.pressure" in names["cleared"]
    assert "threshold memory_info.pressure" in names["still"]
    assert still_firing(await desk.journal.incident()) == ""


async def test_what_cannot_be_looked_at_again_is_not_called_cleared(desk: Desk) -> None:
    context = await full(desk)
    with closing(redis.Redis(port=desk.server.port)) as client:
        arguments = {"parameter": "maxmemory", "value": str(60 * MIB)}
        applied = await executor.apply(context, await desk.approved("set_config", arguments))
        original = CaseFile.look

        async def refused(case: CaseFile, tool: str, args: dict[str, Any]) -> Any:
            client.acl_setuser("default", commands=["-info"])
            try:
                return await original(case, tool, args)
            finally:
                client.acl_setuser("default", commands=["+info"])

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CaseFile, "look", refused)
            ended = await verification.verify(context, applied)
    assert ended.status == "verified", ended.comment
    states = {state: len(found) for state, found in ended.outcome["signals"].items()}
    assert (states["cleared"], states["still"]) == (0, 0)
    assert states["not_measured"] >= 2
    assert "was not measured again" in ended.comment
