"""Incidents over HTTP: opening, listing, reading, judging, closing."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from httpx2 import AsyncClient, Response

from agent.incident import Action, Incident, Plan
from api.app import create_app
from api.service import Service
from api.settings import Settings
from api.store import events, incidents, leases
from api.store.journal import SqlJournal
from tests.api.serving import TARGETS, serving


def service_of(client: AsyncClient) -> Service:
    service: Service = client._transport.app.state.service  # type: ignore[attr-defined]
    return service


async def opened(client: AsyncClient, target: str = "cache-eu", **body: Any) -> dict[str, Any]:
    response = await client.post("/v1/investigations", json={"target": target, **body})
    assert response.status_code == 202, response.text
    incident: dict[str, Any] = response.json()
    return incident


async def journal_of(client: AsyncClient, incident_id: str) -> SqlJournal:
    database = service_of(client).database
    async with database.reading() as session:
        incident = await incidents.load(session, incident_id)
    lease = await leases.acquire(database, incident.target, incident_id, "test")
    assert lease is not None
    return SqlJournal(database, incident_id, incident.attempt, lease)


async def move(client: AsyncClient, incident_id: str, status: Any) -> None:
    async with service_of(client).database.writing() as session:
        await incidents.move(session, await incidents.lock(session, incident_id), status)


def fields(response: Response) -> list[str]:
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == response.status_code
    return [error["field"] for error in problem["errors"]]


async def test_an_investigation_is_an_incident_as_the_contract_has_it(client: AsyncClient) -> None:
    one = await opened(client, question="why slow?\nsince noon")
    assert one["created"] is True
    shown = (await client.get(f"/v1/incidents/{one['id']}")).json()
    incident = Incident.model_validate(shown)
    assert incident.model_dump(mode="json") == shown
    assert (incident.title, incident.question) == ("why slow?", "why slow?\nsince noon")
    again = await opened(client)
    assert again == {"id": one["id"], "status": "queued", "created": False}
    await move(client, one["id"], "needs_human")
    assert (await opened(client))["created"] is True


@pytest.mark.parametrize(
    ("status", "joins"), [("investigating", True), ("awaiting_approval", False)]
)
async def test_what_is_under_way_on_a_relative_is_joined_as_by_an_alert(
    settings: Callable[..., Settings], status: str, joins: bool
) -> None:
    """Not while people decide there: that may take a day, and this target is not looked at."""
    related = [known | {"part_of": "cache"} for known in TARGETS]
    async with serving(create_app(settings(targets=related), worker=False)) as client:
        one = await opened(client, "cache-us")
        await move(client, one["id"], status)
        asked = await opened(client, "cache-eu", question="why slow?")
        assert (asked["id"] == one["id"], asked["created"]) == (joins, not joins)
        assert (await opened(client, "cache-us"))["id"] == one["id"]
        async with service_of(client).database.reading() as session:
            said = [row.data for row in await events.after(session, one["id"], 0)]
    told = {"question": "why slow?", "by": "admin-1", "target": "cache-eu", "status": status}
    assert (told in said) == joins, "whoever is at it sees what else is asked"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"target": "nobody"}, "target"),
        ({"target": "redis://127.0.0.1"}, "target"),
        ({}, "body.target"),
        ({"target": "cache-eu", "command": "FLUSHALL"}, "body.command"),
        ({"target": "cache-eu", "question": "x" * 3_000}, "body.question"),
        ([], "body"),
    ],
)
async def test_what_cannot_be_investigated(client: AsyncClient, body: Any, field: str) -> None:
    response = await client.post("/v1/investigations", json=body)
    assert response.status_code == 422
    assert fields(response) == [field]


async def test_pages_hold_every_incident_once_newest_first(client: AsyncClient) -> None:
    database = service_of(client).database
    async with database.writing() as session:
        ids = [
            (await incidents.open_incident(session, title=str(n), target=f"t{n % 2}")).id
            for n in range(7)
        ]
    seen: list[str] = []
    cursor: str | None = None
    pages = 0
    while pages == 0 or cursor is not None:
        query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/incidents", params=query)).json()
        seen += [item["id"] for item in page["items"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert sorted(seen, reverse=True) == seen
    assert sorted(seen) == sorted(ids)
    assert pages == 3
    only = (await client.get("/v1/incidents", params={"target": "t1", "status": "queued"})).json()
    assert {item["target"] for item in only["items"]} == {"t1"}
    assert len(only["items"]) == 3
    none = await client.get("/v1/incidents", params={"status": "resolved"})
    assert none.json() == {"items": [], "next_cursor": None}
    several = await client.get("/v1/incidents", params={"status": ["resolved", "queued"]})
    assert len(several.json()["items"]) == 7


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": 0}, "query.limit"),
        ({"limit": 101}, "query.limit"),
        ({"status": "asleep"}, "query.status.0"),
        ({"cursor": "' OR 1=1"}, "query.cursor"),
    ],
)
async def test_bad_queries_name_the_field(client: AsyncClient, query: Any, field: str) -> None:
    response = await client.get("/v1/incidents", params=query)
    assert response.status_code == 422
    assert fields(response) == [field]


@pytest.mark.parametrize("path", ["", "/events", "/evidence/E1", "/report"])
async def test_what_is_not_there_is_not_found(client: AsyncClient, path: str) -> None:
    response = await client.get(f"/v1/incidents/inc-nothing{path}")
    assert response.status_code == 404
    assert fields(response) == []


async def test_evidence_is_kept_whole(client: AsyncClient) -> None:
    one = await opened(client)
    journal = await journal_of(client, one["id"])
    reading = {"keys": [{"name": f"k{n}", "bytes": n} for n in range(500)]}
    at = datetime(2026, 1, 31, 3, tzinfo=UTC)
    await journal.add_evidence(
        "bigkeys", {"top": 500}, reading, measured=True, node="h:1", summary="s", taken_at=at
    )
    shown = (await client.get(f"/v1/incidents/{one['id']}/evidence/E1")).json()
    assert shown["reading"] == reading
    assert shown["taken_at"] == "2026-01-31T03:00:00Z"
    (summary,) = (await client.get(f"/v1/incidents/{one['id']}")).json()["evidence"]
    assert "reading" not in summary
    assert summary["id"] == "E1"


async def test_a_verdict_is_kept_and_must_be_a_known_cause(client: AsyncClient) -> None:
    one = await opened(client)
    path = f"/v1/incidents/{one['id']}/verdict"
    culprit = {"kind": "prefix", "name": "session:"}
    response = await client.post(
        path, json={"root_cause": "no-incident", "culprit": culprit, "comment": "<b>fine</b>"}
    )
    assert response.status_code == 200
    assert response.json()["culprit"] == culprit
    report = (await client.get(f"/v1/incidents/{one['id']}/report")).text
    assert "admin-1: no-incident" in report
    assert "<b>" not in report
    response = await client.post(path, json={"root_cause": "gremlins"})
    assert response.status_code == 422
    assert fields(response) == ["root_cause"]


def action(**changes: Any) -> Action:
    values: dict[str, Any] = {
        "id": "A1", "fingerprint": "a" * 64, "kind": "k", "title": "t", "arguments": {},
        "risk": "R1",
    }  # fmt: skip
    return Action(**values | changes)


async def test_reinvestigate_starts_again_and_lapses_what_was_proposed(
    client: AsyncClient,
) -> None:
    one = await opened(client)
    path = f"/v1/incidents/{one['id']}/reinvestigate"
    assert (await client.post(path)).status_code == 409, "it is queued already"
    journal = await journal_of(client, one["id"])
    await journal.set_plan(Plan(actions=[action()]))
    await journal.set_status("awaiting_approval")
    response = await client.post(path, json={"comment": "traffic changed"})
    assert response.status_code == 202
    shown = response.json()
    assert (shown["status"], shown["attempt"], shown["plan"]["actions"]) == ("queued", 2, [])
    stale = await client.post(
        f"/v1/incidents/{one['id']}/actions/A1/approve", json={"fingerprint": "a" * 64}
    )
    assert stale.status_code == 404


async def test_close_ends_it_unless_a_change_is_under_way(client: AsyncClient) -> None:
    one = await opened(client)
    journal = await journal_of(client, one["id"])
    path = f"/v1/incidents/{one['id']}/close"
    await journal.set_plan(Plan(actions=[action(status="approved"), action(id="A2")]))
    await journal.set_status("awaiting_approval")
    await journal.save_action(action(status="applying"))
    assert (await client.post(path)).status_code == 409
    await journal.save_action(action(status="verified"))
    await journal.set_status("remediating")
    assert (await client.post(path)).status_code == 409
    await journal.set_status("awaiting_approval")
    shown = (await client.post(path, json={"comment": "done by hand"})).json()
    assert shown["status"] == "closed"
    assert "done by hand" in shown["ended_because"]
    assert [a["status"] for a in shown["plan"]["actions"]] == ["verified", "lapsed"]
    again = await client.post(path)
    assert (again.status_code, again.json()) == (200, shown)


async def test_catalogues_are_lists(client: AsyncClient) -> None:
    for name, least in (("targets", 2), ("runbooks", 1), ("tools", 10), ("remedies", 10)):
        page = (await client.get(f"/v1/{name}")).json()
        assert set(page) == {"items", "next_cursor"}
        assert len(page["items"]) >= least, name
    tools = {tool["name"]: tool for tool in (await client.get("/v1/tools")).json()["items"]}
    assert tools["memory_info"]["arguments"]["type"] == "object"


async def test_metrics_count_incidents(client: AsyncClient) -> None:
    await opened(client)
    text = (await client.get("/metrics")).text
    assert 'redis_oncall_incidents{status="queued"} 1.0' in text
    assert "redis_oncall_http_requests_total" in text
