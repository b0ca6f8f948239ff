"""PostgreSQL goes away in the middle of things: what was promised holds, and all goes on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy.exc import DBAPIError

from api import exposition, problems, readiness
from api.app import create_app
from api.settings import Settings
from api.store import audit
from api.store import database as databases
from api.store.chain import Key, Keyring
from api.store.database import Database, database_url
from api.store.migrate import migrate
from api.store.trail import begin
from evals import servers
from tests.api.postgresql_tables import AsGoodAsNew
from tests.api.process import Oncall, setting_of, settings_written
from tests.api.serving import serving, until
from tests.api.test_alerts import firing, message, post
from tests.chaos.processes import Postgres

KEYS = Keyring(Key(b"k" * 32))


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    """A server that can be restarted: nobody else uses it."""
    try:
        server = Postgres(tmp_path / "postgres.log")
    except LookupError as missing:
        pytest.skip(str(missing))
    server.start()
    yield server
    server.close()


@pytest.mark.usefixtures("close_samples")
@pytest.mark.long
def test_after_a_restart_of_the_database_nothing_of_ours_is_restarted(
    tmp_path: Path, ill: servers.Server, postgres: Postgres
) -> None:
    """Every connection is cut at the gate; then somebody approves."""
    oncall = Oncall(tmp_path, ill.port, DATABASE_URL=postgres.url)
    try:
        oncall.start()
        incident_id = oncall.alert()
        action = setting_of(oncall.reaches(incident_id, "awaiting_approval"))
        postgres.stop()
        refused = oncall.client.post("/v1/alerts/alertmanager", json=message(firing("f2")))
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        postgres.start()
        oncall.approve(incident_id, action)
        oncall.wait(
            lambda: oncall.action(incident_id, action.id).status == "verified", "it is carried out"
        )
        assert settings_written(ill) == 1
        assert oncall.incident(incident_id).attempt == 1
    finally:
        oncall.stop()


class Cut:
    """Stands before PostgreSQL and cuts the next connection that commits."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.when = ""
        """before: COMMIT does not arrive; after: its answer does not."""

    async def __aenter__(self) -> "Cut":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        self._open: set[asyncio.Task[Any]] = set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._to)
        is_over = asyncio.Event()
        back = asyncio.create_task(self._answers(from_server, writer, is_over))
        with suppress(asyncio.CancelledError):
            while data := await reader.read(65_536):
                when, self.when = (self.when, "") if b"COMMIT" in data else ("", self.when)
                if when == "before":
                    break
                if when == "after":
                    is_over.set()
                to_server.write(data)
                if when == "after":
                    await back
                    break
        back.cancel()
        for end in (writer, to_server):
            end.close()
        ends = (back, writer.wait_closed(), to_server.wait_closed())
        await asyncio.gather(*ends, return_exceptions=True)

    async def _answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_over: asyncio.Event
    ) -> None:
        while data := await reader.read(65_536):
            if is_over.is_set():
                return
            writer.write(data)


@pytest.mark.parametrize(("when", "is_kept"), [("before", False), ("after", True)])
async def test_a_commit_whose_answer_is_lost_is_no_202_and_no_second_incident(
    settings: Callable[..., Settings], postgres: Postgres, when: str, is_kept: bool
) -> None:
    """The sender is told to come again; what it then sends is recognised, if it was kept."""
    second = firing("f1", labels={"alertname": "RedisMemoryHigh", "instance": "cache-us"})
    async with Cut(postgres.port) as cut:
        url = postgres.url.replace(f":{postgres.port}/", f":{cut.port}/")
        async with serving(create_app(settings(database=url), worker=False)) as client:
            assert (await post(client, message(firing("f0")))).status_code == 202
            cut.when = when
            lost = await post(client, message(second))
            assert (lost.status_code, lost.headers["retry-after"]) == (503, "5")
            assert cut.when == "", "it was cut"
            again = await post(client, message(second))
            assert again.status_code == 202
            (incident,) = again.json()["incidents"]
            assert incident["created"] is not is_kept
            shown = (await client.get("/v1/incidents?target=cache-us")).json()["items"]
            assert [one["id"] for one in shown] == [incident["id"]]
            assert [alert["fingerprint"] for alert in shown[0]["alerts"]] == ["f1"]


