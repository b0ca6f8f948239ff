"""Resizing through the user's own hook: ordered once, believed only when the server shows it."""

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from agent import executor, rollback, settling, verification
from agent.context import Context
from agent.incident import Action
from api.resize_hook import Terms, command_hook
from evals import servers
from evals.servers import Server
from tests.agent import resizing_server
from tests.agent.operating import Desk
from tests.agent.resizing_server import calls, environment, write_state
from tools.opening import open_for_reading
from tools.remedies import resizing
from tools.remedies.operation import Operation, ResizeHook
from tools.remedies.resizing import ResizeInstance, ResizeInstanceArguments

MIB = 1 << 20
KEYS = 200


class Resizable:
    """A server of 100 MiB with some keys, and a hook that makes it larger."""

    def __init__(self, server: Server, state: Path) -> None:
        self.server, self.state, self.desk = server, state, Desk(server)

    def behave(self, behaviour: str) -> None:
        known = json.loads(self.state.read_text())
        write_state(self.state, **known | {"behaviour": behaviour})

    def hook(self, **terms: Any) -> ResizeHook:
        usual = {"answer_seconds": 20.0, "wait_seconds": 20.0}
        return command_hook(
            [sys.executable, str(resizing_server.HOOK), str(self.state)],
            {"PATH": "/usr/bin:/bin", "OURS": "1"},
            Terms("cache-1", **usual | terms),
        )

    async def context(self, hook: ResizeHook) -> Context:
        return replace(await self.desk.context(), resize_hook=hook)

    def arguments(self, **more: Any) -> dict[str, Any]:
        given = ResizeInstanceArguments.model_validate(
            {
                "needed_bytes": 300 * MIB,
                "recommended_maxmemory": 200 * MIB,
                "current_limit": 100 * MIB,
                "limit_is": "maxmemory",
                "hook": "command python",
                "wait_seconds": 20.0,
                **more,
            }
        )
        return given.model_dump(mode="json", exclude_defaults=True)

    def read(self) -> tuple[int, int]:
        """maxmemory and keys, as the server has them."""
        with closing(redis.Redis(port=self.server.port)) as client:
            return int(client.info("memory")["maxmemory"]), client.dbsize()


