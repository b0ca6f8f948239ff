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

    from evals.suite import Part, Report
    from evals.truth import RecordedIncident


@dataclass(frozen=True)
class Files:
    """Where `evals run` writes besides stdout; empty: nowhere."""

    junit: str
    markdown: str
    readme: bool


def run_evals(
    reasoner: str,
    only: str,
    part: "Part",
    directory: str,
    *,
    repeat: int,
    jobs: int | None,
    as_json: bool,
    files: Files,
) -> None:
    """Score a reasoner on the recorded incidents; the report on stdout, progress on stderr."""
    from agent.runbook_library import load_library
    from api.reasoning import language_model
    from evals import report as reports
    from evals.suite import REASONERS, RULES, part_of, run_suite
    from evals.truth import INCIDENTS, incidents

    settings = settings_or_exit()
    if reasoner not in REASONERS:
        raise failure(f"--reasoner: '{reasoner}' is not one of {', '.join(REASONERS)}", code=2)
    model = language_model(settings) if reasoner != RULES else None
    if reasoner != RULES and model is None:
        raise failure(f"--reasoner {reasoner}: set OPENAI_MODEL (and OPENAI_API_KEY) first", code=2)
    if files.readme and (reasoner, only, part, directory) != (RULES, "*", "all", ""):
        raise failure("--write-readme: only for the rules and the whole suite", code=2)
    folder = Path(directory) if directory else INCIDENTS
    try:
        chosen = part_of(incidents(only, folder), part)
    except (OSError, ValueError) as error:
        raise failure(f"--directory {folder}: {error}", code=2) from None
    if not chosen:
        raise failure(f"--only, --part: no recorded incident matches '{only}' in {part}", code=2)
    err = render.console(stderr=True)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("incidents", total=len(chosen) * repeat)
        report = run_suite(
            chosen,
            reasoner,
            settings=model.settings if model else None,
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


def record_evals(only: str, out: str, *, again: bool, jobs: int, prune: bool) -> None:
    """Record the fault lab's takes; exit 1 if one of them failed."""
    from evals.record import takes
    from evals.studio import Made, record_all
    from evals.truth import INCIDENTS

    wanted = list(takes(only))
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

        directory = Path(out) if out else INCIDENTS
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


def run_bench(name: str, runs: int, *, as_json: bool) -> None:
    """Run a benchmark on a real server and print what it measured."""
    from evals.bench import BENCHES

    if name not in BENCHES:
        raise failure(f"'{name}' is not a benchmark; there are: {', '.join(BENCHES)}", code=2)
    err = render.console(stderr=True)
    with err.status(f"{name}: {runs} run(s)"):
        result = asyncio.run(BENCHES[name](runs))
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    out = render.console()
    out.print(f"{result['name']}: {len(result['runs'])} runs on {result['machine']}", markup=False)
    for run in result["runs"]:
        out.print("  " + "  ".join(f"{key} {value}" for key, value in run.items()), markup=False)
    for key, value in result["ratios"].items():
        out.print(f"  {key}: {value}", markup=False)
