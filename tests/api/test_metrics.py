"""What /metrics says: of requests by route, of the store as it stands, within bounds."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families as families
from sqlalchemy import update

from agent.incident import Action, Plan
from api import exposition, limits
from api.app import create_app
from api.settings import Settings
from api.store import database as databases
from api.store import incidents, leases, pages
from api.store.database import Database
from api.store.events import publish
from api.store.journal import SqlJournal
from api.store.tables import EventRow, IncidentRow
from tests.api.senders import event
from tests.api.serving import serving
from tests.api.test_alerts import firing, message
from tests.api.test_incidents_api import opened, service_of

Values = dict[tuple[str, ...], float]


def values_of(text: str) -> Values:
    """By the metric's name and its labels' values, in the order of the labels' names."""
    return {
        (sample.name.removeprefix("redis_oncall_"), *(v for _, v in sorted(sample.labels.items()))):
        sample.value
        for family in families(text)
        for sample in family.samples
    }  # fmt: skip


async def scraped(client: httpx2.AsyncClient) -> Values:
    response = await client.get("/metrics")
    assert response.is_success
    return values_of(response.text)


async def standing(database: Database) -> Values:
    return values_of((await exposition.exposition(exposition.asking(database))).decode())


async def test_requests_are_counted_by_route_never_by_path(client: httpx2.AsyncClient) -> None:
    before = await scraped(client)
    one = await opened(client)
    for path in (f"/v1/incidents/{one['id']}", "/v1/incidents/inc-00000000000000000000"):
        await client.get(path)
    await client.get("/v1/no/such/path")
    await client.request("BREW", "/v1/coffee")
    await client.post("/v1/alerts/generic", content=b"x" * 3_000_000)
    after = await scraped(client)

    def more(*labels: str) -> float:
        key = ("http_requests_total", *labels)
        return after.get(key, 0) - before.get(key, 0)

    assert more("2xx", "GET", "/v1/incidents/{incident_id}") == 1
    assert more("4xx", "GET", "/v1/incidents/{incident_id}") == 1
    assert more("4xx", "GET", "none") == 1
    assert more("4xx", "other", "none") == 1
    assert more("4xx", "POST", "none") == 1, "its body was refused before anybody chose a route"
    assert more("2xx", "GET", "/metrics") == 1
    key = ("http_request_duration_seconds_count", "2xx", "GET", "/v1/incidents/{incident_id}")
    assert after[key] - before.get(key, 0) == 1
    assert after["http_requests_in_flight",] == 1, "the one that asks"
    assert not [key for key in after if any(one["id"] in part for part in key)]


async def test_whatever_is_asked_for_there_are_no_more_series(client: httpx2.AsyncClient) -> None:
    await client.get("/v1/no/such/path")
    await client.request("BREW", "/v1/coffee")
    before = set(await scraped(client)) | {("http_requests_total", "2xx", "GET", "/metrics")}
    for number in range(50):
        await client.get(f"/v1/{number}/path")
        await client.request(f"BREW{number}", "/v1/coffee")
    new = set(await scraped(client)) - before
    assert not [key for key in new if key[-1] != "/metrics" and "/metrics" not in key]


async def test_a_fault_of_ours_is_answered_counted_and_named_in_the_log(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a bug")

    before = await scraped(client)
    monkeypatch.setattr(incidents, "page", broken)
    response = await client.get("/v1/incidents", headers={"X-Request-Id": "from-the-gateway"})
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"] == "from-the-gateway"
    monkeypatch.undo()
    key = ("http_requests_total", "5xx", "GET", "/v1/incidents")
    assert (await scraped(client))[key] == before.get(key, 0) + 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if '"event": "bug"' in line]
    assert '"request": "from-the-gateway"' in line


@pytest.mark.parametrize(
    "sent", [b"", b"a b", b"x" * 65, b'"quoted"', b"new\tline", b"-dash", b"x\xe9"]
)
async def test_an_id_that_is_not_sane_is_replaced(client: httpx2.AsyncClient, sent: bytes) -> None:
    response = await client.get("/healthz", headers=[(b"X-Request-Id", sent)])
    given = response.headers["x-request-id"]
    assert len(given) == 16
    int(given, 16)


async def test_what_was_left_out_and_what_came_again_is_counted(client: httpx2.AsyncClient) -> None:
    before = await scraped(client)
    cut = message(firing(), truncatedAlerts=7)
    again = {"X-Webhook-Id": "w-1"}
    for source, body, headers in (
        ("alertmanager", cut, {}), ("pagerduty", event(), again), ("pagerduty", event(), again),
    ):  # fmt: skip
        sent = await client.post(f"/v1/alerts/{source}", json=body, headers=headers)
        assert sent.status_code == 202, sent.text
    after = await scraped(client)
    for name, source, more in (
        ("alerts_truncated_total", "alertmanager", 7),
        ("deliveries_repeated_total", "pagerduty", 1),
    ):
        assert after[name, source] - before.get((name, source), 0) == more


