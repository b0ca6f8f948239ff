"""Which alerts are one incident, on SQLite and PostgreSQL: repetitions, relatives, flapping."""

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from agent.incident import Status
from api.store import incidents, looks, precedents, silences
from api.store.occurrences import FLAP_WINDOW
from api.store.tables import AlertRow, IncidentRow
from tests.api.paging_room import START, TARGETS, Room, action, alert, at

# -- the same alert again -------------------------------------------------------------------


async def test_a_repetition_after_its_end_opens_nothing(room: Room) -> None:
    """One of a pair of Alertmanagers is behind: it repeats what the other has told to be over."""
    one = await room.one(alert("f", "single"))
    await room.ends(one.id, "needs_human")
    await room.one(alert("f", "single", over=5))
    late = await room.one(alert("f", "single"))
    assert (late.id, late.status, late.created) == (one.id, "closed", False)
    assert len(await room.all()) == 1


async def test_an_end_that_comes_before_its_beginning_is_noted_and_starts_nothing(
    room: Room,
) -> None:
    assert await room.send(alert("f", "single", over=5)) == []
    assert await room.send(alert("f", "single")) == []
    assert await room.all() == []
    (again,) = await room.send(alert("f", "single", since=90))
    assert again.created, "its next time is another matter"


async def test_an_end_before_its_beginning_is_known_though_each_has_a_start_of_its_own(
    room: Room,
) -> None:
    """PagerDuty's resolution does not say when it was triggered, and may overtake that."""
    assert await room.send(alert("f", "single", since=5, over=5)) == []
    assert await room.send(alert("f", "single", since=0)) == []
    assert (await room.one(alert("f", "single", since=6))).created


async def test_an_end_that_is_said_to_be_in_the_future_swallows_nothing(room: Room) -> None:
    """A script's clock, or time zone, is wrong: what fires meanwhile must not be lost."""
    now = (incidents.now() - START) / timedelta(minutes=1)
    assert await room.send(alert("f", "single", over=now + 24 * 60)) == []
    assert (await room.one(alert("f", "single", since=now + 60))).created


async def test_a_late_end_of_the_time_before_does_not_end_this_one(room: Room) -> None:
    one = await room.one(alert("f", "single", since=20))
    await room.ends(one.id, "needs_human")
    assert await room.send(alert("f", "single", since=0, over=10)) == []
    shown = await room.shown(one.id)
    assert (shown.status, shown.alerts[0].status) == ("needs_human", "firing")


async def test_an_end_that_nobody_told_does_not_keep_its_incident_open(room: Room) -> None:
    one = await room.one(alert("f", "single"))
    await room.ends(one.id, "needs_human")
    await room.one(alert("f", "single", since=30))
    closed = await room.one(alert("f", "single", since=30, over=40))
    assert (closed.id, closed.status) == (one.id, "closed")
    assert [known.flaps for known in (await room.shown(one.id)).alerts] == [0, 0]


@pytest.mark.parametrize("other", [0.01, -0.01])
async def test_two_prometheus_give_one_alert_two_starts(room: Room, other: float) -> None:
    """Whichever comes first: one incident, one end, and that is no flapping."""
    one = await room.one(alert("f", "single"))
    await room.ends(one.id, "needs_human")
    assert (await room.one(alert("f", "single", since=other))).id == one.id
    await room.one(alert("f", "single", since=other, over=9))
    shown = await room.shown(one.id)
    assert shown.status == "closed"
    assert {known.status for known in shown.alerts} == {"resolved"}
    again = await room.one(alert("f", "single", since=20))
    assert (await room.shown(again.id)).alerts[0].flaps == 1


# -- relatives ------------------------------------------------------------------------------


async def test_a_primary_and_its_replicas_are_one_incident_and_others_are_not(room: Room) -> None:
    one = await room.one(alert("a", "orders-1"))
    found = await room.send(alert("b", "orders-3"), alert("c", "orders-2"))
    assert [joined.id for joined in found] == [one.id]
    others = await room.send(alert("d", "carts-1"), alert("e", "alone"), alert("g", "single"))
    assert len({one.id, *(other.id for other in others)}) == 4
    shown = await room.shown(one.id)
    assert shown.target == "orders-1"
    assert [known.target for known in shown.alerts] == ["orders-1", "orders-3", "orders-2"]
    told = await room.said(one.id, "alert")
    assert [said["target"] for said in told] == ["orders-3", "orders-2"]


