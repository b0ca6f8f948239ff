"""When an incident ends by itself, and when it must not: on SQLite and PostgreSQL."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from agent.policy import BUILT_IN
from api.store import decisions, incidents
from api.store.audit import Person
from api.store.decisions import Choice
from api.store.judge import judge_at
from api.store.tables import ActionRow, IncidentRow, MessageRow
from tests.api.paging_room import Room, action, alert

ANN = Person("ann", "approver")


async def approve(room: Room, incident_id: str, name: str = "A1") -> str:
    async with room.database.writing() as session:
        row = await incidents.lock(session, incident_id)
        judge = await judge_at(session, BUILT_IN, row.target, "staging", incidents.now())
        chosen = Choice(name, action().fingerprint)
        (said,) = await decisions.approve(session, row, [chosen], ANN, "", judge)
        return said.status


async def set_action(room: Room, status: str, name: str = "A1") -> None:
    async with room.database.writing() as session:
        changed = update(ActionRow).where(ActionRow.id == name).values(status=status)
        await session.execute(changed)


async def over(room: Room) -> Any:
    """The alert resolves; what became of its incident."""
    one = await room.one(alert("f", "single", over=30))
    await room.sweep()
    return await room.shown(one.id)


async def test_a_plan_that_waits_for_an_approval_is_not_taken_away(room: Room) -> None:
    """The alert is over; its cause may not be. It closes when the plan has lapsed."""
    one = await room.one(alert("f", "single"))
    expires = incidents.now() + timedelta(hours=4)
    await room.ends(one.id, "awaiting_approval", action(expires_at=expires))
    shown = await over(room)
    assert (shown.status, shown.plan.actions[0].status) == ("awaiting_approval", "proposed")
    assert len(await room.said(one.id, "resolved")) == 1, "who decides sees that it is over"
    await set_action(room, "lapsed")
    await room.ends(one.id, "needs_human")
    await room.sweep()
    shown = await room.shown(one.id)
    assert (shown.status, shown.ended_because) == ("closed", "all its alerts are resolved")


async def test_what_was_only_advice_does_not_keep_it_open(room: Room) -> None:
    one = await room.one(alert("f", "single"))
    await room.ends(one.id, "needs_human", action(executable=False), action("A2", "lapsed"))
    assert (await over(room)).status == "closed"


async def test_people_who_talk_about_it_are_at_work_on_it(room: Room) -> None:
    one = await room.one(alert("f", "single"))
    await room.ends(one.id, "needs_human")
    async with room.database.writing() as session:
        session.add(
            MessageRow(
                thread_id="t", by="ann", incident_id=one.id, target="single", question="why?",
                answer="", claims=[], reasoner="rules", at=incidents.now(),
            )
        )  # fmt: skip
    assert (await over(room)).status == "needs_human"
    await room.later(minutes=29)
    await room.sweep()
    assert (await room.shown(one.id)).status == "needs_human"
    await room.later(minutes=2)
    await room.sweep()
    assert (await room.shown(one.id)).status == "closed"


@pytest.mark.parametrize("status", ["approved", "applying", "applied", "rolling_back"])
async def test_what_is_approved_or_at_work_goes_on(room: Room, status: str) -> None:
    one = await room.one(alert("f", "single"))
    await room.ends(one.id, "needs_human", action())
    await set_action(room, status)
    shown = await over(room)
    assert (shown.status, shown.plan.actions[0].status) == ("needs_human", status)
    await set_action(room, "verified")
    await room.later(minutes=2)
    await room.sweep()
    shown = await room.shown(one.id)
    assert shown.status == "resolved", "it helped, and the alert is over"


async def test_what_was_verified_while_its_alert_still_fired_is_resolved_when_it_ends(
    room: Room,
) -> None:
    one = await room.one(alert("f", "single"), alert("g", "single"))
    await room.ends(one.id, "needs_human", action(status="verified"))
    assert (await room.one(alert("g", "single", over=20))).status == "needs_human"
    shown = await over(room)
    assert shown.status == "resolved"
    assert shown.ended_because.startswith("an approved action was applied and verified")


@pytest.mark.parametrize("status", ["outcome_unknown", "rollback_failed"])
async def test_a_server_that_was_left_as_nobody_chose_waits_for_a_person(
    room: Room, status: Any
) -> None:
    one = await room.one(alert("f", "single"))
    await room.ends(one.id, "needs_human", action(status=status))
    shown = await over(room)
    assert (shown.id, shown.status) == (one.id, "needs_human")


async def test_a_persons_question_is_theirs_to_close(room: Room) -> None:
    async with room.database.writing() as session:
        asked = await incidents.open_incident(
            session, title="why slow?", target="single", question="why slow?"
        )
    await room.one(alert("f", "single"))
    await room.ends(asked.id, "needs_human")
    assert (await over(room)).status == "needs_human"


async def test_an_alert_that_ends_while_it_is_looked_at_closes_it_afterwards(room: Room) -> None:
    one = await room.one(alert("f", "single"))
    assert (await over(room)).status == "queued", "the look goes on: why it fired is worth knowing"
    await room.ends(one.id, "needs_human")
    await room.sweep()
    assert (await room.shown(one.id)).status == "closed"


async def test_who_asks_to_look_again_after_the_end_keeps_what_is_found(room: Room) -> None:
    await room.one(alert("f", "single"))
    await room.one(alert("f", "single", over=5))
    one = await room.one(alert("f", "single", since=10))
    await room.ends(one.id, "needs_human")
    assert (await over(room)).status == "needs_human", "it flaps: its end is not believed yet"
    async with room.database.writing() as session:
        row = await incidents.lock(session, one.id)
        await incidents.begin_attempt(session, row, "ann asked to look again")
    await room.ends(one.id, "needs_human")
    await room.later(hours=2)
    await room.sweep()
    assert (await room.shown(one.id)).status == "needs_human"


async def test_an_alert_that_fires_again_before_it_closed_keeps_it_open(room: Room) -> None:
    one = await room.one(alert("f", "single"))
    await room.one(alert("f", "single", over=5))
    await room.one(alert("g", "single", since=6))
    await room.ends(one.id, "needs_human")
    await room.sweep()
    assert (await room.shown(one.id)).status == "needs_human"


async def test_an_approval_and_the_end_of_the_alert_at_once_lose_neither(room: Room) -> None:
    one = await room.one(alert("f", "single"))
    await room.ends(one.id, "awaiting_approval", action())
    said, _ = await asyncio.gather(approve(room, one.id), room.one(alert("f", "single", over=30)))
    shown = await room.shown(one.id)
    assert said == "approved"
    assert (shown.status, shown.plan.actions[0].status) == ("awaiting_approval", "approved")
    assert shown.alerts[0].status == "resolved"


async def test_sweeping_while_alerts_come_and_go_loses_none(room: Room) -> None:
    """Eight senders, and two workers that sweep meanwhile."""
    for number in range(4):
        one = await room.one(alert(f"first-{number}", f"orders-{number % 3 + 1}"))
    await room.ends(one.id, "needs_human")

    async def sender(number: int) -> None:
        beside = room.beside()
        for turn in range(3):
            now = alert(f"s{number}", f"orders-{number % 3 + 1}", since=turn * 10)
            await beside.send(now)
            await beside.send(now | {"status": "resolved", "endsAt": now["startsAt"]})

    await asyncio.gather(*(sender(number) for number in range(8)), room.sweep(), room.sweep())
    async with room.database.reading() as session:
        row = await session.get_one(IncidentRow, one.id)
    assert row.status == "needs_human", "the first alerts fire all the while"
    assert len((await room.shown(one.id)).alerts) == 4 + 8 * 3
