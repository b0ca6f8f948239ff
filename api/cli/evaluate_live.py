"""`evals live`."""

import json

import typer
from rich.progress import Progress
from rich.table import Table

from api.cli import render
from api.cli.oneshot import failure, settings_or_exit


def live_evals(only: str, builds: str, seed: int, *, as_json: bool) -> None:
    """Cause faults on real servers, remedy them, judge; the report on stdout."""
    from agent.runbook_library import load_library
    from evals.live import Outcome, modes, run_live
    from evals.servers import BUILDS

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

        report = run_live(chosen, library=load_library(settings_or_exit().runbooks), on_done=told)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    table = Table("fault", "build", "cause", "mitigated", "harmed", "applied, and what remains")
    for row in report["incidents"]:
        said = [f"{action['kind']} {action['status']}" for action in row["actions"]]
        said += [] if row["mitigated"] else [row["failure"] or "; ".join(row["remaining"])]
        table.add_row(
            row["fault"],
            row["build"],
            "right" if row["right"] else f"WRONG: {row['got']}",
            "yes" if row["mitigated"] else "NO",
            "; ".join(row["collateral"]) or "nothing",
            "; ".join(said),
        )
    out = render.console()
    out.print(table)
    out.print(
        f"{report['n']} modes: cause right {report['top1']:.0%}, mitigated "
        f"{report['mitigated']:.0%}, {report['collateral']} canaries harmed, "
        f"{report['seconds']:.0f} s",
        markup=False,
    )
