"""The user's own way to resize: signed, bounded, called once, and no secret in what it says."""

import asyncio
import hashlib
import hmac
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
import respx
from pydantic import ValidationError

from api.config import Config
from api.resize_hook import Terms, command_hook, resize_hook_of, signature, webhook
from api.settings import Settings
from tools.connection import CommandFailure

URL = "https://hooks.example/resize?team=cache"
SECRET = "sixteen characters or more"
ORDER = {"idempotency_key": "inc-1-1-A2", "maxmemory_bytes": 1}
TERMS = Terms("cache-1", answer_seconds=5.0, wait_seconds=60.0)


async def answer_of(response: httpx2.Response | Exception) -> dict[str, Any]:
    with respx.mock(assert_all_called=True) as mock:
        route = mock.post(URL)
        if isinstance(response, Exception):
            route.side_effect = response
        else:
            route.return_value = response  # type: ignore[assignment]  # httpx2 is aliased to httpx
        try:
            return await webhook(URL, SECRET, TERMS)(ORDER)
        finally:
            assert route.call_count == 1


async def test_an_order_is_signed_and_carries_the_key_of_its_operation() -> None:
    with respx.mock() as mock:
        route = mock.post(URL).respond(202, text="on its way")
        answer = await webhook(URL, SECRET, TERMS)(ORDER)
    assert answer == {"hook": "ordered", "said": "on its way"}
    request = route.calls.last.request
    assert json.loads(request.content) == ORDER | {"target": "cache-1"}
    stamp = request.headers["X-Redis-Oncall-Timestamp"]
    assert abs(time.time() - int(stamp)) < 60
    expected = hmac.new(SECRET.encode(), f"{stamp}.".encode() + request.content, hashlib.sha256)
    assert request.headers["X-Redis-Oncall-Signature"] == f"sha256={expected.hexdigest()}"
    assert request.headers["Idempotency-Key"] == "inc-1-1-A2"
    assert signature(SECRET, stamp, request.content + b" ") != signature(
        SECRET, stamp, request.content
    )


@pytest.mark.parametrize(
    ("response", "kind", "said"),
    [
        (httpx2.Response(403, text="token=s3cr3t-T0ken-of-theirs"), "refused", "HTTP 403"),
        (httpx2.Response(307, headers={"Location": "https://evil.example"}), "refused", "307"),
        (httpx2.Response(409), "error", "not known"),
        (httpx2.Response(503, text="x" * 10_000_000), "error", "HTTP 503"),
        (httpx2.ConnectError("no route"), "refused", "could not be reached"),
        (httpx2.ReadTimeout("slow"), "error", "answer was lost"),
        (httpx2.RemoteProtocolError("cut"), "error", "answer was lost"),
    ],
)
async def test_what_is_not_sure_to_be_refused_is_unknown(
    response: httpx2.Response | Exception, kind: str, said: str
) -> None:
    with pytest.raises(CommandFailure) as failed:
        await answer_of(response)
    assert (failed.value.kind, said in str(failed.value)) == (kind, True)
    assert len(str(failed.value)) < 1_000
    for secret in ("s3cr3t", SECRET, "team=cache"):
        assert secret not in str(failed.value)
    assert "webhook on hooks.example" in str(failed.value)


def script(code: str, seconds: float = 10.0) -> Any:
    terms = Terms("cache-1", answer_seconds=seconds, wait_seconds=60.0)
    return command_hook([sys.executable, "-c", code], {"PATH": "/usr/bin", "OURS": "1"}, terms)


async def test_a_command_sees_the_order_and_nothing_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:s3cr3t@db/x")
    code = (
        "import json,os,sys; o=json.load(sys.stdin);"
        "print(o['target'], sorted(set(os.environ)-{'LC_CTYPE'}), os.getcwd())"
    )
    answer = await script(code)(ORDER)
    assert answer["said"] == "cache-1 ['OURS', 'PATH'] /"


