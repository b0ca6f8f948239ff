"""The Inspect task, run as its user runs it: in a process of its own, offline."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evals.suite import run_suite
from evals.truth import INCIDENTS, incidents

ROOT = Path(__file__).parents[2]
HANDFUL = incidents()[:5]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A handful of the incidents that ship."""
    for one in HANDFUL:
        for suffix in (".jsonl.gz", ".truth.yaml"):
            (tmp_path / f"{one.id}{suffix}").symlink_to(INCIDENTS / f"{one.id}{suffix}")
    return tmp_path


def inspect_eval(directory: Path, *options: str) -> dict[str, Any]:
    """The log of a run over those incidents."""
    logs = directory / "logs"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "INSPECT_"))}
    done = subprocess.run(
        [
            sys.executable, "-m", "inspect_ai", "eval", "evals/inspect_task.py@incidents",
            "-T", f"directory={directory}", *options, "--log-dir", str(logs),
            "--log-format", "json", "--display", "none", "--no-ansi",
        ],
        cwd=ROOT, env=kept | {"PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "sk-none"},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (log,) = logs.glob("*.json")
    document: dict[str, Any] = json.loads(log.read_text("utf-8"))
    assert document["status"] == "success", document.get("error")
    return document


def measured(log: dict[str, Any], name: str, metric: str) -> float:
    (score,) = [one for one in log["results"]["scores"] if one["name"] == name]
    return float(score["metrics"][metric]["value"])


def test_the_rules_score_as_in_the_suite_and_no_model_is_asked(directory: Path) -> None:
    log = inspect_eval(directory, "-T", "reasoner=rules", "--model", "mockllm/model")
    suite = run_suite(incidents(directory=directory))
    assert len(log["samples"]) == suite["n"] == len(HANDFUL)
    assert measured(log, "root_cause", "accuracy") == pytest.approx(suite["top1"])
    assert measured(log, "culprit", "accuracy") == pytest.approx(suite["culprit"])
    assert measured(log, "harmful", "mean") * len(HANDFUL) == suite["harmful_proposed"]
    assert measured(log, "llm_calls", "mean") == 0

    one = log["samples"][0]
    truth = next(known for known in HANDFUL if known.id == one["id"]).truth
    assert one["target"] == truth.root_cause
    assert (one["metadata"]["build"], one["metadata"]["kind"]) == (truth.build, truth.kind)
    assert truth.fault not in one["input"]
    sources = [event["source"] for event in one["events"] if event["event"] == "info"]
    assert {"diagnosis", "E1 server_info"} <= set(sources)
    told = one["messages"][-1]["content"]
    assert one["output"]["choices"][0]["message"]["content"] == told
    assert f"**{one['scores']['diagnosis']['answer']}**" in told
    assert " of E" in told


def test_a_wrong_glob_and_a_wrong_reasoner_are_told(directory: Path) -> None:
    for option, why in (("only=nothing*", "no recorded incident"), ("reasoner=oracle", "oracle")):
        with pytest.raises(AssertionError, match=why):
            inspect_eval(directory, "-T", option, "--model", "mockllm/model")


def test_a_model_alone_is_asked_by_our_own_client(directory: Path, endpoint: str) -> None:
    log = inspect_eval(
        directory, "-T", "reasoner=openai-alone", "--model", "openai/test",
        "--model-base-url", endpoint,
    )  # fmt: skip
    right = sum(HANDFUL[0].truth.root_cause[0] in one.truth.root_cause for one in HANDFUL)
    assert measured(log, "root_cause", "accuracy") == pytest.approx(right / len(HANDFUL))
    assert measured(log, "llm_calls", "mean") == 1
    assert measured(log, "tokens", "mean") == 1_050


def test_our_agent_is_never_worse_than_the_rules_with_that_model(
    directory: Path, endpoint: str
) -> None:
    """It submits a cause without a claim each time: corrected, refused, and the rules stand."""
    log = inspect_eval(directory, "--model", "openai/test", "--model-base-url", endpoint)
    suite = run_suite(incidents(directory=directory))
    assert measured(log, "root_cause", "accuracy") == pytest.approx(suite["top1"])
    assert measured(log, "llm_calls", "mean") >= 1
