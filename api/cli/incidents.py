"""What burns: `incidents`, `show`, `tail`."""

from typing import Annotated

import typer

from api.cli.evals import AsJson

IncidentId = Annotated[str, typer.Argument(help="The incident's id.")]
Full = Annotated[bool, typer.Option("--full", help="Also the steps and commands to hand over.")]


def incidents(
    incident: Annotated[
        str | None, typer.Argument(help="Show this one whole.", show_default=False)
    ] = None,
    status: Annotated[str | None, typer.Option(help="Only this status.")] = None,
    target: Annotated[str | None, typer.Option(help="Only on this target.")] = None,
    only_open: Annotated[
        bool, typer.Option("--open", help="Not those that are resolved, closed or failed.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Until Ctrl-C, as it changes.")] = False,
    as_json: AsJson = False,
    full: Full = False,
) -> None:
    """List the service's incidents, what burns first, or show one.

    Through a pipe: a line each (id, status, target, cause), the newest first.
    """
    from api.cli.oneshot import failure

    if incident is not None:
        if status or target or only_open or watch:
            raise failure("one incident is shown whole: leave out the filters and --watch", code=2)
        show(incident, as_json=as_json, full=full)
        return
    from api.cli import incident_list

    if status and only_open:
        raise failure("say --status or --open, not both", code=2)
    wish = incident_list.Wish(status or "", target or "", only_open)
    if watch:
        if as_json:
            raise failure("--watch goes with no --json; `tail --json` follows", code=2)
        incident_list.watch(wish)
    else:
        incident_list.show(wish, as_json=as_json)


def show(incident: IncidentId, as_json: AsJson = False, full: Full = False) -> None:
    """One incident, whole: what is wrong, how sure, why, its memory, what can be done."""
    from api.cli import incident_page

    incident_page.show(incident, as_json=as_json, full=full)


def tail(
    incident: Annotated[
        str | None, typer.Argument(help="Only this one; without: all that are open.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Also past the incident's end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
) -> None:
    """Follow what happens to an incident, or to all that burn; Ctrl-C ends it."""
    from api.cli import tail as following

    following.tail(incident, follow=follow, as_json=as_json)
