"""SIGTERM ends the real process within its bound, loses nothing, and the next one goes on."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import psutil
import pytest
import redis

from agent.incident import Action
from api import stopping
from api.observed import Observed
from api.stopping import HTTP_SECONDS, OVERDUE, PROCESS_SECONDS, STOPPED, RunStopped, Stopping
from evals import servers
from tests.api.process import Oncall, whole

pytestmark = pytest.mark.timeout(300)
AT_ONCE_SECONDS = 10.0
"""On a busy machine; a second on an idle one. Less than any wait for a remedy."""


@pytest.fixture
def oncall(tmp_path: Path, ill: servers.Server) -> Iterator[Oncall]:
    oncall = Oncall(tmp_path, ill.port)
    oncall.start()
    yield oncall
    oncall.stop()


def terminated(oncall: Oncall) -> float:
    """Seconds from SIGTERM to the end of the process."""
    assert oncall._service is not None
    started = time.monotonic()
    oncall._service.terminate()
    assert oncall._service.wait(PROCESS_SECONDS + 5) == -signal.SIGTERM
    return time.monotonic() - started


def test_an_investigation_is_stopped_at_once_and_continued(oncall: Oncall) -> None:
    incident_id = oncall.alert()
    oncall.wait(lambda: oncall.incident(incident_id).evidence, "it looks at the server")
    ended = threading.Event()

    def watch() -> None:
        with oncall.client.stream("GET", f"/v1/incidents/{incident_id}/events") as stream:
            for _ in stream.iter_bytes():
                pass
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    oncall.wait(lambda: threading.active_count() > 1, "somebody watches")
    assert terminated(oncall) < AT_ONCE_SECONDS
    assert ended.wait(5), "its stream of events ended in order"
    oncall.start()
    before = oncall.incident(incident_id)
    assert before.status == "investigating"
    incident = oncall.reaches(incident_id, "awaiting_approval")
    whole(oncall, incident)
    assert incident.evidence[: len(before.evidence)] == before.evidence
    assert incident.attempt == 1


def many_batches(oncall: Oncall) -> tuple[str, Action]:
    """An approved remedy of many batches that has done a few of them."""
    incident_id = oncall.alert()
    plan = oncall.reaches(incident_id, "awaiting_approval").plan
    action = next(a for a in plan.actions if a.kind == "expire_prefix" and a.executable)
    oncall.approve(incident_id, action)
    return incident_id, action


def expiring(server: servers.Server) -> int:
    with redis.Redis(port=server.port) as client:
        keyspace: Any = client.info("keyspace")
    return int(keyspace["db0"]["expires"])


@pytest.mark.usefixtures("close_samples")
@pytest.mark.long
def test_a_remedy_under_way_ends_as_a_whole_and_is_verified_by_the_next(
    oncall: Oncall, ill: servers.Server
) -> None:
    incident_id, action = many_batches(oncall)
    oncall.wait(lambda: expiring(ill) > 600, "it has done its canary and a batch")
    with redis.Redis(port=ill.port) as client:
        keys = int(client.dbsize())
    assert expiring(ill) < keys, "it is in the middle"
    assert terminated(oncall) < stopping.BATCH_AFTER_SECONDS + HTTP_SECONDS
    assert expiring(ill) == keys, "nothing was left half-way"
    oncall.start()
    known = oncall.action(incident_id, action.id)
    assert known.outcome["done"]["keys_touched"] == keys
    assert not known.outcome["done"]["stopped_because"]
    oncall.wait(
        lambda: oncall.action(incident_id, action.id).status not in ("applied", "applying"),
        "the next process verifies it, or undoes it",
    )
    assert oncall.log.read_text().count('"stop_overdue"') == 0


@pytest.mark.usefixtures("close_samples")
@pytest.mark.long
def test_a_remedy_that_cannot_end_is_cut_off_at_the_bound_and_settled_by_the_next(
    oncall: Oncall, ill: servers.Server
) -> None:
    incident_id, action = many_batches(oncall)
    oncall.wait(lambda: expiring(ill) > 600, "it has done its canary and a batch")
    target = psutil.Process(ill.pid)
    target.suspend()
    try:
        assert terminated(oncall) < PROCESS_SECONDS + 2
    finally:
        target.resume()
    touched = expiring(ill)
    oncall.start()
    ended = oncall.wait(
        lambda: (
            known
            if (known := oncall.action(incident_id, action.id)).status
            not in ("approved", "applying", "applied", "rolling_back")
            else None
        ),
        "it is settled by reading the target",
    )
    assert ended.status in ("verified", "rolled_back", "outcome_unknown", "failed")
    assert expiring(ill) <= touched, "nothing was applied again"


async def test_whoever_is_not_answered_in_time_is_told_to_come_again() -> None:
    """The server cancels what has not ended in its time: a body that trickles, a slow database."""
    sent: list[Any] = []
    arrived = asyncio.Event()

    async def slow(*_: Any) -> None:
        arrived.set()
        await forever()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/alerts/generic", "headers": []}
    request = asyncio.create_task(Observed(slow)(scope, AsyncMock(), send))
    await arrived.wait()
    request.cancel()
    await request
    assert sent[0]["status"] == 503
    assert b"retry-after" in dict(sent[0]["headers"])


class Writer:
    writing = True


async def forever() -> None:
    await asyncio.Event().wait()


async def test_only_a_run_that_writes_is_waited_for_and_a_long_one_is_asked_to_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stopping, "BATCH_AFTER_SECONDS", 0.2)
    monkeypatch.setattr(stopping, "WRITES_SECONDS", 5.0)
    ending, writer, looker = Stopping(), Writer(), Writer()
    looker.writing = False
    stopped: list[str] = []

    async def hold(name: str, who: Writer) -> None:
        run = asyncio.ensure_future(forever())
        try:
            with ending.holding(run, who):
                await run
        except RunStopped:
            stopped.append(name)

    holding = [asyncio.create_task(hold(*pair)) for pair in (("w", writer), ("l", looker))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert ending.reason() == ""
    stop = asyncio.create_task(ending.stop())
    await asyncio.wait({holding[1]}, timeout=2)
    assert stopped == ["l"]
    while not (asked := ending.reason()):
        await asyncio.sleep(0.01)
    assert asked == STOPPED
    assert stopped == ["l"], "it may end its batch"
    writer.writing = False
    await asyncio.wait_for(stop, 2)
    assert stopped == ["l", "w"]
    with pytest.raises(RunStopped), ending.holding(asyncio.ensure_future(forever()), writer):
        pass


async def test_whoever_gives_up_a_question_is_not_taken_for_a_stop() -> None:
    ending = Stopping()
    run = asyncio.ensure_future(forever())

    async def hold() -> None:
        with ending.holding(run, Writer()):
            await run

    task = asyncio.create_task(hold())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("hangs", "code"),
    [
        ("time.sleep(60)", OVERDUE),
        ("class Last: __del__ = lambda _, wait=time.sleep: wait(60)", -signal.SIGALRM),
    ],
    ids=["while-it-runs", "while-python-ends"],
)
def test_a_process_that_hangs_is_over_in_time(hangs: str, code: int) -> None:
    told = f"import time\nfrom api.stopping import exit_in_time\nexit_in_time(0.5)\n{hangs}\n"
    ended = subprocess.run(
        [sys.executable, "-c", told + "last = globals().get('Last', int)()"],
        capture_output=True, check=False, timeout=40,
    )  # fmt: skip
    assert ended.returncode == code
