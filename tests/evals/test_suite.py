"""The recorded incidents that ship, and the runner over them."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from agent.causes import CATALOGUED
from agent.runbook_library import load_library
from evals import servers
from evals.bench.investigate import bench_investigate
from evals.bench.options import Options
from evals.record import Take, record, takes
from evals.run import diagnose, work
from evals.truth import INCIDENTS, incidents
from tools import recording_file

SHIPPED = incidents()


def test_the_suite_covers_all_builds_and_both_kinds() -> None:
    assert {one.truth.build for one in SHIPPED} == set(servers.BUILDS)
    assert {one.truth.is_incident for one in SHIPPED} == {True, False}
    assert len({one.truth.fault for one in SHIPPED}) >= 12


@pytest.mark.parametrize("one", SHIPPED, ids=lambda one: one.id)
def test_a_recording_is_small_and_tells_nothing(one: Any) -> None:
    """The truth stands beside it, never in it or in its name."""
    assert one.recording.stat().st_size <= 60_000
    text = gzip.decompress(one.recording.read_bytes()).decode()
    assert [cause for cause in (*CATALOGUED, "healthy") if cause in text] == []
    assert not {*one.id.split("-")} & {*one.truth.fault.split("-")}
    assert recording_file.read(one.recording).header.alert
    for trace in (
        "cmdstat_debug", "cmdstat_restore", "slowlog|reset", "cmdstat_dump", "site-packages",
    ):  # fmt: skip
        assert trace not in text


async def test_the_same_recording_gives_the_same_incident_twice() -> None:
    one = SHIPPED[0]
    library = load_library()
    # The clock of this machine, which summaries quote (the round trip of five pings).
    volatile = {"opened_at", "updated_at", "expires_at", "starts_at", "usage", "summary"}

    def steady(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: steady(v) for k, v in value.items() if k not in volatile}
        return [steady(each) for each in value] if isinstance(value, list) else value

    first, second = [(await diagnose(one, library))[0] for _ in range(2)]
    assert steady(first.model_dump(mode="json")) == steady(second.model_dump(mode="json"))
    assert first.diagnosis is not None
    assert second.diagnosis is not None
    assert first.diagnosis.summary == second.diagnosis.summary


def test_names_of_takes_are_neutral_and_distinct() -> None:
    names = [take.name for take in takes()]
    assert len(set(names)) == len(names)
    assert Take("healthy", "redis-7.0", 1).name == Take("healthy", "redis-7.0", 1).name
    telling = [take for take in takes() if {*take.name.split("-")} & {*take.fault.split("-")}]
    assert telling == []
    assert not Take("idle-quiet-valley", "redis-7.0", 1).name.startswith(("idle-", "quiet-"))


@pytest.mark.long
async def test_an_incident_can_be_recorded_and_worked(tmp_path: Path) -> None:
    """From a real fault to a scored answer."""
    if servers.binary("valkey-9.1") is None:
        pytest.skip("valkey-9.1 is not installed here")
    await record(Take("stream-unbounded", "valkey-9.1", 5), tmp_path, scale=0.4)
    (one,) = incidents(directory=tmp_path)
    result = await work(one, load_library())
    assert result.right, result.got
    assert result.culprit_right


async def test_the_share_of_an_investigation_that_is_ours() -> None:
    if servers.binary("valkey-9.1") is None:
        pytest.skip("valkey-9.1 is not installed here")
    document = await bench_investigate(Options(runs=1), lambda _: None, scale=0.3)
    (run,) = document["runs"]
    assert run["root_cause"] == "missing-ttl-prefix-leak"
    assert run["total_seconds"] == pytest.approx(
        run["ours_seconds"] + run["not_ours_seconds"], abs=0.01
    )
    assert run["not_ours_seconds"] > 4.9
    assert 0 < document["ratios"]["ours_over_total"] < 0.5


def test_nothing_but_recordings_and_truths_is_shipped() -> None:
    names = {path.name for path in INCIDENTS.iterdir()}
    recordings = {f"{one.id}{suffix}" for one in SHIPPED for suffix in (".jsonl.gz", ".truth.yaml")}
    assert names == recordings
