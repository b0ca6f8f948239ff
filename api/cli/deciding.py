"""What is done: `approve`, `stop`, `freeze`, `freezes`, `thaw`."""

from typing import Annotated

import typer

from api.cli.evals import AsJson


def approve(
    incident: Annotated[str, typer.Argument(help="The incident's id.")],
    action: Annotated[
        str, typer.Argument(help="The action's id, e.g. A1; not with --all.", show_default=False)
    ] = "",
    every: Annotated[
        bool, typer.Option("--all", help="All that waits, in order, while all goes well.")
    ] = False,
    comment: Annotated[
        str, typer.Option(help="Why; kept in the audit, and read by the next investigation.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    confirm: Annotated[
        str, typer.Option(help="Do not ask, if this is the target's name.", show_default=False)
    ] = "",
    reject: Annotated[bool, typer.Option("--reject", help="Reject instead.")] = False,
    break_glass: Annotated[
        bool,
        typer.Option(
            "--break-glass", help="An admin alone, past freezes; needs --comment, pages everybody."
        ),
    ] = False,
    wait: Annotated[
        bool | None,
        typer.Option(
            "--wait/--no-wait", help="Until it is verified or undone.", show_default="on a terminal"
        ),
    ] = None,
) -> None:
    """Approve (or --reject) an action of an incident's plan, after showing it.

    R2 and above are approved by typing the target's name. Through a pipe the action is printed as
    JSON; with --wait, as it ended. Exit 0 says that it was printed, its `status` how it went.
    """  # fmt: skip
    from api.cli import gate

    if every == bool(action):
        raise typer.BadParameter("name an action, or say --all")
    wish = gate.Wish(comment, yes, reject, break_glass, confirm, wait)
    if every:
        gate.decide_all(incident, wish)
    else:
        gate.decide(incident, action, wish)


def stop(
    incident: Annotated[str, typer.Argument(help="The incident's id.")],
    action: Annotated[str, typer.Argument(help="The action's id, e.g. A1.")],
    comment: Annotated[str, typer.Option(help="Why; kept in the audit.")] = "",
) -> None:
    """Stop an approved action: before it begins, or after its present batch."""
    from api.cli.gate import stop as stop_it

    stop_it(incident, action, comment)


def freeze(
    reason: Annotated[str, typer.Option(help="Why; shown to whoever has to wait.")],
    target: Annotated[str | None, typer.Option(help="Only this target.")] = None,
    duration: Annotated[str, typer.Option("--for", help="30m, 2h or 1d.")] = "4h",
) -> None:
    """Change nothing from now on: on one target, or on all."""
    from api.cli.gate import freeze as freeze_it

    freeze_it(target, duration, reason)


def freezes(as_json: AsJson = False) -> None:
    """What is frozen now or will be, configured or declared."""
    from api.cli.gate import freezes as show

    show(as_json=as_json)


def thaw(freeze: Annotated[int, typer.Argument(help="Its number, from `freezes`.")]) -> None:
    """End a freeze that was declared."""
    from api.cli.gate import thaw as thaw_it

    thaw_it(freeze)
