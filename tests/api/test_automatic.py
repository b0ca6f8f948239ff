"""Approval by the policy itself: of what nobody doubts, seldom, and shown as such."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from agent import automatic
from agent.context import Context, Target
from agent.incident import Action, Diagnosis, Overruled, Plan
from agent.policy import AutoLimits, Policy
from agent.runbook import Library
from agent.windows import Window
from api.settings import SettingsError
from api.store import freezes, incidents, leases, precedents
from api.store.audit import Person
from api.store.database import Database
from api.store.decisions import Choice, reject
from api.store.journal import SqlJournal
from api.store.tables import AuditRow, DecisionRow, VerdictRow
from tests.api.test_actions import GOOD
from tests.api.test_policy import policy_of

LIMITS = AutoLimits(confidence=0.9, per_hour=2, per_day=3)
SURE = Diagnosis(
    root_cause="maxmemory-too-low", title="t", is_incident=True, confidence=0.95, summary="s"
)
ANN = Person("ann", "approver")


def policy(**changes: Any) -> Policy:
    from agent.policy import Rule

    row = Rule(frozenset({"R0", "R1", "R3"}), production=True, role="approver", approvals=1,
               auto=True)  # fmt: skip
    return Policy((row,), automatic=LIMITS, **changes)


def action(**changes: Any) -> Action:
    values: dict[str, Any] = {
        "id": "A1", "fingerprint": GOOD, "kind": "set_config", "title": "Set it", "risk": "R1",
        "arguments": {"parameter": "maxmemory", "value": "100"},
        "expires_at": incidents.now() + timedelta(hours=1),
    }  # fmt: skip
    return Action(**values | changes)


async def proposed(
    database: Database, *actions: Action, diagnosis: Diagnosis = SURE, target: str = "cache-eu"
) -> SqlJournal:
    """An incident at the gate, and the run that brought it there."""
    async with database.writing() as session:
        row = await incidents.open_incident(session, title="t", target=target)
    lease = await leases.acquire(database, target, row.id, "test")
    assert lease is not None
    journal = SqlJournal(database, row.id, 1, lease)
    await journal.set_diagnosis(diagnosis)
    await journal.set_plan(Plan(actions=list(actions) or [action()]))
    await leases.release(database, lease)  # the next incident's; whoever reads needs none
    return journal


async def considered(journal: SqlJournal, policy: Policy, target: str = "cache-eu") -> list[Action]:
    context = Context(
        target=Target(target, ""), journal=journal, policy=policy, library=Library(runbooks=[]),
        connection=None, open_for_remedies=None, rules=None,  # type: ignore[arg-type]
    )  # fmt: skip
    await automatic.consider(context)
    return (await journal.incident()).plan.actions


async def test_one_is_approved_and_shown_as_the_policys_own(database: Database) -> None:
    journal = await proposed(database, action(risk="R3"), action(id="A2"), action(id="A3"))
    for _ in range(2):  # a run that a crash repeats
        risky, ours, other = await considered(journal, policy())
    assert [risky.status, ours.status, other.status] == ["proposed", "approved", "proposed"]
    (approval,) = ours.approvals
    assert (approval.by, approval.role) == ("policy", "automatic")
    assert "maxmemory-too-low" in approval.comment
    async with database.reading() as session:
        found = select(AuditRow.by, AuditRow.role).where(AuditRow.what == "approve")
        assert (await session.execute(found)).all() == [("policy", "automatic")]


def diagnosed(**changes: Any) -> Diagnosis:
    return SURE.model_copy(update=changes)


LOST = Overruled(reasoner="openai:m", root_cause="big-key", confidence=0.9, reason="both are sure")
FROZEN = Window(reason="quarter end", ends=incidents.now() + timedelta(hours=2))


@pytest.mark.parametrize(
    ("changes", "diagnosis", "policy", "because"),
    [
        ({}, diagnosed(confidence=0.89), policy(), "confidence 89% is below 90%"),
        ({}, diagnosed(root_cause="unknown"), policy(), "the cause is unknown"),
        ({}, diagnosed(escalate=True), policy(), "a person has to look"),
        ({}, diagnosed(is_incident=False), policy(), "no incident"),
        ({}, diagnosed(overruled=LOST), policy(), "disputed: openai:m said big-key"),
        ({}, SURE, policy(dry_run=True), "dry run"),
        ({"dry_run": True}, SURE, policy(), "dry run"),
        ({}, SURE, policy(freezes=(FROZEN,)), "quarter end"),
        ({"preconditions": [{"text": "it fits", "holds": None}]}, SURE, policy(), "that it fits"),
    ],
)
async def test_what_anybody_could_doubt_waits_for_people_and_says_why(
    database: Database, changes: Any, diagnosis: Diagnosis, policy: Policy, because: str
) -> None:
    journal = await proposed(database, action(**changes), diagnosis=diagnosis)
    for _ in range(2):
        (waiting,) = await considered(journal, policy)
    assert (waiting.status, waiting.approvals) == ("proposed", [])
    (note,) = waiting.notes
    assert note.startswith("not approved automatically: ")
    assert because in note


async def test_without_a_row_that_says_so_nothing_is_approved_or_said(database: Database) -> None:
    (waiting,) = await considered(await proposed(database), Policy())
    assert (waiting.status, waiting.notes) == ("proposed", [])


async def test_a_freeze_that_a_person_declared_counts_too(database: Database) -> None:
    journal = await proposed(database)
    async with database.writing() as session:
        now = incidents.now()
        await freezes.declare(session, None, "we look", "ann", now, now + timedelta(hours=1))
    (waiting,) = await considered(journal, policy())
    assert "we look (frozen by ann)" in waiting.notes[0]


async def test_once_people_have_begun_to_decide_the_policy_keeps_out(database: Database) -> None:
    journal = await proposed(database, action(), action(id="A2"))
    async with database.writing() as session:
        row = await incidents.lock(session, (await journal.incident()).id)
        await reject(session, row, Choice("A1", GOOD), ANN, "not now", incidents.now())
    assert [a.status for a in await considered(journal, policy())] == ["rejected", "proposed"]


async def test_never_twice_for_a_cause_within_a_day_and_not_often_for_any(
    database: Database,
) -> None:
    async def next_one(cause: str, target: str = "cache-eu") -> str:
        diagnosis = diagnosed(root_cause=cause)
        journal = await proposed(database, diagnosis=diagnosis, target=target)
        (shown,) = await considered(journal, policy(), target)
        return shown.status if shown.status == "approved" else shown.notes[0]

    async def hours_pass(hours: float) -> None:
        async with database.writing() as session:
            earlier = select(DecisionRow).where(DecisionRow.role == "automatic")
            for row in await session.scalars(earlier):
                row.at -= timedelta(hours=hours)

    assert await next_one("a") == "approved"
    assert "within a day" in await next_one("a")
    assert await next_one("a", "cache-us") == "approved"
    assert await next_one("b") == "approved"
    assert "2 in the last hour" in await next_one("c")
    await hours_pass(1.1)
    assert "within a day" in await next_one("a")
    assert await next_one("c") == "approved"
    await hours_pass(1.1)
    assert "3 in the last day" in await next_one("d")
    await hours_pass(24)
    assert await next_one("a") == "approved"


async def test_what_was_rejected_or_undone_is_not_done_by_itself_the_next_time(
    database: Database,
) -> None:
    journal = await proposed(database)
    async with database.writing() as session:
        row = await incidents.lock(session, (await journal.incident()).id)
        await reject(session, row, Choice("A1", GOOD), ANN, "the app shards", incidents.now())
    again = {"arguments": {"parameter": "maxmemory", "value": "222"}}
    (waiting,) = await considered(await proposed(database, action(**again)), policy())
    assert "the same was rejected by ann on" in waiting.notes[0]
    assert "the app shards" in waiting.notes[0]
    another = {"arguments": {"parameter": "hz", "value": "222"}}
    (fine,) = await considered(await proposed(database, action(**another)), policy())
    assert fine.status == "approved"


async def test_the_record_of_a_target_is_recent_bounded_and_its_own(database: Database) -> None:
    journal = await proposed(database)
    me = (await journal.incident()).id
    for number in range(precedents.MOST_ACTIONS + 2):
        past = await proposed(database, action(title=f"n{number}", status="rolled_back"))
    await proposed(database, action(status="verified"))
    await proposed(database, action(status="rejected"), target="cache-us")
    past_id = (await past.incident()).id
    async with database.writing() as session:
        session.add(
            VerdictRow(incident_id=past_id, by="ann", root_cause="big-key", culprit=None,
                       comment="x" * 900, at=incidents.now())
        )  # fmt: skip
    found = await journal.earlier()
    assert len(found.actions) == precedents.MOST_ACTIONS
    assert found.actions[0].title == f"n{precedents.MOST_ACTIONS + 1}"
    assert {one.status for one in found.actions} == {"rolled_back"}
    (verdict,) = found.verdicts
    assert (verdict.diagnosed, verdict.root_cause) == ("maxmemory-too-low", "big-key")
    assert len(verdict.comment) < 400
    assert "12 more" not in found.summary()
    assert "and 9 more" in found.summary()
    from api.store.tables import IncidentRow

    async with database.writing() as session:
        long_ago = incidents.now() - precedents.RECENT * 2
        others = update(IncidentRow).where(IncidentRow.id != me)
        await session.execute(others.values(updated_at=long_ago))
        await session.execute(update(VerdictRow).values(at=long_ago))
    assert not await journal.earlier()


def test_the_file_lets_only_little_risk_be_automatic(tmp_path: Any) -> None:
    with pytest.raises(SettingsError, match=r"rules\.0: auto: only R0 and R1 .* R2 never"):
        policy_of(tmp_path, {"rules": [{"risk": ["R1", "R2"], "role": "admin", "auto": True}]})
    told = policy_of(
        tmp_path,
        {
            "rules": [{"risk": ["R0", "R1"], "role": "admin", "auto": True}],
            "automatic": {"confidence": 0.8, "per_hour": 5},
        },
    )
    assert told.automatic == AutoLimits(0.8, 5, 3)
    assert [rule.auto for rule in told.rules[:2]] == [True, True]
    assert not any(rule.auto for rule in told.rules[2:])
