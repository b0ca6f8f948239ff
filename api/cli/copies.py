"""What the `database` commands do."""

import asyncio
import json
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from api import heads
from api.cli.oneshot import failure, settings_or_exit
from api.cli.trail import ask, keys_or_exit, me, note_deed, opened, tell, time_of
from api.copies import archive, postgresql, sqlite
from api.copies.archive import Manifest
from api.copies.facts import CopyFailed
from api.settings import Settings
from api.store import copied, trail
from api.store.audit import WrongKey
from api.store.chain import Keyring, Walk
from api.store.copied import Settled
from api.store.database import Database, database_url
from api.store.migrate import downgrade, known_revisions, migrate


def back_up(name: str, *, as_json: bool) -> None:
    """Copy it; the deed is on record in the database that was copied."""
    settings, file = settings_or_exit(), Path(name)
    if not file.parent.is_dir():
        raise failure(f"the folder {file.parent} does not exist; make it first", code=2)
    url = database_url(settings.database_url.get_secret_value())
    try:
        manifest = asyncio.run(archive.back_up(url, file, settings.path))
    except CopyFailed as failed:
        raise failure(str(failed)) from None
    except OSError as error:
        raise failure(f"{file} cannot be written: {error.strerror}") from None
    told = manifest.model_dump(mode="json", include={"made_at", "sha256", "incidents", "audit"})
    note_deed(settings, "database_backup", file=file.name, **told)
    if as_json:
        typer.echo(manifest.model_dump_json(indent=2))
        return
    typer.echo(
        f"{file}: {file.stat().st_size / 1024:,.0f} KiB, {manifest.incidents:,} incidents, as of "
        f"{manifest.made_at:%Y-%m-%d %H:%M:%S} UTC"
    )
    typer.echo("The key is not in it: without REDIS_ONCALL_KEY, or the file `key` in the data")
    typer.echo("folder, nobody can verify its audit trail or read what remedies kept.")


def restore(name: str, *, replace: bool, damaged_trail: bool, yes: bool, as_json: bool) -> None:
    """Check the file, put the copy in the database's place, and settle it."""
    settings, file = settings_or_exit(), Path(name)
    try:
        manifest = archive.read_manifest(file)
        _must_fit(settings, manifest, replace=replace)
        if not damaged_trail:
            keys_or_exit(settings)
        if not yes:
            ask(
                f"put the copy of {manifest.made_at:%Y-%m-%d %H:%M} UTC, with "
                f"{manifest.incidents:,} incidents, in the place of {settings.shown_database}?"
            )
        kept = asyncio.run(_put(settings, file, replace=replace))
    except CopyFailed as failed:
        raise failure(str(failed)) from None
    except OSError as error:
        raise failure(f"{error.filename or file}: {error.strerror}") from None
    for path in kept:
        typer.echo(f"what was there is kept: {path}", err=True)
    _settle(settings, None, manifest, damaged_trail=damaged_trail, as_json=as_json)


def _must_fit(settings: Settings, manifest: Manifest, *, replace: bool) -> None:
    url = database_url(settings.database_url.get_secret_value())
    if not url.drivername.startswith(manifest.kind):
        raise CopyFailed(
            f"the copy is of {manifest.kind}, and DATABASE_URL is {settings.shown_database}: a "
            "copy goes back into a database of its kind"
        )
    if manifest.kind == "sqlite":
        path = Path(str(url.database))
        sqlite.must_be_free(path)
        if path.exists() and not replace:
            raise CopyFailed(f"there is a database {path}; --replace keeps it beside the copy")


async def _put(settings: Settings, file: Path, *, replace: bool) -> list[Path]:
    url = database_url(settings.database_url.get_secret_value())
    is_sqlite = url.get_backend_name() == "sqlite"
    place = Path(str(url.database)).parent if is_sqlite else settings.data_folder
    await asyncio.to_thread(place.mkdir, mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix=".restoring-") as folder:
        unpacked = Path(folder) / "database"
        manifest = await asyncio.to_thread(archive.unpack, file, unpacked)
        if not is_sqlite:
            at = manifest.made_at
            await postgresql.put(url, unpacked, at, settings.path, replace=replace)
            return []
        path = Path(str(url.database))
        await asyncio.to_thread(sqlite.must_be_free, path)
        return await asyncio.to_thread(sqlite.put, unpacked, path, datetime.now(UTC))


def settle(as_of: str, *, damaged_trail: bool, yes: bool, as_json: bool) -> None:
    """Settle the database that is there."""
    settings = settings_or_exit()
    at = time_of(as_of) if as_of else None
    _must_be_free(settings)
    if not yes:
        ask(f"end what {settings.shown_database} must not go on with, as a restored copy?")
    _settle(settings, at, None, damaged_trail=damaged_trail, as_json=as_json)


