"""SCRIPT FLUSH ASYNC: where scripts pile up and nobody depends on an old digest."""

import threading

import redis

from tests.tools.load import failing
from tools.connection import LiveConnection
from tools.remedies.script_cache import ScriptFlush, ScriptFlushArguments

FLUSH = ScriptFlush()
ARGS = ScriptFlushArguments()


def load(client: "redis.Redis", count: int) -> str:
    pipeline = client.pipeline(transaction=False)
    for number in range(count):
        pipeline.script_load(f"return {number}")
    return str(pipeline.execute()[-1])


async def test_a_full_cache_is_emptied_and_scripts_go_on_working(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    load(client, 700)
    assert failing(await FLUSH.preconditions(connection, ARGS)) == []
    preview = await FLUSH.preview(connection, ARGS)
    assert preview.commands == [["SCRIPT", "FLUSH", "ASYNC"]]
    assert "700 scripts" in preview.title
    captured = await FLUSH.capture(connection, ARGS)
    assert await FLUSH.settle(connection, ARGS, captured) == "not_applied"
    await FLUSH.apply(connection, ARGS, captured)
    verification = await FLUSH.verify(connection, ARGS, captured)
    assert verification.helped is True, verification
    assert verification.measured["scripts"] == 0
    assert await FLUSH.settle(connection, ARGS, captured) == "applied"
    assert client.eval("return 7", 0) == 7
    assert "nothing_to_put_back" in await FLUSH.undo(connection, ARGS, captured)


async def test_a_small_cache_is_left_alone(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    load(client, 20)
    assert failing(await FLUSH.preconditions(connection, ARGS)) == [
        "At least 500 scripts are cached"
    ]


async def test_who_calls_by_digest_keeps_the_cache_and_failing_calls_are_noticed(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    digest = load(client, 700)
    stop = threading.Event()

    def call() -> None:
        while not stop.wait(0.02):
            try:
                client.evalsha(digest, 0)
            except redis.exceptions.NoScriptError:
                continue

    caller = threading.Thread(target=call)
    caller.start()
    try:
        refused = failing(await FLUSH.preconditions(connection, ARGS))
        assert refused == ["Nobody calls scripts by digest, or whoever does loads what it calls"]
        captured = await FLUSH.capture(connection, ARGS)
        await FLUSH.apply(connection, ARGS, captured)
        verification = await FLUSH.verify(connection, ARGS, captured)
        assert verification.helped is False
        assert "NOSCRIPT" in verification.because
    finally:
        stop.set()
        caller.join()
