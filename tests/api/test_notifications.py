"""What becomes of an incident is told to people: once, in order, not too often, by real servers."""

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from api import notifications
from api.addresses import Address, Taken
from api.cli.main import app
from api.notifications import Notifier
from api.settings import Settings, SettingsError
from api.store import decisions, incidents, leases, notices, pages, silences
from api.store.journal import SqlJournal
from api.store.notice_table import NoticeRow
from api.wording import Message
from tests.api.pagerhouse import Mailhouse, Pagerhouse
from tests.api.paging_room import action, alert
from tests.api.telling import Tell
from tests.api.test_doctor import examined
from tests.api.test_intake_queries import statements
from tests.api.test_settings import load
from tests.api.test_silences import hush

SOON = datetime.now(UTC) + timedelta(days=1)


async def test_what_comes_within_seconds_is_one_message_with_all_that_is_needed_to_decide(
    tell: Tell, house: Pagerhouse, other: Pagerhouse
) -> None:
    told = tell({"to": [house.url, other.url]}, http={"url": "https://oncall.example.com/"})
    opened = await told.room.one(alert("f", "single"))
    await told.send(due=False)
    assert house.got == [], "its diagnosis may follow at once"
    raised = action("A2", approvals_required=2, expires_at=SOON)
    await told.looked_at(opened.id, action(executable=False), raised)
    await told.send()
    for got in (house.got, other.got):
        (message,) = got
        assert message["title"] == f"[{opened.id}] single: RedisMemoryHigh"
        first, *lines = message["message"].splitlines()
        assert first == "Waits for approval:"
        assert lines[0].startswith("A2 R1 Raise maxmemory: 0 of 2 approvals, until ")
        link = f"https://oncall.example.com/incidents/{opened.id}"
        assert lines[1].strip() == f"{link}#A2"
        assert lines[2:4] == ["Diagnosis: It grew (90% sure)", "Opened, warning"]
        assert lines[-1] == link
    await told.send()
    assert len(house.got) == 1
    assert {row.sent_at is None for row in await told.kept()} == {False}


async def test_every_turn_of_an_incident_is_news_and_nothing_else(
    tell: Tell, house: Pagerhouse
) -> None:
    told = tell({"to": house.url})
    one = await told.room.one(alert("f", "single"))
    await told.room.one(alert("g", "single"))
    assert await told.kinds() == ["opened"]
    await told.looked_at(one.id, action(), action("A2"), action("A3", expires_at=SOON))
    assert await told.kinds() == ["opened", "diagnosis", "approval"]
    lease = await leases.acquire(told.database, "single", one.id, "a worker")
    assert lease is not None
    journal = SqlJournal(told.database, one.id, 1, lease)
    for status in ("approved", "applying", "applied", "verified"):
        await journal.save_action(action(status=status))
    await journal.save_action(action(status="verified", comment="more to say"))
    for status in ("approved", "applying", "applied", "rolling_back", "rolled_back"):
        await journal.save_action(action("A2", status=status, comment="slower than before"))
    await journal.set_status("remediating")
    await journal.set_status("awaiting_approval")
    await leases.release(told.database, lease)
    async with told.database.writing() as session:
        row = await incidents.lock(session, one.id)
        await decisions.lapse_all(session, row, "nobody approved it in time")
        await incidents.move(session, row, "needs_human", "nothing is left")
        await incidents.move(session, row, "closed", "alice")
    assert (await told.kinds())[3:] == ["verified", "rolled_back", "lapsed", "needs_human", "over"]
    await told.send()
    (message,) = house.got
    assert message["type"] == "success"
    assert "A2 (Raise maxmemory) did not help and was undone: slower than before" in str(message)
    assert "Whether the server is as it was is not known" in message["message"]
    assert "A3 (Raise maxmemory) lapsed, and is not applied: nobody approved it" in str(message)
    assert "Waited for approval; nothing of it does any more" in message["message"]


async def test_each_route_gets_what_it_asked_for(
    tell: Tell, house: Pagerhouse, other: Pagerhouse
) -> None:
    told = tell(
        {"to": house.url, "severities": "critical", "environments": "production"},
        {"to": other.url, "targets": ["alone", "carts-1"], "events": ["opened", "over"]},
    )
    critical = {"severity": "critical"}
    for target, labels in (("single", critical), ("alone", critical), ("carts-1", {})):
        one = await told.room.one(alert(f"f-{target}", target, labels=labels))
        await told.looked_at(one.id, status="needs_human")
    await told.send()
    titles = [[message["title"].split()[1] for message in each.got] for each in (house, other)]
    assert titles == [["single:"], ["alone:", "carts-1:"]]
    assert "Needs a person: no remedy" in house.got[0]["message"]
    assert "Needs" not in other.got[0]["message"]


