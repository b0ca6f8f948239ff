"""The suite of real faults that the rules do not settle: recordings, commands, the table."""

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.causes import CATALOGUED
from api.cli.main import app
from evals import scripted_table
from evals.record import takes
from evals.scripted import label
from evals.truth import SUITES, RecordedIncident, incidents
from tools import recording_file

BEYOND = incidents(directory=SUITES["beyond"])
run = CliRunner().invoke


def test_every_take_is_recorded_and_nothing_else() -> None:
    files = {name for take in takes(suite="beyond") for name in take.files}
    assert files == {path.name for path in SUITES["beyond"].iterdir()}
    truths = {(one.id, one.truth.fault, one.truth.build, one.truth.seed) for one in BEYOND}
    assert truths == {(t.name, t.fault, t.build, t.seed) for t in takes(suite="beyond")}


def test_it_shares_no_name_with_the_suite_that_scores_are_made_of() -> None:
    assert not {one.id for one in BEYOND} & {one.id for one in incidents()}
    assert not {t.fault for t in takes(suite="beyond")} & {t.fault for t in takes()}


@pytest.mark.parametrize("one", BEYOND, ids=lambda one: one.id)
def test_a_recording_is_small_and_tells_nothing(one: RecordedIncident) -> None:
    assert one.recording.stat().st_size <= 60_000
    text = gzip.decompress(one.recording.read_bytes()).decode()
    assert [cause for cause in (*CATALOGUED, one.truth.fault) if cause in text] == []
    assert not {*one.id.split("-")} & {*one.truth.fault.split("-")}
    assert recording_file.read(one.recording).header.alert
    assert set(one.truth.root_cause) <= CATALOGUED


def test_the_command_names_the_model_and_what_it_cost() -> None:
    asked = ["--reasoner", "openai", "--model", "scripted:right", "--suite", "beyond"]
    done = run(app, ["evals", "run", *asked, "--only", BEYOND[0].id, "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["n"], report["model"]) == (1, "scripted: right")
    assert report["reasoner"] == "openai:scripted:right"
    assert report["model_use"]["calls_an_incident"]["max"] == report["median_llm_calls"]
    assert report["model_use"]["tokens_are"] == "estimated: 3 characters each"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "gpt"], "--model: the rules ask no model; add --reasoner openai"),
        (["--reasoner", "openai", "--model", "scripted:no"], "'scripted:no' is not one of"),
        (["--reasoner", "openai-alone", "--model", "scripted:right"], "only --reasoner openai"),
        (["--reasoner", "openai"], "set OPENAI_MODEL (and OPENAI_API_KEY), or --model"),
        (["--suite", "beyond", "--write-readme"], "only for the rules and the whole suite"),
    ],
)
def test_what_cannot_be_run_is_said(
    options: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_MODEL", raising=False)
    done = run(app, ["evals", "run", *options])
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


def test_the_table_stands_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- scripted -->\nold\n<!-- /scripted -->\nafter\n")
    scripted_table.write("| new |", page)
    assert page.read_text() == "before\n<!-- scripted -->\n| new |\n<!-- /scripted -->\nafter\n"
    page.write_text("no markers")
    with pytest.raises(ValueError, match=r"has no <!-- scripted --> … <!-- /scripted -->"):
        scripted_table.write("| new |", page)


def test_the_readme_shows_every_script_on_both_suites() -> None:
    """Renew with: redis-oncall evals scripted --write-readme."""
    text = scripted_table.README.read_text("utf-8")
    shown = text.partition(scripted_table.START)[2].partition(scripted_table.END)[0]
    for name, folder in SUITES.items():
        assert f"`evals/{name}`, {len(incidents(directory=folder))} incidents:" in shown
    for script in scripted_table.COMPARED:
        assert shown.count(f"| {label(f'scripted:{script}')} |") == len(SUITES)
