"""CLIENT KILL ID: that client, as long as it is that client, and nobody else."""

import pytest
import redis

from tests.tools.load import failing, stuck_subscriber
from tools.connection import CommandFailure, LiveConnection
from tools.remedies.clients import KillClient, KillClientArguments
from tools.remedies.vitals import MIB, read_clients

KILL = KillClient()


async def the_subscriber(connection: LiveConnection) -> KillClientArguments:
    (found,) = [line for line in await read_clients(connection) if line.type == "pubsub"]
    assert found.output_bytes > 2 * MIB
    return KillClientArguments(
        id=found.id,
        name=found.name,
        address=found.address,
        type="pubsub",
        min_buffer_bytes=found.buffered // 2,
    )


async def test_a_stuck_subscriber_is_disconnected_and_nobody_else(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    client.config_set("client-output-buffer-limit", "pubsub 0 0 0")
    client.set("kept", "1")
    with stuck_subscriber(client, "dashboard"):
        args = await the_subscriber(connection)
        others = {line.id for line in await read_clients(connection)} - {args.id}
        assert failing(await KILL.preconditions(connection, args)) == []
        preview = await KILL.preview(connection, args)
        assert preview.commands == [["CLIENT", "KILL", "ID", str(args.id)]]
        captured = await KILL.capture(connection, args)
        assert await KILL.settle(connection, args, captured) == "not_applied"
        assert await KILL.apply(connection, args, captured) == {"killed": 1}
        assert (await KILL.verify(connection, args, captured)).helped is True
        assert await KILL.settle(connection, args, captured) == "applied"
        assert {line.id for line in await read_clients(connection)} == others
        assert failing(await KILL.preconditions(connection, args)) != []
        with pytest.raises(CommandFailure):
            await KILL.apply(connection, args, captured)
        assert "nothing_to_put_back" in await KILL.undo(connection, args, captured)
    assert client.get("kept") == b"1"


async def test_another_client_or_a_drained_one_is_not_disconnected(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    client.config_set("client-output-buffer-limit", "pubsub 0 0 0")
    with stuck_subscriber(client, "dashboard"):
        args = await the_subscriber(connection)
        for change in (
            {"name": "checkout"},
            {"address": "127.0.0.1:1"},
            {"type": "normal"},
            {"min_buffer_bytes": 1024 * MIB},
        ):
            other = args.model_copy(update=change)
            assert len(failing(await KILL.preconditions(connection, other))) == 1, change


async def test_a_subscriber_that_comes_back_and_fills_up_again_was_not_helped(
    connection: LiveConnection, client: "redis.Redis"
) -> None:
    client.config_set("client-output-buffer-limit", "pubsub 0 0 0")
    with stuck_subscriber(client, "dashboard"):
        args = await the_subscriber(connection)
        captured = await KILL.capture(connection, args)
        await KILL.apply(connection, args, captured)
    with stuck_subscriber(client, "dashboard"):
        verification = await KILL.verify(connection, args, captured)
    assert verification.helped is False
    assert "back" in verification.because
