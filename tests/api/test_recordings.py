"""Recordings: kept by the run that begins an attempt, bounded, handed out with the verdict."""

import asyncio
import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from httpx2 import AsyncClient, Response
from sqlalchemy import select

from agent.context import Context
from agent.incident import Incident
from api import recorder, sweeping
from api.app import create_app
from api.settings import Settings
from api.store import leases, recordings
from api.store.database import Database
from api.store.tables import AuditRow, RecordingRow, VerdictRow
from evals import servers
from tests.api.serving import serving
from tests.api.test_incidents_api import opened, service_of
from tests.api.test_store import opened as opened_in
from tests.api.test_worker import GOOD, one_action, reaches
from tools import recording_file
from tools.recording import RecordedConnection

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "SWEEP_SECONDS", 0.1)
    monkeypatch.setattr(sweeping, "NUDGE_AGAIN_SECONDS", 0.1)


def row(incident_id: str, attempt: int, hours: float) -> RecordingRow:
    at = NOON + timedelta(hours=hours)
    return RecordingRow(
        incident_id=incident_id, attempt=attempt, flavour="redis 8.2.3", data=b"x", taken_at=at
    )


async def test_the_newest_are_kept(database: Database) -> None:
    ids = [await opened_in(database) for _ in range(4)]
    for hours, incident_id in enumerate(ids):
        async with database.writing() as session:
            await recordings.keep(session, row(incident_id, 1, hours), most=2)
    async with database.reading() as session:
        left = set(await session.scalars(select(RecordingRow.incident_id)))
    assert left == set(ids[2:])


async def test_the_same_attempt_is_kept_once(database: Database) -> None:
    incident_id = await opened_in(database)
    for hours in (0, 1):
        async with database.writing() as session:
            await recordings.keep(session, row(incident_id, 1, hours), most=5)
    async with database.reading() as session:
        (one,) = await session.scalars(select(RecordingRow))
    assert one.taken_at == NOON + timedelta(hours=1)
    assert one.data == b"x"


async def test_a_verdict_is_about_the_investigation_before_it(database: Database) -> None:
    """The second attempt saw a server that the first one's remedy had cured."""
    incident_id = await opened_in(database)
    async with database.writing() as session:
        for attempt in (1, 2):
            await recordings.keep(session, row(incident_id, attempt, attempt), most=5)
        for hours, cause in ((1.5, "single-bigkey"), (1.6, "stream-unbounded")):
            session.add(
                VerdictRow(
                    incident_id=incident_id,
                    by="ada",
                    root_cause=cause,
                    culprit=None,
                    comment="",
                    at=NOON + timedelta(hours=hours),
                )
            )
    async with database.reading() as session:
        verdict = await recordings.verdict_on(session, incident_id)
        assert verdict is not None
        assert verdict.root_cause == "stream-unbounded"  # the last word
        kept = await recordings.judged(session, incident_id, verdict.at)
        assert kept is not None
        assert kept.attempt == 1
        assert await recordings.judged(session, incident_id, NOON) is None


async def looking(context: Context, incident: Incident) -> None:
    """A run that looks at the server, then waits for people as `one_action` does."""
    await context.connection.execute("INFO", "everything")
    await context.connection.execute("TYPE", f"seen:{incident.status}")
    await one_action(context, incident)


@pytest.fixture
def on_a_server(
    settings: Callable[..., Settings], start_server: Callable[..., servers.Server]
) -> Callable[..., Settings]:
    server = start_server(servers.BUILDS[-1])
    target = {"name": "cache-eu", "url": server.url, "memory_limit": 4_000_000}
    return lambda **config: settings(targets=[target], **config)


async def asked(client: AsyncClient, incident_id: str) -> Response:
    """It is written when the run has ended; until then whoever asks is told to come again."""
    async with asyncio.timeout(60):
        while (
            response := await client.get(f"/v1/incidents/{incident_id}/recording")
        ).status_code == 503:
            await asyncio.sleep(0.02)
    return response


async def exported(client: AsyncClient, incident_id: str, path: Path) -> RecordedConnection:
    response = await asked(client, incident_id)
    assert response.status_code == 200, response.text
    path.write_bytes(base64.b64decode(response.json()["recording"]))
    return RecordedConnection(path)


async def kept(client: AsyncClient) -> list[RecordingRow]:
    async with service_of(client).database.reading() as session:
        return list(await session.scalars(select(RecordingRow)))


async def kept_soon(client: AsyncClient) -> RecordingRow:
    """The only one; it is written when the run has ended, after the incident says so."""
    async with asyncio.timeout(60):
        while not (rows := await kept(client)):
            await asyncio.sleep(0.02)
    (row,) = rows
    return row


async def judge(client: AsyncClient, incident_id: str, cause: str = "single-bigkey") -> None:
    body = {"root_cause": cause, "culprit": {"kind": "key", "name": "cart:7"}, "comment": "seen"}
    response = await client.post(f"/v1/incidents/{incident_id}/verdict", json=body)
    assert response.status_code == 200, response.text


