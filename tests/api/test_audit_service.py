"""The audit trail of a running service: who saw what, and whether anybody cut it short."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient
from sqlalchemy import select
from typer.testing import CliRunner, Result

from api import auditing, heads
from api.app import create_app
from api.cli.main import app as command
from api.cli.trail import note_deed
from api.config import Config
from api.settings import Settings
from api.store.audit import WrongKey
from api.store.database import Database, database_url
from api.store.tables import AuditRow
from tests.api.at_once import forked, write_on
from tests.api.serving import TARGETS, as_role, serving, token_entries
from tests.api.test_incidents_api import opened, service_of
from tests.api.trails import behind_its_back, verified, write


async def trail_of(client: AsyncClient) -> list[AuditRow]:
    async with service_of(client).database.reading() as session:
        return list(await session.scalars(select(AuditRow).order_by(AuditRow.id)))


def views(rows: list[AuditRow]) -> list[tuple[str, str, str | None]]:
    return [(row.by, row.detail["part"], row.incident_id) for row in rows if row.what == "view"]


async def test_who_saw_an_incident_is_on_record_and_polling_does_not_flood_it(
    client: AsyncClient,
) -> None:
    incident = (await opened(client, "cache-eu"))["id"]
    for _ in range(3):
        for path in ("", "/report", "/transcript"):
            await client.get(f"/v1/incidents/{incident}{path}", headers=as_role("viewer"))
        await client.get("/v1/incidents", headers=as_role("viewer"))
    await client.get(f"/v1/incidents/{incident}", headers=as_role("approver"))
    await client.get("/v1/incidents/inc-unknown", headers=as_role("viewer"))
    assert views(await trail_of(client)) == [
        ("viewer-1", "incident", incident),
        ("viewer-1", "report", incident),
        ("viewer-1", "transcript", incident),
        ("viewer-1", "list", None),
        ("approver-1", "incident", incident),
    ]


async def test_an_incident_can_be_read_while_nothing_can_be_written(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    incident = (await opened(client, "cache-eu"))["id"]
    monkeypatch.setattr(service_of(client).database, "audit_keys", None)
    response = await client.get(f"/v1/incidents/{incident}", headers=as_role("viewer"))
    assert response.status_code == 200
    assert '"view_not_noted"' in capfd.readouterr().err
    monkeypatch.undo()
    await client.get(f"/v1/incidents/{incident}", headers=as_role("viewer"))
    assert views(await trail_of(client)) == [("viewer-1", "incident", incident)]


async def test_a_million_wrong_tokens_are_one_row(settings: Callable[..., Settings]) -> None:
    app = create_app(settings(), worker=False)
    async with serving(app) as client:
        for number in range(5):
            response = await client.get("/v1/incidents", headers=as_role(f"roc_{number}_x"))
            assert response.status_code == 401
        await app.state.sign_ins.write_down(service_of(client).database)
        await app.state.sign_ins.write_down(service_of(client).database)
        (row,) = [row for row in await trail_of(client) if row.what == "sign_in_failed"]
    assert row.detail == {"times": 5, "limited": 0, "of": ["127.0.0.1"]}
    assert "roc_" not in json.dumps(row.detail)


async def test_starts_are_on_record_by_a_hash_that_tells_configurations_apart(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    other = [{**TARGETS[0], "url": "redis://u:another@127.0.0.1:1/0"}]
    new = f"sqlite:///{tmp_path / 'new.db'}"
    for targets in (TARGETS, TARGETS, other):
        async with serving(create_app(settings(new, targets=targets), worker=False)) as client:
            rows = await trail_of(client)
    assert [row.what for row in rows] == ["migrate", *["start", "stop"] * 2, "start"]
    hashes = [row.detail["settings"] for row in rows if row.what == "start"]
    assert hashes[0] == hashes[1] != hashes[2]
    assert "another" not in json.dumps([row.detail for row in rows])


async def test_who_cuts_the_trail_short_is_caught_at_the_next_start(
    settings: Callable[..., Settings], capfd: pytest.CaptureFixture[str]
) -> None:
    configured = settings()
    async with serving(create_app(configured, worker=False)) as client:
        incident = (await opened(client, "cache-eu"))["id"]
        await client.get(f"/v1/incidents/{incident}")
    noted = heads.noted(configured)
    logged = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert {
        line["seq"]: line["mac"] for line in logged if line["event"] == "audit_head"
    } == noted  # redaction leaves a MAC whole
    database = Database(database_url(configured.database_url.get_secret_value()))
    await behind_its_back(
        database,
        "DELETE FROM audit WHERE id > 2",
        "UPDATE audit_head SET seq = 2, mac = (SELECT mac FROM audit WHERE id = 2)",
    )
    async with serving(create_app(configured, worker=False)) as client:
        (damage,) = [row for row in await trail_of(client) if row.what == "audit_damage"]
        assert f"ends at row 2, and row {max(noted)} was noted" in damage.detail["because"]
        (page,) = [row for row in await trail_of(client) if row.what == "page"]
        assert "run `redis-oncall audit verify`" in page.detail["reason"]
    await database.close()


async def test_the_service_does_not_start_with_another_key(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    configured = settings()
    async with serving(create_app(configured, worker=False)):
        pass
    (tmp_path / "key").unlink()
    app = create_app(configured, worker=False)
    with pytest.raises(WrongKey):
        await _start(app)
    assert "REDIS_ONCALL_KEY" in app.state.refused_to_start


async def _start(app: FastAPI) -> None:
    async with serving(app):
        pass


async def test_old_rows_go_every_hour_and_the_head_is_noted(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(auditing, "WAKE_SECONDS", 0.05)
    monkeypatch.setattr(auditing, "HEAD_SECONDS", 0.0)
    configured = settings(f"sqlite:///{tmp_path / 'new.db'}")  # so there are two rows at once
    short = configured.config.audit.model_copy(update={"keep": timedelta(0)})
    config = configured.config.model_copy(update={"audit": short})
    configured = configured.model_copy(update={"config": config})
    async with serving(create_app(configured, worker=False)) as client:
        database = service_of(client).database
        async with asyncio.timeout(20):
            while (walk := await verified(database, auditing.keyring(configured))).first == 1:
                await asyncio.sleep(0.02)
    assert walk.findings == []


async def test_several_processes_keep_one_chain_and_a_killed_one_leaves_it_whole(
    database: Database, url: str
) -> None:
    processes = [forked(write_on, url, times)[0] for times in (60, 60, 1_000_000)]
    await write(database, *["approve"] * 30)
    processes[2].kill()
    for process in processes:
        process.join(100)
    walk = await verified(database)
    assert walk.findings == []
    assert walk.rows >= 150
    assert [process.exitcode for process in processes] == [0, 0, -9]


class Shell:
    """The command line on this installation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"REDIS_ONCALL_DATA": str(folder), "DATABASE_URL": f"sqlite:///{folder}/a.db"}
        config = Config.model_validate({"targets": TARGETS, "tokens": token_entries()})
        self.settings = Settings.model_validate(
            {"config": config, "database_url": self.env["DATABASE_URL"], "data_folder": folder,
             "queue": f"memory://{folder.name}"}
        )  # fmt: skip

    def __call__(self, *words: str, **env: str) -> Result:
        return CliRunner().invoke(command, ["audit", *words], env=self.env | env)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Of a service that ran for a while."""
    shell = Shell(tmp_path)

    async def live() -> None:
        async with serving(create_app(shell.settings, worker=False)) as client:
            incident = (await opened(client, "cache-eu"))["id"]
            await client.get(f"/v1/incidents/{incident}")

    asyncio.run(live())
    return shell


def spoil(shell: Shell, *statements: str) -> None:
    async def run() -> None:
        database = Database(database_url(shell.env["DATABASE_URL"]))
        await behind_its_back(database, *statements)
        await database.close()

    asyncio.run(run())


def test_verify_says_whole_or_names_the_first_row_that_is_not(shell: Shell) -> None:
    whole = shell("verify")
    assert (whole.exit_code, whole.stdout.splitlines()[0]) == (
        0,
        "the audit trail is whole: 5 rows",
    )
    head = whole.stdout.splitlines()[-1].removeprefix("head: ")
    spoil(shell, "UPDATE audit SET \"by\" = 'mallory' WHERE id = 3")
    broken = shell("verify")
    assert broken.exit_code == 1
    assert "first at row 3" in broken.stdout
    spoil(
        shell,
        "DELETE FROM audit WHERE id > 2",
        "UPDATE audit_head SET seq = 2, mac = (SELECT mac FROM audit WHERE id = 2)",
    )
    assert "rows 3 to 5 are missing at the end" in shell("verify").stdout
    heads.heads_file(shell.settings).unlink()
    assert shell("verify").exit_code == 0
    assert "rows 3 to 5 are missing at the end" in shell("verify", "--head", head).stdout
    assert shell("verify", "--head", "5").exit_code == 2


def test_an_export_is_verified_elsewhere(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "export.jsonl"
    assert shell("export", "-o", str(file)).exit_code == 0
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    assert "whole: 5 rows" in shell("verify", "--file", str(file)).stdout
    lines = file.read_text().splitlines(keepends=True)
    row = json.loads(lines[2])
    for changed, finding in (
        ([*lines[:2], json.dumps(row | {"by": "mallory"}) + "\n", *lines[3:]], "row 3: it was"),
        ([*lines[:2], *lines[3:]], "lines were taken out"),
        ([lines[1], lines[0], *lines[2:]], "row 1: it does not belong after row 2"),
        (lines[:-1], "cut short"),
        ([*lines[:-1], lines[-1].replace('"rows": 5', '"rows": 4')], "its last line changed"),
        ([*lines, lines[0]], "line 7 is not a row"),
        (["{}\n"], "line 1 is not a row"),
        (["[" * 50_000], "line 1 is not a row"),
    ):
        file.write_text("".join(changed))
        done = shell("verify", "--file", str(file))
        assert done.exit_code == 1
        assert finding in done.stdout, done.stdout


def test_a_part_is_exported_and_verified_too(shell: Shell, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in shell("export").stdout.splitlines()]
    incident = next(row["incident_id"] for row in rows if row.get("incident_id"))
    file = tmp_path / "part.jsonl"
    file.write_text(shell("export", "--incident", incident).stdout)
    assert "whole: 2 rows" in shell("verify", "--file", str(file)).stdout
    file.write_text(shell("export", "--since", rows[2]["at"]).stdout)
    assert "whole: 3 rows" in shell("verify", "--file", str(file)).stdout


def test_prune_and_rekey_ask_first_and_say_what_they_did(shell: Shell) -> None:
    assert shell("prune", "--before", "tomorrow").exit_code == 2
    assert shell("prune", "--before", "2099-01-01").exit_code == 2
    assert shell("prune", "--before", "2099-01-01", "--yes").stdout.startswith("4 rows removed")
    assert "rows 1 to 4 were pruned" in shell("verify").stdout
    listed = shell("list").stdout.splitlines()
    assert "audit_prune" in listed[-1]
    assert "@" in listed[-1]
    assert "it is not lost" in shell("rekey", "--lost", "--yes").stderr
    other = {"REDIS_ONCALL_KEY": "b" * 64}
    assert "cannot be verified with the key" in shell("verify", **other).stdout
    assert "goes on with key" in shell("rekey", "--lost", "--yes", **other).stdout
    assert shell("verify", **other).exit_code == 1
    (shell.folder / "key").unlink()
    assert "there is no key here" in shell("verify").stderr
    assert not (shell.folder / "key").exists()


def test_without_a_database_it_says_so(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert "there is no database" in shell("list").stderr
    (tmp_path / "a.db").touch()
    assert "the service makes and upgrades its tables" in shell("list").stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]


def test_what_a_command_does_is_on_record_or_said_not_to_be(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    note_deed(shell.settings, "restore", backup="b1", target="cache-eu")
    assert "restore       backup=b1 target=cache-eu" in shell("list").stdout
    assert shell("verify").exit_code == 0
    (shell.folder / "a.db").unlink()
    note_deed(shell.settings, "restored", backup="b1")
    assert "not in the audit trail (Exit): restored" in capsys.readouterr().err
