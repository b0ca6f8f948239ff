"""Silenced alerts: kept, shown with who wanted it, and looked at if they outlive the silence."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock

import pytest
from httpx2 import AsyncClient, Response
from sqlalchemy import select, update
from typer.testing import CliRunner

from agent.windows import Window
from api.app import create_app
from api.cli.main import app
from api.queue import Queue
from api.service import Service
from api.settings import Settings
from api.store import alerts, incidents, silences
from api.store.database import Database
from api.store.tables import AlertRow, AuditRow, PageRow
from api.sweeping import Sweeper
from tests.api.paging_room import Room, action, alert, targets
from tests.api.serving import as_role, serving
from tests.api.test_closing import set_action
from tests.api.test_incidents_api import service_of


async def hush(room: Room, target: str | None = None, hours: int = 2, **labels: str) -> int:
    async with room.database.writing() as session:
        now = incidents.now()
        until = now + timedelta(hours=hours)
        row = await silences.declare(session, target, labels, "the rack moves", "ann", now, until)
        return row.id


async def paged(room: Room) -> int:
    async with room.database.reading() as session:
        return len((await session.scalars(select(PageRow))).all())


async def test_a_silenced_alert_is_kept_and_starts_nothing(room: Room) -> None:
    await hush(room, "single")
    one = await room.one(alert("f", "single", labels={"severity": "critical"}))
    shown = await room.shown(one.id)
    assert (shown.status, shown.silenced_by) == ("closed", "ann")
    assert shown.silenced_until is not None
    assert shown.ended_because.startswith("silenced by ann until ")
    assert shown.ended_because.endswith(": the rack moves")
    (kept,) = shown.alerts
    assert (kept.status, kept.silenced_until) == ("firing", shown.silenced_until)
    assert (await room.said(one.id, "silenced"))[0]["silenced"] == shown.ended_because
    assert await paged(room) == 0
    assert (await room.one(alert("g", "single"))).id == one.id, "one incident for all of a silence"
    other = await room.one(alert("h", "alone"))
    assert other.status == "queued"


async def test_one_that_outlives_its_silence_is_looked_at_when_it_is_sent_again(
    room: Room,
) -> None:
    await hush(room, "single")
    one = await room.one(alert("f", "single"))
    assert (await room.one(alert("f", "single"))).status == "closed"
    await room.later(hours=3)
    again = await room.one(alert("f", "single"))
    assert (again.id, again.status, again.created) == (one.id, "queued", False)
    assert (await room.shown(one.id)).silenced_by == "ann", "that it was silenced stays known"
    assert (await room.one(alert("f", "single"))).status == "queued"


async def test_one_that_outlives_its_silence_is_looked_at_though_nobody_sends_it_again(
    room: Room,
) -> None:
    """Not every sender repeats itself."""
    await hush(room, "single")
    await hush(room, "alone", hours=9)
    one = await room.one(alert("f", "single"))
    await room.one(alert("f2", "single"))
    await room.one(alert("still", "alone"))
    assert await room.sweep() == []
    await room.one(alert("f2", "single", over=10))
    await room.later(hours=3)
    assert await room.sweep() == [one.id]
    assert await room.sweep() == []


async def test_one_that_cannot_be_stored_does_not_hold_up_those_behind_it(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hush(room, "single")
    await hush(room, "alone", hours=3)
    await room.one(alert("bad", "single"))
    good = await room.one(alert("good", "alone"))
    store = alerts.firing

    async def fails_for_one(*given: Any) -> Any:
        if given[2].fingerprint == "bad":
            raise ValueError("no room for it")
        return await store(*given)

    monkeypatch.setattr(alerts, "firing", fails_for_one)
    await room.later(hours=4)
    assert await room.sweep() == [good.id]


async def test_lifting_it_looks_at_what_still_fires_and_nothing_else_covers(room: Room) -> None:
    number = await hush(room, "single")
    await hush(room, alertname="Other")
    one = await room.one(alert("f", "single"))
    await room.one(alert("g", "single", labels={"alertname": "Other"}))
    async with room.database.writing() as session:
        await silences.lift(session, number, "bob", incidents.now())
    await room.later(minutes=5)  # nobody swept meanwhile
    assert await room.sweep() == [one.id]
    shown = await room.shown(one.id)
    assert (shown.status, shown.attempt) == ("queued", 2)
    assert shown.silenced_until is not None
    assert shown.silenced_until <= incidents.now(), "lifted earlier than was said"
    still = {known.name: known.silenced_until is not None for known in shown.alerts}
    assert still == {"RedisMemoryHigh": False, "Other": True}


async def test_what_joins_an_open_incident_is_told_and_changes_nothing_else(room: Room) -> None:
    one = await room.one(alert("f", "single"))
    await room.ends(one.id, "needs_human")
    await hush(room, alertname="RedisDown")
    await room.later(hours=1)
    down = {"alertname": "RedisDown", "severity": "critical"}
    await room.one(alert("g", "single", labels=down))
    shown = await room.shown(one.id)
    assert (shown.status, shown.severity, shown.attempt) == ("needs_human", "warning", 1)
    assert len(await room.said(one.id, "silenced")) == 1
    await room.later(hours=2)
    await room.one(alert("g", "single", labels=down))
    assert (await room.shown(one.id)).attempt == 2, "not silenced any more: another alert"


async def test_what_it_joined_is_closed_when_the_silence_ends(room: Room) -> None:
    """It still fires: an incident of its own, which follows the other."""
    one = await room.one(alert("f", "single"))
    await room.ends(one.id, "needs_human")
    await hush(room, alertname="RedisDown")
    await room.one(alert("g", "single", labels={"alertname": "RedisDown"}))
    async with room.database.writing() as session:
        await incidents.move(session, await incidents.lock(session, one.id), "closed", "by ann")
    await room.later(hours=3)
    (new,) = await room.sweep()
    shown = await room.shown(new)
    assert (shown.follows, [known.name for known in shown.alerts]) == (one.id, ["RedisDown"])


async def test_what_is_silenced_keeps_nothing_open(room: Room) -> None:
    """The alert it joined is over; when the silence is, it is an incident of its own."""
    one = await room.one(alert("f", "single"))
    await room.ends(one.id, "needs_human", action())
    await hush(room, alertname="RedisDown")
    await room.one(alert("f", "single", over=5))
    await room.one(alert("g", "single", labels={"alertname": "RedisDown"}))
    await set_action(room, "lapsed")
    await room.later(minutes=2)
    await room.sweep()
    assert (await room.shown(one.id)).status == "closed"
    await room.later(hours=3)
    (new,) = await room.sweep()
    assert (await room.shown(new)).follows == one.id


async def test_another_silence_that_lasts_longer_takes_over(room: Room) -> None:
    await hush(room, "single")
    await hush(room, "single", hours=1)
    one = await room.one(alert("f", "single"))
    shown = await room.shown(one.id)
    assert shown.silenced_until is not None
    assert shown.silenced_until - incidents.now() > timedelta(hours=1), "the longest of all"
    await hush(room, alertname="RedisMemoryHigh", hours=5)
    await room.later(hours=3)
    assert await room.sweep() == []
    (kept,) = (await room.shown(one.id)).alerts
    assert kept.silenced_until is not None
    assert timedelta(hours=1) < kept.silenced_until - incidents.now() < timedelta(hours=2)
    await room.later(hours=3)
    assert await room.sweep() == [one.id]


async def test_a_window_that_is_not_configured_any_more_silences_nothing_after_a_restart(
    room: Room, queue: Any
) -> None:
    """It was to end in a week. Nobody sends the alert again."""
    week = Window("patching", ends=incidents.now() + timedelta(days=7))
    room.service.intake._windows = (week,)
    one = await room.one(alert("f", "single"))
    assert one.status == "closed"
    await Sweeper(room.service.settings, room.database, queue, "me", AsyncMock()).sweep()
    shown = await room.shown(one.id)
    assert (shown.status, shown.attempt) == ("queued", 2)


async def test_an_alert_that_is_stored_while_its_silence_is_lifted_is_looked_at(
    room: Room,
) -> None:
    """Whoever stored it had read the silences just before."""
    number = await hush(room, "single")
    one = await room.one(alert("f", "single"))
    async with room.database.writing() as session:
        row = await session.get_one(AlertRow, 1)
        until = row.silenced_until
        await silences.lift(session, number, "bob", incidents.now())
        await session.execute(update(AlertRow).values(silenced_until=until))
    assert await room.sweep() == [one.id]


async def test_labels_have_to_fit_all(room: Room) -> None:
    await hush(room, instance="nobody knows", alertname="RedisMemoryHigh")
    assert (await room.one(alert("f", "single"))).status == "queued"
    stray = await room.one(alert("g", "nobody knows"))
    assert (stray.status, (await room.shown(stray.id)).silenced_by) == ("closed", "ann")
    await room.later(hours=3)
    assert await room.sweep() == []
    assert (await room.shown(stray.id)).status == "needs_human", "no target to look at"


@pytest.mark.parametrize("section", ["maintenance", "freezes"])
async def test_a_configured_window_may_silence(
    settings: Callable[..., Settings], database: Database, queue: Queue, section: str
) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    window = {"until": soon, "reason": "Tuesday's patching"}
    windows: dict[str, Any] = {
        section: [
            window | {"targets": "single", "silence": True},
            window | {"targets": "carts-1"},
            window | {"environments": "staging", "silence": True},
        ]
    }
    told = settings(targets=targets(), **windows)
    room = Room(Service(told, database, queue, None, told.agent_targets()))  # type: ignore[arg-type]
    statuses = {
        name: (await room.one(alert(name, name))).status for name in ("single", "carts-1", "alone")
    }
    assert statuses == {"single": "closed", "carts-1": "queued", "alone": "closed"}
    shown = [one for one in await room.all() if one.target == "single"]
    assert [one.silenced_by for one in shown] == ["the configuration"]


# -- over HTTP ------------------------------------------------------------------------------


async def post(client: AsyncClient, role: str = "responder", **body: Any) -> Response:
    return await client.post("/v1/silences", json=body, headers=as_role(role))


async def test_declaring_listing_and_lifting(settings: Callable[..., Settings], url: str) -> None:
    window = {"weekly": "00:00 - 24:00", "silence": True, "targets": "cache-us"}
    config = settings(database=url, maintenance=[window])
    async with serving(create_app(config, worker=False)) as client:
        made = await post(
            client, reason="the rack moves", target="cache-eu", labels={"team": "a"}, minutes=30
        )
        assert made.status_code == 201, made.text
        silence = made.json()
        assert (silence["targets"], silence["labels"]) == (["cache-eu"], {"team": "a"})
        assert silence["by"] == "responder-1"
        ends = datetime.fromisoformat(silence["until"])
        assert timedelta(minutes=29) < ends - datetime.now(UTC) <= timedelta(minutes=30)
        until = ends.isoformat()
        listed = (await client.get("/v1/silences", headers=as_role("viewer"))).json()["items"]
        assert listed[0] == silence
        assert (listed[1]["by"], listed[1]["targets"]) == ("the configuration", ["cache-us"])
        lifted = await client.post("/v1/silences/1/lift", headers=as_role("responder"))
        assert (lifted.status_code, lifted.json()["active"]) == (200, False)
        gone = await client.post("/v1/silences/1/lift", headers=as_role("responder"))
        assert gone.status_code == 404
        assert len((await client.get("/v1/silences")).json()["items"]) == 1
        async with service_of(client).database.reading() as session:
            rows = (await session.scalars(select(AuditRow).order_by(AuditRow.id))).all()
        noted = [row for row in rows if row.what in ("silence", "lift")]
        assert [(row.what, row.by) for row in noted] == [
            ("silence", "responder-1"), ("lift", "responder-1"),
        ]  # fmt: skip
        said = {"target": "cache-eu", "labels": {"team": "a"}, "silence": silence["id"]}
        assert noted[0].detail == said | {"reason": "the rack moves", "until": until}
        assert noted[1].detail == said


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"reason": "because"}, "name a target or labels"),
        ({"reason": "  x ", "target": "cache-eu"}, "body.reason: say why, in 3 characters or more"),
        ({"reason": "because", "target": "nobody"}, "target"),
        ({"reason": "because", "target": "cache-eu", "minutes": 0}, "minutes"),
        ({"reason": "because", "target": "cache-eu", "minutes": 8 * 1440}, "minutes"),
        ({"reason": "because", "labels": {str(n): "v" for n in range(21)}}, "labels"),
        ({"reason": "because", "labels": {"a": 1}}, "labels"),
        ({"reason": "because", "target": "cache-eu", "env": "x"}, "env"),
    ],
)
async def test_what_is_wrong_is_named(
    client: AsyncClient, body: dict[str, Any], field: str
) -> None:
    response = await post(client, **body)
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert field in f"{error['field']}: {error['message']}"
    assert "Value error" not in error["message"]


async def test_who_may_not_and_how_many(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"reason": "because", "target": "cache-eu"}
    assert (await post(client, "viewer", **body)).status_code == 403
    assert (await post(client, "roc_source1_x", **body)).status_code == 403
    monkeypatch.setattr("api.store.silences.MOST", 1)
    assert (await post(client, **body)).status_code == 201
    full = await post(client, **body)
    assert full.status_code == 409
    assert "lift one of them" in full.json()["detail"]


async def test_a_password_in_a_label_is_neither_kept_nor_missed(client: AsyncClient) -> None:
    """Labels are kept redacted on both sides, and compared so."""
    address = "redis://u:hunter2secret@cache-eu:6379"
    made = await post(client, reason="because", labels={"addr": address})
    assert "hunter2secret" not in made.text
    labels = {"alertname": "A", "instance": "cache-eu", "addr": address}
    sent = {"alerts": [alert("f", "cache-eu", labels=labels)]}
    (one,) = (await client.post("/v1/alerts/alertmanager", json=sent)).json()["incidents"]
    assert one["status"] == "closed"


async def test_a_label_that_is_not_kept_tells_nobody_apart(client: AsyncClient) -> None:
    refused = await post(client, reason="because", labels={"owner": "ann@example.com"})
    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    assert "name another label" in error["message"]
    assert "ann@" not in refused.text


def test_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    answer = {
        "id": 7, "targets": ["cache-eu"], "environments": [], "labels": {"alertname": "RedisDown"},
        "reason": "the rack moves", "by": "ann", "since": None, "until": "2026-11-29T05:00:00Z",
        "active": True,
    }  # fmt: skip

    def call(method: str, path: str, body: Any = None, **_: Any) -> Any:
        asked.append((method, path, body))
        return {"items": [answer]} if method == "GET" else answer

    monkeypatch.setattr("api.cli.client.call", call)
    run = CliRunner().invoke
    words = ["silence", "--target", "cache-eu", "--label", "alertname=RedisDown", "--for", "90m"]
    made = run(app, [*words, "--reason", "the rack moves"])
    assert made.exit_code == 0, made.output
    assert asked == [(
        "POST", "/v1/silences",
        {"reason": "the rack moves", "minutes": 90, "labels": {"alertname": "RedisDown"},
         "target": "cache-eu"},
    )]  # fmt: skip
    assert json.loads(made.stdout) == answer
    assert "redis-oncall lift 7" in " ".join(made.stderr.split())
    listed = run(app, ["silences"]).stdout
    assert " ".join(listed.split()) == (
        "7: cache-eu, alertname=RedisDown silenced until 2026-11-29 05:00 UTC by ann: "
        "the rack moves"
    )
    assert max(map(len, listed.splitlines())) <= 80
    answer |= {"since": "2026-11-29T03:00:00Z", "active": False}
    lifted = " ".join(run(app, ["lift", "7"]).stderr.split())
    assert lifted == (
        "lifted: 7: cache-eu, alertname=RedisDown silenced until 2026-11-29 05:00 UTC by ann: "
        "the rack moves"
    )
    for wrong in (["--label", "nonsense"], [], ["--target", "a", "--for", "soon"]):
        assert run(app, ["silence", "--reason", "because", *wrong]).exit_code == 2
