"""Tokens are changed while the service runs, and a person's old one stops when it says."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from httpx2 import AsyncClient
from pydantic import ValidationError
from sqlalchemy import select
from typer.testing import CliRunner

from api import events, rotation
from api.app import create_app
from api.cli.main import app as command
from api.config import Config, TokenEntry
from api.settings import Settings, load_settings
from api.store.tables import AuditRow
from tests.api.process import Oncall
from tests.api.serving import TARGETS, as_role, serving, sha256, until
from tests.api.test_incidents_api import service_of

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


def entry(name: str, role: str = "admin", **more: Any) -> dict[str, Any]:
    return {"name": name, "role": role, "sha256": sha256(f"roc_{name}_x"), **more}


def using(name: str) -> dict[str, str]:
    return as_role(f"roc_{name}_x")


class File:
    """The configuration that a running service was started with."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "oncall.yaml"

    def write(self, *tokens: dict[str, Any], **more: Any) -> None:
        self.break_with(yaml.safe_dump({"targets": TARGETS, "tokens": list(tokens), **more}))

    def break_with(self, text: str) -> None:
        beside = self.path.with_suffix(".new")
        beside.write_text(text)
        beside.rename(self.path)

    def settings(self) -> Settings:
        return load_settings(
            {"REDIS_ONCALL_CONFIG": str(self.path), "REDIS_ONCALL_DATA": str(self._folder)}
        )


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> File:
    monkeypatch.setattr(rotation, "LOOK_SECONDS", 0.02)
    return File(tmp_path)


@contextlib.asynccontextmanager
async def running(file: File) -> AsyncIterator[AsyncClient]:
    async with serving(create_app(file.settings(), worker=False)) as client:
        yield client


async def answers(client: AsyncClient, name: str, code: int) -> None:
    async def it_does() -> bool:
        response = await client.get("/v1/incidents", headers=using(name))
        return response.status_code == code

    await until(it_does, what=f"{code} for {name}")


async def noted(client: AsyncClient, what: str) -> list[dict[str, Any]]:
    async with service_of(client).database.reading() as session:
        rows = await session.scalars(select(AuditRow).where(AuditRow.what == what))
        return [row.detail for row in rows]


async def test_a_token_is_replaced_without_a_restart(file: File) -> None:
    file.write(entry("ada-old", person="ada"), entry("bob"))
    async with running(file) as client:
        await answers(client, "ada-old", 200)
        file.write(
            entry("ada-old", person="ada"), entry("ada-new", person="ada"), entry("bob", "viewer")
        )
        await answers(client, "ada-new", 200)
        await answers(client, "ada-old", 200)
        file.write(entry("ada-new", person="ada"), entry("bob", "viewer"))
        await answers(client, "ada-old", 401)
        await answers(client, "ada-new", 200)
        posted = await client.post("/v1/freezes", json={"reason": "x"}, headers=using("bob"))
        assert posted.status_code == 403

        async def both() -> bool:
            return len(await noted(client, "tokens")) == 2

        await until(both)
        assert await noted(client, "tokens") == [
            {"added": ["ada-new"], "changed": ["bob"]}, {"removed": ["ada-old"]},
        ]  # fmt: skip


@pytest.mark.parametrize(
    "then", [[entry("bob")], [entry("ada", "viewer"), entry("bob")],
             [entry("ada", expires=NOW - HOUR), entry("bob")]],
)  # fmt: skip
async def test_a_stream_ends_with_the_token_of_whoever_listens(
    file: File, then: list[dict[str, Any]]
) -> None:
    """Taken out, lowered or expired, while somebody else goes on listening."""
    file.write(entry("ada"), entry("bob"))
    async with running(file) as client:
        body = {"target": "cache-eu"}
        opened = await client.post("/v1/investigations", json=body, headers=using("bob"))
        path = f"/v1/incidents/{opened.json()['id']}/events"
        ada, bob = (
            asyncio.create_task(client.get(path, headers=using(name))) for name in ("ada", "bob")
        )
        await until(both_listen, what="two streams")
        file.write(*then)
        assert (await asyncio.wait_for(ada, 15)).status_code == 200
        assert not bob.done()
        bob.cancel()
        await asyncio.gather(bob, return_exceptions=True)


