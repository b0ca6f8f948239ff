"""`evals run`, `evals record` and `bench`."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import typer
from rich.progress import Progress

from api.cli import render
from api.cli.oneshot import failure, settings_or_exit


def run_evals(reasoner: str, only: str, directory: str, *, as_json: bool) -> None:
    """Score a reasoner on the recorded incidents; the report on stdout."""
    from agent.runbook_library import load_library
    from api.reasoning import reasoners
    from evals.report import markdown
    from evals.run import RULES, run_suite
    from evals.truth import INCIDENTS, incidents

    settings = settings_or_exit()
    library = load_library(settings.runbooks)
    _, model = reasoners(settings, library)
    if reasoner not in (RULES, "openai"):
        raise failure(f"--reasoner: '{reasoner}' is not one of rules, openai", code=2)
    if reasoner == "openai" and model is None:
        raise failure("--reasoner openai: set OPENAI_MODEL (and OPENAI_API_KEY) first", code=2)
    folder = Path(directory) if directory else INCIDENTS
    try:
        chosen = incidents(only, folder)
    except (OSError, ValueError) as error:
        raise failure(f"--directory {folder}: {error}", code=2) from None
    if not chosen:
        raise failure(f"--only: no recorded incident matches '{only}'", code=2)
    with Progress(console=render.console(stderr=True), transient=True) as progress:
        task = progress.add_task("incidents", total=len(chosen))
        report = asyncio.run(
            run_suite(
                reasoner,
                only,
                model=model if reasoner == "openai" else None,
                library=library,
                directory=folder,
                on_done=lambda _: progress.advance(task),
            )
        )
    typer.echo(json.dumps(report, indent=2) if as_json else markdown(report))


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
