"""`evals run`, `evals compare`, `evals record` and `bench`."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.progress import Progress

from api.cli import render
from api.cli.oneshot import failure, settings_or_exit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.budget import ModelSettings
    from api.settings import Settings
    from evals.bench.options import Options
    from evals.suite import Part, Report
    from evals.truth import RecordedIncident, Suite


@dataclass(frozen=True)
class Choice:
    """Which incidents."""

    suite: "Suite"
    directory: str
    """Instead of the suite; empty: the suite."""
    only: str
    part: "Part"

    @property
    def is_everything(self) -> bool:
        """Whether it is what README's scores are made of."""
        return self == Choice("incidents", "", "*", "all")


@dataclass(frozen=True)
class Files:
    """Where `evals run` writes besides stdout; empty: nowhere."""

    junit: str
    markdown: str
    readme: bool


def run_evals(
    reasoner: str,
    model: str,
    choice: Choice,
    *,
    repeat: int,
    jobs: int | None,
    as_json: bool,
    files: Files,
) -> None:
    """Score a reasoner on the recorded incidents; the report on stdout, progress on stderr."""
    from agent.runbook_library import load_library
    from evals import report as reports
    from evals.suite import RULES, run_suite

    settings = settings_or_exit()
    asked = _model(settings, reasoner, model)
    if files.readme and not (reasoner == RULES and choice.is_everything):
        raise failure("--write-readme: only for the rules and the whole suite", code=2)
    chosen = _chosen(choice)
    err = render.console(stderr=True)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("incidents", total=len(chosen) * repeat)
        report = run_suite(
            chosen,
            reasoner,
            settings=asked,
            library=load_library(settings.runbooks),
            repeat=repeat,
            jobs=jobs,
            on_done=lambda _: progress.advance(task),
        )
    _write(files.junit, reports.junit, report)
    _write(files.markdown, reports.markdown, report)
    if files.readme:
        _write_readme(report, chosen)
    typer.echo(json.dumps(report, indent=2) if as_json else reports.markdown(report))


def _model(settings: "Settings", reasoner: str, model: str) -> "ModelSettings | None":
    """Whom to ask; None for the rules."""
    from agent.budget import ModelSettings
    from api.reasoning import language_model
    from evals.scripted import script_named
    from evals.suite import OPENAI, REASONERS, RULES

    if reasoner not in REASONERS:
        raise failure(f"--reasoner: '{reasoner}' is not one of {', '.join(REASONERS)}", code=2)
    if reasoner == RULES:
        if model:
            raise failure("--model: the rules ask no model; add --reasoner openai", code=2)
        return None
    try:
        scripted = script_named(model)
    except ValueError as error:
        raise failure(f"--model: {error}", code=2) from None
    if scripted:
        if reasoner != OPENAI:
            raise failure(f"--model {model}: answers only --reasoner {OPENAI}", code=2)
        return ModelSettings(model=model)
    named = settings.model_copy(update={"openai_model": model}) if model else settings
    configured = language_model(named)
    if configured is None:
        raise failure(
            f"--reasoner {reasoner}: set OPENAI_MODEL (and OPENAI_API_KEY), or --model", code=2
        )
    return configured.settings


def _chosen(choice: Choice) -> "list[RecordedIncident]":
    from evals.suite import part_of
    from evals.truth import SUITES, incidents

    folder = Path(choice.directory) if choice.directory else SUITES[choice.suite]
    try:
        chosen = part_of(incidents(choice.only, folder), choice.part)
    except (OSError, ValueError) as error:
        raise failure(f"--directory {folder}: {error}", code=2) from None
    if not chosen:
        raise failure(
            f"--only, --part: no recorded incident matches '{choice.only}' in {choice.part}", code=2
        )
    return chosen