async def test_what_the_run_saw_is_handed_out_with_the_verdict(
    on_a_server: Callable[..., Settings], tmp_path: Path
) -> None:
    async with serving(create_app(on_a_server(), run_graph=looking), "responder") as client:
        incident_id = (await opened(client, question="why is memory high?"))["id"]
        await reaches(client, incident_id, "awaiting_approval")
        path = f"/v1/incidents/{incident_id}/recording"
        early = await client.get(path)
        assert early.status_code == 409
        assert "verdict first" in early.json()["detail"]

        await judge(client, incident_id)
        recorded = await exported(client, incident_id, tmp_path / "one.jsonl.gz")
        assert b"used_memory:" in (await recorded.execute("INFO", "everything"))  # type: ignore[operator]
        assert recorded.header.memory_limit == 4_000_000
        assert recorded.header.alert is not None
        assert recorded.header.alert["annotations"]["summary"] == "why is memory high?"
        label = (await client.get(path)).json()["verdict"]
        assert label["root_cause"] == "single-bigkey"
        assert label["culprit"] == {"kind": "key", "name": "cart:7"}
        assert (label["by"], label["comment"]) == ("responder-1", "seen")
        async with service_of(client).database.reading() as session:
            done = list(await session.scalars(select(AuditRow.what)))
        assert done.count("export") == 2


async def test_who_asks_before_it_is_kept_is_asked_to_come_again(
    settings: Callable[..., Settings],
) -> None:
    """The incident says that it waits a moment before the run has ended."""
    async with serving(create_app(settings(), worker=False), "responder") as client:
        incident_id = (await opened(client))["id"]
        await judge(client, incident_id)
        database = service_of(client).database
        lease = await leases.acquire(database, "cache-eu", incident_id, "a worker")
        assert lease is not None
        path = f"/v1/incidents/{incident_id}/recording"
        early = await client.get(path)
        assert early.status_code == 503
        assert early.headers["retry-after"]
        await leases.release(database, lease)
        assert (await client.get(path)).status_code == 404


async def test_a_run_after_an_approval_does_not_change_the_recording(
    on_a_server: Callable[..., Settings],
) -> None:
    async with serving(create_app(on_a_server(), run_graph=looking)) as client:
        incident_id = (await opened(client))["id"]
        await reaches(client, incident_id, "awaiting_approval")
        before = await kept_soon(client)
        path = f"/v1/incidents/{incident_id}/actions/A1/approve"
        await client.post(path, json={"fingerprint": GOOD})
        await reaches(client, incident_id, "resolved")
        after = await kept_soon(client)
        assert (after.data, after.taken_at) == (before.data, before.taken_at)


async def test_an_investigation_that_was_cut_in_two_has_none(
    on_a_server: Callable[..., Settings],
) -> None:
    crashes = [RuntimeError("killed")]

    async def cut(context: Context, incident: Incident) -> None:
        await context.journal.set_status("investigating")
        if crashes:
            raise crashes.pop()
        await looking(context, incident)

    async with serving(create_app(on_a_server(), run_graph=cut)) as client:
        incident_id = (await opened(client))["id"]
        await reaches(client, incident_id, "awaiting_approval")
        await judge(client, incident_id)
        missing = await asked(client, incident_id)
        assert missing.status_code == 404
        assert "reinvestigate" in missing.json()["detail"]


async def test_recordings_can_be_switched_off(on_a_server: Callable[..., Settings]) -> None:
    off = on_a_server(recordings=0)
    async with serving(create_app(off, run_graph=looking)) as client:
        incident_id = (await opened(client))["id"]
        await reaches(client, incident_id, "awaiting_approval")
        assert await kept(client) == []


async def test_one_that_is_too_large_or_fails_is_not_kept_and_harms_nothing(
    on_a_server: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(recorder, "LARGEST_KEPT", 10)
    async with serving(create_app(on_a_server(), run_graph=looking)) as client:
        first = (await opened(client))["id"]
        await reaches(client, first, "awaiting_approval")
        await client.post(f"/v1/incidents/{first}/close")

        def broken(*_: object) -> bytes:
            raise ValueError("no")

        monkeypatch.setattr(recorder, "packed", broken)
        second = (await opened(client))["id"]
        await reaches(client, second, "awaiting_approval")
        assert await kept(client) == []
    log = capsys.readouterr().err
    assert "recording_too_large" in log
    assert "recording_not_kept" in log


async def test_a_reply_that_cannot_be_kept_costs_the_recording_and_not_the_run(
    on_a_server: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a reply of unexpected shape")

    monkeypatch.setattr("tools.recording.tidy", broken)
    async with serving(create_app(on_a_server(), run_graph=looking)) as client:
        incident_id = (await opened(client))["id"]
        await reaches(client, incident_id, "awaiting_approval")
        assert await kept(client) == []
    log = capsys.readouterr().err
    assert log.count("recording_failed") == 1
    assert "run_failed" not in log


def test_a_recording_is_what_replay_reads(tmp_path: Path) -> None:
    """The two ways of writing one give the same file."""
    recording = recording_file.Recording(recording_file.Header("2026-05-01T12:00:00Z", "?", "n"))
    path = tmp_path / "one.jsonl.gz"
    recording_file.write(path, recording)
    assert path.read_bytes() == recording_file.packed(recording)