async def test_what_becomes_critical_is_told_to_those_who_want_to_know_that(
    tell: Tell, house: Pagerhouse, other: Pagerhouse
) -> None:
    told = tell({"to": house.url, "severities": "critical"}, {"to": other.url})
    one = await told.room.one(alert("f", "single"))
    await told.looked_at(one.id, action())
    await told.send()
    assert house.got == []
    await told.room.send(alert("f", "single", labels={"severity": "critical"}))
    await told.send()
    (message,) = house.got
    assert message["message"].startswith("Waits for approval:\nA1 R1 Raise maxmemory")
    assert "Opened as warning, critical now" in message["message"]
    assert len(other.got) == 1, "who knows of it is not told again"


async def test_where_nobody_wants_to_know_nothing_is_kept_and_a_silence_is_silent(
    tell: Tell, house: Pagerhouse
) -> None:
    told = tell({"to": house.url, "severities": "critical"})
    few = [alert(f"w-{number}", "single") for number in range(3)]
    with statements(told.database) as asked:
        await told.room.send(*few)
    assert not any("notices" in one for one in asked)
    told = tell({"to": house.url})
    silence = await hush(told.room, "alone")
    await told.room.one(alert("q", "alone"))
    with contextlib.suppress(InterruptedError):
        async with told.database.writing() as session:
            await incidents.open_incident(session, title="t", target="single")
            raise InterruptedError
    assert await told.kept() == []
    with statements(told.database) as asked:
        await told.room.send(*(alert(f"o-{number}", "orders-1") for number in range(9)))
    assert len([one for one in asked if "notices" in one]) == 1
    async with told.database.writing() as session:
        await silences.lift(session, silence, "ann", incidents.now())
    await told.room.one(alert("q", "alone"))
    assert await told.kinds() == ["opened"] * 2, "it is not silenced any more"


async def test_beyond_what_a_route_takes_the_rest_is_one_message_and_nothing_is_lost(
    tell: Tell, house: Pagerhouse
) -> None:
    told = tell({"to": house.url, "per_hour": 30}, http={"url": "http://oncall:8321"})
    opened = []
    async with told.database.writing() as session:
        for number in range(14):
            row = await incidents.open_incident(session, title=f"T{number}", target="orders-1")
            opened.append(row.id)
    await told.looked_at(opened[-1], action())
    await told.send()
    assert len(house.got) == notices.AT_ONCE
    first, *_, rest = house.got
    assert "Waits for approval" in first["message"], "what people have to decide goes first"
    assert rest["title"] == "redis-oncall: 5 more about 5 incidents"
    assert rest["message"].count("orders-1: T") == 5
    assert rest["message"].endswith("http://oncall:8321/incidents")
    rows = await told.kept()
    assert all(row.sent_at for row in rows)
    took = max(row.full_at - row.at for row in rows if row.full_at)
    assert took > timedelta(hours=1) / 30 * notices.AT_ONCE, "as many as this route takes"
    async with told.database.writing() as session:
        for number in (1, 2):
            await incidents.open_incident(session, title=f"later {number}", target="orders-1")
    await told.send()
    assert len(house.got) == notices.AT_ONCE, "another process would see the same bound"
    async with told.database.writing() as session:
        await pages.call(session, "come at once", incidents.now())
        await session.execute(update(NoticeRow).values(full_at=incidents.now()))
    await told.send()
    assert [message["title"].split(": ")[-1] for message in house.got[10:]] == [
        "later 1",
        "later 2",
    ]


@pytest.mark.parametrize(
    ("missing", "left"), [(None, 10), (-5, 10), (1, 9), (60, 9), (61, 8), (600, 0), (900, -5)]
)
def test_one_message_drips_into_the_bucket_at_a_time(missing: float | None, left: int) -> None:
    full = None if missing is None else SOON + timedelta(seconds=missing)
    assert notices.room(full, timedelta(minutes=1), SOON) == left


async def test_an_address_that_does_not_work_delays_nobody_else_and_keeps_the_order(
    tell: Tell, house: Pagerhouse, other: Pagerhouse
) -> None:
    told = tell({"to": [house.url, other.url]})
    house.down = True
    one = await told.room.one(alert("f", "single"))
    await told.room.one(alert("g", "alone"))
    await told.send()
    assert sorted(row.tries for row in await told.kept()) == [0, 1, 1, 1], "one is enough to see"
    await told.looked_at(one.id, status="needs_human")
    await told.send()
    house.down = False
    await told.send()
    assert len(other.got) == 3
    late = next(message for message in house.got if one.id in message["title"])
    assert [line.split(":")[0].split(",")[0] for line in late["message"].splitlines()[:3]] == [
        "Needs a person", "Diagnosis", "Opened",
    ]  # fmt: skip
    assert all(row.sent_at and not row.failure for row in await told.kept())


async def test_the_next_message_about_an_incident_waits_for_the_one_under_way(
    tell: Tell, house: Pagerhouse
) -> None:
    told = tell({"to": house.url})
    one = await told.room.one(alert("f", "single"))
    (mark,) = told.notifier.addresses
    now = incidents.now() + timedelta(minutes=1)

    async def claimed(at: datetime) -> list[str]:
        async with told.database.writing() as session:
            claim = await notices.claim(session, mark, 60, at)
        return [notice.kind for notice in claim.notices] if claim else []

    assert await claimed(now) == ["opened"]  # and whoever sends it dies with it
    await told.looked_at(one.id, status="needs_human")
    assert await claimed(now) == []
    assert await claimed(now + notices.CLAIMED) == ["opened", "diagnosis", "needs_human"]


