"""The runner: the same results however they are made, and nothing that ends it early."""

import asyncio
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.budget import ModelSettings
from agent.context import Case
from agent.incident import DiagnosisDraft
from agent.runbook import Library
from agent.runbook_library import load_library
from evals import run as run_module
from evals import suite
from evals.run import failed, work
from evals.score import Result
from evals.suite import MODEL_REASONERS, by_computing, part_of, run_suite
from evals.truth import RecordedIncident, incidents
from tests.acceptance.program import ROOT, run
from tests.forked import FORK

SHIPPED = incidents()
SOME = SHIPPED[:8]
SETTINGS = ModelSettings("test", "", "http://127.0.0.1:9")


def without_times(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.long
def test_processes_change_nothing_but_the_time() -> None:
    """Also not the order, nor what depends on how a process hashes."""
    seen: list[Result] = []
    alone = run_suite(SOME, jobs=1, on_done=seen.append)
    shared = run_suite(SOME, jobs=2, on_done=seen.append)
    assert [row["id"] for row in shared["incidents"]] == [one.id for one in SOME]
    assert without_times(alone["incidents"]) == without_times(shared["incidents"])
    assert alone["intervals"] == shared["intervals"]
    assert len(seen) == 2 * len(SOME)


async def answer(recorded: RecordedIncident, library: Library) -> Result:
    """Fails by the incident's place in the suite, in four ways."""
    place = SOME.index(recorded)
    if place == 1:
        raise RuntimeError("out of words")
    if place == 3:
        return failed(recorded, lambda: None)  # type: ignore[arg-type]  # cannot be pickled
    if place == 6:  # late: what it takes with it is worked again, each in a process of its own
        os._exit(9)
    return failed(recorded, f"worked {recorded.id}")


@pytest.mark.timeout(400)
@pytest.mark.long
def test_what_goes_wrong_in_one_incident_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an exception, nor a dead process, nor a result that cannot be sent."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: FORK)
    seen: list[Result] = []
    results = by_computing(SOME, load_library(), 2, seen.append, answer)
    assert [result.id for result in results] == [one.id for one in SOME]
    assert sorted(result.id for result in seen) == [one.id for one in SOME]
    why = [result.failure for result in results]
    assert why[1] == "RuntimeError: out of words"
    assert "pickle" in why[3].lower()
    assert why[6] == "its process died"
    for place in (0, 2, 4, 5, 7):
        assert why[place] == f"worked {SOME[place].id}"


async def test_a_reasoner_that_crashes_leaves_the_rules_answer_and_says_why() -> None:
    class Broken:
        name = "broken"

        async def investigate(self, case: Case, *_: Any) -> DiagnosisDraft:
            raise RuntimeError("out of words")

    result = await work(SOME[0], load_library(), Broken())
    assert result.right
    assert result.diagnosis is not None
    assert result.diagnosis.reasoner == "rules"
    assert result.diagnosis.overruled is not None
    assert "RuntimeError" in result.diagnosis.overruled.reason


def test_a_model_is_asked_about_several_incidents_at_a_time_and_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    under_way, most = 0, 0

    async def slow(recorded: RecordedIncident, model: Any, library: Library) -> Result:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.05 * (8 - SOME.index(recorded)))
        under_way -= 1
        if recorded is SOME[2]:
            raise RuntimeError("no answer")
        return failed(recorded, "")

    monkeypatch.setitem(MODEL_REASONERS, "openai", slow)
    report = run_suite(SOME, "openai", settings=SETTINGS, jobs=3)
    assert report["reasoner"] == "openai:test"
    assert [row["id"] for row in report["incidents"]] == [one.id for one in SOME]
    assert [row["failure"] for row in report["incidents"]].count("RuntimeError: no answer") == 1
    assert most == 3


def test_an_incident_that_takes_too_long_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(recorded: RecordedIncident, model: Any, library: Library) -> Result:
        await asyncio.sleep(60)
        raise AssertionError

    monkeypatch.setitem(MODEL_REASONERS, "openai", endless)
    monkeypatch.setattr(run_module, "INCIDENT_SECONDS", 0.1)
    started = time.monotonic()
    report = run_suite(SOME[:2], "openai", settings=SETTINGS)
    assert time.monotonic() - started < 10
    assert [row["got"] for row in report["incidents"]] == ["failed", "failed"]
    assert "TimeoutError" in report["incidents"][0]["failure"]


