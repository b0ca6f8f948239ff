"""Truth from a person's verdict."""

from pathlib import Path

import pytest
import yaml

from agent.incident import Culprit, CulpritKind
from agent.runbook_library import load_library
from evals.export import export, truth_by_verdict
from evals.run import work
from evals.score import summary
from evals.truth import RecordedIncident, incidents
from tools import recording_file

LIBRARY = load_library()
ONE = next(one for one in incidents() if one.truth.culprit[0].kind == "prefix")


def test_a_verdict_is_the_truth() -> None:
    truth = truth_by_verdict("eviction-thrash", None, "seen", "valkey 9.1.2", LIBRARY)
    assert (truth.root_cause, truth.is_incident) == (["eviction-thrash"], True)
    assert truth.culprit == []
    assert "noeviction-oom" in truth.contributing
    assert "eviction-thrash" not in truth.contributing
    assert (truth.kind, truth.fault, truth.build) == ("production", "production", "valkey-9.1")
    assert truth_by_verdict("unknown", None, "", "unknown", LIBRARY).build == "unknown"


@pytest.mark.parametrize(
    ("cause", "is_incident"),
    [("no-incident", False), ("cache-full-by-design", False), ("unknown", True)],
)
def test_whether_it_was_an_incident_follows(cause: str, is_incident: bool) -> None:
    assert truth_by_verdict(cause, None, "", "redis 8.2.3", LIBRARY).is_incident is is_incident


@pytest.mark.parametrize("hash_names", [False, True])
async def test_an_exported_recording_is_worked_like_the_original(
    tmp_path: Path, hash_names: bool
) -> None:
    culprit = ONE.truth.culprit[0]
    truth = truth_by_verdict(ONE.truth.root_cause[0], culprit, culprit.name, "redis 8", LIBRARY)
    recording = recording_file.read(ONE.recording)
    path = export(tmp_path, "inc-1", recording, truth, hash_names=hash_names)
    (exported,) = incidents(directory=tmp_path)
    result = await work(exported, LIBRARY)
    assert result.got == (await work(ONE, LIBRARY)).got
    assert result.right
    assert result.culprit_right
    kept = yaml.safe_load(path.with_name("inc-1.truth.yaml").read_text("utf-8"))
    assert (culprit.name in str(kept)) is not hash_names


@pytest.mark.parametrize(
    ("kind", "name", "stays"),
    [
        ("client", "worker:1", "worker"),
        ("client", "10.1.2.3:5000", ":5000"),
        ("client", "[::1]:5000", ":5000"),
        ("replica", "10.1.2.3:6380", ":6380"),
        ("config", "hz", "hz"),
    ],
)
async def test_the_culprit_is_renamed_as_in_the_recording(
    tmp_path: Path, kind: CulpritKind, name: str, stays: str
) -> None:
    """An address keeps its port, a parameter its name; a client's name keeps neither part."""
    truth = truth_by_verdict("unknown", Culprit(kind=kind, name=name), "", "redis 8.2.3", LIBRARY)
    export(tmp_path, "inc-1", recording_file.read(ONE.recording), truth, hash_names=True)
    (exported,) = incidents(directory=tmp_path)
    (culprit,) = exported.truth.culprit
    assert (stays in culprit.name) is (name != "worker:1")
    assert culprit.kind == kind


async def test_a_culprit_that_nobody_named_is_not_scored() -> None:
    unjudged = RecordedIncident(
        id=ONE.id, recording=ONE.recording, truth=ONE.truth.model_copy(update={"culprit": []})
    )
    judged = await work(ONE, LIBRARY)
    report = summary("rules", [judged, await work(unjudged, LIBRARY)], 1.0)
    assert report["intervals"]["culprit"] == summary("rules", [judged], 1.0)["intervals"]["culprit"]