async def test_what_a_service_calls_the_conversation_is_known_to_the_next_message(
    tell: Tell, house: Pagerhouse, other: Pagerhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tell({"to": [house.url, other.url]})
    known: list[tuple[str, str, str]] = []

    async def take(address: Address, message: Message, conversation: str = "") -> Taken:
        known.append((address.place, message.thread, conversation))
        return Taken(True, f"{address.place[-1]}.{len(known)}" if not conversation else "")

    monkeypatch.setattr(Address, "take", take)
    one = await told.room.one(alert("f", "single"))
    await told.send()
    await told.looked_at(one.id, status="needs_human")
    two = await told.room.one(alert("g", "alone"))
    await told.send()
    at = {(place[-1], thread, said) for place, thread, said in known[2:]}
    begun = {place[-1]: f"{place[-1]}.{number}" for number, (place, *_) in enumerate(known[:2], 1)}
    assert at == {(place, one.id, said) for place, said in begun.items()} | {
        (place, two.id, "") for place in begun
    }


async def test_what_is_for_an_address_that_is_gone_is_given_up_and_counted(
    tell: Tell, house: Pagerhouse
) -> None:
    told = tell({"to": house.url})
    await told.room.one(alert("f", "single"))
    gone = tell({"to": "json://127.0.0.1:9/"})
    await gone.send()
    assert [row.sent_at for row in await told.kept()] == [None], "another process may know it"
    async with told.database.writing() as session:
        past = incidents.now() - notices.STRANGE_AFTER * 2
        await session.execute(update(NoticeRow).values(due_at=past))
    await gone.send(due=False)
    counted = (await notifications.kept(told.database))["notices"]
    assert counted == {"sent": 0, "waiting": 0, "given_up": 1}


async def test_mail_about_one_incident_is_one_thread(tell: Tell) -> None:
    with contextlib.closing(Mailhouse()) as house:
        told = tell({"to": house.url})
        for target in ("single", "alone"):
            one = await told.room.one(alert(target, target))
            await told.send()
            await told.looked_at(one.id, status="needs_human")
            await told.send()
    first, second, third, _ = house.got
    assert first["References"] == second["References"] == second["In-Reply-To"]
    assert first["References"] != third["References"]
    assert first["Subject"] == second["Subject"] != third["Subject"]
    assert len({mail["Message-ID"] for mail in house.got}) == 4
    assert first.get_content_type() == "text/plain"
    assert "redis-oncall show" in first.get_content()


def test_what_cannot_be_understood_stops_the_start_and_is_not_repeated(
    tmp_path: Path, settings: Callable[..., Settings]
) -> None:
    with pytest.raises(SettingsError, match=r"notifications\.1\.to\.1: not an Apprise URL") as no:
        Notifier(
            settings(notifications=[{"to": "json://h"}, {"to": ["json://h", "slak://s3cret"]}])
        )
    assert "s3cret" not in str(no.value)
    route = {"to": "slack://${TOKEN}"}
    told = load(tmp_path, {"notifications": route}, TOKEN="s3cret")
    assert "s3cret" not in repr(told) + str(told.config)
    for wrong, field in (
        ({"notifications": [route | {"targets": "nowhere"}]}, "notifications.0.targets: nowhere"),
        ({"notifications": [route | {"events": ["finished"]}]}, "notifications.0.events.0"),
        ({"http": {"url": "oncall.example.com"}}, "http.url: an address is expected"),
        ({"http": {"url": "https://u:s3cret@h"}}, "http.url: an address is expected"),
    ):
        with pytest.raises(SettingsError, match=field) as no:
            load(tmp_path, wrong, TOKEN="s3cret")
        assert "s3cret" not in str(no.value)


def test_notify_says_who_accepted_a_test_message_and_doctor_who_is_told(
    tmp_path: Path, house: Pagerhouse, other: Pagerhouse
) -> None:
    config = tmp_path / "oncall.yml"
    config.write_text(
        f"pages: {{to: '{house.url}'}}\nnotifications: {{to: ['{house.url}', '{other.url}']}}\n"
    )
    env = {"REDIS_ONCALL_CONFIG": str(config), "REDIS_ONCALL_DATA": str(tmp_path / "data")}
    said = CliRunner().invoke(app, ["notify"], env=env)
    assert (said.exit_code, said.output.count("accepted ")) == (0, 2), said.output
    assert [len(got) for got in (house.got, other.got)] == [1, 1]
    other.down = True
    said = CliRunner().invoke(app, ["notify", "--service", "json"], env=env)
    assert said.exit_code == 1
    assert "NOT ACCEPTED JSON" in said.output
    assert "notifications.0.to.1" in said.output
    assert "s3cret" not in said.output
    state, says = examined(tmp_path, "notices", **env)
    assert (state, says.split(";")[0]) == ("ok", "to JSON, JSON")
