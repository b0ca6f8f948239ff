"""`make demo` as its user runs it: to the gate, and with APPROVE=1 to the report."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]


def run_demo(tmp_path: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", "demo"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    return done.stdout


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


@pytest.mark.long
def test_with_approval_it_applies_verifies_and_reports(tmp_path: Path) -> None:
    printed = run_demo(tmp_path, APPROVE="1")
    assert "is verified" in printed
    assert "# " in printed
    assert left_behind(tmp_path) == []


@pytest.mark.long
def test_an_unread_subscriber_is_not_treated_with_memory_or_deletion(tmp_path: Path) -> None:
    printed = run_demo(tmp_path, SCENARIO="slow-pubsub-cob", APPROVE="1")
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