async def test_an_open_incident_of_the_target_itself_comes_before_a_relatives(room: Room) -> None:
    async with room.database.writing() as session:
        own = await incidents.open_incident(session, title="asked", target="orders-2")
    await asyncio.sleep(0.002)  # ids tell milliseconds apart
    async with room.database.writing() as session:
        relative = await incidents.open_incident(session, title="asked", target="orders-1")
    assert (await room.one(alert("a", "orders-2"))).id == own.id
    assert (await room.one(alert("b", "orders-3"))).id == relative.id, "else the newest"


async def test_a_primary_and_its_replicas_at_once_are_one_incident(room: Room) -> None:
    """When the primary dies, all of them call in the same second, and several processes listen."""
    names = ["orders-1", "orders-2", "orders-3"] * 4
    sent = (room.beside().send(alert(f"f{n}", name)) for n, name in enumerate(names))
    found = await asyncio.gather(*sent)
    assert len({one.id for taken in found for one in taken}) == 1


async def test_messages_about_related_targets_never_block_each_other(room: Room) -> None:
    """Fingerprints and targets order them differently in each: locks must not follow them."""
    shuffle = random.Random(11)
    names = [target["name"] for target in TARGETS]
    messages = []
    for sender in range(8):
        order = shuffle.sample(range(100, 112), 12)
        starts = [alert(f"{order[n]}-{sender}", names[n % 6]) for n in range(12)]
        messages += [starts, [known | {"status": "resolved", "endsAt": at(9)} for known in starts]]
    shuffle.shuffle(messages)
    await asyncio.gather(*(room.beside().send(*alerts) for alerts in messages))
    async with room.database.reading() as session:
        kept = (await session.scalars(select(AlertRow))).all()
        opened = (await session.scalars(select(IncidentRow.target))).all()
    assert len(kept) == 96
    groups = [{t["name"]: t.get("part_of", t["name"]) for t in TARGETS}[name] for name in opened]
    assert len(groups) == len(set(groups)), "one open incident for each that belongs together"


# -- another look ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "waited", "looks_again"),
    [
        ("needs_human", timedelta(minutes=4), False),
        ("needs_human", timedelta(minutes=6), True),
        ("awaiting_approval", timedelta(minutes=50), False),
        ("awaiting_approval", timedelta(hours=3), True),
    ],
)
async def test_an_alert_long_after_the_diagnosis_starts_another_look(
    room: Room, status: Any, waited: timedelta, looks_again: bool
) -> None:
    one = await room.one(alert("a", "single"))
    await room.ends(one.id, status, action())
    await room.later(seconds=waited.total_seconds())
    await room.one(alert("b", "single", since=60))
    shown = await room.shown(one.id)
    assert (shown.status, shown.attempt) == (("queued", 2) if looks_again else (status, 1))


async def test_alerts_that_keep_coming_do_not_put_the_next_look_off(room: Room) -> None:
    one = await room.one(alert("a", "single"))
    await room.ends(one.id, "needs_human")
    for number in range(3):
        await room.later(minutes=2)
        await room.one(alert(f"b{number}", "single", since=number))
    assert (await room.shown(one.id)).attempt == 2


async def test_an_alert_soon_after_the_diagnosis_is_looked_at_a_little_later(room: Room) -> None:
    """Nobody sends it again, and no other comes: it must not wait for that."""
    one = await room.one(alert("a", "single"))
    await room.ends(one.id, "needs_human")
    await room.later(minutes=2)
    await room.one(alert("down", "single", since=2, labels={"severity": "critical"}))
    await room.sweep()
    assert (await room.shown(one.id)).attempt == 1
    await room.later(minutes=4)
    await room.sweep()
    shown = await room.shown(one.id)
    assert (shown.status, shown.attempt, shown.severity) == ("queued", 2, "critical")
    await room.ends(one.id, "needs_human")
    await room.later(minutes=9)
    await room.sweep()
    assert (await room.shown(one.id)).attempt == 2, "once"


