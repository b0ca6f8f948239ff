"""A server that answers BUSY to everything: planned, approved, ended and verified all the same."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from typing import Any

import pytest
import redis

from agent import executor, verification
from agent.incident import TargetIdentity, fingerprint
from evals.servers import Server
from tests.agent.operating import Desk
from tests.agent.test_planning import diagnosis, plan_for
from tests.tools.remedies.test_kill_script import ENDLESS, WRITING, running


@pytest.fixture
def server(build: str, start_server: Callable[..., Server]) -> Server:
    limit = "lua-time-limit" if build == "redis-6.2" else "busy-reply-threshold"
    return start_server(build, f"--{limit}", "50")


@pytest.fixture
async def desk(server: Server) -> AsyncIterator[Desk]:
    made = Desk(server)
    yield made
    if made.reading is not None:
        await made.reading.close()


async def approved(desk: Desk) -> Any:
    unknown = fingerprint("kill_script", {}, TargetIdentity(), ["E1"])
    return await desk.approved("kill_script", {}, fingerprint=unknown)


async def test_the_plan_offers_to_end_it_and_that_is_done_and_verified(
    server: Server, desk: Desk
) -> None:
    with running(server, "EVAL", ENDLESS, "0"):
        plan = await plan_for(server, diagnosis("busy-script"))
        (offered,) = [action for action in plan.actions if action.executable]
        assert (offered.kind, offered.commands) == ("kill_script", [["SCRIPT", "KILL"]])
        action = await approved(desk)
        context = await desk.context()
        applied = await executor.apply(context, action)
        assert applied.status == "applied", applied.comment
        assert applied.outcome["identity"]["run_id"] != "unknown"
        verified = await verification.verify(context, applied, hold_seconds=0.1)
        assert verified.status == "verified", verified.comment


async def test_one_that_has_written_goes_on_and_the_servers_words_are_kept(
    server: Server, desk: Desk
) -> None:
    with running(server, "EVAL", WRITING, "0"):
        action = await approved(desk)
        ended = await executor.apply(await desk.context(), action)
        assert ended.status == "failed", ended.comment
        assert "UNKILLABLE" in ended.comment
        os.kill(server.pid, signal.SIGKILL)  # nothing else ends it before its time


async def test_when_it_has_ended_by_itself_the_approval_lapses(server: Server, desk: Desk) -> None:
    action = await approved(desk)
    ended = await executor.apply(await desk.context(), action)
    assert ended.status == "lapsed", ended.comment


async def test_everything_else_lapses_while_nobody_can_say_who_it_is(
    server: Server, desk: Desk
) -> None:
    action = await desk.approved("set_config", {"parameter": "hz", "value": "50"})
    with running(server, "EVAL", ENDLESS, "0"):
        ended = await executor.apply(await desk.context(), action)
        assert ended.status == "lapsed", ended.comment
    with closing(redis.Redis(port=server.port, decode_responses=True)) as client:
        assert client.config_get("hz")["hz"] == "10"
