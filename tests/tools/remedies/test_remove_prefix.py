"""Removing a prefix: every key on disk before it goes, and back as it was if it has to be."""

import os
import signal
import subprocess
import sys
from collections import namedtuple
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from evals.servers import Server
from tests.tools.load import failing, fill
from tools.backups import SPARE_BYTES, BackupFolder
from tools.connection import CommandFailure, LiveConnection, Reply
from tools.permissions import READ_WRITE
from tools.remedies.operation import Operation
from tools.remedies.removal import RemovePrefix, RemovePrefixArguments

REMOVE = RemovePrefix()


def at(folder: Path, **options: Any) -> BackupFolder:
    told: dict[str, Any] = {"keep": timedelta(days=7), "most_bytes": 2**40} | options
    return BackupFolder(folder, lambda: bytes(32), **told)


@pytest.fixture
def operation(tmp_path: Path) -> Operation:
    return Operation("inc-1-A1", backups=at(tmp_path))


def arguments(prefix: str = "old:", **options: Any) -> RemovePrefixArguments:
    return RemovePrefixArguments(prefix=prefix, owner_confirmed=True, **options)


def everything(client: "redis.Redis", prefix: bytes = b"") -> dict[bytes, tuple[Any, int]]:
    """Every key with its value and its expiry in ms."""
    keys = [key for key in client.scan_iter(count=1_000) if key.startswith(prefix)]
    old = client.info("server")["redis_version"].startswith("6")
    pipeline: Any = client.pipeline()
    for key in keys:
        pipeline.dump(key).type(key)
        pipeline.pttl(key) if old else pipeline.pexpiretime(key)
    *replies, (seconds, micros) = pipeline.time().execute()
    now = seconds * 1_000 + micros // 1_000 if old else 0
    found = {}
    for place, key in enumerate(keys):
        value, kind, left = replies[3 * place : 3 * place + 3]
        if kind == b"hash":  # a table is dumped in the order of its buckets
            value = client.hgetall(key)
        elif kind == b"set":
            value = client.smembers(key)
        found[key] = (value, left if left < 0 else now + left)
    return found


def alike(one: dict[bytes, tuple[Any, int]], two: dict[bytes, tuple[Any, int]], ms: int) -> bool:
    return one.keys() == two.keys() and all(
        one[key][0] == two[key][0] and abs(one[key][1] - two[key][1]) <= ms for key in one
    )


def tolerance(build: str) -> int:
    """Only since 7.0 does a server say when a key expires, not just how much is left."""
    return 100 if build == "redis-6.2" else 0


def every_type(client: "redis.Redis") -> None:
    client.set("old:string", b"\x00\xff\r\n" * 50)
    client.set(b"old:\xff\x00\r\n*", "binary name", px=7_654_321)
    client.hset("old:hash", mapping={f"f{n}": "v" * n for n in range(300)})
    client.rpush("old:list", *range(500))
    client.sadd("old:set", *range(100), "word")
    client.zadd("old:zset", {f"m{n}": n / 3 for n in range(200)})
    client.pfadd("old:hll", *range(1_000))
    client.xadd("old:stream", {"a": 1})
    client.xgroup_create("old:stream", "g", "0")
    client.xreadgroup("g", "c", {"old:stream": ">"})
    client.pexpire("old:hash", 123_456_789)
    client.set("old:", "only the prefix")


