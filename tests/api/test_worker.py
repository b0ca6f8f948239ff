"""The worker and its sweeper, with a tiny run in place of the graph."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from httpx2 import AsyncClient
from pydantic import SecretStr
from sqlalchemy import select, update

from agent.context import Context
from agent.incident import Action, Incident, Plan
from api import sweeping, worker
from api.app import create_app
from api.auditing import keyring
from api.metrics import REGISTRY
from api.queue import NUDGE_SECONDS
from api.settings import Settings
from api.store import incidents, leases, trail
from api.store.database import Database, database_url
from api.store.journal import SqlJournal
from api.store.migrate import migrate
from api.store.tables import LeaseRow
from tests.answering import answering
from tests.api.serving import serving, until
from tests.api.test_incidents_api import opened, service_of

GOOD = "a" * 64


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same worker, in less time."""
    monkeypatch.setattr(sweeping, "SWEEP_SECONDS", 0.1)
    monkeypatch.setattr(sweeping, "NUDGE_AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(worker, "HEARTBEAT_SECONDS", 0.1)


async def shown(client: AsyncClient, incident_id: str) -> Incident:
    return Incident.model_validate((await client.get(f"/v1/incidents/{incident_id}")).json())


async def reaches(client: AsyncClient, incident_id: str, status: str) -> Incident:
    async def there() -> Incident | None:
        incident = await shown(client, incident_id)
        return incident if incident.status == status else None

    found: Incident = await until(there, what=f"{incident_id} {status}")
    return found


async def one_action(context: Context, incident: Incident) -> None:
    """Propose, wait for people, carry out what they approved."""
    journal = context.journal
    action = next(iter(incident.plan.actions), None)
    if action is None:
        expires = datetime.now(UTC) + timedelta(hours=1)
        await journal.set_status("investigating")
        action = Action(id="A1", fingerprint=GOOD, kind="k", title="t", arguments={}, risk="R1",
                        expires_at=expires)  # fmt: skip
        await journal.set_plan(Plan(actions=[action]))
        await journal.set_status("awaiting_approval")
    elif action.status == "approved":
        await journal.save_action(action.model_copy(update={"status": "verified"}))
        await journal.set_status("resolved", "it helped")
    else:
        await journal.set_status("needs_human", f"the action is {action.status}")


async def test_from_alert_to_gate_to_end(settings: Callable[..., Settings]) -> None:
    async with serving(create_app(settings(), run_graph=one_action)) as client:
        one = await opened(client)
        await reaches(client, one["id"], "awaiting_approval")
        path = f"/v1/incidents/{one['id']}/actions/A1/approve"
        await client.post(path, json={"fingerprint": GOOD})
        incident = await reaches(client, one["id"], "resolved")
        assert incident.plan.actions[0].status == "verified"


async def test_without_the_queue_the_sweeper_does_the_work(
    settings: Callable[..., Settings],
) -> None:
    """Its server may be the one that the alert is about; it need not even be there at the start."""
    away = settings().model_copy(update={"queue": SecretStr("redis://127.0.0.1:1/0")})
    async with serving(create_app(away, run_graph=one_action)) as client:
        one = await opened(client)
        await reaches(client, one["id"], "awaiting_approval")
        states = (await client.get("/readyz")).json()["dependencies"]
        assert (states["database"], states["queue"]) == ("ok", "failing")


async def test_a_queue_that_says_nothing_does_not_slow_down_every_alert(
    settings: Callable[..., Settings],
) -> None:
    """Its machine is frozen: it takes connections and answers none."""
    async with answering(lambda *_: asyncio.Event().wait()) as port:
        away = settings().model_copy(update={"queue": SecretStr(f"redis://127.0.0.1:{port}/0")})
        async with serving(create_app(away, worker=False)) as client:
            began = time.monotonic()
            for name in ("cache-eu", "cache-us"):
                for _ in range(4):
                    await opened(client, name)
            assert time.monotonic() - began < 3 * NUDGE_SECONDS, "eight times 2 s would be 16"


async def test_a_rejection_and_an_expiry_end_the_waiting(
    settings: Callable[..., Settings],
) -> None:
    async with serving(create_app(settings(), run_graph=one_action)) as client:
        rejected = await opened(client, "cache-eu")
        expired = await opened(client, "cache-us")
        for one in (rejected, expired):
            await reaches(client, one["id"], "awaiting_approval")
        path = f"/v1/incidents/{rejected['id']}/actions/A1/reject"
        await client.post(path, json={"fingerprint": GOOD})
        from api.store.tables import ActionRow

        async with service_of(client).database.writing() as session:
            past = incidents.now() - timedelta(seconds=1)
            await session.execute(
                update(ActionRow).where(ActionRow.incident_id == expired["id"])
                .values(expires_at=past)
            )  # fmt: skip
        for one, ended in ((rejected, "rejected"), (expired, "lapsed")):
            incident = await reaches(client, one["id"], "needs_human")
            assert incident.ended_because == f"the action is {ended}"


async def test_whatever_is_unfinished_at_start_is_found(
    settings: Callable[..., Settings],
) -> None:
    """The queue of the process that died is gone; the database is not."""
    configured = settings()
    database = Database(database_url(configured.database_url.get_secret_value()))
    await migrate(database)
    await trail.begin(database, keyring(configured))
    ids = []
    async with database.writing() as session:
        for target, status in (("cache-eu", "queued"), ("cache-us", "investigating")):
            row = await incidents.open_incident(session, title="t", target=target)
            await incidents.move(session, row, status)  # type: ignore[arg-type]
            ids.append(row.id)
    await database.close()
    async with serving(create_app(configured, run_graph=one_action)) as client:
        for incident_id in ids:
            await reaches(client, incident_id, "awaiting_approval")


async def test_a_run_that_always_fails_goes_to_a_person(settings: Callable[..., Settings]) -> None:
    runs = 0

    async def broken(context: Context, incident: Incident) -> None:
        nonlocal runs
        runs += 1
        raise RuntimeError("a bug, with redis://user:hunter2@host in its text")

    async with serving(create_app(settings(), run_graph=broken)) as client:
        one = await opened(client)
        incident = await reaches(client, one["id"], "needs_human")
    assert "without progress" in incident.ended_because
    assert runs == worker.MOST_IDLE_RUNS


def failed() -> float:
    return REGISTRY.get_sample_value("redis_oncall_runs_failed_total") or 0


async def test_a_run_that_fails_once_is_tried_again(
    settings: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    failures = [RuntimeError("redis://user:hunter2@host is gone")]
    before = failed()

    async def flaky(context: Context, incident: Incident) -> None:
        if failures:
            raise failures.pop()
        await one_action(context, incident)

    async with serving(create_app(settings(), run_graph=flaky)) as client:
        one = await opened(client)
        await reaches(client, one["id"], "awaiting_approval")
    assert failed() - before == 1
    log = capsys.readouterr().err
    assert "hunter2" not in log
    assert f'"incident": "{one["id"]}"' in log
    assert "run_failed" in log


async def test_two_services_on_one_database_never_work_on_a_target_together(
    settings: Callable[..., Settings],
) -> None:
    running: dict[str, int] = {}
    most = 0

    async def slow(context: Context, incident: Incident) -> None:
        nonlocal most
        running[incident.target] = running.get(incident.target, 0) + 1
        most = max(most, *running.values())
        await asyncio.sleep(0.3)
        running[incident.target] -= 1
        await context.journal.set_status("needs_human", "done")

    async with (
        serving(create_app(settings(), run_graph=slow)) as client,
        serving(create_app(settings(), run_graph=slow)),
    ):
        first = [await opened(client, target) for target in ("cache-eu", "cache-us")]
        for one in first:
            await reaches(client, one["id"], "needs_human")
        for one in first:
            await client.post(f"/v1/incidents/{one['id']}/reinvestigate")
        for one in first:
            await reaches(client, one["id"], "needs_human")
    assert most == 1


async def test_a_run_whose_lease_was_taken_is_stopped(settings: Callable[..., Settings]) -> None:
    stopped = asyncio.Event()
    started = asyncio.Event()

    async def forever(context: Context, incident: Incident) -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    async with serving(create_app(settings(), run_graph=forever)) as client:
        await opened(client)
        await asyncio.wait_for(started.wait(), 10)
        async with service_of(client).database.writing() as session:
            await session.execute(
                update(LeaseRow).values(fencing=LeaseRow.fencing + 1, expires=LeaseRow.expires + 60)
            )
        await asyncio.wait_for(stopped.wait(), 10)


async def test_closing_an_incident_stops_its_run(settings: Callable[..., Settings]) -> None:
    going = asyncio.Event()

    async def late(context: Context, incident: Incident) -> None:
        await context.journal.set_status("investigating")
        going.set()
        await asyncio.sleep(0.3)
        await context.journal.set_status("needs_human", "too late")

    async with serving(create_app(settings(), run_graph=late)) as client:
        one = await opened(client)
        await asyncio.wait_for(going.wait(), 10)
        closed = await client.post(f"/v1/incidents/{one['id']}/close")
        assert closed.status_code == 200
        await asyncio.sleep(0.6)
        assert (await shown(client, one["id"])).status == "closed"


async def test_who_comes_second_finds_the_work_done(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its look and the lease, another worker brought the incident to the gate."""
    runs = 0
    take = leases.acquire

    async def taken_late(database: Database, target: str, incident_id: str, who: str) -> Any:
        if lease := await take(database, target, incident_id, "the first"):
            journal = SqlJournal(database, incident_id, 1, lease)
            await journal.set_status("needs_human", "by the first")
            await leases.release(database, lease)
        return await take(database, target, incident_id, who)

    async def count(context: Context, incident: Incident) -> None:
        nonlocal runs
        runs += 1

    monkeypatch.setattr(worker, "acquire", taken_late)
    async with serving(create_app(settings(), run_graph=count)) as client:
        one = await opened(client)
        await reaches(client, one["id"], "needs_human")
        await until(lambda: nobody_works(client), what="the lease is released")
    assert runs == 0


async def nobody_works(client: AsyncClient) -> bool:
    async with service_of(client).database.reading() as session:
        held = await session.scalars(select(LeaseRow.holder).where(LeaseRow.expires > 0))
        second = await session.scalars(select(LeaseRow.holder).where(LeaseRow.fencing > 1))
        return not held.all() and bool(second.all())


async def test_a_target_that_was_removed_from_the_configuration_goes_to_a_person(
    settings: Callable[..., Settings],
) -> None:
    async with serving(create_app(settings(), worker=False)) as client:
        one = await opened(client)
    async with serving(create_app(settings(targets=[]), run_graph=one_action)) as client:
        incident = await reaches(client, one["id"], "needs_human")
    assert "no longer configured" in incident.ended_because


@contextlib.asynccontextmanager
async def separate_worker(settings: Settings, run: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(worker.run_worker(settings, run))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_separate_worker_does_the_work_of_a_service_without_one(
    settings: Callable[..., Settings],
) -> None:
    async with (
        serving(create_app(settings(), worker=False)) as client,
        separate_worker(settings(), one_action),
    ):
        one = await opened(client)
        await reaches(client, one["id"], "awaiting_approval")
