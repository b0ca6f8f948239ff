"""`redis-oncall audit …`: the commands, each importing what it needs only when it runs."""

from typing import Annotated

import typer

audit_app = typer.Typer(help="Who saw, approved and applied what.", no_args_is_help=True)
Incident = Annotated[str | None, typer.Option(help="Only what is about this incident.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@audit_app.command("list")
def audit_list(
    incident: Incident = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, the newest.")] = 30,
) -> None:
    """The newest rows of the audit trail, oldest of them first."""
    from api.cli.trail import show

    show(incident, limit)


@audit_app.command("verify")
def audit_verify(
    head: Annotated[
        list[str] | None,
        typer.Option(help="SEQ:MAC, as a log line `audit_head` has them; several if you like."),
    ] = None,
    file: Annotated[str, typer.Option(help="An export, instead of the database.")] = "",
) -> None:
    """Walk along the chain; exit 1 if a row was changed, removed, moved, put in or cut off."""
    from api.cli.trail import verify, verify_file

    if file:
        verify_file(file)
    else:
        verify(head or [])


@audit_app.command("export")
def audit_export(
    since: Annotated[str, typer.Option(help="A date, or a time as 2026-01-31T03:00.")] = "",
    incident: Incident = None,
    output: Annotated[str, typer.Option("--output", "-o", help="File; default: stdout.")] = "-",
) -> None:
    """Write the trail as JSON lines, which `verify --file` can check elsewhere with the key."""
    from api.cli.trail import export

    export(since, incident, output)


@audit_app.command("prune")
def audit_prune(
    before: Annotated[str, typer.Option(help="A date, or a time as 2026-01-31T03:00.")],
    yes: Yes = False,
) -> None:
    """Remove old rows; a signed anchor is left for the rest to hang on."""
    from api.cli.trail import prune

    prune(before, yes=yes)


@audit_app.command("rekey")
def audit_rekey(
    lost: Annotated[bool, typer.Option("--lost", help="The key before is lost.")] = False,
    yes: Yes = False,
) -> None:
    """Go on with a new key although the one before is lost: nobody can verify its rows then."""
    from api.cli.trail import rekey

    rekey(lost=lost, yes=yes)