async def both_listen() -> bool:
    return events._streams.total() == 2


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("tokens: [", "not YAML"),
        ("tokens: [{name: ada, role: god, sha256: s3cret}]", "tokens.0.role"),
        ("targets: []", "no tokens any more"),
        ("", "no tokens any more"),
    ],
)
async def test_a_broken_file_changes_nothing_and_says_so(
    file: File, text: str, because: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file.write(entry("ada"))
    async with running(file) as client:
        file.break_with(text)

        async def refused() -> Any:
            return await noted(client, "tokens_refused")

        (row,) = await until(refused)
        assert because in row["because"]
        await answers(client, "ada", 200)
        await asyncio.sleep(0.2)  # said once, not at every look
        assert len(await refused()) == 1
        file.write(entry("ada"), entry("bob"))
        await answers(client, "bob", 200)
    logged = capfd.readouterr().err
    assert '"tokens_refused"' in logged
    assert "s3cret" not in logged


async def test_a_secret_that_the_file_refers_to_is_changed_in_its_own_file(
    file: File, tmp_path: Path
) -> None:
    """As Kubernetes mounts it: the file itself stays as it was."""
    mounted = tmp_path / "ada"
    mounted.write_text(sha256("roc_ada_x"))
    file.write(entry("ada") | {"sha256": f"${{file:{mounted}}}"}, entry("bob"))
    async with running(file) as client:
        await answers(client, "ada", 200)
        mounted.unlink()

        async def refused() -> Any:
            return await noted(client, "tokens_refused")

        assert str(mounted) in (await until(refused))[0]["because"]
        mounted.write_text(sha256("another"))
        await answers(client, "ada", 401)
        assert len(await refused()) == 1


async def test_the_last_source_taken_out_opens_nothing_either(file: File) -> None:
    """A service that only takes alerts: without any entry, everybody here would be its admin."""
    source = {"name": "am", "kind": "alertmanager", "sha256": sha256("roc_am_x")}
    file.write(sources=[source])
    settings = file.settings()
    looking = rotation.Rotation(settings, None)  # type: ignore[arg-type]
    file.write()
    await looking._read_again()
    assert [known.name for known in settings.sources] == ["am"]
    file.write(sources=[source | {"name": "am-2"}])
    await looking._read_again()
    assert [known.name for known in settings.sources] == ["am-2"]


async def test_whatever_else_is_in_the_file_waits_for_a_restart(
    file: File, capfd: pytest.CaptureFixture[str]
) -> None:
    file.write(entry("ada"))
    async with running(file) as client:
        file.write(entry("ada"), entry("bob"), mode="dry_run")
        await answers(client, "bob", 200)
        assert (await client.get("/readyz")).json()["mode"] == "live"
    assert '"restart_needed"' in capfd.readouterr().err


async def test_a_file_that_is_being_written_is_not_read_yet(file: File) -> None:
    """Half of it is valid YAML, and has half of the tokens."""
    file.write(entry("ada"), entry("bob"))
    settings = file.settings()
    looking = rotation.Rotation(settings, None)  # type: ignore[arg-type]
    for _ in range(2):
        await looking.look()
    for size in range(3):
        file.write(entry("ada"), *(entry(f"n{n}") for n in range(size)))
        await looking.look()
        assert [token.name for token in settings.tokens] == ["ada", "bob"]


async def test_what_is_revoked_while_the_database_is_away_is_revoked(file: File) -> None:
    file.write(entry("ada"), entry("bob"))
    async with running(file) as client:
        database = service_of(client).database
        keys, database.audit_keys = database.audit_keys, None
        file.write(entry("ada"))
        await answers(client, "bob", 401)
        assert await noted(client, "tokens") == []
        database.audit_keys = keys

        async def written() -> Any:
            return await noted(client, "tokens")

        assert await until(written) == [{"removed": ["bob"]}]


def test_sighup_reads_the_file_at_once_and_ends_nothing(tmp_path: Path) -> None:
    oncall = Oncall(tmp_path, redis_port=1)
    try:
        oncall.start()
        config = yaml.safe_load((tmp_path / "oncall.yaml").read_text())
        config["tokens"] += [entry("carol")]
        (tmp_path / "oncall.yaml").write_text(yaml.safe_dump(config))
        oncall.hang_up()

        def is_let_in() -> bool:
            return oncall.client.get("/v1/incidents", headers=using("carol")).is_success

        oncall.wait(is_let_in, "the new token is let in", rotation.LOOK_SECONDS)
    finally:
        oncall.stop()


async def test_a_token_holds_from_its_first_moment_to_its_last(
    settings: Callable[..., Settings],
) -> None:
    tokens = [
        entry("over", expires=NOW - HOUR), entry("early", not_before=NOW + HOUR),
        entry("now", not_before=NOW - HOUR, expires=NOW + HOUR),
    ]  # fmt: skip
    sources = [{"name": "prom", "kind": "generic", "sha256": sha256("roc_prom_x"),
                "expires": NOW - HOUR}]  # fmt: skip
    async with serving(create_app(settings(tokens=tokens, sources=sources), worker=False)) as it:
        for name, code in (("over", 401), ("early", 401), ("now", 200)):
            response = await it.get("/v1/incidents", headers=using(name))
            assert response.status_code == code, name
            assert code == 200 or f"the token {name}" in response.json()["detail"]
        posted = await it.post("/v1/alerts/generic", json={"alerts": []}, headers=using("prom"))
        assert posted.status_code == 401


def test_whose_last_token_has_expired_approves_nothing(settings: Callable[..., Settings]) -> None:
    """Also if that was the last token of all: nobody is not everybody."""
    policy = settings(tokens=[entry("ada", expires=NOW - HOUR)]).policy
    assert policy.people == {}
    two = [entry("ada-old", "admin", person="ada", expires=NOW - HOUR),
           entry("ada-new", "viewer", person="ada")]  # fmt: skip
    assert settings(tokens=two).policy.people == {"ada": "viewer"}


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ("2026-12-31", datetime(2026, 12, 31, tzinfo=UTC)),
        (date(2026, 12, 31), datetime(2026, 12, 31, tzinfo=UTC)),
        ("2026-12-31 08:00+02:00", datetime(2026, 12, 31, 6, tzinfo=UTC)),
    ],
)
def test_when_it_expires_is_written_as_a_day_or_a_time(told: Any, meant: datetime) -> None:
    assert TokenEntry.model_validate(entry("ada", expires=told)).expires == meant


