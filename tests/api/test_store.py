"""The store: nothing lost under concurrency, nothing done twice, on SQLite and PostgreSQL."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import StatementError

from agent.incident import Action, Alert, Diagnosis, Plan, Usage
from agent.policy import BUILT_IN
from api.store import alerts, decisions, events, incidents, leases, looks
from api.store.audit import Person
from api.store.database import Database
from api.store.decisions import Choice
from api.store.homes import Homes
from api.store.journal import ActionMoved, SqlJournal, Superseded
from api.store.judge import judge_at
from api.store.leases import Lease, LeaseLost
from api.store.place import Place
from api.store.tables import AlertRow, EventRow, IncidentRow, LeaseRow

ALICE, BOB = Person("alice", "approver"), Person("bob", "approver")
FINGERPRINT = "a" * 64


def action(id: str = "A1", **fields: Any) -> Action:
    values: dict[str, Any] = {
        "id": id, "fingerprint": FINGERPRINT, "kind": "set_config", "title": "Raise maxmemory",
        "arguments": {}, "risk": "R1",
    }  # fmt: skip
    return Action(**values | fields)


def alert(fingerprint: str = "f1", **fields: Any) -> Alert:
    values: dict[str, Any] = {
        "source": "generic", "name": "RedisMemoryHigh", "fingerprint": fingerprint,
        "starts_at": datetime(2026, 1, 31, 3, tzinfo=UTC),
    }  # fmt: skip
    return Alert(**values | fields)


def diagnosis(**fields: Any) -> Diagnosis:
    values: dict[str, Any] = {
        "root_cause": "unknown", "title": "Unknown", "is_incident": True, "confidence": 0.2,
        "summary": "?",
    }  # fmt: skip
    return Diagnosis(**values | fields)


async def opened(database: Database, target: str = "cache") -> str:
    async with database.writing() as session:
        return (await incidents.open_incident(session, title="t", target=target)).id


async def journal_of(database: Database, target: str = "cache") -> SqlJournal:
    incident_id = await opened(database, target)
    lease = await leases.acquire(database, target, incident_id, "me")
    assert lease is not None
    return SqlJournal(database, incident_id, 1, lease)


async def look(journal: SqlJournal, tool: str = "memory_info") -> str:
    evidence = await journal.add_evidence(
        tool, {}, {"used": 1}, measured=True, node="n", summary="s", usage=Usage(tool_calls=1)
    )
    return evidence.id


async def test_concurrent_writers_lose_no_update(database: Database) -> None:
    journal = await journal_of(database)
    await asyncio.gather(*(journal.add_usage(Usage(tool_calls=1)) for _ in range(40)))
    assert (await journal.incident()).usage.tool_calls == 40


async def test_evidence_and_events_are_numbered_without_gaps_by_concurrent_writers(
    database: Database,
) -> None:
    journal = await journal_of(database)
    ids = await asyncio.gather(*(look(journal) for _ in range(12)))
    assert sorted(ids, key=lambda i: int(i[1:])) == [f"E{n}" for n in range(1, 13)]
    assert (await journal.incident()).usage.tool_calls == 12
    async with database.reading() as session:
        rows = await events.after(session, (await journal.incident()).id, 0)
    assert [row.number for row in rows] == list(range(1, 14))


async def test_a_run_repeated_after_a_crash_changes_nothing(database: Database) -> None:
    journal = await journal_of(database)
    plan = Plan(actions=[action()], prevention=["p"])
    await journal.set_status("investigating")
    await journal.set_diagnosis(diagnosis())
    await journal.set_plan(plan)
    await journal.save_action(action(status="lapsed", comment="late"))
    before = await journal.incident()
    number = await last_event(database, before.id)
    await journal.set_status("investigating")
    await journal.set_diagnosis(diagnosis())
    await journal.save_action(action(status="lapsed", comment="late"))
    assert await journal.incident() == before
    assert await last_event(database, before.id) == number


async def test_what_was_seen_is_progress(database: Database) -> None:
    """On a busy machine a run may see little before another takes over: it is not given up."""
    journal = await journal_of(database)
    async with database.writing() as session:
        await session.execute(update(IncidentRow).values(idle_runs=4))
    await look(journal)
    async with database.reading() as session:
        assert await session.scalar(select(IncidentRow.idle_runs)) == 0


async def last_event(database: Database, incident_id: str) -> int:
    async with database.reading() as session:
        return (await session.get_one(IncidentRow, incident_id)).last_event


async def test_an_intent_stays_until_it_has_an_outcome(database: Database) -> None:
    journal = await journal_of(database)
    await journal.set_plan(Plan(actions=[action(status="approved")]))
    assert await journal.intent("A1") is None
    await journal.save_action(action(status="applying"), intent={"client_id": 6})
    await journal.note_progress("A1", {"keys": 5})
    await journal.save_action(action(status="applying"), intent={"client_id": 7})
    assert await journal.intent("A1") == {"client_id": 7, "progress": {"keys": 5}}
    assert await journal.unsettled() == [{"client_id": 7}]
    assert await journal.intent("A2") is None
    await journal.save_action(action(status="applied"), outcome={"done": True})
    assert (await journal.intent("A1"), await journal.unsettled()) == (None, [])
    await journal.save_action(action(status="rolling_back"), intent={"client_id": 8})
    assert await journal.intent("A1") == {"client_id": 8}, "an undo has a progress of its own"


async def test_one_lease_per_target(database: Database) -> None:
    taken = await asyncio.gather(
        *(leases.acquire(database, "cache", f"inc-{n}", f"w{n}") for n in range(8))
    )
    assert len([lease for lease in taken if lease is not None]) == 1
    assert await leases.acquire(database, "other", "inc-9", "w9") is not None


async def expire_lease(database: Database) -> None:
    async with database.writing() as session:
        await session.execute(update(LeaseRow).values(expires=1.0))


async def test_whoever_lost_the_lease_writes_nothing_more(database: Database) -> None:
    journal = await journal_of(database)
    old = journal.lease
    await leases.renew(database, old)
    await expire_lease(database)
    new = await leases.acquire(database, "cache", old.incident_id, "somebody else")
    assert new is not None
    assert new.fencing == old.fencing + 1
    with pytest.raises(LeaseLost):
        await journal.set_status("resolved")
    together = await asyncio.gather(*(look(journal) for _ in range(3)), return_exceptions=True)
    assert [type(told) for told in together] == [LeaseLost] * 3
    with pytest.raises(LeaseLost):
        await leases.renew(database, old)
    await leases.release(database, old)  # not ours any more: changes nothing
    assert await leases.acquire(database, "cache", old.incident_id, "third") is None
    incident = await journal.incident()
    assert (incident.status, incident.evidence, incident.usage) == ("queued", [], Usage())


async def test_whoever_was_frozen_past_its_lease_acts_no_more_though_nobody_took_it(
    database: Database,
) -> None:
    """What it checked is as old as the freeze: it may say so, and not write to the target."""
    journal = await journal_of(database)
    await journal.set_plan(Plan(actions=[action(status="approved")]))
    await journal.save_action(action(status="applying"), intent={"client_id": 6})
    await expire_lease(database)
    with pytest.raises(LeaseLost):
        await journal.note_progress("A1", {"keys": 5})
    with pytest.raises(LeaseLost):
        await journal.save_action(action(status="applying"), intent={"client_id": 7})
    assert await journal.intent("A1") == {"client_id": 6}
    await journal.save_action(action(status="applied"), outcome={"done": True})


async def test_a_released_lease_is_free_at_once(database: Database) -> None:
    lease = await leases.acquire(database, "cache", "inc-1", "me")
    assert lease is not None
    await leases.release(database, lease)
    assert await leases.acquire(database, "cache", "inc-2", "you") == Lease("cache", "inc-2", 2)


async def test_a_closed_or_restarted_incident_stops_its_run(database: Database) -> None:
    journal = await journal_of(database)
    incident_id = (await journal.incident()).id
    async with database.writing() as session:
        row = await incidents.lock(session, incident_id)
        await incidents.begin_attempt(session, row, "again")
    with pytest.raises(Superseded):
        await journal.set_status("needs_human")
    with pytest.raises(Superseded):
        await look(journal)
    assert (await journal.incident()).status == "queued"


async def test_another_attempt_does_not_judge_by_what_was_seen_before(database: Database) -> None:
    journal = await journal_of(database)
    await look(journal)
    await journal.set_plan(Plan(actions=[action()]))
    incident_id = (await journal.incident()).id
    async with database.writing() as session:
        await incidents.begin_attempt(session, await incidents.lock(session, incident_id), "again")
    again = SqlJournal(database, incident_id, 2, journal.lease)
    assert await again.evidence() == []
    assert await look(again) == "E2"
    shown = await again.incident()
    assert [piece.id for piece in shown.evidence] == ["E1", "E2"]
    assert shown.plan.actions == []


async def awaiting(database: Database, *actions: Action) -> SqlJournal:
    journal = await journal_of(database)
    await journal.set_plan(Plan(actions=list(actions)))
    await journal.set_status("awaiting_approval")
    return journal


async def decide(
    database: Database, journal: SqlJournal, who: Person, *, approves: bool,
    fingerprint: str = FINGERPRINT, action_id: str = "A1",
) -> Action:  # fmt: skip
    choice = Choice(action_id, fingerprint)
    async with database.writing() as session:
        row = await incidents.lock(session, (await journal.incident()).id)
        judge = await judge_at(session, BUILT_IN, row.target, "staging", incidents.now())
        if not approves:
            return await decisions.reject(session, row, choice, who, "c", judge.at)
        (approved,) = await decisions.approve(session, row, [choice], who, "c", judge)
        return approved


async def test_two_approvals_and_a_run_that_never_overwrites_them(database: Database) -> None:
    journal = await awaiting(database, action(approvals_required=2))
    first = await decide(database, journal, ALICE, approves=True)
    assert (first.status, [a.by for a in first.approvals]) == ("proposed", ["alice"])
    again = await decide(database, journal, ALICE, approves=True)
    assert again == first
    second = await decide(database, journal, BOB, approves=True)
    assert second.status == "approved"
    await journal.save_action(second.model_copy(update={"status": "applying", "approvals": []}))
    kept = (await journal.incident()).plan.actions[0]
    assert kept.status == "applying"
    assert [a.by for a in kept.approvals] == ["alice", "bob"]


async def test_decisions_that_come_too_late_or_for_something_else_are_stale(
    database: Database,
) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    journal = await awaiting(
        database, action(), action("A2", executable=False), action("A3", expires_at=past)
    )
    for wrong in (
        {"who": ALICE, "approves": True, "fingerprint": "b" * 64},
        {"who": ALICE, "approves": True, "action_id": "A2"},
        {"who": ALICE, "approves": True, "action_id": "A3"},
    ):
        with pytest.raises(decisions.Stale):
            await decide(database, journal, **wrong)  # type: ignore[arg-type]
    rejected = await decide(database, journal, ALICE, approves=False)
    assert (rejected.status, rejected.rejected_by) == ("rejected", "alice")
    with pytest.raises(decisions.Stale):
        await decide(database, journal, ALICE, approves=True)
    with pytest.raises(decisions.Stale):
        await decide(database, journal, BOB, approves=True)
    with pytest.raises(ActionMoved):
        await journal.save_action(action(status="applying"))


async def test_an_approval_that_nobody_gave_in_time_lapses(database: Database) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    journal = await awaiting(database, action(expires_at=past))
    async with database.writing() as session:
        assert await decisions.expire(session) == [(await journal.incident()).id]
    assert (await journal.incident()).plan.actions[0].status == "lapsed"


@pytest.mark.parametrize(
    ("status", "actions", "work"),
    [
        ("queued", [], True),
        ("verifying", [], True),
        ("awaiting_approval", [action()], False),
        ("awaiting_approval", [action(status="approved"), action("A2")], True),
        ("awaiting_approval", [action(status="rejected")], True),
        ("awaiting_approval", [action(status="rejected"), action("A2")], False),
        ("awaiting_approval", [action(status="lapsed"), action("A2", executable=False)], True),
        ("needs_human", [action(status="approved")], False),
        ("resolved", [], False),
    ],
)
async def test_which_incidents_have_work(
    database: Database, status: Any, actions: list[Action], work: bool
) -> None:
    journal = await awaiting(database, *actions)
    await journal.set_status(status)
    incident_id = (await journal.incident()).id
    async with database.reading() as session:
        assert await incidents.works_left(session, incident_id) is work
        clock = await database.clock(session)
        assert await incidents.unfinished(session, clock) == []  # its lease is alive
        later = clock + leases.LEASE_SECONDS + 1
        assert await incidents.unfinished(session, later) == ([incident_id] if work else [])


async def take(database: Database, alert: Alert, target: str | None = "cache") -> tuple[str, bool]:
    async with database.writing() as session:
        problem = "" if target else "?"
        row, created = await alerts.firing(database, session, alert, Place(target or ""), problem)
        assert row is not None
        return row.id, created


async def test_the_same_alert_sent_by_many_at_once_opens_one_incident(database: Database) -> None:
    taken = await asyncio.gather(*(take(database, alert()) for _ in range(10)))
    assert len({incident_id for incident_id, _ in taken}) == 1
    assert [created for _, created in taken].count(True) == 1
    async with database.reading() as session:
        assert len((await session.scalars(select(AlertRow))).all()) == 1


async def test_another_alert_on_the_target_joins_and_raises_the_severity(
    database: Database,
) -> None:
    first, _ = await take(database, alert())
    second, created = await take(database, alert("f2", severity="critical", name="Other"))
    other, _ = await take(database, alert("f3"), "another")
    assert (second, created) == (first, False)
    assert other != first
    async with database.reading() as session:
        shown = await incidents.load(session, first)
    assert shown.severity == "critical"
    assert [known.fingerprint for known in shown.alerts] == ["f1", "f2"]


async def test_the_same_instant_in_another_zone_is_the_same_alert(database: Database) -> None:
    first, _ = await take(database, alert())
    tokyo = datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=9)))
    assert await take(database, alert(starts_at=tokyo)) == (first, False)


async def test_times_without_a_zone_are_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="no time zone"):
        await take(database, alert(starts_at=datetime(2026, 1, 31, 3)))  # noqa: DTZ001


async def test_a_late_new_alert_on_a_waiting_incident_starts_another_look(
    database: Database,
) -> None:
    first, _ = await take(database, alert())
    async with database.writing() as session:
        row = await incidents.lock(session, first)
        await incidents.move(session, row, "needs_human", "?")
    await take(database, alert("f2"))
    async with database.writing() as session:
        row = await incidents.lock(session, first)
        assert (row.status, row.attempt) == ("needs_human", 1)
        ended = incidents.now() - looks.AGAIN_AFTER - timedelta(seconds=1)
        await session.execute(update(EventRow).values(at=ended))
    await take(database, alert("f3"))
    async with database.reading() as session:
        shown = await incidents.load(session, first)
    assert (shown.status, shown.attempt) == ("queued", 2)


@pytest.mark.parametrize(
    ("status", "after"),
    [("needs_human", "closed"), ("queued", "queued"), ("awaiting_approval", "awaiting_approval")],
)
async def test_resolution_closes_what_has_nothing_pending(
    database: Database, status: Any, after: str
) -> None:
    incident_id, _ = await take(database, alert())
    await take(database, alert("f2"))
    async with database.writing() as session:
        await incidents.move(session, await incidents.lock(session, incident_id), status)
    for fingerprint, expected in (("f1", status), ("f2", after)):
        # Grafana and some others send another start with the resolution.
        over = alert(fingerprint, status="resolved", starts_at=datetime(2026, 2, 1, tzinfo=UTC))
        async with database.writing() as session:
            row = await alerts.resolved(session, over, Place("cache"), homes := Homes())
            await alerts.end(session, homes)
            assert row is not None
            assert row.status == expected
    async with database.writing() as session:
        never_seen = alert("never seen", status="resolved")
        assert await alerts.resolved(session, never_seen, Place("cache"), Homes()) is None