async def test_all_types_go_and_come_back_as_they_were_and_nothing_else_is_touched(
    build: str, connection: LiveConnection, client: "redis.Redis", operation: Operation
) -> None:
    every_type(client)
    fill(client, "old:n:", 700, ex=5_000)
    for key in ("older", "ol", "Old:1", "x:old:1"):
        client.set(key, "1")
    before = everything(client)
    string = client.dump("old:string") or b""
    args = arguments(batch_size=100)
    assert failing(await REMOVE.preconditions(connection, args)) == []
    preview = await REMOVE.preview(connection, args)
    assert "About 709 keys go" in preview.predicted_effect
    captured = await REMOVE.capture(connection, args)
    assert await REMOVE.settle(connection, args, captured) == "not_applied"
    done = await REMOVE.apply(connection, args, captured, operation)
    assert (done["keys_removed"], done["changed_meanwhile"]) == (709, 0)
    assert done["backup"]["entries"] == 709
    assert set(everything(client)) == {b"older", b"ol", b"Old:1", b"x:old:1"}
    captured |= {"done": done}
    verification = await REMOVE.verify(connection, args, captured)
    assert verification.helped is True
    assert "709 removed" in verification.because
    assert await REMOVE.settle(connection, args, captured) == "applied"
    # The application writes one again before it is undone: that stays as it is.
    client.set("old:string", "written since")
    undone = await REMOVE.undo(connection, args, captured, operation)
    assert (undone["restored"], undone["exist_already"]) == (708, 1)
    assert client.get("old:string") == b"written since"
    client.restore("old:string", 0, string, replace=True)
    assert alike(everything(client), before, tolerance(build))
    assert client.xpending("old:stream", "g")["pending"] == 1
    assert (await REMOVE.verify_undo(connection, args, captured)).helped is True
    again = await REMOVE.undo(connection, args, captured, operation)
    assert (again["restored"], again["exist_already"]) == (0, 709)


async def test_what_expires_before_the_undo_stays_away(
    connection: LiveConnection, client: "redis.Redis", operation: Operation
) -> None:
    fill(client, "old:", 20)
    client.set("old:short", "x", px=300)
    args = arguments()
    captured = await REMOVE.capture(connection, args)
    done = await REMOVE.apply(connection, args, captured, operation)
    assert done["keys_removed"] == 21
    await connection.wait(0.4)
    undone = await REMOVE.undo(connection, args, captured | {"done": done}, operation)
    assert (undone["restored"], undone["expired_since"]) == (20, 1)


class Meddling(LiveConnection):
    """An application that writes between the backup and the removal."""

    def __init__(self, url: str, meddle: Any) -> None:
        super().__init__(url, READ_WRITE, reconnects=0)
        self.meddle = meddle

    async def execute_many(self, commands: Any) -> list[Reply | CommandFailure]:
        if commands and commands[0][0] == "MULTI":
            self.meddle()
        return await super().execute_many(commands)


async def test_a_key_that_is_always_written_to_is_left_and_the_others_go(
    server: Server, client: "redis.Redis", operation: Operation
) -> None:
    fill(client, "old:", 300)
    connection = Meddling(server.url, lambda: client.append("old:77", "more"))
    await connection.open()
    args = arguments()
    captured = await REMOVE.capture(connection, args)
    done = await REMOVE.apply(connection, args, captured, operation)
    assert (done["keys_removed"], done["changed_meanwhile"]) == (299, 1)
    assert set(everything(client)) == {b"old:77"}
    await connection.close()


async def test_a_key_that_is_written_to_meanwhile_is_left_alone_and_never_overwritten(
    server: Server, client: "redis.Redis", operation: Operation
) -> None:
    fill(client, "old:", 10)

    def meddle() -> None:
        if client.get("old:7") != b"new":
            client.set("old:7", "new")
            client.expire("old:8", 100)
            client.delete("old:9")

    connection = Meddling(server.url, meddle)
    await connection.open()
    args = arguments()
    captured = await REMOVE.capture(connection, args)
    done = await REMOVE.apply(connection, args, captured, operation)
    assert (done["keys_removed"], done["changed_meanwhile"]) == (7, 3)
    assert set(everything(client)) == {b"old:7", b"old:8"}
    client.delete("old:7")  # the application's own decision
    undone = await REMOVE.undo(connection, args, captured | {"done": done}, operation)
    assert (undone["restored"], undone["left_alone"]) == (7, 3)
    left = everything(client)
    assert b"old:7" not in left
    assert b"old:9" not in left
    assert left[b"old:8"][1] > 0
    await connection.close()


