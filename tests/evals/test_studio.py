"""Recording many takes: each is whole or not there, and one that fails ends no other."""

import gzip
import multiprocessing
import os
import re
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from evals import servers, studio
from evals.faults import FAULTS
from evals.record import LABS, Take, takes
from evals.studio import Made, leftovers, record_all
from evals.truth import incidents
from tests.acceptance.program import run
from tests.forked import FORK

BUILD = "valkey-9.1"
FAULT = "single-bigkey"


@pytest.fixture(autouse=True)
def installed() -> None:
    if servers.binary(BUILD) is None:
        pytest.skip(f"{BUILD} is not installed here")


def scripted(take: Take, folder: Path, sending: Connection) -> None:
    """A take whose seed says what becomes of it."""
    again = folder.parent / f"second-attempt-{take.seed}"
    if take.seed == 3:
        os._exit(7)
    if take.seed == 4:
        time.sleep(60)
    if take.seed == 2 and not again.exists():
        again.touch()
        sending.send("no luck at first")
        return
    for name in take.files:
        (folder / name).write_text("x" * take.seed)
    sending.send("")


@pytest.mark.long
def test_a_failing_take_is_tried_again_and_ends_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studio, "_in_process", scripted)
    # Four interpreters that begin at once take longer than that on a busy machine.
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: FORK)
    monkeypatch.setattr(studio, "TAKE_SECONDS", 4.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    out = tmp_path / "out"
    wanted = [Take(FAULT, BUILD, seed) for seed in (1, 2, 3, 4)] + [Take(FAULT, "redis-2.8", 1)]
    seen: list[Made] = []
    session = record_all(wanted, jobs=4, directory=out, on_done=seen.append)
    assert [(made.take, made.outcome) for made in session.made] == [
        (wanted[0], "recorded"),
        (wanted[1], "recorded"),
        (wanted[2], "failed"),
        (wanted[3], "failed"),
        (wanted[4], "left out"),
    ]
    assert {made.take for made in seen} == {*wanted}
    assert session.made[2].why == "its process ended with 7 (tried 2 times)"
    assert session.made[3].why == "not done after 4 s (tried 2 times)"
    assert "not installed" in session.made[4].why
    assert {path.name for path in out.iterdir()} == {*wanted[0].files, *wanted[1].files}
    assert [path.name for path in tmp_path.glob("redis-oncall-take-*")] == []

    kept = record_all(wanted[:1], directory=out)
    assert kept.made == (Made(wanted[0], "kept", 1),)


def test_further_faults_rename_no_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {take for take in takes() if take.fault == FAULT}
    monkeypatch.setitem(LABS, "incidents", {FAULT: FAULTS[FAULT]})
    assert {*takes()} == before


def test_takes_are_chosen_by_fault_or_by_name() -> None:
    chosen = list(takes(FAULT))
    assert len(chosen) == FAULTS[FAULT].recordings
    assert list(takes(chosen[0].name)) == [chosen[0]]
    assert len({take.build for take in takes()}) == len(servers.BUILDS)


@pytest.mark.long
def test_the_command_records_and_prunes(tmp_path: Path) -> None:
    """From a real fault to files; what no take claims is named, and removed when asked."""
    take = next(take for take in takes() if take.build == BUILD)
    stale = tmp_path / "old-name-00.truth.yaml"
    stale.write_text("root_cause: []")
    production = tmp_path / "inc-0192f0c4.truth.yaml"
    production.write_text("root_cause: [single-bigkey]")
    done = run("evals", "record", "--only", take.name, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "old-name-00.truth.yaml: no take claims it" in done.stderr
    assert "1 takes: 1 recorded" in done.stderr
    (one,) = incidents(take.name, tmp_path)
    assert one.truth.fault == take.fault
    assert one.recording.stat().st_size <= 60_000
    seen = gzip.decompress(one.recording.read_bytes())
    assert set(re.findall(rb"executable:([^\\\\]*)/", seen)) == {b"/usr/bin"}
    assert list(leftovers(tmp_path)) == [stale]
    done = run("evals", "record", "--only", take.name, "--out", str(tmp_path), "--prune")
    assert done.returncode == 0, done.stderr
    assert "1 takes: 1 kept" in done.stderr
    assert list(leftovers(tmp_path)) == []
    assert not stale.exists()
    assert production.exists()


def test_a_glob_that_matches_nothing_is_said(tmp_path: Path) -> None:
    done = run("evals", "record", "--only", "no-such-*", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "no fault and no recording matches" in done.stderr