async def test_what_is_over_when_it_would_be_looked_at_again_is_not(room: Room) -> None:
    one = await room.one(alert("a", "single"))
    await room.ends(one.id, "needs_human", action(status="outcome_unknown"))
    await room.one(alert("b", "single", since=2))
    await room.one(alert("a", "single", over=3), alert("b", "single", since=2, over=3))
    await room.later(minutes=6)
    await room.sweep()
    shown = await room.shown(one.id)
    assert (shown.status, shown.attempt) == ("needs_human", 1)


async def test_a_plan_that_somebody_has_begun_to_approve_is_not_replaced(room: Room) -> None:
    one = await room.one(alert("a", "single"))
    await room.ends(one.id, "awaiting_approval", action(status="approved"))
    await room.later(hours=3)
    await room.one(alert("b", "single", since=60))
    shown = await room.shown(one.id)
    assert (shown.status, shown.attempt) == ("awaiting_approval", 1)


# -- flapping -------------------------------------------------------------------------------


async def test_an_alert_that_flaps_all_night_is_two_looks_and_few_incidents(room: Room) -> None:
    """Every five minutes, as often as Alertmanager tells: firing, over, firing, over, …"""
    looks = 0
    for number in range(0, 120, 10):
        one = await room.one(alert("f", "single", since=number))
        if (await room.shown(one.id)).status == "queued":
            looks += 1
            await room.ends(one.id, "needs_human")
        await room.later(minutes=5)
        await room.one(alert("f", "single", since=number, over=number + 5))
        await room.later(minutes=5)
        await room.sweep()
    first, second = await room.all()
    assert (first.status, second.status) == ("closed", "needs_human")
    assert looks == 3, "two, and another one an hour later"
    assert second.attempt == 2
    assert [known.flaps for known in second.alerts][:6] == [1, 2, 3, 4, 5, 6]
    assert (await room.said(second.id, "flaps"))[-1]["flaps"] == 6
    await room.later(seconds=FLAP_WINDOW.total_seconds() - 300)
    await room.sweep()
    assert (await room.shown(second.id)).status == "closed"


async def test_one_that_flaps_though_each_look_found_nothing_is_left_to_a_person(
    room: Room,
) -> None:
    for number in range(0, 40, 10):
        one = await room.one(alert("f", "single", since=number))
        if (await room.shown(one.id)).status == "queued":
            await room.ends(one.id, "resolved")
        await room.one(alert("f", "single", since=number, over=number + 5))
        await room.sweep()
    first, second, third = await room.all()
    assert (first.status, second.status, third.status) == ("resolved", "resolved", "needs_human")
    assert "it flaps: it began 3 times within an hour" in third.ended_because
    assert len(third.alerts) == 2


async def test_one_that_was_never_looked_at_does_not_flap(room: Room) -> None:
    """Silenced, or over before it was seen to fire: whatever it did then, now it is looked at."""
    async with room.database.writing() as session:
        now = incidents.now()
        until = now + timedelta(minutes=30)
        await silences.declare(session, "single", {}, "the rack moves", "ann", now, until)
    for minute in (0, 5, 10):
        await room.one(alert("f", "single", since=minute))
        await room.one(alert("f", "single", since=minute, over=minute + 1))
        await room.send(alert("g", "alone", since=minute, over=minute + 1))
    await room.later(minutes=31)
    for one in await room.send(alert("f", "single", since=31), alert("g", "alone", since=31)):
        shown = await room.shown(one.id)
        assert (shown.status, shown.alerts[-1].flaps) == ("queued", 0)


async def test_its_end_is_not_believed_at_once(room: Room) -> None:
    await room.one(alert("f", "single"))
    await room.one(alert("f", "single", over=5))
    one = await room.one(alert("f", "single", since=10))
    await room.ends(one.id, "needs_human")
    held = await room.one(alert("f", "single", since=10, over=15))
    assert held.status == "needs_human"
    await room.later(minutes=59)
    await room.sweep()
    assert (await room.shown(one.id)).status == "needs_human"
    await room.later(minutes=2)
    await room.sweep()
    assert (await room.shown(one.id)).status == "closed"