@pytest.mark.parametrize(
    "times", [{"expires": "soon"}, {"expires": "2026-01-01", "not_before": "2026-01-01"}]
)
def test_times_that_mean_nothing_are_refused(times: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="expires"):
        Config.model_validate({"tokens": [entry("ada", **times)]})


def test_doctor_says_which_tokens_expire_soon(file: File) -> None:
    file.write(
        entry("over", expires=str(NOW - HOUR)), entry("soon", expires=str(NOW + 24 * HOUR)),
        entry("late", expires=str(NOW + 9_999 * HOUR)), entry("never"),
    )  # fmt: skip
    environment = {
        "REDIS_ONCALL_CONFIG": str(file.path),
        "REDIS_ONCALL_DATA": str(file.path.parent),
    }
    told = CliRunner().invoke(command, ["doctor", "--json"], env=environment)
    found = {f["what"]: (f["state"], f["says"].split()[0]) for f in json.loads(told.stdout)}
    assert {what: said for what, said in found.items() if what.startswith("token ")} == {
        "token over": ("warning", "expired"), "token soon": ("warning", "expires"),
    }  # fmt: skip


def test_a_new_token_says_when_it_ends_and_whose_it_is() -> None:
    arguments = ["token", "ada-laptop", "--role", "approver", "--expires", "90d", "--person", "ada"]
    told = CliRunner().invoke(command, arguments).stdout.strip().splitlines()
    made, (line,) = told[0].rpartition(" ")[2], yaml.safe_load(told[-1])
    (token,) = Config.model_validate({"tokens": [line]}).tokens
    assert (token.who, token.role, token.sha256) == ("ada", "approver", sha256(made))
    assert token.id == made.split("_")[1]
    assert token.expires is not None
    assert timedelta(days=89) < token.expires - datetime.now(UTC) <= timedelta(days=90)
    for wrong in (["--expires", "soon"], ["--role", "source", "--person", "ada"]):
        assert CliRunner().invoke(command, [*arguments, *wrong]).exit_code == 2
