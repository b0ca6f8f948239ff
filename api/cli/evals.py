"""`redis-oncall evals …`: the commands, each importing what it needs only when it runs."""

from typing import Annotated, Literal

import typer

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
evals_app = typer.Typer(help="Score a reasoner on recorded incidents.", no_args_is_help=True)


@evals_app.command("run")
def evals_run(
    reasoner: Annotated[str, typer.Option(help="rules, openai or openai-alone.")] = "rules",
    only: Annotated[str, typer.Option(help="Glob over ids of incidents or of faults.")] = "*",
    part: Annotated[
        Literal["all", "tuning", "held-back"],
        typer.Option(help="Only what may be looked at while tuning, or only the rest."),
    ] = "all",
    suite: Annotated[
        Literal["incidents", "beyond"],
        typer.Option(help="beyond: real faults chosen because the rules fail on them."),
    ] = "incidents",
    directory: Annotated[str, typer.Option(help="Incidents of your own, as exported.")] = "",
    model: Annotated[
        str,
        typer.Option(help="Instead of OPENAI_MODEL; scripted:right and others need no endpoint."),
    ] = "",
    repeat: Annotated[int, typer.Option(min=1, max=100, help="Runs, and how far they agree.")] = 1,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Processes; with a model, questions at a time."),
    ] = None,
    as_json: AsJson = False,
    junit: Annotated[str, typer.Option(help="Also write JUnit XML to this file.")] = "",
    markdown: Annotated[str, typer.Option(help="Also write Markdown to this file.")] = "",
    write_readme: Annotated[
        bool, typer.Option("--write-readme", help="Renew README's scores (in a checkout).")
    ] = False,
) -> None:
    """Score a reasoner on the recorded incidents, offline."""
    from api.cli.evaluate import Choice, Files, run_evals

    files = Files(junit, markdown, write_readme)
    run_evals(
        reasoner, model, Choice(suite, directory, only, part),
        repeat=repeat, jobs=jobs, as_json=as_json, files=files,
    )  # fmt: skip


@evals_app.command("scripted")
def evals_scripted(
    jobs: Annotated[int | None, typer.Option(min=1, max=64, help="Processes.")] = None,
    write_readme: Annotated[
        bool, typer.Option("--write-readme", help="Renew evals/README.md (in a checkout).")
    ] = False,
) -> None:
    """Work both suites with the rules and with each scripted model, and compare."""
    from api.cli.evaluate import run_scripted

    run_scripted(jobs=jobs, write_readme=write_readme)


@evals_app.command("compare")
def evals_compare(
    before: Annotated[str, typer.Argument(help="A report: `evals run --json`.")],
    after: Annotated[str, typer.Argument(help="Another one.")],
    as_json: AsJson = False,
    fail_on_regression: Annotated[
        bool, typer.Option("--fail-on-regression", help="Exit 1 if anything got worse.")
    ] = False,
) -> None:
    """What changed between two reports, incident by incident."""
    from api.cli.evaluate import compare_evals

    compare_evals(before, after, as_json=as_json, fail_on_regression=fail_on_regression)


@evals_app.command("record")
def evals_record(
    only: Annotated[str, typer.Option(help="Glob over ids of faults or of recordings.")] = "*",
    suite: Annotated[
        Literal["incidents", "beyond"], typer.Option(help="Which suite is recorded.")
    ] = "incidents",
    again: Annotated[bool, typer.Option("--again", help="Also replace what exists.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=16, help="Takes side by side.")] = 2,
    out: Annotated[str, typer.Option(help="Folder; default: the suite's own.")] = "",
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove recordings that no take claims any more.")
    ] = False,
) -> None:
    """Record incidents: cause each fault on real servers and capture them."""
    from api.cli.evaluate import record_evals

    record_evals(only, suite, out, again=again, jobs=jobs, prune=prune)


@evals_app.command("export")
def evals_export(
    incident: Annotated[str, typer.Argument(help="The id of an incident with a verdict.")],
    output: Annotated[str, typer.Option("--output", "-o", help="Folder to write into.")],
    hash_names: Annotated[bool, typer.Option(help="Hash key, client and host names.")] = False,
) -> None:
    """Export an incident the service worked as a recorded incident, labelled by the verdict."""
    from api.cli.verdicts import export_incident

    export_incident(incident, output, hash_names=hash_names)


@evals_app.command("live")
def evals_live(
    only: Annotated[str, typer.Option(help="Glob over fault ids.")] = "*",
    builds: Annotated[
        str, typer.Option(help="Server builds, with commas; `all`. Default: one for each fault.")
    ] = "",
    seed: Annotated[int, typer.Option(min=1, help="Draws sizes, names and workload.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, max=16, help="Modes side by side.")] = 1,
    write: Annotated[
        bool, typer.Option("--write", help="Keep the rows in evals/live.json and live.md.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Cause faults on real servers, apply the plan's remedies, judge what it helped or harmed."""
    from api.cli.evaluate_live import live_evals

    live_evals(only, builds, seed, jobs, as_json=as_json, write=write)
