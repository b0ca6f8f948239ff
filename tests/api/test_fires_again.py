"""Alerts that fire on: though they were told to be over, or while something is done already."""

from datetime import timedelta
from typing import Any

import pytest

from agent.incident import Status
from api.alerts.generic import parse as generic
from api.alerts.intake import accept
from api.service import Service
from api.store import incidents, leases, silences
from api.store.journal import SqlJournal
from tests.api.paging_room import SENDER, Room, action, alert, at

BROKEN = {"alertname": "RedisReplicationBroken", "severity": "critical"}


async def goes_on(room: Room, incident_id: str, status: Status) -> None:
    """An investigation, or what was approved, is under way."""
    shown = await room.shown(incident_id)
    lease = await leases.acquire(room.database, shown.target, incident_id, "a worker")
    assert lease is not None
    await SqlJournal(room.database, incident_id, shown.attempt, lease).set_status(status)
    await leases.release(room.database, lease)


# -- what joins meanwhile ---------------------------------------------------------------------


@pytest.mark.parametrize("status", ["investigating", "remediating", "verifying"])
async def test_another_alert_that_joins_meanwhile_is_looked_at_afterwards(
    room: Room, status: Status
) -> None:
    one = await room.one(alert("f", "single"))
    await goes_on(room, one.id, status)
    assert (await room.one(alert("g", "single", labels=BROKEN))).id == one.id
    await room.ends(one.id, "resolved")
    await room.later(minutes=6)
    await room.sweep()
    shown = await room.shown(one.id)
    assert (shown.status, shown.severity) == ("queued", "critical")
    (said,) = await room.said(one.id, "because")
    assert "another alert" in said["because"]


async def test_more_of_the_same_that_joins_meanwhile_changes_nothing(room: Room) -> None:
    one = await room.one(alert("f", "single"))
    await goes_on(room, one.id, "investigating")
    await room.one(alert("g", "single"))
    await room.ends(one.id, "resolved")
    await room.later(minutes=30)
    await room.sweep()
    assert (await room.shown(one.id)).status == "resolved"


async def test_what_joined_and_is_over_is_not_looked_at_afterwards(room: Room) -> None:
    one = await room.one(alert("f", "single"))
    await goes_on(room, one.id, "investigating")
    await room.one(alert("g", "single", labels=BROKEN))
    await room.ends(one.id, "resolved")
    await room.send(alert("f", "single", over=9), alert("g", "single", labels=BROKEN, over=9))
    await room.later(minutes=6)
    await room.sweep()
    assert (await room.shown(one.id)).status == "resolved"


async def test_what_joined_is_not_looked_at_twice_if_its_target_is_open_again(room: Room) -> None:
    one = await room.one(alert("f", "single"))
    await goes_on(room, one.id, "investigating")
    await room.one(alert("g", "single", labels=BROKEN))
    await room.ends(one.id, "resolved")
    other = await room.one(alert("h", "single"))
    await room.later(minutes=6)
    await room.sweep()
    assert other.id != one.id
    assert (await room.shown(one.id)).status == "resolved"


async def test_what_joins_a_plan_that_people_decide_upon_is_looked_at_afterwards(
    room: Room,
) -> None:
    one = await room.one(alert("f", "single"))
    await room.ends(one.id, "awaiting_approval", action(status="approved"))
    await room.one(alert("g", "single", labels=BROKEN))
    await room.later(hours=2)
    await room.sweep()
    assert (await room.shown(one.id)).status == "awaiting_approval", "it is not replaced"
    await room.ends(one.id, "resolved")
    await room.later(minutes=6)
    await room.sweep()
    assert (await room.shown(one.id)).status == "queued"


# -- what was told to be over -----------------------------------------------------------------


async def test_what_was_told_to_be_over_and_is_sent_on_fires_again(room: Room) -> None:
    """Prometheus could not reach Alertmanager for some minutes, and it fired all the time."""
    one = await room.one(alert("f", "single"))
    await room.ends(one.id, "needs_human")
    assert (await room.one(alert("f", "single", over=5))).status == "closed"
    await room.later(minutes=6)
    again = await room.one(alert("f", "single"))
    assert (again.created, again.status) == (True, "queued")
    shown = await room.shown(again.id)
    assert (shown.follows, shown.alerts[0].status, shown.alerts[0].flaps) == (one.id, "firing", 1)
    assert (await room.one(alert("f", "single"))).id == again.id
    await room.ends(again.id, "needs_human")
    await room.later(hours=2)
    closed = await room.one(alert("f", "single", over=130))
    assert (closed.id, (await room.shown(again.id)).alerts[0].status) == (again.id, "resolved")