def test_repeats_say_how_far_runs_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    library = load_library()
    asked: list[str] = []

    async def moody(recorded: RecordedIncident, model: Any, library: Library) -> Result:
        asked.append(recorded.id)
        if recorded is SOME[0] and asked.count(recorded.id) == 2:
            return failed(recorded, "not today")
        return await work(recorded, library)

    monkeypatch.setitem(MODEL_REASONERS, "openai", moody)
    report = run_suite(SOME[:2], "openai", settings=SETTINGS, library=library, repeat=3)
    was = [right(one) for one in SOME[:2]]
    agreed = report["repeats"]
    assert agreed["runs"] == 3
    assert agreed["same_cause"] == agreed["identical"] == 0.5
    assert agreed["top1"] == [sum(was) / 2, was[1] / 2, sum(was) / 2]
    (differing,) = agreed["differing"]
    assert differing["id"] == SOME[0].id
    assert differing["got"]["failed"] == 1
    assert differing["right"] == 2 * was[0]


def right(one: RecordedIncident) -> bool:
    return asyncio.run(work(one, load_library())).right


def test_reasoners_are_known_and_have_what_they_need() -> None:
    with pytest.raises(ValueError, match="needs a model"):
        run_suite(SOME, "openai")
    with pytest.raises(ValueError, match="not one of rules, openai, openai-alone"):
        run_suite(SOME, "oracle")


def test_the_held_back_part_is_the_rest() -> None:
    tuning, held = part_of(SHIPPED, "tuning"), part_of(SHIPPED, "held-back")
    assert part_of(SHIPPED, "all") == SHIPPED
    assert sorted(one.id for one in tuning + held) == [one.id for one in SHIPPED]
    assert {one.held_back for one in tuning} == {False}
    assert {one.held_back for one in held} == {True}


def test_the_command_writes_what_it_is_asked_for(tmp_path: Path) -> None:
    one = SOME[0]
    xml, page = tmp_path / "r.xml", tmp_path / "r.md"
    done = run("evals", "run", "--only", one.id, "--json", "--junit", str(xml), "--markdown",
               str(page))  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert [row["id"] for row in report["incidents"]] == [one.id]
    assert ET.fromstring(xml.read_text()).attrib["tests"] == "1"
    assert f"| {one.id} |" in page.read_text()
    by_fault = json.loads(run("evals", "run", "--only", one.truth.fault, "--json").stdout)
    assert one.id in [row["id"] for row in by_fault["incidents"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--reasoner", "oracle"), "not one of rules, openai, openai-alone"),
        (("--reasoner", "openai-alone"), "set OPENAI_MODEL"),
        (("--only", "no-such-*"), "no recorded incident matches"),
        (("--part", "some"), "--part"),
        (("--only", "a*", "--write-readme"), "the whole suite"),
        (("--only", SOME[0].id, "--junit", "/no/such/folder/r.xml"), "cannot be written"),
    ],
)
def test_what_the_command_cannot_do_is_said(arguments: tuple[str, ...], said: str) -> None:
    done = run("evals", "run", *arguments)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize("reasoner", ["openai", "openai-alone"])
def test_a_model_is_run_as_its_user_does(reasoner: str, endpoint: str) -> None:
    """It names one cause without a claim: alone that is its answer, else the rules stand."""
    model = {"OPENAI_MODEL": "test", "OPENAI_API_KEY": "x", "OPENAI_BASE_URL": endpoint}
    asked = ("--reasoner", reasoner, "--only", SOME[0].id, "--repeat", "2", "--json")
    done = run("evals", "run", *asked, **model)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["reasoner"] == f"{reasoner}:test"
    assert report["top1"] == 1.0
    assert report["repeats"]["identical"] == 1.0
    calls = report["median_llm_calls"]
    assert calls == 1 if reasoner == "openai-alone" else calls > 1


@pytest.mark.timeout(400)
def test_interrupted_it_ends_at_once_and_takes_its_processes_along() -> None:
    """As Ctrl-C does it: the signal goes to the whole group."""
    command = [sys.executable, "-m", "api.cli", "evals", "run", "--jobs", "2", "--repeat", "50"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Whoever runs the tests in the background ignores Ctrl-C, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as program:
        deadline = time.monotonic() + 150
        while len(workers := psutil.Process(program.pid).children()) < 3:  # and a tracker
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(program.pid, signal.SIGINT)
        said, complained = program.communicate(timeout=150)
    assert (program.returncode, said, complained) == (130, b"", b"")
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []


def test_cores_are_those_we_may_use() -> None:
    assert 1 <= suite.cores() <= (os.cpu_count() or 1)


async def test_a_healthy_server_is_looked_at_whole_for_others_to_be_compared_with() -> None:
    """Also by tools that nobody had a reason to use; on a sick one, only what was looked at."""
    library = load_library()
    quiet = next(one for one in SHIPPED if "no-incident" in one.truth.root_cause)
    sick = next(one for one in SHIPPED if one.truth.is_incident)
    on_demand = {"acl_log", "latency_histogram", "stream_info"}
    assert on_demand - (await work(quiet, library)).readings.keys() == set()
    assert on_demand - (await work(sick, library)).readings.keys() != set()
