"""The Inspect task, run as its user runs it: in a process of its own, offline."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evals.suite import run_suite
from evals.truth import INCIDENTS, incidents

ROOT = Path(__file__).parents[2]
HANDFUL = incidents()[:5]


ONE_AFTER_ANOTHER = """
import json, sys
from pathlib import Path
from inspect_ai._cli.main import inspect
said = {}
for name, arguments in json.load(sys.stdin).items():
    try:
        inspect.main(arguments, standalone_mode=False)
        said[name] = ""
    except BaseException as error:
        said[name] = f"{type(error).__name__}: {error}"
Path(sys.argv[1]).write_text(json.dumps(said))
"""
"""Inspect's own command line, several times: a process that only loads it costs five seconds."""
RULES = ("--model", "mockllm/model")


@dataclass
class Runs:
    """What came of Inspect over a handful of the incidents that ship."""

    directory: Path
    said: dict[str, str]

    def log(self, name: str) -> dict[str, Any]:
        """Of a run that succeeded."""
        assert self.said[name] == ""
        (log,) = (self.directory / name).glob("*.json")
        document: dict[str, Any] = json.loads(log.read_text("utf-8"))
        assert document["status"] == "success", document.get("error")
        return document


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, endpoint: str) -> Runs:
    """All of them, each with its log."""
    directory = tmp_path_factory.mktemp("inspect")
    for one in HANDFUL:
        for suffix in (".jsonl.gz", ".truth.yaml"):
            (directory / f"{one.id}{suffix}").symlink_to(INCIDENTS / f"{one.id}{suffix}")
    model = ("--model", "openai/test", "--model-base-url", endpoint)
    asked = {
        "rules": ("-T", "reasoner=rules", *RULES),
        "alone": ("-T", "reasoner=openai-alone", *model),
        "ours": model,
        "wrong glob": ("-T", "only=nothing*", *RULES),
        "wrong reasoner": ("-T", "reasoner=oracle", *RULES),
    }
    commands = {
        name: [
            "eval", "evals/inspect_task.py@incidents", "-T", f"directory={directory}", *options,
            "--log-dir", str(directory / name), "--log-format", "json", "--display", "none",
            "--no-ansi",
        ]
        for name, options in asked.items()
    }  # fmt: skip
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "INSPECT_"))}
    done = subprocess.run(
        [sys.executable, "-c", ONE_AFTER_ANOTHER, str(directory / "said")],
        input=json.dumps(commands), cwd=ROOT, capture_output=True, text=True, timeout=200,
        env=kept | {"PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "sk-none"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return Runs(directory, json.loads((directory / "said").read_text()))


def measured(log: dict[str, Any], name: str, metric: str) -> float:
    (score,) = [one for one in log["results"]["scores"] if one["name"] == name]
    return float(score["metrics"][metric]["value"])


def test_the_rules_score_as_in_the_suite_and_no_model_is_asked(runs: Runs) -> None:
    log = runs.log("rules")
    suite = run_suite(incidents(directory=runs.directory))
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


def test_a_wrong_glob_and_a_wrong_reasoner_are_told(runs: Runs) -> None:
    assert "no recorded incident" in runs.said["wrong glob"]
    assert "oracle" in runs.said["wrong reasoner"]


def test_a_model_alone_is_asked_by_our_own_client(runs: Runs) -> None:
    log = runs.log("alone")
    right = sum(HANDFUL[0].truth.root_cause[0] in one.truth.root_cause for one in HANDFUL)
    assert measured(log, "root_cause", "accuracy") == pytest.approx(right / len(HANDFUL))
    assert measured(log, "llm_calls", "mean") == 1
    assert measured(log, "tokens", "mean") == 1_050


def test_our_agent_is_never_worse_than_the_rules_with_that_model(runs: Runs) -> None:
    """It submits a cause without a claim each time: corrected, refused, and the rules stand."""
    log = runs.log("ours")
    suite = run_suite(incidents(directory=runs.directory))
    assert measured(log, "root_cause", "accuracy") == pytest.approx(suite["top1"])
    assert measured(log, "llm_calls", "mean") >= 1