async def test_one_that_is_told_to_be_over_again_and_again_is_left_to_a_person(room: Room) -> None:
    for number in range(4):
        (found,) = await room.send(alert("f", "single"))
        shown = await room.shown(found.id)
        if shown.status == "queued":
            await room.ends(found.id, "resolved")
        await room.later(minutes=6)
        await room.send(alert("f", "single", over=5 + number))
        await room.later(minutes=6)
    assert shown.status == "needs_human"
    assert "it flaps" in shown.ended_because


async def test_an_end_that_came_first_is_no_end_for_ever(room: Room) -> None:
    assert await room.send(alert("f", "single", over=5)) == []
    assert await room.send(alert("f", "single")) == []
    await room.later(minutes=6)
    again = await room.one(alert("f", "single"))
    assert (again.created, again.status) == (True, "queued")
    assert (await room.one(alert("f", "single", since=1))).id == again.id


async def test_an_end_without_a_time_does_not_end_what_began_later(room: Room) -> None:
    """The end of the time before, and the next time, in one message or one after the other."""

    async def told(*alerts: dict[str, Any]) -> None:
        parsed = generic({"alerts": list(alerts)})
        await accept(room.service, SENDER, "generic", parsed)

    same = {"name": "RedisMemoryHigh", "fingerprint": "f", "labels": {"instance": "single"}}
    await told(same | {"starts_at": at(0)})
    over = same | {"status": "resolved", "starts_at": at(0)}
    await told(over, same | {"starts_at": at(30)})
    (shown,) = await room.all()
    assert sorted(known.status for known in shown.alerts) == ["firing", "resolved"]
    await told(over)
    assert (await room.all())[0].status == "queued"
    await room.ends(shown.id, "needs_human")
    await told(same | {"status": "resolved", "starts_at": at(30)})
    assert (await room.all())[0].status == "closed"


# -- what is known under another light --------------------------------------------------------


async def test_what_gets_worse_after_it_was_resolved_is_looked_at_once_more(room: Room) -> None:
    """Datadog: Warn, then Triggered, in one cycle of the monitor."""
    one = await room.one(alert("f", "single"))
    await room.ends(one.id, "resolved")
    critical = {"severity": "critical"}
    worse = await room.one(alert("f", "single", labels=critical))
    assert (worse.id, worse.status) == (one.id, "queued")
    assert (await room.shown(one.id)).severity == "critical"
    await room.ends(one.id, "resolved")
    await room.one(alert("f", "single", labels=critical))
    assert (await room.shown(one.id)).status == "resolved", "no worse than it was"


async def test_what_gets_worse_while_it_waits_for_a_person_is_looked_at_again(room: Room) -> None:
    one = await room.one(alert("f", "single"))
    await room.ends(one.id, "needs_human")
    await room.later(minutes=6)
    await room.one(alert("f", "single", labels={"severity": "critical"}))
    shown = await room.shown(one.id)
    assert (shown.status, shown.severity, shown.attempt) == ("queued", "critical", 2)


async def test_what_fired_steadily_through_a_silence_does_not_flap(room: Room) -> None:
    async def closed(incident_id: str) -> None:
        async with room.database.writing() as session:
            await incidents.move(session, await incidents.lock(session, incident_id), "closed")

    for since in (0, 10):
        one = await room.one(alert("f", "single", since=since))
        await room.ends(one.id, "needs_human")
        await room.one(alert("f", "single", since=since, over=since + 5))
        if since == 0:
            await closed(one.id)
    async with room.database.writing() as session:
        now = incidents.now()
        until = now + timedelta(hours=8)
        await silences.declare(session, "single", {}, "the rack moves", "ann", now, until)
    assert (await room.one(alert("f", "single", since=20))).id == one.id
    await closed(one.id)
    await room.later(hours=9)
    woken = await room.one(alert("f", "single", since=20))
    assert (woken.created, woken.status) == (True, "queued")


async def test_an_alert_whose_target_is_configured_only_now_goes_there(room: Room) -> None:
    lost = await room.one(alert("f", "unheard-of"))
    assert lost.status == "needs_human"
    known = room.service
    single = next(target for target in known.targets if target.name == "single")
    match = {"instance": "unheard-of"}
    found = type(single)(name="new", url=single.url, match=match)
    later = Room(Service(known.settings, known.database, known.queue, known.library,
                         [*known.targets, found]))  # fmt: skip
    moved = await later.one(alert("f", "unheard-of"))
    assert (moved.created, moved.status) == (True, "queued")
    shown = await later.shown(moved.id)
    assert (shown.target, shown.follows, shown.alerts[0].target) == ("new", lost.id, "new")
    left = await later.shown(lost.id)
    assert left.status == "closed"
    assert (
        left.ended_because == f"RedisMemoryHigh fits new, which is configured now: see {moved.id}"
    )
    again = await later.one(alert("f", "unheard-of"))
    assert (again.id, again.created) == (moved.id, False)
