"""Who did what to a server is on record: what it was before, what it is now, and on whose word."""

from typing import Any

import pytest
from sqlalchemy import select

from agent.incident import Plan
from api.store import decisions, incidents
from api.store.database import Database
from api.store.journal import SqlJournal
from api.store.tables import ActionRow, AuditRow, DecisionRow, IncidentRow
from tests.api.test_store import FINGERPRINT, action, journal_of
from tests.api.trails import verified


async def trail_of(database: Database, what: str = "%") -> list[AuditRow]:
    async with database.reading() as session:
        chosen = select(AuditRow).where(AuditRow.what.like(what)).order_by(AuditRow.id)
        return list(await session.scalars(chosen))


async def planned(database: Database, **fields: Any) -> SqlJournal:
    """A plan of one action that Alice approved."""
    journal = await journal_of(database)
    await journal.set_plan(Plan(actions=[action(arguments={"value": "512mb"}, **fields)]))
    incident_id = (await journal.incident()).id
    async with database.writing() as session:
        session.add(
            DecisionRow(
                incident_id=incident_id, attempt=1, action_id="A1", by="alice", role="admin",
                fingerprint=FINGERPRINT, approves=True, comment="", at=incidents.now(),
                break_glass=False, cause="",
            )
        )  # fmt: skip
        kept = await session.get_one(ActionRow, (incident_id, 1, "A1"))
        kept.status = "approved"
    return journal


async def test_the_executors_deeds_name_who_approved_and_both_values(database: Database) -> None:
    journal = await planned(database)
    at_work = action(arguments={"value": "512mb"}, status="applying")
    intended = {"captured": {"old": "256mb"}, "client_id": 7}
    await journal.save_action(at_work, intent=intended)
    outcome: dict[str, Any] = {"before": {"old": "256mb"}, "done": {"set": "512mb"}}
    await journal.save_action(at_work.model_copy(update={"status": "applied", "outcome": outcome}))
    outcome |= {"baseline": {"errors": 0}, "after": {"errors": 3}, "regressions": ["errors rose"]}
    undoing = {"status": "rolling_back", "outcome": outcome, "comment": "errors rose"}
    back = at_work.model_copy(update=undoing)
    await journal.save_action(back)
    await journal.save_action(back, intent={"phase": "undo", "client_id": 8})
    trail = [row for row in await trail_of(database) if row.detail.get("action") == "A1"]
    assert [row.what for row in trail] == [
        "approved", "intent", "applying", "applied", "rolling_back", "intent",
    ]  # fmt: skip
    intent, _, applied, undone, undo = (row.detail for row in trail[1:])
    assert {row.by.split("@")[0] for row in trail[1:]} == {"executor"}
    assert intent["approved_by"] == applied["approved_by"] == ["alice"]
    assert (intent["previous"], intent["new"]) == ({"old": "256mb"}, {"value": "512mb"})
    assert (applied["previous"], applied["new"]) == ({"old": "256mb"}, {"set": "512mb"})
    assert (undo["previous"], undo["new"]) == ({"set": "512mb"}, {"old": "256mb"})
    assert (intent["phase"], undo["phase"]) == ("apply", "undo")
    assert (undone["because"], undone["regressions"]) == ("errors rose", ["errors rose"])
    assert (await verified(database)).findings == []


async def test_secrets_and_floods_do_not_reach_the_trail(database: Database) -> None:
    journal = await planned(database)
    captured = {"old": "redis://u:hunter2@cache", "names": ["x" * 200] * 400}
    at_work = action(arguments={"value": "512mb"}, status="applying")
    await journal.save_action(at_work, intent={"captured": captured})
    (row,) = await trail_of(database, "intent")
    assert "hunter2" not in str(row.detail)
    assert len(str(row.detail)) < 3_000
    assert row.detail["new"] == {"value": "512mb"}


async def test_a_status_that_nobody_noted_is_on_record_all_the_same(database: Database) -> None:
    journal = await planned(database)
    incident_id = (await journal.incident()).id
    async with database.writing() as session:
        row = await incidents.lock(session, incident_id)
        await decisions.lapse_all(session, row, "somebody looks again")
        row.status = "closed"
    (lapsed,), (closed,) = await trail_of(database, "lapsed"), await trail_of(database, "status")
    assert (lapsed.detail["was"], lapsed.detail["because"]) == ("approved", "somebody looks again")
    assert (closed.detail["from"], closed.detail["to"]) == ("queued", "closed")


async def test_so_is_that_of_an_incident_that_is_not_written_yet(database: Database) -> None:
    async with database.writing() as session:
        row = await incidents.open_incident(session, title="t", target="cache")
        await incidents.move(session, row, "closed", "at once")
    (changed,) = await trail_of(database, "status")
    assert (changed.incident_id, changed.detail["from"]) == (row.id, "queued")


async def test_what_is_rolled_back_in_the_database_is_not_on_record(database: Database) -> None:
    journal = await planned(database)
    before = len(await trail_of(database))
    with pytest.raises(RuntimeError):  # noqa: PT012 - it is the block that fails
        async with database.writing() as session:
            row = await session.get_one(IncidentRow, (await journal.incident()).id)
            row.status = "closed"
            raise RuntimeError
    assert len(await trail_of(database)) == before


async def test_a_plan_and_a_page_are_on_record(database: Database) -> None:
    journal = await planned(database)
    await journal.page("the undo failed")
    (proposed,), (page,) = await trail_of(database, "propose"), await trail_of(database, "page")
    assert proposed.detail["actions"] == [
        {"id": "A1", "fingerprint": FINGERPRINT, "kind": "set_config", "risk": "R1"}
    ]
    assert page.detail == {"reason": "the undo failed"}
