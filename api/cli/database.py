"""`redis-oncall database …`: the commands, each importing what it needs only when it runs."""

from typing import Annotated

import typer

database_app = typer.Typer(
    help="The service's own database: a copy of it, and putting one back.", no_args_is_help=True
)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Damaged = Annotated[
    bool,
    typer.Option(
        "--damaged-trail", help="Although its audit trail is not whole, or its key is lost."
    ),
]


@database_app.command("backup")
def database_backup(
    file: Annotated[str, typer.Argument(help="A new file, such as oncall-2026-01-31.tar.gz.")],
    as_json: AsJson = False,
) -> None:
    """Copy the database into a file, while the service runs."""
    from api.cli.copies import back_up

    back_up(file, as_json=as_json)


@database_app.command("restore")
def database_restore(
    file: Annotated[str, typer.Argument(help="Made by `database backup`.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Although there is a database already.")
    ] = False,
    damaged_trail: Damaged = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Put a copy in the database's place, with every process of the service stopped.

    No approval from before the backup counts any more; what was being written is of unknown
    outcome; open incidents are looked at again; and nothing is written for a day, or until a thaw.
    """
    from api.cli.copies import restore

    restore(file, replace=replace, damaged_trail=damaged_trail, yes=yes, as_json=as_json)


@database_app.command("settle")
def database_settle(
    as_of: Annotated[
        str, typer.Option(help="The time it is of (UTC), if it came back by other means.")
    ] = "",
    damaged_trail: Damaged = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """End what a restored database must not go on with: after a `restore` that was interrupted,
    a snapshot or a point-in-time recovery, with every process of the service stopped.
    """  # noqa: D205
    from api.cli.copies import settle

    settle(as_of, damaged_trail=damaged_trail, yes=yes, as_json=as_json)


@database_app.command("downgrade")
def database_downgrade(
    revision: Annotated[str, typer.Argument(help="Of the tables, as the audit trail's `migrate`.")],
    yes: Yes = False,
) -> None:
    """Take the tables back for an older version, with every process of the service stopped."""
    from api.cli.copies import take_back

    take_back(revision, yes=yes)