async def test_at_maxmemory_it_goes_on_without_transactions(
    build: str, connection: LiveConnection, client: "redis.Redis", operation: Operation
) -> None:
    fill(client, "old:", 2_000, size=1_000)
    client.config_set("maxmemory", client.info("memory")["used_memory"] - 1_000_000)
    with pytest.raises(redis.ResponseError, match=r"OOM|maxmemory"):
        client.set("x", "y")
    args = arguments()
    captured = await REMOVE.capture(connection, args)
    done = await REMOVE.apply(connection, args, captured, operation)
    assert done["keys_removed"] == 2_000
    # Redis 8 and Valkey 9 let a transaction through that only removes.
    assert (0 < done["unguarded"] < 2_000) is (build in ("redis-6.2", "redis-7.0"))
    assert client.dbsize() == 0
    client.config_set("maxmemory", 0)
    undone = await REMOVE.undo(connection, args, captured | {"done": done}, operation)
    assert undone["restored"] == client.dbsize() == 2_000


async def test_what_the_target_refuses_to_take_back_is_counted(
    connection: LiveConnection, client: "redis.Redis", operation: Operation
) -> None:
    fill(client, "old:", 100, size=1_000)
    args = arguments()
    captured = await REMOVE.capture(connection, args)
    done = await REMOVE.apply(connection, args, captured, operation)
    client.config_set("maxmemory", 1)
    with pytest.raises(CommandFailure, match=r"100 refused: .*(OOM|maxmemory)"):
        await REMOVE.undo(connection, args, captured | {"done": done}, operation)


async def test_bounds_of_keys_and_size_hold(
    connection: LiveConnection, client: "redis.Redis", operation: Operation
) -> None:
    fill(client, "old:", 300)
    client.rpush("old:huge", *(b"x" * 1_000 for _ in range(3_000)))
    args = arguments(max_keys=150, batch_size=50, largest_key_bytes=1_000_000)
    assert failing(await REMOVE.preconditions(connection, args)) == ["They are at most 150"]
    captured = await REMOVE.capture(connection, args)
    done = await REMOVE.apply(connection, args, captured, operation)
    assert 100 <= done["keys_removed"] <= 150
    assert "limit of 150" in done["stopped_because"]
    assert (await REMOVE.verify(connection, args, captured | {"done": done})).helped is False
    rest = arguments(largest_key_bytes=1_000_000)
    done = await REMOVE.apply(connection, rest, captured, operation)
    assert done["too_large"] == 1
    assert set(everything(client)) == {b"old:huge"}


@pytest.mark.parametrize("unconfirmed", [True, False])
async def test_only_the_owner_may_ask_and_only_for_what_there_is(
    connection: LiveConnection, client: "redis.Redis", unconfirmed: bool
) -> None:
    fill(client, "old:" if unconfirmed else "other:", 10)
    args = RemovePrefixArguments(prefix="old:", owner_confirmed=not unconfirmed)
    (refused,) = failing(await REMOVE.preconditions(connection, args))
    assert ("owner" in refused) is unconfirmed


async def test_without_a_place_to_keep_them_nothing_is_removed(
    connection: LiveConnection,
    client: "redis.Redis",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(500):
        client.set(f"old:{number}", os.urandom(1_000))  # DUMP would compress anything else
    args = arguments(batch_size=50)
    captured = await REMOVE.capture(connection, args)
    with pytest.raises(CommandFailure, match="nowhere to keep"):
        await REMOVE.apply(connection, args, captured)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(2**40, 0, SPARE_BYTES + 100))
    operation = Operation("a", backups=at(tmp_path))
    with pytest.raises(CommandFailure, match=r"nothing was removed.*stay free"):
        await REMOVE.apply(connection, args, captured, operation)
    assert client.dbsize() == 500
    monkeypatch.undo()
    # Full in the middle: what is gone can be put back, what is not kept is still there.
    operation = Operation("b", backups=at(tmp_path, most_bytes=200_000))
    done = await REMOVE.apply(connection, args, captured, operation)
    assert "most_bytes" in done["stopped_because"]
    assert 0 < done["keys_removed"] == 500 - client.dbsize()
    undone = await REMOVE.undo(connection, args, captured | {"done": done}, operation)
    assert undone["restored"] == done["keys_removed"]
    assert client.dbsize() == 500


