"""`evals live`."""

import json
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from api.cli import render
from api.cli.oneshot import failure, settings_or_exit


def live_evals(only: str, builds: str, seed: int, jobs: int, *, as_json: bool, write: bool) -> None:
    """Cause faults on real servers, remedy them, judge; the report on stdout."""
    from agent.runbook_library import load_library
    from evals import live_results
    from evals.live import modes, run_live
    from evals.live_mode import Outcome
    from evals.servers import BUILDS
    from evals.suite import machine

    asked = [build.strip() for build in builds.split(",") if build.strip()]
    asked = list(BUILDS) if asked == ["all"] else asked
    if unknown := sorted(set(asked) - set(BUILDS)):
        raise failure(f"--builds: {', '.join(unknown)} not among {', '.join(BUILDS)}, all", code=2)
    chosen = list(modes(only, asked, seed))
    if not chosen:
        raise failure(f"--only: no fault that can be mitigated here matches '{only}'", code=2)
    err = render.console(stderr=True)
    with Progress(console=err, transient=True) as progress:
        task = progress.add_task("modes", total=len(chosen))

        def told(outcome: Outcome) -> None:
            progress.advance(task)
            state = "mitigated" if outcome.mitigated else "NOT mitigated"
            progress.console.print(f"{outcome.mode.name}: {state}", markup=False, highlight=False)

        library = load_library(settings_or_exit().runbooks)
        report = run_live(chosen, library=library, jobs=jobs, on_done=told)
    if write:
        live_results.write(report, machine())
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    _print(report, live_results.kept(report), render.console())


def _print(report: dict[str, Any], rows: list[dict[str, Any]], out: Console) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), width=render.WIDTH)
    for name in ("mode", "build", "cause", "applied", "gone", "harmed", "s"):
        table.add_column(name, overflow="fold", justify="right" if name == "s" else "left")
    for row in rows:
        table.add_row(
            row["fault"],
            row["build"],
            "right" if row["right"] else "WRONG",
            ", ".join(_said(*each) for each in row["applied"]) or "nothing",
            "yes" if row["mitigated"] else "NO",
            str(len(row["collateral"]) or "no"),
            str(row["seconds"]),
        )
    out.print(table)
    for row in rows:
        mode = f"{row['fault']} on {row['build']}"
        if not row["right"]:
            out.print(f"{mode}: the cause was said to be {row['got']}", markup=False)
        if row["because"]:
            out.print(f"{mode}: {row['because']}", markup=False)
        for harm in row["collateral"]:
            out.print(f"{mode}: HARMED: {harm}", markup=False)
    out.print(
        f"{report['n']} modes: cause right {report['top1']:.0%}, mitigated "
        f"{report['mitigated']:.0%}, {report['collateral']} bystanders harmed, "
        f"{report['seconds']:.0f} s",
        markup=False,
    )


def _said(kind: str, status: str) -> str:
    return kind if status == "verified" else f"{kind} ({status.replace('_', ' ')})"