async def test_an_alert_of_no_target_flaps_in_one_incident(room: Room) -> None:
    for number in range(0, 50, 10):
        await room.one(alert("f", "nobody knows", since=number))
        await room.one(alert("f", "nobody knows", since=number, over=number + 5))
    assert len(await room.all()) == 2


# -- it came back ---------------------------------------------------------------------------


async def test_an_alert_that_fires_after_the_end_follows_that_incident(room: Room) -> None:
    one = await room.one(alert("f", "single"))
    await room.ends(one.id, "needs_human")
    await room.one(alert("f", "single", over=5))
    await room.later(hours=5)
    again = await room.one(alert("f", "single", since=300))
    assert again.created
    assert (await room.shown(again.id)).follows == one.id
    assert (await room.said(again.id, "follows"))[0]["follows"] == one.id
    async with room.database.reading() as session:
        known = await precedents.earlier(session, "single", again.id, 1, incidents.now())
    assert known.came_back is not None
    assert known.came_back.incident == one.id
    assert f"its alert fired before: {one.id} ended closed" in known.summary()
    assert (await room.shown((await room.one(alert("g", "alone"))).id)).follows == ""


async def test_what_still_fires_long_after_it_was_resolved_is_looked_at_once_more(
    room: Room,
) -> None:
    """Nothing was found, or a remedy was verified, and yet it is sent again."""
    one = await room.one(alert("f", "single"))
    await room.ends(one.id, "resolved")
    await room.later(minutes=50)
    await room.one(alert("f", "single"))
    assert (await room.shown(one.id)).status == "resolved"
    await room.later(minutes=15)
    again = await room.one(alert("f", "single"))
    assert (again.id, again.status, again.created) == (one.id, "queued", False)
    (said,) = await room.said(one.id, "because")
    assert "still fires" in said["because"]
    await room.one(alert("f", "single"))
    assert (await room.shown(one.id)).attempt == 2, "once, until that look has ended"
    await room.ends(one.id, "resolved")
    await room.one(alert("f", "single"))
    assert (await room.shown(one.id)).status == "resolved", "for another hour"
    await room.later(hours=2)
    async with room.database.writing() as session:
        now = incidents.now()
        until = now + timedelta(hours=1)
        await silences.declare(session, "single", {}, "the rack moves", "ann", now, until)
    await room.one(alert("f", "single"))
    assert (await room.shown(one.id)).status == "resolved", "it is silenced"
    await room.later(hours=2)
    await room.one(alert("f", "single", over=5))
    await room.one(alert("f", "single"))
    assert (await room.shown(one.id)).status == "resolved", "it is over"


@pytest.mark.parametrize("status", ["closed", "failed"])
async def test_what_a_person_closed_or_nobody_could_look_at_is_left_alone(
    room: Room, status: Status
) -> None:
    one = await room.one(alert("f", "single"))
    await room.ends(one.id, status)
    await room.later(hours=5)
    await room.one(alert("f", "single"))
    assert (await room.shown(one.id)).status == status


async def test_what_still_fires_waits_while_its_target_is_looked_at(room: Room) -> None:
    one = await room.one(alert("f", "single"))
    await room.ends(one.id, "resolved")
    other = await room.one(alert("g", "single"))
    await room.later(hours=2)
    await room.one(alert("f", "single"))
    assert other.id != one.id
    assert (await room.shown(one.id)).status == "resolved"
    await room.ends(other.id, "resolved")
    await room.one(alert("f", "single"))
    assert (await room.shown(one.id)).status == "queued"


async def test_the_key_of_an_alert_is_its_source_fingerprint_and_start(room: Room) -> None:
    one = await room.one(alert("f", "single"), alert("f", "single"), alert("f", "single", since=1))
    async with room.database.writing() as session:
        await session.execute(update(AlertRow).values(source="grafana"))
    await room.one(alert("f", "single"))
    assert len((await room.shown(one.id)).alerts) == 3
    assert looks.AGAIN_AFTER < looks.PLAN_IS_OLD_AFTER <= FLAP_WINDOW
