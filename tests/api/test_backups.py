"""Backups of the service: swept by its worker, listed and put back by its administrator."""

import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from typer.testing import CliRunner

from api.app import create_app
from api.backups import backup_folder
from api.cli.main import app
from api.keys import subkey
from api.settings import load_settings
from evals.servers import BUILDS, Server
from tests.api.serving import serving, until
from tests.tools.load import fill
from tools.backups import BackupFolder
from tools.connection import LiveConnection
from tools.permissions import READ_WRITE
from tools.remedies.operation import Operation, Saved
from tools.remedies.removal import RemovePrefix, RemovePrefixArguments

RUN = CliRunner()


@pytest.fixture
def server(start_server: Callable[..., Server]) -> Server:
    return start_server(BUILDS[-1])


@pytest.fixture
def environment(tmp_path: Path, server: Server) -> dict[str, str]:
    target = {"name": "cache", "url": server.url, "remedy_url": server.url}
    config = tmp_path / "oncall.yaml"
    config.write_text(yaml.safe_dump({"targets": [target], "backups": {"folder": "kept"}}))
    return {"REDIS_ONCALL_DATA": str(tmp_path), "REDIS_ONCALL_CONFIG": str(config)}


async def removed(environment: dict[str, str], server: Server) -> None:
    connection = LiveConnection(server.url, READ_WRITE, reconnects=0)
    await connection.open()
    args = RemovePrefixArguments(prefix="old:", owner_confirmed=True)
    captured = await RemovePrefix().capture(connection, args)
    operation = Operation("inc-1-A1", backups=backup_folder(load_settings(environment)))
    await RemovePrefix().apply(connection, args, captured, operation)
    await connection.close()


def run(environment: dict[str, str], *words: str, said: str = "") -> Any:
    return RUN.invoke(app, ["backups", *words], env=environment, input=said)


def test_without_any_the_list_says_so(environment: dict[str, str]) -> None:
    assert json.loads(run(environment, "list", "--json").stdout) == []
    assert "no backups" in run(environment, "list").output


def test_listed_and_put_back_where_nothing_took_its_place(
    environment: dict[str, str], server: Server
) -> None:
    with closing(redis.Redis(port=server.port)) as client:
        fill(client, "old:", 120)
        asyncio.run(removed(environment, server))
        assert client.dbsize() == 0
        (row,) = json.loads(run(environment, "list", "--json").stdout)
        assert (row["name"], row["trouble"]) == ("inc-1-A1", "")
        assert "inc-1-A1" in run(environment, "list").output
        client.set("old:7", "new")
        restoring = ("restore", "inc-1-A1", "--target", "cache")
        dry = run(environment | {"REDIS_ONCALL_DRY_RUN": "1"}, *restoring, "--yes")
        assert (dry.exit_code, client.dbsize()) == (2, 1)
        assert run(environment, *restoring, said="n\n").exit_code == 1
        assert client.dbsize() == 1
        done = run(environment, *restoring, "--yes")
        assert done.exit_code == 0, done.output
        assert "119 put back, 1 exist already" in done.output
        assert client.get("old:7") == b"new"
        other = environment | {"REDIS_ONCALL_KEY": "ab" * 32}
        refused = run(other, *restoring, "--yes")
        assert (refused.exit_code, "another key" in refused.output) == (1, True)
        (row,) = json.loads(run(other, "list", "--json").stdout)
        assert "another key" in row["trouble"]
        for name in ("inc-2", "../key"):
            assert run(environment, "restore", name, "--target", "cache", "--yes").exit_code == 2


async def test_the_workers_sweeper_deletes_what_is_over(settings: Callable[..., Any]) -> None:
    configured = settings()
    at_work = backup_folder(configured)

    def folder(keep: timedelta) -> BackupFolder:
        key = lambda: subkey(configured, "backups")  # noqa: E731
        return BackupFolder(configured.backups_folder, key, keep=keep, most_bytes=2**40)

    with pytest.raises(OSError, match="expired on"):  # its time is up as it is made
        await folder(timedelta(seconds=-1)).open("over")
    async with await folder(timedelta(days=1)).open("kept") as backup:
        await backup.add([Saved(b"k", b"v")])
    assert {one.name for one in at_work.kept()} == {"over", "kept"}
    async with serving(create_app(configured)):

        async def swept() -> bool:
            return [one.name for one in at_work.kept()] == ["kept"]

        await until(swept, what="the sweep")