async def test_alerts_that_are_not_taken_are_counted_and_named_in_the_log(
    settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(databases, "BUSY_SECONDS", 0.2)
    told = settings(intake={"per_second": 0.01, "burst": 3})

    async def refused(because: str, code: int, more: int, content: bytes | None = None) -> None:
        key = ("alerts_refused_total", because, "alertmanager")
        before = (await scraped(client)).get(key, 0)
        body = {"content": content} if content else {"json": message(firing("f1"), firing("f2"))}
        path = "/v1/alerts/alertmanager"
        sent = await client.post(path, headers={"X-Request-Id": f"id-{because}"}, **body)
        assert sent.status_code == code
        assert (await scraped(client))[key] == before + more

    async with serving(create_app(told, worker=False)) as client:
        async with service_of(client).database.engine.begin():  # nobody else may write
            await refused("database", 503, 2)
        await refused("size", 413, 1, b"x" * 3_000_000)
        with monkeypatch.context() as full:
            full.setattr(limits, "MOST_REQUESTS", 0)
            await refused("busy", 503, 1)
        await client.post("/v1/alerts/alertmanager", json=message(firing("f1"), firing("f2")))
        await refused("rate", 503, 1)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    named = {line["request"]: line["code"] for line in lines if line["event"] == "request"}
    assert named == {"id-database": 503, "id-busy": 503, "id-rate": 503}


async def test_failed_sign_ins_are_counted(client: httpx2.AsyncClient) -> None:
    before = (await scraped(client))["sign_in_failures_total",]
    for _ in range(3):
        await client.get("/v1/incidents", headers={"Authorization": "Bearer roc_x_y"})
    assert (await scraped(client))["sign_in_failures_total",] == before + 3


async def test_age_and_number_of_what_nobody_works_on(database: Database) -> None:
    assert (await standing(database))["oldest_unattended_seconds",] == 0
    async with database.writing() as session:
        rows = [
            await incidents.open_incident(session, title="t", target=f"cache-{number}")
            for number in range(3)
        ]
        rows[0].opened_at -= timedelta(minutes=10)
        rows[1].opened_at -= timedelta(hours=1)
        await incidents.move(session, rows[2], "needs_human", "nobody knows")
    seen = await standing(database)
    assert seen["queue_depth",] == 2
    assert 3_600 <= seen["oldest_unattended_seconds",] < 3_660
    assert seen["incidents", "queued"] == 2
    assert seen["incidents", "closed"] == 0, "a status that nothing has is zero, not absent"
    lease = await leases.acquire(database, "cache-1", rows[1].id, "worker")
    assert lease is not None
    seen = await standing(database)
    assert seen["queue_depth",] == 1, "somebody is at the oldest"
    assert 600 <= seen["oldest_unattended_seconds",] < 660
    assert seen["leases",] == 1


async def test_another_attempt_waits_since_it_was_asked_for(database: Database) -> None:
    async with database.writing() as session:
        row = await incidents.open_incident(session, title="t", target="cache")
        row.opened_at -= timedelta(days=3)
        await incidents.begin_attempt(session, row, "somebody wants to know")
    assert (await standing(database))["oldest_unattended_seconds",] < 60


async def test_age_and_number_of_approvals_and_pages_that_wait(database: Database) -> None:
    async with database.writing() as session:
        row = await incidents.open_incident(session, title="t", target="cache")
        await pages.call(session, "somebody has to come", incidents.now() - timedelta(minutes=7))
    lease = await leases.acquire(database, "cache", row.id, "worker")
    assert lease is not None
    journal = SqlJournal(database, row.id, 1, lease)
    actions = [
        Action(id=f"A{n}", fingerprint=f"{n}" * 64, kind="k", title="t", arguments={}, risk="R1")
        for n in range(2)
    ]
    await journal.set_plan(Plan(actions=actions))
    assert (await standing(database))["approvals_waiting",] == 0, "it is not at the gate yet"
    await journal.set_status("awaiting_approval")
    async with database.writing() as session:
        planned = incidents.now() - timedelta(minutes=20)
        await session.execute(update(EventRow).where(EventRow.kind == "plan").values(at=planned))
        # Another alert of it touches the incident, and makes the wait no shorter.
        touched = await session.get_one(IncidentRow, row.id)
        touched.updated_at = incidents.now()
        await publish(session, touched, "status", {})
    seen = await standing(database)
    assert seen["approvals_waiting",] == 2
    assert 1_200 <= seen["oldest_approval_seconds",] < 1_260
    assert 420 <= seen["oldest_page_seconds",] < 480
    assert seen["pages", "waiting"] == 1


async def test_while_the_store_cannot_be_read_what_it_says_is_absent_not_zero(
    settings: Callable[..., Settings],
) -> None:
    async with serving(create_app(settings(), worker=False)) as client:
        await opened(client)
        database = service_of(client).database
        before = await scraped(client)
        assert before["store_up",] == 1
        async with database.engine.begin() as connection:
            await connection.exec_driver_sql("ALTER TABLE leases RENAME TO elsewhere")
        after = await scraped(client)
    assert after["store_up",] == 0
    assert ("queue_depth",) not in after
    assert ("incidents", "queued") not in after
    requests = ("http_requests_total", "2xx", "GET", "/metrics")
    assert after[requests] == before.get(requests, 0) + 1, "what the process counted is there"
