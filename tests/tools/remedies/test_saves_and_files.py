"""A snapshot after the disk was mended; a change that survives a restart, and one that does not."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from evals import servers
from evals.servers import Server
from tests.tools.load import failing, fill
from tools.connection import CommandFailure, LiveConnection
from tools.permissions import READ_WRITE
from tools.remedies.background_save import BackgroundSave, BackgroundSaveArguments
from tools.remedies.operation import Operation
from tools.remedies.rewrite_config import RewriteConfig, RewriteConfigArguments

SAVE, REWRITE = BackgroundSave(), RewriteConfig()


async def connected(server: Server) -> LiveConnection:
    connection = LiveConnection(server.url, READ_WRITE, reconnects=0)
    await connection.open()
    return connection


async def broken(
    start_server: Callable[..., Server], build: str, folder: Path
) -> tuple[Server, LiveConnection]:
    """Where its snapshots should go, something else is in the way."""
    server = start_server(build, "--dir", str(folder))
    (folder / "dump.rdb").mkdir()
    connection = await connected(server)
    with closing(redis.Redis(port=server.port)) as client:
        client.config_set("save", "3600 1")  # on 6.2's command line the last but one counts
        client.set("k", "v")
        await fails(client)
        with pytest.raises(redis.ResponseError, match="snapshot"):
            client.set("k", "w")
    return server, connection


async def fails(client: "redis.Redis") -> None:
    client.bgsave()
    for _ in range(500):
        if client.info("persistence")["rdb_last_bgsave_status"] == "err":
            return
        await asyncio.sleep(0.02)
    pytest.fail("the snapshot did not fail")


async def test_after_the_disk_is_mended_a_snapshot_lets_writes_in_again(
    build: str, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    server, connection = await broken(start_server, build, tmp_path)
    args = BackgroundSaveArguments()
    assert failing(await SAVE.preconditions(connection, args)) == []
    captured = await SAVE.capture(connection, args)
    done = await SAVE.apply(connection, args, captured)
    judged = await SAVE.verify(connection, args, captured | {"done": done})
    assert (judged.helped, "not mended" in judged.because) == (False, True)
    assert await SAVE.settle(connection, args, captured) == "not_applied"
    await connection.wait(1.1)  # 6.2 tells saves apart by the second
    (tmp_path / "dump.rdb").rmdir()
    captured = await SAVE.capture(connection, args)
    done = await SAVE.apply(connection, args, captured)
    assert done["rdb_last_bgsave_status"] == "ok"
    judged = await SAVE.verify(connection, args, captured | {"done": done})
    assert judged.helped is True, judged.because
    assert await SAVE.settle(connection, args, captured) == "applied"
    with closing(redis.Redis(port=server.port)) as client:
        assert client.set("k", "w")
    assert "The last snapshot failed" in failing(await SAVE.preconditions(connection, args))
    await connection.close()


async def test_a_long_save_is_watched_and_a_second_one_or_too_little_memory_is_refused(
    build: str, start_server: Callable[..., Server]
) -> None:
    server = start_server(build, "--rdb-key-save-delay", "20000")
    connection = await connected(server)
    notes = []

    async def note(done: dict[str, Any]) -> str:
        notes.append(done)
        return "somebody said stop" if len(notes) == 2 else ""

    with closing(redis.Redis(port=server.port)) as client:
        fill(client, "k:", 300)
        args = BackgroundSaveArguments(memory_limit=1_000_000)
        captured = await SAVE.capture(connection, args)
        done = await SAVE.apply(connection, args, captured, Operation("a", note))
        assert done["stopped_because"] == "somebody said stop"
        assert client.info("persistence")["rdb_bgsave_in_progress"] == 1
        assert await SAVE.settle(connection, args, captured) == "applied"
        assert (await SAVE.verify(connection, args, captured | {"done": done})).helped is None
        refused = failing(await SAVE.preconditions(connection, args))
        assert {"No other child runs", "The pages that a child copies fit the machine"} <= {
            *refused
        }
        with pytest.raises(CommandFailure, match="in progress"):
            await SAVE.apply(connection, args, captured)
    await connection.close()


async def test_what_was_written_survives_a_restart_and_the_undo_is_written_too(
    build: str, tmp_path: Path
) -> None:
    file = tmp_path / "redis.conf"
    file.write_text("# ours\ntimeout 0\n")
    server = start_server_with(build, file)
    try:
        connection = await connected(server)
        args = RewriteConfigArguments(parameter="timeout", value="600", old="0")
        checks = await REWRITE.preconditions(connection, args)
        assert [check.holds for check in checks] == [True, None], "not set yet: nothing to keep"
        with closing(redis.Redis(port=server.port)) as client:
            client.config_set("timeout", 600)
        assert failing(await REWRITE.preconditions(connection, args)) == []
        captured = await REWRITE.capture(connection, args)
        assert "timeout 600" not in file.read_text()
        done = await REWRITE.apply(connection, args, captured)
        assert done == {"written": str(file)}
        assert "timeout 600" in file.read_text()
        assert "# ours" in file.read_text()
        assert (await REWRITE.verify(connection, args, captured)).helped is True
        await REWRITE.undo(connection, args, captured)
        assert "timeout 600" not in file.read_text()
        assert (await REWRITE.verify_undo(connection, args, captured)).helped is True
        with closing(redis.Redis(port=server.port)) as client:
            assert client.config_get("timeout")["timeout"] == "0"
            client.config_set("timeout", 700)
        with pytest.raises(CommandFailure, match="somebody changed it"):
            await REWRITE.undo(connection, args, captured)
        await connection.close()
    finally:
        servers.stop(server)


def start_server_with(build: str, file: Path) -> Server:
    """Its configuration file is the first argument."""
    path = servers.binary(build)
    if path is None:
        pytest.skip(f"{build} is not installed here (Debian package redis-server)")
    return servers.start(build, path, configuration=file)


async def test_without_a_file_there_is_nothing_to_keep_it_in(
    build: str, start_server: Callable[..., Server]
) -> None:
    connection = await connected(start_server(build))
    args = RewriteConfigArguments(parameter="timeout", value="600", old="0")
    with closing(redis.Redis(port=int(connection.address.rpartition(":")[2]))) as client:
        client.config_set("timeout", 600)
    (refused,) = failing(await REWRITE.preconditions(connection, args))
    assert "configuration file" in refused
    await connection.close()
