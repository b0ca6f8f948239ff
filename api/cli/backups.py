"""`backups`: what remedies removed, and putting it back by hand."""

import asyncio
import json
from typing import Any

import typer

from api.backups import backup_folder
from api.cli import render
from api.cli.oneshot import failure, settings_or_exit, target_of
from api.cli.trail import note_deed
from tools.backups import BackupFolder, Kept
from tools.connection import CommandFailure
from tools.opening import open_for_remedies
from tools.remedies.operation import Operation
from tools.remedies.restoring import restore


def list_backups(*, as_json: bool) -> None:
    """Every backup, oldest first."""
    try:
        kept = backup_folder(settings_or_exit()).kept()
    except OSError as error:
        raise failure(f"the backups cannot be listed: {error}") from None
    if as_json:
        typer.echo(json.dumps([_row(one) for one in kept], indent=2))
        return
    console = render.console()
    for one in kept:
        if one.header is None:
            says = f"cannot be read: {one.trouble}"
        else:
            made, expires = (
                f"{at:%Y-%m-%d %H:%M}" for at in (one.header.made_at, one.header.expires_at)
            )
            says = f"{one.bytes / 1024:,.1f} KiB, made {made}, deleted after {expires} UTC"
        console.print(f"{one.name}\n  {says}", markup=False, highlight=False)
    if not kept:
        typer.echo("no backups", err=True)


def _row(one: Kept) -> dict[str, Any]:
    header = one.header
    return {
        "name": one.name,
        "bytes": one.bytes,
        "made_at": header.made_at.isoformat() if header else None,
        "expires_at": header.expires_at.isoformat() if header else None,
        "trouble": one.trouble,
    }


def restore_backup(name: str, target: str, *, yes: bool, as_json: bool) -> None:
    """Put back what does not exist on the target; exit 1 if a part could not be."""
    settings = settings_or_exit()
    if settings.policy.dry_run:
        raise failure("this installation is a dry run: nothing is written, backups neither", code=2)
    chosen = target_of(settings, target, None)
    # A URL on the command line is the administrator's own; a configured one only reads.
    url = target if "://" in target else chosen.remedy_url
    folder = backup_folder(settings)
    try:
        path = folder.path(name)
    except ValueError as error:
        raise failure(f"'{name}': {error}", code=2) from None
    if not path.exists():
        raise failure(f"there is no backup '{name}' here; see: redis-oncall backups list", code=2)
    if not yes:
        typer.confirm(
            f"Put back {name} on {chosen.name}? What exists there stays as it is.",
            abort=True, err=True,
        )  # fmt: skip
    note_deed(settings, "restore", backup=name, target=chosen.name)
    try:
        counts = asyncio.run(_restore(folder, name, url))
    except CommandFailure as error:
        note_deed(settings, "restore_failed", backup=name, target=chosen.name, because=str(error))
        raise failure(str(error)) from None
    note_deed(settings, "restored", backup=name, target=chosen.name, **counts)
    if as_json:
        typer.echo(json.dumps(counts, indent=2))
        return
    typer.echo(
        f"{counts['restored']:,} put back, {counts['exist_already']:,} exist already and are as "
        f"they are,\n{counts['expired_since']:,} expired since, {counts['left_alone']:,} were "
        f"never removed"
        + (f",\n{counts['other']:,} of another kind: undo their action" if counts["other"] else "")
    )


async def _restore(folder: BackupFolder, name: str, url: str | None) -> dict[str, Any]:
    connection = await open_for_remedies(url)
    try:
        return await restore(connection, folder, Operation(name))
    finally:
        await connection.close()