async def test_a_stop_between_batches_is_heeded_before_the_next_removal(
    connection: LiveConnection, client: "redis.Redis", tmp_path: Path
) -> None:
    fill(client, "old:", 500)
    notes: list[dict[str, Any]] = []

    async def note(done: dict[str, Any]) -> str:
        notes.append(dict(done))
        return "somebody said stop" if len(notes) == 4 else ""

    operation = Operation("a", note, at(tmp_path))
    args = arguments(batch_size=50)
    captured = await REMOVE.capture(connection, args)
    done = await REMOVE.apply(connection, args, captured, operation)
    assert done["stopped_because"] == "somebody said stop"
    assert done["keys_removed"] == 500 - client.dbsize() == 60
    assert [one["keys_in_doubt"] for one in notes] == [10, 0, 50, 0]


REMOVING = """
import asyncio, os, signal, sys
from datetime import timedelta
from pathlib import Path
from tools.backups import BackupFolder
from tools.connection import LiveConnection
from tools.permissions import READ_WRITE
from tools.remedies.operation import Operation
from tools.remedies.removal import RemovePrefix, RemovePrefixArguments

url, folder, last = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
notes = 0

async def note(done):
    global notes
    notes += 1
    print(done["keys_removed"], done["keys_in_doubt"], flush=True)
    if notes == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return ""

async def main():
    connection = LiveConnection(url, READ_WRITE, reconnects=0)
    await connection.open()
    backups = BackupFolder(folder, lambda: bytes(32), keep=timedelta(7), most_bytes=2**40)
    args = RemovePrefixArguments(prefix="old:", owner_confirmed=True, batch_size=50)
    captured = await RemovePrefix().capture(connection, args)
    await RemovePrefix().apply(connection, args, captured, Operation("inc-1-A1", note, backups))

asyncio.run(main())
"""


@pytest.mark.parametrize("last", [1, 5])
async def test_killed_between_backup_and_removal_every_key_is_there_or_comes_back(
    build: str,
    server: Server,
    connection: LiveConnection,
    client: "redis.Redis",
    operation: Operation,
    tmp_path: Path,
    last: int,
) -> None:
    fill(client, "old:", 300, ex=5_000)
    before = everything(client)
    args = arguments()
    captured = await REMOVE.capture(connection, args)
    command = [sys.executable, "-c", REMOVING, server.url, str(tmp_path), str(last)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == -signal.SIGKILL, done.stderr
    removed, in_doubt = map(int, done.stdout.splitlines()[-1].split())
    assert removed == 300 - client.dbsize() == (0 if last == 1 else 60)
    assert in_doubt == (10 if last == 1 else 50)
    captured |= {"done": {"keys_removed": removed, "keys_in_doubt": in_doubt}}
    assert await REMOVE.settle(connection, args, captured) == "applied"
    # Power fails, too: of the last frame only a part is on disk. Its keys were never removed.
    path = tmp_path / "inc-1-A1.backup"
    os.truncate(path, path.stat().st_size - 20)
    undone = await REMOVE.undo(connection, args, captured, operation)
    assert (undone["restored"], undone["exist_already"]) == (removed, 0)
    assert alike(everything(client), before, tolerance(build))


async def test_a_backup_of_another_key_or_a_damaged_one_is_said_with_what_came_back(
    connection: LiveConnection, client: "redis.Redis", operation: Operation, tmp_path: Path
) -> None:
    fill(client, "old:", 300)
    args = arguments(batch_size=50)
    captured = await REMOVE.capture(connection, args)
    done = await REMOVE.apply(connection, args, captured, operation)
    captured |= {"done": done}
    other = BackupFolder(tmp_path, lambda: b"x" * 32, keep=timedelta(7), most_bytes=2**40)
    with pytest.raises(CommandFailure, match="another key"):
        await REMOVE.undo(connection, args, captured, Operation(operation.id, backups=other))
    path = tmp_path / "inc-1-A1.backup"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CommandFailure, match=r"250 put back.*1 of its frames are damaged"):
        await REMOVE.undo(connection, args, captured, operation)
    assert client.dbsize() == 250