async def test_a_database_that_only_reads_is_no_fault_and_is_written_once_it_may_be(
    settings: Callable[..., Settings], as_good_as_new: AsGoodAsNew
) -> None:
    """As a managed server does whose disk is full; its sessions do not hear that it is over."""
    url = as_good_as_new.url()
    name = url.rpartition("/")[2]

    def only_reads(*, on: bool) -> None:
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("SET default_transaction_read_only = off")
            state = "on" if on else "off"
            admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {state}")
            if on:
                admin.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )

    async with serving(create_app(settings(database=url), worker=False)) as client:
        assert (await post(client, message(firing("f0")))).status_code == 202
        only_reads(on=True)
        for number in range(3):
            refused = await post(client, message(firing(f"f{number}"), firing(f"g{number}")))
            assert (refused.status_code, refused.headers.get("retry-after")) == (503, "5")
        both = await asyncio.gather(*(post(client, message(firing(f"h{n}"))) for n in range(2)))
        assert [one.status_code for one in both] == [503, 503]
        freeze = await client.post("/v1/freezes", json={"reason": "wait"})
        assert freeze.status_code == 503
        only_reads(on=False)
        assert (await post(client, message(firing("f1")))).status_code == 202


async def test_a_database_that_hangs_keeps_neither_metrics_nor_readiness(
    settings: Callable[..., Settings], postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prometheus gives up after 10 s: it could not say then that the store is unreadable."""
    monkeypatch.setattr(readiness, "KEPT_SECONDS", 0.0)
    for module, name in ((readiness, "PROBE_SECONDS"), (exposition, "STORE_SECONDS")):
        monkeypatch.setattr(module, name, 1.0)
    async with serving(create_app(settings(database=postgres.url), worker=False)) as client:
        for path in ("/metrics", "/readyz"):  # each has its connections
            await client.get(path)
        assert (await client.get("/readyz")).json()["dependencies"]["database"] == "ok"
        frozen = [psutil.Process(pid) for pid in postgres.pids()]
        for process in frozen:
            process.suspend()
        try:
            tasks = len(asyncio.all_tasks())
            for _ in range(3):
                async with asyncio.timeout(9):
                    metrics, ready = await asyncio.gather(
                        client.get("/metrics"), client.get("/readyz")
                    )
                assert "redis_oncall_store_up 0.0" in metrics.text
                assert "no answer within" in ready.json()["reasons"]["database"]
            hanging = len(asyncio.all_tasks()) - tasks
            assert hanging <= len(ready.json()["dependencies"]) + 1, "no more for the next time"
        finally:
            for process in frozen:
                process.resume()

        async def works() -> bool:
            body = (await client.get("/readyz")).json()
            return bool(body["dependencies"]["database"] == "ok")

        await until(works, 60, "the database is back")
        assert "redis_oncall_store_up 1.0" in (await client.get("/metrics")).text


@pytest.fixture
async def two(
    postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Database, Database]]:
    """Two processes' ways to one database."""
    monkeypatch.setattr(databases, "IDLE_SECONDS", 1)
    both = Database(database_url(postgresql)), Database(database_url(postgresql))
    await migrate(both[0])
    for one in both:
        await begin(one, KEYS)
    yield both
    for one in both:
        await one.close()


async def test_whoever_is_frozen_inside_of_a_transaction_does_not_stop_everybody(
    two: tuple[Database, Database],
) -> None:
    """The audit trail has one lock for all: a process that stops while it holds it is cut off."""
    frozen, other = two
    woken, inside = asyncio.Event(), asyncio.Event()

    async def freeze() -> None:
        async with frozen.writing() as session:
            await audit.note(session, audit.service("service"), "frozen")
            await audit.append_noted(session, frozen.audit_keys)
            inside.set()
            await woken.wait()

    freezing = asyncio.create_task(freeze())
    await inside.wait()
    async with asyncio.timeout(10), other.writing() as session:
        await audit.note(session, audit.service("service"), "goes on")
    woken.set()
    with pytest.raises(DBAPIError) as cut_off:
        await freezing
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    async def _() -> None:
        raise cut_off.value

    async with serving(app) as client:
        assert (await client.get("/")).status_code == 503, "the sender tries again"
