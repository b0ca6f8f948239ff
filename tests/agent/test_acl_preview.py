"""Rules of a user as lines for people: narrow, with their undo, and never carried out."""

from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import pytest
import redis

from agent import executor
from evals.servers import BUILDS, Server
from tests.agent.operating import Desk
from tests.agent.test_planning import diagnosis, plan_for
from tools.remedies.acl_preview import PreviewAclChangeArguments


@pytest.fixture
def server(start_server: Callable[..., Server]) -> Server:
    return start_server(BUILDS[-1])


def refused(server: Server, user: str, *commands: tuple[str, ...]) -> None:
    with closing(redis.Redis(port=server.port, username=user, password="p")) as client:
        for command in commands:
            with suppress(redis.RedisError):
                client.execute_command(*command)  # type: ignore[no-untyped-call]


async def lines_for(server: Server, cause: str, *looks: str) -> list[Any]:
    plan = await plan_for(server, diagnosis(cause), *looks)
    return [action for action in plan.actions if action.kind == "preview_acl_change"]


async def test_what_a_user_lacks_is_spelt_out_and_the_lines_work_and_are_undone(
    server: Server,
) -> None:
    with closing(redis.Redis(port=server.port, decode_responses=True)) as admin:
        admin.acl_setuser("app", enabled=True, passwords=["+p"], keys=["mine:*"], commands=["+get"])
        refused(server, "app", ("SET", "mine:1", "x"), ("GET", "shared:a:1"), ("FLUSHALL",))
        (action,) = await lines_for(server, "acl-auth-failures", "acl_log")
        assert not action.executable
        assert set(action.arguments["rules"]) == {"+set", "~shared:a:*"}
        lines = [line for line in action.artefact.splitlines() if line[:11] == "ACL SETUSER"]
        change, undo, patterns = lines
        admin.execute_command(*change.split(" "))  # type: ignore[no-untyped-call]
        with closing(redis.Redis(port=server.port, username="app", password="p")) as app:
            assert app.set("mine:1", "x")
            assert app.get("shared:a:1") is None
            admin.execute_command(*undo.split(" "))  # type: ignore[no-untyped-call]
            restored = [*patterns.partition(" <")[0].split(" "), "~mine:*"]
            admin.execute_command(*restored)  # type: ignore[no-untyped-call]
            for command in (("SET", "mine:1", "y"), ("GET", "shared:a:1")):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    app.execute_command(*command)  # type: ignore[no-untyped-call]
            assert app.get("mine:1") == b"x"


async def test_it_is_never_carried_out(server: Server) -> None:
    desk = Desk(server)
    arguments = {"user": "app", "rules": ["+get"]}
    ended = await executor.apply(
        await desk.context(), await desk.approved("preview_acl_change", arguments)
    )
    assert ended.status == "failed"
    assert "not a remedy that can be applied" in ended.comment
    assert desk.reading is not None
    await desk.reading.close()


@pytest.mark.parametrize(
    ("user", "rule"),
    [
        ("app", "+@all"), ("app", "+flushall"), ("app", "+config"), ("app", "nopass"),
        ("app", "~*"), ("app", ">secret"), ("app", "+keys"), ("app", "allkeys"), ("app", "~a b"),
        ("app", "~x\r\nFLUSHALL"), ("a b", "+get"), ("app\n", "+get"), ("", "+get"),
    ],
)  # fmt: skip
def test_nothing_that_opens_the_server_becomes_a_line(user: str, rule: str) -> None:
    with pytest.raises(ValueError, match=r"user|rule"):
        PreviewAclChangeArguments(user=user, rules=[rule])


async def test_a_hostile_name_becomes_no_line(server: Server) -> None:
    with closing(redis.Redis(port=server.port)) as admin:
        admin.acl_setuser("app", enabled=True, passwords=["+p"], keys=["m:*"], commands=["+get"])
        refused(server, "app", ("GET", "x y\r\nACL SETUSER app +@all"))
        assert await lines_for(server, "acl-auth-failures", "acl_log") == []
