"""`make demo` as its user runs it to the gate; with APPROVE=1, in this process, to the report."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import forkserver
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from api.cli import demo
from api.cli.main import app
from tests.forked import Forked

ROOT = Path(__file__).parents[2]


def run_demo(tmp_path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", "demo"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    return done.stdout


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """`play(SCENARIO=…)`: approved; what it prints. Its service is forked."""
    before = signal.getsignal(signal.SIGTERM)
    forkserver.ensure_running()  # its socket lies in a folder of its own, which stays
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(demo, "running_service", partial(demo.running_service, start=Forked))

    def run(**environment: str) -> str:
        done = CliRunner().invoke(app, ["demo"], env={"APPROVE": "1"} | environment)
        assert done.exit_code == 0, done.output[-3_000:]
        return done.output

    yield run
    signal.signal(signal.SIGTERM, before)


def left_behind(tmp_path: Path) -> list[str]:
    files = [str(path) for path in tmp_path.rglob("*")]
    processes = [
        " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["cmdline"])
        if str(tmp_path) in " ".join(process.info["cmdline"] or [])
    ]
    return files + processes


@pytest.mark.long
def test_the_demo_stops_at_the_gate_and_says_how_to_go_on(tmp_path: Path) -> None:
    printed = run_demo(tmp_path)
    assert "missing-ttl-prefix-leak" in printed
    assert "APPROVE=1" in printed
    assert max(len(line) for line in printed.splitlines()) <= 80
    assert "\x1b" not in printed
    assert left_behind(tmp_path) == []


@pytest.mark.usefixtures("close_samples")
@pytest.mark.long
def test_with_approval_it_applies_verifies_and_reports(
    play: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[str]()
    sleep = time.sleep

    def looked_at(seconds: float) -> None:
        """Instead of an hour: Ctrl-C."""
        if seconds < demo.STAY_SECONDS:
            return sleep(seconds)
        seen.append("stayed")
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", looked_at)
    printed = play(KEEP="1")
    assert "is verified" in printed
    assert "# " in printed
    assert seen == ["stayed"]
    assert re.search(r"In a browser: +http://127\.0\.0\.1:\d+/incidents/inc-\w+\n", printed)
    assert re.search(r"Sign in with: +roc_\S+\n", printed)
    assert left_behind(tmp_path) == []


@pytest.mark.usefixtures("close_samples")
@pytest.mark.long
def test_an_unread_subscriber_is_not_treated_with_memory_or_deletion(
    play: Callable[..., str], tmp_path: Path
) -> None:
    printed = play(SCENARIO="slow-pubsub-cob")
    assert "slow-pubsub-cob" in printed
    assert "CLIENT KILL" in printed
    assert "is verified" in printed
    assert "CONFIG SET maxmemory " not in printed
    assert left_behind(tmp_path) == []


def test_an_unknown_scenario_names_the_known_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", "demo"],
        cwd=ROOT,
        env=os.environ | {"SCENARIO": "nothing-like-it"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "missing-ttl-prefix-leak" in done.stderr
