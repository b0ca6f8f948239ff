"""Plans for one stream or collection: from the server and its owner, and carried out to the end."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from agent import executor, rollback, verification
from agent.incident import Action, Approval, CulpritKind, Plan
from agent.runbook_library import load_library
from evals.servers import BUILDS, Server
from tests.agent.test_planning import NOW, Case, diagnosis
from tools.backups import BackupFolder
from tools.connection import Connection
from tools.opening import open_for_reading

OWN = """---
id: own
title: What we know of our own data
severity: warning
matches: {alerts: [RedisMemoryHigh]}
remedies:
  - %s
---
# What we know of our own data
"""
MAIL = "mail:jane.doe@example.com:jobs"


@pytest.fixture
def server(start_server: Callable[..., Server]) -> Server:
    return start_server(BUILDS[-1])


@pytest.fixture
async def case(server: Server, tmp_path: Path) -> AsyncIterator[Case]:
    reading: Connection = await open_for_reading(server.url)
    case = Case(server.url, reading)
    kept = BackupFolder(
        tmp_path / "kept", lambda: bytes(32), keep=timedelta(days=7), most_bytes=2**40
    )
    case.context = replace(case.context, backups=kept)
    yield case
    await reading.close()


async def planned(
    case: Case, cause: str, kind: CulpritKind, name: str, own: str = "", folder: Path | None = None
) -> Plan:
    if folder is not None:
        (folder / "own.md").write_text(OWN % own)
        case.context = replace(case.context, library=load_library([folder]))
        known = await case.journal.incident()
        mine = known.runbooks[0].model_copy(update={"id": "own"})
        await case.journal.set_runbooks([*known.runbooks, mine])
    return await case.plan(diagnosis(cause, kind, name), "memory_info")


async def carried_out(case: Case, plan: Plan, kind: str) -> Action:
    action = next(action for action in plan.actions if action.kind == kind)
    approvals = [Approval(by=who, role="approver", at=NOW) for who in ("ann", "bob")]
    approved = action.model_copy(update={"status": "approved", "approvals": approvals})
    await case.journal.set_plan(Plan(actions=[approved]))
    return await executor.apply(case.context, approved)


def kinds(plan: Plan) -> list[str]:
    return [action.kind for action in plan.actions]


def stream(client: "redis.Redis", key: str, entries: int, *groups: str) -> None:
    for group in groups:
        client.xgroup_create(key, group, id="0", mkstream=True)
    pipeline = client.pipeline(transaction=False)
    for number in range(entries):
        pipeline.xadd(key, {"n": number})
    pipeline.execute()


def read_all(client: "redis.Redis", key: str, group: str, *, ack: bool) -> None:
    seen: Any = client.xreadgroup(group, "c-1", {key: ">"}, count=100_000)
    if ack:
        client.xack(key, group, *[entry for entry, _ in seen[0][1]])


async def test_a_consumed_stream_is_trimmed_from_plan_to_verification(
    case: Case, client: "redis.Redis"
) -> None:
    stream(client, MAIL, 2_000, "billing")
    read_all(client, MAIL, "billing", ack=True)
    shown = "mail:[redacted e-mail]:jobs"
    plan = await planned(case, "stream-unbounded", "stream", shown)
    assert kinds(plan)[0] == "trim_stream", "relief before advice"
    assert "advise_application" in kinds(plan)
    action = plan.actions[0]
    assert action.executable
    assert (action.risk, action.relief) == ("R3", "immediate")
    assert action.arguments["key"] == shown
    assert "example.com" not in plan.model_dump_json()
    assert "at most" in action.blast_radius
    applied = await carried_out(case, plan, "trim_stream")
    assert applied.status == "applied", applied.comment
    assert applied.outcome["done"]["entries_removed"] >= 1_900
    assert applied.outcome["done"]["copy"]["entries"] >= 1_900
    verified = await verification.verify(case.context, applied, hold_seconds=0)
    assert verified.status == "verified", verified.comment
    assert client.xlen(MAIL) <= 100


async def test_a_group_between_approval_and_apply_lets_it_lapse(
    case: Case, client: "redis.Redis"
) -> None:
    stream(client, "events", 2_000, "billing")
    read_all(client, "events", "billing", ack=True)
    plan = await planned(case, "stream-unbounded", "stream", "events")
    client.xgroup_create("events", "late", id="0")
    lapsed = await carried_out(case, plan, "trim_stream")
    assert lapsed.status == "lapsed"
    assert "2 groups now" in lapsed.comment
    assert client.xlen("events") == 2_000


async def test_what_cannot_be_undone_says_so_when_it_is_rolled_back(
    case: Case, client: "redis.Redis"
) -> None:
    stream(client, "events", 2_000, "billing")
    read_all(client, "events", "billing", ack=True)
    plan = await planned(case, "stream-unbounded", "stream", "events")
    applied = await carried_out(case, plan, "trim_stream")
    back = await rollback.roll_back(case.context, applied)
    assert back.status == "rollback_failed"
    assert "a copy is in the backup" in back.comment


async def test_without_groups_half_is_proposed_with_a_copy_and_never_without(
    case: Case, client: "redis.Redis"
) -> None:
    stream(client, "events", 2_000)
    plan = await planned(case, "stream-unbounded", "stream", "events")
    assert plan.actions[0].arguments == {"key": "events", "groups": 0, "keep_entries": 1_000}
    assert "NO GROUP" in plan.actions[0].predicted_effect
    case.context = replace(case.context, backups=None)
    plan = await planned(case, "stream-unbounded", "stream", "events")
    assert "trim_stream" not in kinds(plan)
    assert "advise_application" in kinds(plan)


async def test_a_slow_group_that_needs_everything_leaves_advice(
    case: Case, client: "redis.Redis"
) -> None:
    stream(client, "events", 2_000, "billing", "stuck")
    read_all(client, "events", "billing", ack=True)
    plan = await planned(case, "stream-unbounded", "stream", "events")
    assert "trim_stream" not in kinds(plan)
    assert "advise_application" in kinds(plan)


async def test_the_owner_says_how_long_a_stream_is_kept(
    case: Case, client: "redis.Redis", tmp_path: Path
) -> None:
    for day in (1, 3, 9):
        for number in range(300):
            client.xadd(
                "log", {"n": number}, id=f"{int(NOW.timestamp() - (10 - day) * 86_400)}000-*"
            )
    own = "{kind: trim_stream, args: {key: log, keep_seconds: 172800}}"
    plan = await planned(case, "organic-growth", "none", "", own, tmp_path)
    applied = await carried_out(case, plan, "trim_stream")
    assert applied.outcome["done"]["entries_removed"] == 600, applied.comment
    assert client.xlen("log") == 300


async def test_pending_entries_that_refer_to_nothing_are_cleared(
    case: Case, client: "redis.Redis"
) -> None:
    stream(client, "jobs", 3_000, "workers", "me@example.com")
    read_all(client, "jobs", "workers", ack=False)
    read_all(client, "jobs", "me@example.com", ack=False)
    client.xtrim("jobs", maxlen=100, approximate=False)
    plan = await planned(case, "stream-pel-growth", "stream", "jobs")
    assert kinds(plan).count("clear_pending") == 2, "an action a group"
    assert "example.com" not in plan.model_dump_json()
    for action in [one for one in plan.actions if one.kind == "clear_pending"]:
        applied = await carried_out(case, Plan(actions=[action]), "clear_pending")
        assert applied.outcome["done"]["entries_acknowledged"] == 2_900, applied.comment
        verified = await verification.verify(case.context, applied, hold_seconds=0)
        assert verified.status == "verified", verified.comment


async def test_what_can_still_be_processed_is_left_to_its_owner(
    case: Case, client: "redis.Redis", tmp_path: Path
) -> None:
    stream(client, "jobs", 500, "workers")
    read_all(client, "jobs", "workers", ack=False)
    plan = await planned(case, "stream-pel-growth", "stream", "jobs")
    assert "clear_pending" not in kinds(plan)
    advice = next(action for action in plan.actions if action.kind == "advise_application")
    assert "only the owner of the group can confirm" in advice.artefact
    ids: Any = [
        row["message_id"] for row in client.xpending_range("jobs", "workers", "-", "+", 500)
    ]
    client.xclaim("jobs", "workers", "c-1", 0, ids, idle=7_200_000)
    own = (
        "{kind: clear_pending, args: {key: jobs, group: workers, how: acknowledge, "
        "consumer: c-1, owner_confirmed: true}}"
    )
    plan = await planned(case, "stream-pel-growth", "stream", "jobs", own, tmp_path)
    applied = await carried_out(case, plan, "clear_pending")
    assert client.xpending("jobs", "workers")["pending"] == 0, applied.comment
    back = await rollback.roll_back(case.context, applied)
    assert back.status == "rolled_back", back.comment
    assert client.xpending("jobs", "workers")["pending"] == 500


async def test_a_huge_collection_is_trimmed_by_its_owners_rule_and_comes_back(
    case: Case, client: "redis.Redis", tmp_path: Path
) -> None:
    client.rpush(MAIL, *range(3_000))
    shown = "mail:[redacted e-mail]:jobs"
    plan = await planned(case, "single-bigkey", "key", shown)
    assert "trim_collection" not in kinds(plan), "nobody but the owner knows what may go"
    own = '{kind: trim_collection, args: {key: "{culprit}", remove_from: head, keep: 100}}'
    plan = await planned(case, "single-bigkey", "key", shown, own, tmp_path)
    applied = await carried_out(case, plan, "trim_collection")
    assert applied.status == "applied", applied.comment
    assert client.lrange(MAIL, 0, -1) == [str(n).encode() for n in range(2_900, 3_000)]
    back = await rollback.roll_back(case.context, applied)
    assert back.status == "rolled_back", back.comment
    assert client.lrange(MAIL, 0, -1) == [str(n).encode() for n in range(3_000)]