@pytest.fixture
async def resizable(
    request: pytest.FixtureRequest,
    start_server: Callable[..., Server],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Resizable]:
    monkeypatch.setattr(settling, "ASK_AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(resizing, "ASK_AGAIN_SECONDS", 0.1)
    build, saves = getattr(request, "param", ("valkey-9.1", "yes"))
    own = ("--maxmemory", "100mb", "--appendonly", saves)
    server = start_server(build, *own)
    with closing(redis.Redis(port=server.port)) as client:
        client.mset({f"k:{number}": "x" * 100 for number in range(KEYS)})
    state = tmp_path / "state.json"
    command = [
        "valkey-server", "--port", str(server.port), "--bind", "127.0.0.1",
        "--dir", str(server.directory), "--save", "", "--appendonly", saves,
    ]  # fmt: skip
    binary = str(servers.binary(build))
    if build == "redis-7.0":
        command[0] = "redis-server"
    write_state(state, pid=server.pid, port=server.port, command=command, binary=binary)
    made = Resizable(server, state)
    yield made
    if made.desk.reading is not None:
        await made.desk.reading.close()
    after = json.loads(state.read_text())
    if after.get("restarted"):
        with suppress(ProcessLookupError):
            os.kill(after["pid"], signal.SIGKILL)


async def applied(resizable: Resizable, hook: ResizeHook, **more: Any) -> Action:
    action = await resizable.desk.approved("resize_instance", resizable.arguments(**more))
    return await executor.apply(await resizable.context(hook), action)


@pytest.mark.parametrize("resizable", [("redis-7.0", "yes"), ("valkey-9.1", "yes")], indirect=True)
async def test_ordered_restarted_verified_by_the_servers_own_limit(resizable: Resizable) -> None:
    action = await applied(resizable, resizable.hook())
    assert action.status == "applied", action.comment
    assert resizable.read() == (200 * MIB, KEYS)
    context = await resizable.context(resizable.hook())
    verified = await verification.verify(context, action, hold_seconds=0.05)
    assert verified.status == "verified", verified.comment
    assert "the limit is 200.0 MiB (before: 100.0 MiB), 200 of 200 keys are there" in (
        verified.comment
    )
    (order,) = calls(resizable.state)
    assert order["idempotency_key"] == "i-1-1-A1"
    assert (order["target"], order["maxmemory_bytes"]) == ("cache-1", 200 * MIB)
    assert environment(resizable.state).keys() - {"LC_CTYPE", "PWD"} == {"PATH", "OURS"}
    again = await executor.apply(context, action)
    assert (again.status, len(calls(resizable.state))) == ("verified", 1)


async def test_a_hook_that_says_ok_and_does_nothing_is_not_believed(resizable: Resizable) -> None:
    resizable.behave("lies")
    action = await applied(resizable, resizable.hook(), wait_seconds=1.0)
    assert action.status == "outcome_unknown"
    assert "it shows 100.0 MiB, before it was 100.0 MiB, ordered are 200.0 MiB" in action.comment
    assert len(calls(resizable.state)) == 1


async def test_a_hook_that_refuses_has_ordered_nothing(resizable: Resizable) -> None:
    resizable.behave("refuses")
    action = await applied(resizable, resizable.hook())
    assert action.status == "failed", action.comment
    assert "nothing was ordered: exit code 3: quota exceeded" in action.comment
    assert "s3cr3t" not in action.comment


async def test_a_lost_answer_is_settled_by_the_limit_and_never_by_a_second_order(
    resizable: Resizable,
) -> None:
    resizable.behave("never answers")
    action = await applied(resizable, resizable.hook(answer_seconds=3.0))
    assert action.status == "applied", action.comment
    assert "no answer within 3 s" in action.comment
    assert len(calls(resizable.state)) == 1


@pytest.mark.parametrize(
    ("progress", "status"), [({"hook": "called"}, "outcome_unknown"), ({}, "failed")]
)
async def test_after_a_crash_nothing_is_ordered_again(
    resizable: Resizable, progress: dict[str, Any], status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = resizable.desk
    given = resizable.arguments(wait_seconds=1.0)
    action = await desk.approved("resize_instance", given)
    context = await resizable.context(resizable.hook())

    async def killed(_: Any, __: Any, ___: Any, ____: Any, operation: Operation) -> None:
        if progress:
            await operation.note(progress)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ResizeInstance, "apply", killed)
        with pytest.raises(KeyboardInterrupt):
            await executor.apply(context, action)
    settled = await executor.apply(context, await desk.stored())
    assert settled.status == status, settled.comment
    assert calls(resizable.state) == []


@pytest.mark.parametrize("resizable", [("valkey-9.1", "no")], indirect=True)
async def test_a_larger_server_without_its_data_is_no_success(resizable: Resizable) -> None:
    hook = resizable.hook(keeps_data=True)
    action = await applied(resizable, hook, keeps_data=True, wait_seconds=1.5)
    assert action.status == "outcome_unknown"
    assert "0 keys are there, 200 were" in action.comment
    assert resizable.read() == (200 * MIB, 0)


@pytest.mark.parametrize("resizable", [("valkey-9.1", "no")], indirect=True)
async def test_what_would_not_outlive_a_restart_is_not_restarted(resizable: Resizable) -> None:
    action = await applied(resizable, resizable.hook())
    assert action.status == "lapsed"
    assert "no replica follows, no append-only file; saved never, " in action.comment
    assert calls(resizable.state) == []


async def test_the_old_size_is_ordered_where_the_hook_can(resizable: Resizable) -> None:
    hook = resizable.hook(undoes=True)
    action = await applied(resizable, hook, undoable=True)
    context = await resizable.context(hook)
    undone = await rollback.roll_back(context, action)
    assert undone.status == "rolled_back", undone.comment
    assert resizable.read() == (100 * MIB, KEYS)
    assert [order["idempotency_key"] for order in calls(resizable.state)] == [
        "i-1-1-A1", "i-1-1-A1-undo"
    ]  # fmt: skip


async def test_without_that_a_person_has_to_and_is_told(resizable: Resizable) -> None:
    hook = resizable.hook()
    action = await applied(resizable, hook)
    undone = await rollback.roll_back(await resizable.context(hook), action)
    assert undone.status == "rollback_failed"
    assert "a person has to order it" in undone.comment
    assert len(calls(resizable.state)) == 1


async def test_the_plan_says_what_it_would_do_and_risk(resizable: Resizable) -> None:
    connection = await open_for_reading(resizable.server.url)
    try:
        args = ResizeInstanceArguments.model_validate(resizable.arguments())
        preview = await ResizeInstance().preview(connection, args)
        checks = await ResizeInstance().preconditions(connection, args)
    finally:
        await connection.close()
    assert all(check.holds for check in checks)
    assert "Ordered once, never again" in preview.blast_radius
    assert "none from here" in preview.rollback
    assert preview.title == (
        "Resize the instance to 300.0 MiB through its command python (limit now 100.0 MiB)"
    )