def take_back(revision: str, *, yes: bool) -> None:
    """To a revision of the tables; what it has no place for is lost."""
    settings = settings_or_exit()
    known = known_revisions()
    if revision not in known[1:]:
        raise failure(f"'{revision}' is none of {', '.join(known[1:])}", code=2)
    _must_be_free(settings)
    if not yes:
        ask(f"take the tables back to {revision}? What it has no place for is lost")
    note_deed(settings, "downgrade", to=revision)

    async def run() -> None:
        async with opened(settings) as database:
            await downgrade(database, revision)

    try:
        asyncio.run(run())
    except DBAPIError as error:
        raise failure(f"the database refused ({type(error.orig).__name__})") from None
    except CommandError as error:
        raise failure(f"the tables are not newer than {revision}: {error}") from None
    typer.echo(f"the tables are those of {revision}: start the version that it belongs to")


def _must_be_free(settings: Settings) -> None:
    url = database_url(settings.database_url.get_secret_value())
    try:
        if url.get_backend_name() == "sqlite":
            sqlite.must_be_free(Path(str(url.database)))
        else:
            asyncio.run(postgresql.must_be_free(url))
    except CopyFailed as failed:
        raise failure(str(failed)) from None


def _settle(
    settings: Settings,
    as_of: datetime | None,
    manifest: Manifest | None,
    *,
    damaged_trail: bool,
    as_json: bool,
) -> None:
    keys = keys_or_exit(settings, made=damaged_trail)

    async def run() -> tuple[Walk, Settled]:
        async with opened(settings) as database:
            at = await copied.marked(database) or as_of
            if at is None:
                raise CopyFailed(
                    "this database is no restored copy; if it came back by other means (a snapshot,"
                    " a point-in-time recovery), say the time it is of: --as-of 2026-01-31T03:00"
                )
            await migrate(database, a_copy=True)
            walk = await _verified(settings, database, keys, damaged_trail=damaged_trail)
            if manifest and manifest.audit and manifest.audit != (walk.seq, walk.mac):
                raise CopyFailed("the audit trail does not end where that of the backup did")
            await _go_on(settings, database, keys, damaged_trail=damaged_trail)
            return walk, await copied.settle(database, at, me())

    try:
        walk, settled = asyncio.run(run())
    except (CopyFailed, WrongKey) as failed:
        raise failure(f"{failed}. {_UNSETTLED}") from None
    except DBAPIError as error:
        because = type(error.orig).__name__
        raise failure(f"the database refused ({because}). {_UNSETTLED}") from None
    _say(walk, settled, as_json=as_json)


_UNSETTLED = "The service does not start on a copy that was not settled: `database settle`"


async def _verified(
    settings: Settings, database: Database, keys: Keyring, *, damaged_trail: bool
) -> Walk:
    """Walk along its audit trail, against every head noted here up to its end."""
    noted = await asyncio.to_thread(heads.noted, settings)
    async with database.reading() as session:
        head = await trail.head_of(session)
        if head is None:
            return Walk(keys)  # from before there was a chain: it is sealed as it is found
    within = {seq: mac for seq, mac in noted.items() if seq <= head.seq}
    async with database.reading() as session:
        walk = await trail.verify(session, keys, within)
    if walk.findings:
        tell(walk.findings, walk.total)
        if not damaged_trail:
            raise CopyFailed("nothing was settled; --damaged-trail goes on with it as it is")
    return walk


async def _go_on(
    settings: Settings, database: Database, keys: Keyring, *, damaged_trail: bool
) -> None:
    """The chain goes on from the copy's end; what was noted beyond it is another history."""
    if damaged_trail:
        await trail.rekey_lost(database, keys, me())
    await trail.begin(database, keys)
    async with database.reading() as session:
        head = await trail.head_of(session)
    if head is not None:
        await asyncio.to_thread(heads.append, settings, head, another_history=True)


def _say(walk: Walk, settled: Settled, *, as_json: bool) -> None:
    if as_json:
        told: dict[str, Any] = asdict(settled) | {"as_of": settled.as_of.isoformat()}
        typer.echo(json.dumps(told | {"audit_rows": walk.rows}, indent=2))
        return
    trail_is = "whole" if not walk.findings else "NOT whole (above)"
    typer.echo(f"restored: the database as of {settled.as_of:%Y-%m-%d %H:%M} UTC")
    typer.echo(f"its audit trail is {trail_is}: {walk.rows:,} rows")
    for names, words in (
        (settled.unknown, "of unknown outcome: it was at work then; look at the server"),
        (settled.lapsed, "lapsed: no approval from before the backup counts"),
        (settled.again, "looked at again when the service starts"),
    ):
        typer.echo(f"{len(names):,} {words}")
        for name in names[:10]:
            typer.echo(f"- {name}")
        if len(names) > 10:
            typer.echo(f"- and {len(names) - 10:,} more")
    typer.echo(f"nothing is written for 24 h, or until: redis-oncall thaw {settled.freeze}")