async def test_arguments_are_no_shell() -> None:
    hook = command_hook(["/bin/echo", "$(id); `id` && id"], {}, TERMS)
    assert (await hook(ORDER))["said"] == "$(id); `id` && id"
    assert hook.shown == "command echo"


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("import sys; sys.exit(2)", "refused", "exit code 2"),
        ("import os; os.kill(os.getpid(), 9)", "error", "signal 9"),
        ("import time; time.sleep(60)", "timeout", "no answer within 1 s"),
    ],
)
async def test_how_a_command_may_fail(code: str, kind: str, said: str) -> None:
    with pytest.raises(CommandFailure) as failed:
        await script(code, seconds=1.0 if kind == "timeout" else 10.0)(ORDER)
    assert (failed.value.kind, said in str(failed.value)) == (kind, True)


async def test_a_program_that_is_not_there_has_ordered_nothing() -> None:
    with pytest.raises(CommandFailure) as failed:
        await command_hook(["/nowhere/resize"], {}, TERMS)(ORDER)
    assert failed.value.kind == "refused"


async def test_a_flood_of_output_and_an_unread_order_hold_nobody_up() -> None:
    answer = await script("import sys; sys.stdout.write('x' * 5_000_000)")(
        ORDER | {"arithmetic": "y" * 1_000_000}
    )
    assert len(answer["said"]) < 600


async def test_who_runs_out_of_time_takes_its_children_along(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"sleep 60 & echo $! > {pid}; wait"
    terms = Terms("cache-1", answer_seconds=1.0, wait_seconds=60.0)
    with pytest.raises(CommandFailure):
        await command_hook(["/bin/sh", "-c", code], {"PATH": "/usr/bin:/bin"}, terms)(ORDER)
    child = int(pid.read_text())
    for _ in range(200):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            break  # nobody reaps it here
        await asyncio.sleep(0.05)
    else:
        pytest.fail("the child outlived its hook")


async def test_what_goes_on_in_the_background_is_not_waited_for() -> None:
    code = "import subprocess,sys; subprocess.Popen(['sleep','20']); print('detached')"
    started = time.monotonic()
    await script(code)(ORDER)
    assert time.monotonic() - started < 9


TARGET = {"name": "cache-1", "url": "redis://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ({}, "either command or url"),
        ({"command": ["x"], "url": URL, "secret": SECRET}, "either command or url"),
        ({"url": URL}, "a webhook is signed"),
        ({"url": "ftp://x", "secret": SECRET}, "http:// or https://"),
        ({"url": URL, "secret": SECRET, "environment": {"A": "b"}}, "environment is for a command"),
        ({"command": []}, "at least 1 item"),
    ],
)
def test_a_hook_that_cannot_work_stops_the_start(hook: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as failed:
        Config.model_validate({"targets": [TARGET | {"resize_hook": hook}]})
    assert said in str(failed.value)
    assert SECRET not in str(failed.value)


def test_hooks_are_made_from_the_configuration(tmp_path: Path) -> None:
    hooks = [
        {"command": ["/opt/resize", "--token=x"], "wait": "1h", "undo": True},
        {"url": URL, "secret": SECRET, "keeps_data": True},
        None,
    ]
    targets = [
        TARGET | {"name": f"t{number}"} | ({"resize_hook": hook} if hook else {})
        for number, hook in enumerate(hooks)
    ]
    settings = Settings(
        config=Config.model_validate({"targets": targets}),
        database_url="sqlite:///x.db",
        data_folder=tmp_path,
    )
    first, second, third = (resize_hook_of(settings, f"t{number}") for number in range(3))
    assert first is not None
    assert second is not None
    assert (first.shown, first.wait_seconds, first.undoes) == ("command resize", 3600, True)
    assert (second.shown, second.wait_seconds, second.keeps_data) == (
        "webhook on hooks.example", 1800, True
    )  # fmt: skip
    assert third is None
    assert SECRET not in repr(second) + repr(settings)
