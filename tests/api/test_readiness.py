"""/readyz tries each dependency for real, says which fails and why, and nothing else to anybody."""

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from sqlalchemy import select, text, update

from api import readiness
from api.app import create_app
from api.settings import Settings
from api.store import processes
from api.store.database import Database
from api.store.migrate import known_revisions
from api.store.process_table import ProcessRow
from evals import servers
from tests.api.process import Oncall
from tests.api.serving import serving, until
from tests.api.test_incidents_api import service_of

ALL = {"database", "migrations", "queue", "checkpointer", "worker", "audit_key", "backups"}


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers, none of them kept."""
    monkeypatch.setattr(readiness, "KEPT_SECONDS", 0.0)


async def nothing(*_: Any) -> None:
    """A run of the graph that does nothing."""


async def ready(client: httpx2.AsyncClient) -> dict[str, Any]:
    response = await client.get("/readyz", headers={"Authorization": ""})
    body: dict[str, Any] = response.json()
    assert (response.status_code == 200) == (body["status"] == "ok"), body
    return body


async def test_everything_works(settings: Callable[..., Settings]) -> None:
    async with serving(create_app(settings(), run_graph=nothing)) as client:

        async def is_ready() -> bool:
            return bool((await ready(client))["status"] == "ok")

        await until(is_ready, what="the worker has swept")
        assert await ready(client) == {
            "status": "ok", "dependencies": dict.fromkeys(ALL, "ok"), "reasons": {}, "mode": "live",
            "warnings": [],
        }  # fmt: skip
        assert (await client.get("/healthz")).json() == {"status": "ok"}


async def test_whoever_accepts_alerts_that_nobody_works_on_is_not_ready(
    client: httpx2.AsyncClient,
) -> None:
    body = await ready(client)
    assert {name for name, state in body["dependencies"].items() if state == "failing"} == {
        "worker"
    }
    assert "redis-oncall worker" in body["reasons"]["worker"]
    database = service_of(client).database
    await processes.say_alive(database, "elsewhere:1:a", "worker")
    assert (await ready(client))["status"] == "ok", "any process that sweeps will do"
    await processes.say_goodbye(database, "elsewhere:1:a")
    assert (await ready(client))["dependencies"]["worker"] == "failing"


async def test_a_worker_that_has_not_spoken_for_long_is_dead(database: Database) -> None:
    for name in ("quick:1:a", "silent:1:a"):
        await processes.say_alive(database, name, "worker")
    async with database.writing() as session:
        clock = await database.clock(session)
        silent = update(ProcessRow).where(ProcessRow.name == "silent:1:a")
        await session.execute(silent.values(expires=clock - 1))
    async with database.reading() as session:
        assert await processes.workers(session, clock) == 1
    await processes.say_alive(database, "quick:1:a", "worker")
    async with database.reading() as session:
        rows = await session.scalars(select(ProcessRow.name))
        assert list(rows) == ["quick:1:a"], "rows of the dead are removed"


async def test_the_queue_server_is_away(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone() -> None:
        raise ConnectionError("redis://user:pa55word@queue.internal:6379 is away")

    monkeypatch.setattr(service_of(client).queue, "ping", gone)
    body = await ready(client)
    assert body["dependencies"]["queue"] == "failing"
    said = body["reasons"]["queue"]
    assert said == "ConnectionError: `redis-oncall doctor` and the log say more", "no address"


async def test_the_tables_are_of_an_earlier_version(client: httpx2.AsyncClient) -> None:
    newest, before, *_ = known_revisions()
    database = service_of(client).database
    for there, reason in ((before, f"of revision {before}, not {newest}"), ("later", None)):
        async with database.writing() as session:
            await session.execute(
                text("UPDATE alembic_version SET version_num = :there"), {"there": there}
            )
        said = (await ready(client))["reasons"].get("migrations")
        assert (reason in said) if reason else (said is None), said


async def test_checkpoints_are_gone(client: httpx2.AsyncClient) -> None:
    service_of(client).database.checkpoints.unlink()
    body = await ready(client)
    assert body["reasons"]["checkpointer"] == "unable to open database file"


async def test_the_key_file_is_gone_and_is_not_made_anew(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    async with serving(create_app(settings(), worker=False)) as client:
        key = tmp_path / "key"
        kept = key.read_bytes()
        key.unlink()
        assert "key file is gone" in (await ready(client))["reasons"]["audit_key"]
        assert not key.exists()
        key.write_bytes(kept[:10])
        key.chmod(0o600)
        assert (await ready(client))["dependencies"]["audit_key"] == "failing"
        key.write_bytes(kept)
        assert (await ready(client))["dependencies"]["audit_key"] == "ok"


async def test_backups_have_nowhere_to_go(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    told = settings(backups={"folder": str(in_the_way)})
    async with serving(create_app(told, worker=False)) as client:
        assert (await ready(client))["reasons"]["backups"] == "Not a directory"


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_a_postgresql_that_only_reads_is_failing(
    settings: Callable[..., Settings], url: str
) -> None:
    async with serving(create_app(settings(url), worker=False)) as client:
        assert (await ready(client))["dependencies"]["database"] == "ok"
        name = url.rpartition("/")[2]
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            admin.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        body = await ready(client)
        assert body["reasons"]["database"].startswith("ReadOnlySqlTransaction: ")
        assert body["dependencies"]["checkpointer"] == "ok", "it can still be read"
        metrics = (await client.get("/metrics")).text
        assert "redis_oncall_store_up 1.0" in metrics


def test_a_disk_without_room_is_not_ready_and_is_ready_again_when_there_is_some(
    tmp_path: Path, start_server: Callable[..., servers.Server]
) -> None:
    """Of the real process: no file of its may grow any more."""
    oncall = Oncall(tmp_path, start_server(servers.BUILDS[-1]).port)
    oncall.start()
    try:
        assert oncall._service is not None
        limits = (oncall._service.pid, resource.RLIMIT_FSIZE)
        written = (tmp_path / "data" / "redis-oncall.db-wal").stat().st_size
        log = oncall.log.stat().st_size
        assert log < written // 2, "it can still say so in its log"
        unlimited = resource.prlimit(*limits, (written // 2 + log, -1))

        def failing() -> Any:
            response = oncall.client.get("/readyz")
            return response.json()["reasons"].get("database") if response.is_error else None

        assert oncall.wait(failing, "the disk shows", 20) == "disk I/O error"
        assert oncall.client.get("/healthz").is_success
        resource.prlimit(*limits, unlimited)
        oncall.wait(lambda: oncall.client.get("/readyz").is_success, "it is ready again", 20)
    finally:
        oncall.stop()
