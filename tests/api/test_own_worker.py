"""The worker of a `serve`: beside it, started again when it ends, and never left alone."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from api.app import create_app
from api.own_worker import MOST_UNREAD, OwnWorker, worker_beside
from api.readiness import NotReady
from api.settings import Settings
from evals import servers
from tests.api.process import Oncall, setting_of, settings_written
from tests.api.serving import serving, until

READS = "import sys; [open({out!r}, 'a').write(line) for line in sys.stdin]"
SLEEPS = "import time; time.sleep(60)"
DIES = "raise SystemExit(3)"


async def test_it_is_told_of_incidents(tmp_path: Path) -> None:
    out = tmp_path / "told"
    async with worker_beside(("-c", READS.format(out=str(out)))) as worker:
        assert await worker.nudge("inc-1", "inc-2")
        assert await worker.nudge("inc-3")
        await worker.ping()
    assert out.read_text().split() == ["inc-1", "inc-2", "inc-3"]
    assert not await worker.nudge("inc-4")


async def test_a_serve_that_tells_it_needs_no_queue(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: object) -> None:
        raise AssertionError("a queue in this process is one that nobody works off")

    monkeypatch.setattr("api.app.open_queue", opened)
    monkeypatch.setattr("api.own_worker.STOP_SECONDS", 0.2)
    async with serving(create_app(settings(), worker=False, own_worker=("-c", SLEEPS))) as client:
        assert (await client.get("/healthz")).status_code == 200


async def test_one_that_does_not_read_is_not_told_for_ever() -> None:
    worker = OwnWorker(("-c", SLEEPS))
    await worker.start()
    assert worker.process is not None
    try:
        told = [await worker.nudge("i" * 1_000) for _ in range(MOST_UNREAD // 1_000 + 200)]
        assert told[0]
        assert not told[-1]
    finally:
        worker.process.kill()
        await worker.process.wait()


async def test_one_that_ends_is_started_again(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("api.own_worker.RESTART_SECONDS", 0.01)
    async with worker_beside(("-c", DIES)) as worker:
        first = worker.process

        async def another() -> bool:
            return worker.process is not first

        await until(another)
        assert first is not None
        assert first.returncode == 3
    with pytest.raises(NotReady, match="started again"):
        await worker.ping()


async def test_one_that_never_lives_long_is_started_ever_more_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paused: list[float] = []

    async def sleep(seconds: float) -> None:
        paused.append(seconds)
        if len(paused) > 7:
            raise asyncio.CancelledError

    async def start() -> None:
        raise OSError(12, "no memory")

    worker = OwnWorker(("-c", DIES))
    monkeypatch.setattr(worker, "start", start)
    monkeypatch.setattr("api.own_worker.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await worker.keep()
    assert paused == [1, 2, 4, 8, 16, 30, 30, 30]


async def test_one_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.own_worker.STOP_SECONDS", 0.2)
    async with worker_beside(("-c", SLEEPS)) as worker:
        await asyncio.sleep(0)
    assert worker.process is not None
    assert worker.process.returncode == -signal.SIGKILL


@pytest.fixture
def oncall(tmp_path: Path, ill: servers.Server) -> Iterator[Oncall]:
    one = Oncall(tmp_path, ill.port)
    one.forks_worker = False
    yield one
    one.stop()


def beside(oncall: Oncall) -> psutil.Process:
    (worker,) = oncall.wait(lambda: psutil.Process(oncall.pid).children(), "its worker runs")
    assert isinstance(worker, psutil.Process)
    return worker


def looks(oncall: Oncall) -> float:
    """What only the worker counts, as `serve` tells it."""
    told = oncall.client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in told if line.startswith("redis_oncall_looks_t"))


@pytest.mark.long
def test_what_it_counted_is_told_by_serve_and_outlives_it(oncall: Oncall) -> None:
    oncall.start()
    incident = oncall.alert()
    oncall.wait(lambda: oncall.incident(incident).diagnosis, "it is diagnosed")
    counted = looks(oncall)
    assert counted > 0
    folder = Path(beside(oncall).environ()["PROMETHEUS_MULTIPROC_DIR"])
    files = []
    for _ in range(3):
        another_works(oncall, folder)
        assert looks(oncall) >= counted
        files.append(len(list(folder.iterdir())))
    assert files[0] == files[1] == files[2], "the files of those that ended are not kept"
    again = oncall.post("/v1/investigations", {"target": "cache"})["id"]
    oncall.wait(lambda: oncall.incident(again).diagnosis, "the other one works")
    assert "worker_ended" in oncall.log.read_text()


def another_works(oncall: Oncall, folder: Path) -> None:
    """The worker is killed; the next one has all the files that it counts in."""
    former = beside(oncall)
    former.kill()
    oncall.wait(lambda: beside(oncall).pid != former.pid, "another worker runs")
    assert not list(folder.glob(f"*_{former.pid}.db"))
    last = folder / f"histogram_{beside(oncall).pid}.db"
    oncall.wait(last.exists, "it has begun to count")


@pytest.mark.long
def test_it_does_not_outlive_serve(oncall: Oncall) -> None:
    oncall.start()
    worker = beside(oncall)
    folder = Path(worker.environ()["PROMETHEUS_MULTIPROC_DIR"])
    assert folder.is_dir()
    oncall.kill()
    oncall.wait(lambda: not worker.is_running(), "it has ended")
    assert not folder.exists()
    oncall.start()
    worker = beside(oncall)
    assert oncall.ask_to_stop() == -signal.SIGTERM
    assert not worker.is_running(), "serve ends after it"


@pytest.mark.long
def test_whoever_lost_the_token_has_approved_nothing_that_is_not_yet_begun(
    oncall: Oncall, ill: servers.Server, tmp_path: Path
) -> None:
    """The worker beside `serve` carries out what is approved: it has to know of it, too."""
    oncall.start()
    incident = oncall.alert()
    action = setting_of(oncall.reaches(incident, "awaiting_approval"))
    freeze = oncall.post("/v1/freezes", {"reason": "wait", "target": "cache"})
    oncall.approve(incident, action, "bob")
    file = tmp_path / "oncall.yaml"
    config = yaml.safe_load(file.read_text())
    config["tokens"] = [token for token in config["tokens"] if token["name"] != "bob"]
    file.write_text(yaml.safe_dump(config))
    oncall.hang_up()
    both = "both processes have read the file"
    oncall.wait(lambda: oncall.log.read_text().count('"tokens_read"') == 2, both)
    oncall.post(f"/v1/freezes/{freeze['id']}/thaw", {})
    oncall.wait(lambda: oncall.action(incident, action.id).status == "lapsed", "it lapses")
    assert settings_written(ill) == 0


@pytest.mark.parametrize("file", ["oncall.yaml", ""])
def test_sighup_ends_neither_of_them(tmp_path: Path, file: str) -> None:
    oncall = Oncall(tmp_path, 1, REDIS_ONCALL_CONFIG=str(tmp_path / file) if file else "")
    oncall.forks_worker = False
    try:
        oncall.start()
        oncall.wait(lambda: oncall.client.get("/readyz").is_success, "the worker works")
        worker = beside(oncall)
        oncall.hang_up()
        worker.send_signal(signal.SIGHUP)
        with pytest.raises(psutil.TimeoutExpired):
            worker.wait(1)
        assert oncall.client.get("/healthz").is_success
    finally:
        oncall.stop()