def run_scripted(*, jobs: int | None, write_readme: bool) -> None:
    """The rules and each scripted model on both suites, as a table."""
    from evals import scripted_table

    err = render.console(stderr=True)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("incidents", total=scripted_table.total())
        table = scripted_table.measured(jobs, lambda _: progress.advance(task))
    if write_readme:
        try:
            scripted_table.write(table)
        except (OSError, ValueError) as error:
            raise failure(f"--write-readme needs a checkout of the repository: {error}") from None
    typer.echo(table)


def _write(file: str, form: "Callable[[Report], str]", report: "Report") -> None:
    if file:
        try:
            Path(file).write_text(form(report), "utf-8")
        except OSError as error:
            raise failure(f"{file} cannot be written: {error.strerror}", code=2) from None


def _write_readme(report: "Report", chosen: "Sequence[RecordedIncident]") -> None:
    from evals import scores

    try:
        scores.write(scores.short(report, chosen))
    except (OSError, ValueError) as error:
        raise failure(f"--write-readme needs a checkout of the repository: {error}") from None


def compare_evals(before: str, after: str, *, as_json: bool, fail_on_regression: bool) -> None:
    """What changed between two reports."""
    from evals.compare import compare, markdown

    comparison = compare(_report(before), _report(after))
    typer.echo(json.dumps(comparison, indent=2) if as_json else markdown(comparison))
    if fail_on_regression and comparison["regressed"]:
        raise typer.Exit(1)


def _report(file: str) -> "Report":
    from evals.compare import NotAReport, read_report

    try:
        return read_report(Path(file))
    except (OSError, NotAReport) as error:
        raise failure(
            f"{file}: {error}; make one with: evals run --json > {file}", code=2
        ) from None


def record_evals(
    only: str, suite: "Suite", out: str, *, again: bool, jobs: int, prune: bool
) -> None:
    """Record the fault lab's takes; exit 1 if one of them failed."""
    from evals.record import takes
    from evals.studio import Made, record_all
    from evals.truth import SUITES

    wanted = list(takes(only, suite))
    if not wanted:
        raise failure(f"--only: no fault and no recording matches '{only}'", code=2)
    err = render.console(stderr=True)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("takes", total=len(wanted))

        def tell(made: Made) -> None:
            progress.advance(task)
            if made.outcome != "kept":
                take, said = made.take, made.why or f"{made.bytes:,} bytes"
                where = f"{take.fault} on {take.build}, seed {take.seed}"
                err.print(
                    f"{made.outcome}: {take.name}: {where}: {said}", markup=False, soft_wrap=True
                )

        directory = Path(out) if out else SUITES[suite]
        session = record_all(wanted, again=again, jobs=jobs, directory=directory, on_done=tell)
    for path in session.leftovers:
        path.unlink() if prune else None
        said = "removed" if prune else "no take claims it any more (--prune removes it)"
        err.print(f"{path.name}: {said}", markup=False, soft_wrap=True)
    counts = Counter(made.outcome for made in session.made)
    size = sum(made.bytes for made in session.made)
    parts = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    err.print(
        f"{len(wanted)} takes: {parts}; {size / 1e6:.2f} MB in {directory}",
        markup=False,
        soft_wrap=True,
    )
    if session.failed:
        raise typer.Exit(1)


def run_bench(name: str, options: "Options", *, as_json: bool) -> None:
    """Run a benchmark on a real server and print what it measured."""
    from evals.bench.benches import BENCHES

    if name not in BENCHES:
        raise failure(f"'{name}' is not a benchmark; there are: {', '.join(BENCHES)}", code=2)
    err = render.console(stderr=True)

    def tell(line: str) -> None:
        err.print(f"{name}: {line}", markup=False, soft_wrap=True)

    try:
        result = asyncio.run(BENCHES[name](options, tell))
    except LookupError as missing:
        raise failure(str(missing)) from None
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    out = render.console()
    out.print(f"{result['name']}: {len(result['runs'])} runs on {result['machine']}", markup=False)
    for run in result["runs"]:
        out.print("  " + "  ".join(f"{key} {value}" for key, value in run.items()), markup=False)
    for key, value in result["ratios"].items():
        out.print(f"  {key}: {value}", markup=False)
