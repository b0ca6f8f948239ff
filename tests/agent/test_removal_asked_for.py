"""Data is removed only where its owner asks for it, in a runbook of theirs, and from end to end."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from agent import executor, rollback, verification
from agent.context import Context
from agent.incident import Approval, Plan
from agent.runbook_library import load_library
from agent.runbook_lint import lint
from evals.servers import BUILDS, Server
from tests.agent.test_planning import NOW, Case, diagnosis
from tests.tools.load import fill
from tools.backups import BackupFolder
from tools.connection import Connection

OWN = """---
id: exports
title: Old exports
severity: warning
matches: {alerts: [RedisMemoryHigh]}
remedies:
  - {kind: remove_prefix, args: {prefix: "tmp:export:", owner_confirmed: %s}, for_causes: [organic-growth]}
---
# Old exports
"""  # noqa: E501


@pytest.fixture
def server(start_server: Callable[..., Server]) -> Server:
    return start_server(BUILDS[-1])


async def planned(
    case: Case, folder: Path, confirmed: str, *, backups: bool = True
) -> tuple[Context, Plan]:
    (folder / "exports.md").write_text(OWN % confirmed)
    library = load_library([folder])
    kept = BackupFolder(
        folder / "kept", lambda: bytes(32), keep=timedelta(days=7), most_bytes=2**40
    )
    case.context = replace(case.context, library=library, backups=kept if backups else None)
    matched = await case.journal.incident()
    exports = matched.runbooks[0].model_copy(update={"id": "exports"})
    await case.journal.set_runbooks([*matched.runbooks, exports])
    plan = await case.plan(diagnosis("organic-growth"), "memory_info", "keyspace")
    return case.context, plan


@pytest.mark.parametrize("confirmed", ["false", '"yes"'])
async def test_without_the_owners_word_it_is_no_part_of_a_plan(
    server: Server, client: "redis.Redis", reading: Connection, tmp_path: Path, confirmed: str
) -> None:
    fill(client, "tmp:export:", 100)
    _, plan = await planned(Case(server.url, reading), tmp_path, confirmed)
    assert "remove_prefix" not in [action.kind for action in plan.actions]


async def test_without_a_place_for_backups_it_is_for_a_person(
    server: Server, client: "redis.Redis", reading: Connection, tmp_path: Path
) -> None:
    fill(client, "tmp:export:", 100)
    _, plan = await planned(Case(server.url, reading), tmp_path, "true", backups=False)
    (removal,) = [action for action in plan.actions if action.kind == "remove_prefix"]
    assert not removal.executable


async def test_asked_for_approved_removed_verified_and_undone_on_request(
    server: Server, client: "redis.Redis", reading: Connection, tmp_path: Path
) -> None:
    fill(client, "tmp:export:", 400, ex=5_000)
    fill(client, "user:", 200)
    case = Case(server.url, reading, environment="staging")
    context, plan = await planned(case, tmp_path, "true")
    (removal,) = [action for action in plan.actions if action.kind == "remove_prefix"]
    assert (removal.risk, removal.executable) == ("R3", True)
    assert "About 400 keys go" in removal.predicted_effect
    approval = Approval(by="ann", role="approver", at=NOW)
    approved = removal.model_copy(update={"status": "approved", "approvals": [approval]})
    await case.journal.set_plan(Plan(actions=[approved]))
    applied = await executor.apply(context, approved)
    assert applied.status == "applied", applied.comment
    assert client.dbsize() == 200
    receipt = applied.outcome["done"]["backup"]
    assert Path(receipt["file"]).name == f"i-1-1-{removal.id}.backup"
    verified = await verification.verify(context, applied, hold_seconds=0)
    assert verified.status == "verified", verified.comment
    undone = await rollback.roll_back(context, applied)
    assert undone.status == "verified", "a verified action is finished"
    await case.journal.save_action(applied)
    undone = await rollback.roll_back(context, applied)
    assert undone.status == "rolled_back", undone.comment
    assert client.dbsize() == 600
    assert all(0 < client.ttl(f"tmp:export:{n}") <= 5_000 for n in range(0, 400, 40))
    assert "tmp:export:1" not in undone.model_dump_json()


def test_a_misspelt_argument_of_a_remedy_is_found_by_lint(tmp_path: Path) -> None:
    (tmp_path / "exports.md").write_text((OWN % "true").replace("owner_confirmed", "confirmed"))
    problems = [str(problem) for problem in lint([tmp_path]) if "argument" in problem.message]
    assert len(problems) == 1
    assert "unknown argument 'confirmed'" in problems[0]
