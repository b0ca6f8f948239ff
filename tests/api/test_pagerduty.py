"""PagerDuty's incidents become ours, once each, however often they are delivered."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from httpx2 import AsyncClient
from sqlalchemy import func, select

from agent.incident import Alert
from api import metrics
from api.alerts.pagerduty import parse
from api.alerts.parsed import MOST_LABELS
from api.app import create_app
from api.settings import Settings
from api.source_auth import MOST_SIGNATURES
from api.store import deliveries, incidents
from api.store.database import Database
from api.store.tables import DeliveryRow
from tests.api.senders import NEW, OLD, PING, event, raw, signature
from tests.api.serving import serving
from tests.api.test_alerts import incident

TARGET = {"name": "cache-eu", "url": "redis://127.0.0.1:1", "match": {"service": "cache-eu"}}
SOURCE = {"name": "pd", "kind": "pagerduty", "hmac": {"secrets": [NEW, OLD]}}


@pytest.fixture
def configured(settings: Callable[..., Settings]) -> Settings:
    return settings(targets=[TARGET], sources=[SOURCE])


async def deliver(
    client: AsyncClient, message: Any, *, by: str = "w-1", signed: str | None = None
) -> httpx2.Response:
    body = raw(message)
    signed = f"v1={signature(body)}" if signed is None else signed
    headers = [
        (b"Authorization", b""),
        (b"Content-Type", b"application/json"),
        (b"X-PagerDuty-Signature", signed.encode()),
        (b"X-Webhook-Id", by.encode()),
    ]
    return await client.post("/v1/alerts/pagerduty", content=body, headers=headers)


def alert_of(message: Any) -> Alert:
    (parsed,) = parse(message)
    assert parsed.problem == ""
    return parsed.alert


async def test_an_incident_of_pagerduty_from_its_trigger_to_its_end(configured: Settings) -> None:
    async with serving(create_app(configured, worker=False)) as client:
        (one,) = (await deliver(client, event())).json()["incidents"]
        assert (one["status"], one["created"]) == ("queued", True)
        shown = await incident(client, one["id"])
        assert (shown["target"], shown["severity"]) == ("cache-eu", "critical")
        assert shown["title"] == "Redis memory is high"
        assert shown["alerts"][0]["labels"]["team"] == "Engineering"
        acknowledged = event("incident.acknowledged", occurred_at="2026-01-31T03:01:00Z")
        (again,) = (await deliver(client, acknowledged, by="w-2")).json()["incidents"]
        assert again == {**one, "created": False}
        over = event("incident.resolved", occurred_at="2026-01-31T03:30:00Z")
        (ended,) = (await deliver(client, over, by="w-3")).json()["incidents"]
        assert ended["id"] == one["id"]
        (alert,) = (await incident(client, one["id"]))["alerts"]
        assert (alert["status"], alert["ends_at"]) == ("resolved", "2026-01-31T03:30:00Z")


async def test_a_reopened_incident_fires_again_and_its_resolution_ends_it(
    configured: Settings,
) -> None:
    async with serving(create_app(configured, worker=False)) as client:
        story = [
            event(),
            event("incident.resolved", occurred_at="2026-01-31T03:30:00Z"),
            event("incident.reopened", occurred_at="2026-01-31T04:00:00Z"),
        ]
        for number, message in enumerate(story):
            response = await deliver(client, message, by=f"w-{number}")
            (one,) = response.json()["incidents"]
        alerts = (await incident(client, one["id"]))["alerts"]
        assert "firing" in {alert["status"] for alert in alerts}
        over = event("incident.resolved", occurred_at="2026-01-31T05:00:00Z")
        (ended,) = (await deliver(client, over, by="w-9")).json()["incidents"]
        alerts = (await incident(client, ended["id"]))["alerts"]
        assert {alert["status"] for alert in alerts} == {"resolved"}


@pytest.mark.parametrize(
    "message",
    [
        PING,
        event("incident.annotated", type="incident_note", content="I look at it"),
        event("incident.priority_updated"),
        event("service.updated"),
        event("something.new.in.2031"),
        event("incident.resolved", resolve_reason={"type": "merge_resolve_reason"}),
    ],
    ids=lambda message: message["event"]["event_type"],
)
async def test_other_events_are_accepted_and_change_nothing(
    configured: Settings, message: Any
) -> None:
    """A merged incident goes on in another: its end is not the end of what is wrong."""
    async with serving(create_app(configured, worker=False)) as client:
        await deliver(client, event())
        before = (await client.get("/v1/incidents")).json()
        response = await deliver(client, message, by="w-2")
        assert (response.status_code, response.json()) == (202, {"incidents": []})
        assert (await client.get("/v1/incidents")).json() == before


async def test_a_delivery_counts_once_whatever_number_it_is_given(configured: Settings) -> None:
    """X-Webhook-Id is not signed: it neither makes a replay new nor an alert disappear."""
    repeated = metrics.REPEATED.labels(source="pagerduty")
    before = repeated._value.get()
    async with serving(create_app(configured, worker=False)) as client:
        assert len((await deliver(client, event())).json()["incidents"]) == 1
        over = event("incident.resolved", occurred_at="2026-01-31T03:30:00Z")
        assert len((await deliver(client, over, by="w-2")).json()["incidents"]) == 1
        for by in ("w-2", "w-replayed"):
            response = await deliver(client, over, by=by)
            assert (response.status_code, response.json()) == (202, {"incidents": []})
        numbered_alike = event("incident.reopened", occurred_at="2026-01-31T04:00:00Z")
        assert len((await deliver(client, numbered_alike, by="w-2")).json()["incidents"]) == 1
    assert repeated._value.get() == before + 2


async def test_without_a_signature_number_and_body_together_count_once(
    configured: Settings,
) -> None:
    """A proxy in front authenticates with a token: `client` has one."""
    async with serving(create_app(configured, worker=False)) as client:

        async def send(message: Any, by: str) -> int:
            headers = {"X-Webhook-Id": by} if by else {}
            response = await client.post("/v1/alerts/pagerduty", json=message, headers=headers)
            assert response.status_code == 202
            return len(response.json()["incidents"])

        over = event("incident.resolved", occurred_at="2026-01-31T03:30:00Z")
        assert [await send(event(), "w-1"), await send(event(), "w-1")] == [1, 0]
        assert [await send(over, "w-1"), await send(over, "w-1")] == [1, 0]
        assert [await send(event(), ""), await send(event(), "")] == [1, 1], "by the alert only"


async def test_while_its_secret_is_replaced_either_signature_is_enough(
    configured: Settings,
) -> None:
    body = raw(event())
    wrong = "v1=" + "0" * 64
    async with serving(create_app(configured, worker=False)) as client:
        for refused in (
            "", wrong, signature(body), f"v2={signature(body)}", f"v1={signature(body).upper()}",
            f"v1={signature(body + b' ')}", f"v1={signature(raw(PING))}", "v1=é",
            ",".join([wrong] * MOST_SIGNATURES + [f"v1={signature(body)}"]),
        ):  # fmt: skip
            response = await deliver(client, event(), signed=refused)
            assert response.status_code == 401, refused
        assert (await client.get("/v1/incidents")).json()["items"] == []
        for number, secrets in enumerate([[OLD], [NEW], ["not-one-of-ours", OLD], [NEW, OLD]]):
            message = event(id=f"P{number}")
            signed = ", ".join(f"v1={signature(raw(message), secret)}" for secret in secrets)
            response = await deliver(client, message, by=str(number), signed=signed)
            assert len(response.json()["incidents"]) == 1, secrets


async def test_what_was_not_taken_can_be_delivered_again(settings: Callable[..., Settings]) -> None:
    """The queue is full: the message is refused, and not remembered as delivered."""
    other = {"name": "cache-us", "url": "redis://127.0.0.1:1", "match": {"service": "cache-us"}}
    full = settings(targets=[TARGET, other], sources=[SOURCE], intake={"queue": 1})
    later: dict[str, Any] = {"priority": {"summary": "P3"}, "urgency": "low"}
    second = event(id="P2", service={"id": "S", "summary": "cache-us"}, **later)
    async with serving(create_app(full, worker=False)) as client:
        (first,) = (await deliver(client, event(**later))).json()["incidents"]
        refused = [await deliver(client, second, by="w-2") for _ in range(2)]
        refused += await asyncio.gather(*(deliver(client, second, by="w-2") for _ in range(8)))
        assert {response.status_code for response in refused} == {503}, "a twin is not taken either"
        assert (await client.post(f"/v1/incidents/{first['id']}/close")).is_success
        twins = await asyncio.gather(*(deliver(client, second, by=f"w-{n}") for n in range(5)))
        assert {twin.status_code for twin in twins} == {202}
        taken = [one["id"] for twin in twins for one in twin.json()["incidents"]]
        assert len(set(taken)) == 1


def test_labels_come_from_documented_places_and_pagerdutys_own_cannot_be_replaced() -> None:
    alert = alert_of(
        event(
            custom_details={"instance": "cache-eu", "service": "forged", "nested": {"a": 1}},
            body={"details": {"role": "primary", "instance": "second", "n": 7}},
        )
    )
    assert alert.labels == {
        "service": "cache-eu", "service_id": "PF9KMXH", "priority": "P1", "urgency": "high",
        "team": "Engineering", "instance": "cache-eu", "role": "primary", "n": "7",
    }  # fmt: skip
    assert alert.annotations == {"link": "https://acme.pagerduty.example/incidents/PGR0VU2"}


def test_details_cannot_say_what_pagerduty_did_not_and_are_bounded() -> None:
    many = [{f"{place}{number}": number for number in range(80)} for place in "abc"]
    body = {"details": many[1], "cef_details": {"details": many[2]}}
    alert = alert_of(event(teams=[], custom_details=many[0] | {"team": "forged"}, body=body))
    assert "team" not in alert.labels
    assert len(alert.labels) == MOST_LABELS


@pytest.mark.parametrize(
    ("data", "severity"),
    [
        ({}, "critical"),
        ({"priority": {"summary": "P3 - whenever"}}, "warning"),
        ({"priority": {"summary": "P5"}}, "info"),
        ({"priority": None}, "critical"),
        ({"priority": None, "urgency": "low"}, "warning"),
        ({"priority": {"summary": "Sev"}, "urgency": None}, "warning"),
        ({"custom_details": {"severity": "info"}}, "info"),
    ],
)
def test_how_bad_it_is(data: dict[str, Any], severity: str) -> None:
    assert alert_of(event(**data)).severity == severity


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (event(id=None), "event.data.id"),
        (event(title=""), "event.data.title"),
        (event(created_at=None), "event.data.created_at"),
        (event(created_at="yesterday"), "event.data.created_at"),
        (event(occurred_at=None), "event.occurred_at"),
        ({"event": {"event_type": "incident.triggered"}}, "event.data"),
    ],
)
def test_an_incident_that_cannot_be_read_is_kept_for_a_person(message: Any, told: str) -> None:
    (parsed,) = parse(message)
    assert told in parsed.problem


async def test_what_was_seen_is_forgotten_by_age_and_only_then(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def new(*ids: str, sender: str = "pd") -> set[str]:
        async with database.writing() as session:
            names = {(sender, known_by) for known_by in ids}
            return {one for _, one in await deliveries.remember(session, database, names)}

    assert await new("a", "b") == {"a", "b"}
    assert await new("b", "c") == {"c"}
    assert await new("a", sender="another") == {"a"}
    later = incidents.now() + deliveries.KEEP
    monkeypatch.setattr(deliveries, "now", lambda: later)
    assert await new("d") == {"d"}
    async with database.reading() as session:
        assert await session.scalar(select(func.count()).select_from(DeliveryRow)) == 1
