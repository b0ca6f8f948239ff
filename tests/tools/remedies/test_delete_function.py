"""A library goes after a backup, and its functions work again after the undo."""

from datetime import timedelta
from pathlib import Path

import pytest
import redis

from tests.tools.load import failing
from tools.backups import BackupFolder
from tools.connection import CommandFailure, LiveConnection
from tools.remedies.delete_function import DeleteFunction, DeleteFunctionArguments
from tools.remedies.operation import Operation

DELETE = DeleteFunction()
ARGS = DeleteFunctionArguments(library="old", owner_confirmed=True)


def code(library: str) -> str:
    return f"#!lua name={library}\nredis.register_function('{library}_f', function() return 7 end)"


@pytest.fixture
def operation(tmp_path: Path) -> Operation:
    folder = BackupFolder(tmp_path, lambda: bytes(32), keep=timedelta(days=7), most_bytes=2**40)
    return Operation("inc-1-A1", backups=folder)


async def test_one_library_goes_and_comes_back(
    build: str, connection: LiveConnection, client: "redis.Redis", operation: Operation
) -> None:
    if build == "redis-6.2":
        (*_, there, _) = await DELETE.preconditions(connection, ARGS)
        assert (there.holds, "version 7.0" in there.because) == (False, True)
        return
    client.function_load(code("old"))
    client.function_load(code("kept"))
    assert failing(await DELETE.preconditions(connection, ARGS)) == []
    assert "old_f" in (await DELETE.preview(connection, ARGS)).predicted_effect
    captured = await DELETE.capture(connection, ARGS)
    done = await DELETE.apply(connection, ARGS, captured, operation)
    assert done["backup"]["entries"] == 2
    assert await DELETE.settle(connection, ARGS, captured) == "applied"
    verification = await DELETE.verify(connection, ARGS, captured | {"done": done})
    assert verification.helped is True, verification.because
    with pytest.raises(redis.ResponseError, match="not found"):
        client.fcall("old_f", 0)
    assert client.fcall("kept_f", 0) == 7
    undone = await DELETE.undo(connection, ARGS, captured, operation)
    assert (undone["restored"], undone["other"]) == (1, 1)
    assert client.fcall("old_f", 0) == 7
    assert (await DELETE.verify_undo(connection, ARGS, captured)).helped is True
    assert (await DELETE.undo(connection, ARGS, captured, operation))["exist_already"] == 1
    with pytest.raises(CommandFailure, match="nowhere to keep"):
        await DELETE.apply(connection, ARGS, captured)
    assert client.fcall("old_f", 0) == 7


async def test_a_library_in_use_one_that_is_not_there_or_without_the_owners_word_is_refused(
    build: str, connection: LiveConnection, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    if build == "redis-6.2":
        pytest.skip("functions came with 7.0")
    client.function_load(code("old"))

    async def called(_: float) -> None:
        client.fcall("old_f", 0)

    monkeypatch.setattr(connection, "wait", called)
    (refused,) = failing(await DELETE.preconditions(connection, ARGS))
    assert "Nobody calls" in refused
    monkeypatch.undo()
    other = DeleteFunctionArguments(library="other")
    refusals = failing(await DELETE.preconditions(connection, other))
    assert [text.split()[1] for text in refusals] == ["owner", "is"]


@pytest.mark.parametrize("name", ["*", "old*", "a b", "", "x\n"])
def test_a_pattern_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="library"):
        DeleteFunctionArguments(library=name)
