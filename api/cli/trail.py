"""What the `audit` commands do, on the database itself: the service need not run."""

import asyncio
import contextlib
import json
import os
import pwd
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import typer
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from api import audit_export, heads
from api.auditing import keyring
from api.cli.oneshot import failure, settings_or_exit
from api.keys import KeyUnusable
from api.settings import Settings
from api.store import audit, trail
from api.store.audit import Person, WrongKey
from api.store.chain import Finding, Keyring
from api.store.database import Database, database_url
from api.store.tables import AuditRow
from tools.reading import printable

_HEAD = re.compile(r"(\d{1,10}):([0-9a-f]{64})")


def show(incident: str | None, limit: int) -> None:
    """A line for each row; whole lines where stdout is no terminal."""
    settings = settings_or_exit()

    async def rows() -> list[AuditRow]:
        async with opened(settings) as database, database.reading() as session:
            chosen = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
            if incident is not None:
                chosen = chosen.where(AuditRow.incident_id == incident)
            return list(await session.scalars(chosen))

    for row in reversed(_run(rows())):
        by, what = printable(row.by, 40), printable(row.what, 40)
        about = " ".join([row.incident_id or "", _short(row.detail)]).strip()
        line = printable(f"{row.id:>6} {row.at:%Y-%m-%d %H:%M} {by:<14} {what:<13} {about}", 10_000)
        typer.echo(line[:80] if sys.stdout.isatty() else line)


def _short(detail: dict[str, Any]) -> str:
    told = ((name, value) for name, value in detail.items() if value not in (None, "", [], {}))
    return " ".join(f"{name}={_value(value)}" for name, value in told)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def verify(given: Sequence[str]) -> None:
    """Walk along the rows in the database, against every head that was noted outside it."""
    settings = settings_or_exit()
    named = dict(_head(text) for text in given)
    keys = keys_or_exit(settings)
    try:
        noted = heads.noted(settings)
    except OSError as error:
        raise failure(f"{heads.heads_file(settings)} cannot be read: {error.strerror}") from None
    clash = next((seq for seq, mac in named.items() if noted.get(seq, mac) != mac), None)
    if clash is not None:
        raise failure(f"row {clash}: the head given and {heads.heads_file(settings)} differ")

    async def walk() -> Any:
        async with opened(settings) as database, database.reading() as session:
            return await trail.verify(session, keys, noted | named, _progress())

    done = _run(walk())
    if done.findings:
        tell(done.findings, done.total)
        raise typer.Exit(1)
    outside = len([seq for seq in noted | named if seq >= done.first])
    pruned = f"; rows 1 to {done.first - 1} were pruned, as the anchor says" * (done.first > 1)
    typer.echo(f"the audit trail is whole: {done.rows:,} rows{pruned}")
    typer.echo(f"it agrees with {outside:,} heads that were noted outside the database")
    typer.echo(f"head: {done.seq}:{done.mac}")


def verify_file(name: str) -> None:
    """The same of an export."""
    keys = keys_or_exit(settings_or_exit())
    try:
        with Path(name).open(encoding="utf-8", errors="surrogateescape") as file:
            done = audit_export.verify_export(file, keys)
    except OSError as error:
        raise failure(f"{name} cannot be read: {error.strerror}") from None
    if done.findings:
        tell(done.findings, len(done.findings))
        raise typer.Exit(1)
    typer.echo(f"the export is whole: {done.rows:,} rows")


def export(since: str, incident: str | None, output: str) -> None:
    """Every row that fits, as a JSON line."""
    settings = settings_or_exit()
    moment, keys = time_of(since) if since else None, keys_or_exit(settings)

    async def write(file: TextIO) -> None:
        async with opened(settings) as database, database.reading() as session:
            async for line in audit_export.export(session, keys.current, moment, incident):
                file.write(json.dumps(line, sort_keys=True) + "\n")

    try:
        if output == "-":
            _run(write(sys.stdout))
            return
        handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            _run(write(file))
    except OSError as error:
        raise failure(f"{output} cannot be written: {error.strerror}") from None


def prune(before: str, *, yes: bool) -> None:
    """Remove what is older, after asking."""
    settings, moment = settings_or_exit(), time_of(before)
    keys = keys_or_exit(settings)
    if not yes:
        ask(f"remove the audit trail from before {moment:%Y-%m-%d %H:%M} UTC for good?")

    async def remove() -> int:
        async with opened(settings) as database:
            database.audit_keys = keys
            return await trail.prune(database, moment, me())

    try:
        removed = _run(remove())
    except trail.Broken as broken:
        raise failure(f"the audit trail is broken: {broken}") from None
    typer.echo(f"{removed:,} rows removed; the rest hangs on a signed anchor")


def rekey(*, lost: bool, yes: bool) -> None:
    """Hand the trail over to the key that is here now."""
    if not lost:
        raise failure(
            "give the key before as REDIS_ONCALL_PREVIOUS_KEYS and start the service: it changes "
            "the key by itself. Only if that key is lost: --lost",
            code=2,
        )
    settings = settings_or_exit()
    try:
        keys = keyring(settings)
    except KeyUnusable as error:
        raise failure(str(error)) from None
    if not yes:
        ask("nobody will be able to verify the rows so far; go on with the key here?")

    async def change() -> bool:
        async with opened(settings) as database:
            return await trail.rekey_lost(database, keys, me())

    if not _run(change()):
        raise failure("the trail's key is here: it is not lost, and nothing was changed")
    typer.echo(f"the audit trail goes on with key {keys.current.id}")


def note_deed(settings: Settings, what: str, **detail: Any) -> None:
    """Put on record what this command does; said if it cannot be, and done all the same.

    Data may have to come back where the database of the service is not at hand.
    """

    async def note() -> None:
        async with opened(settings) as database:
            database.audit_keys = keys_or_exit(settings)
            async with database.writing() as session:
                await audit.note(session, me(), what, None, **detail)

    try:
        asyncio.run(note())
    except (typer.Exit, SQLAlchemyError, WrongKey) as error:
        typer.echo(f"not in the audit trail ({type(error).__name__}): {what}", err=True)


def _head(text: str) -> tuple[int, str]:
    if (match := _HEAD.fullmatch(text)) is None:
        raise failure("--head is SEQ:MAC: a row's number and 64 hexadecimal digits", code=2)
    return int(match[1]), match[2]


def time_of(text: str) -> datetime:
    """A person's date or time, UTC unless it says otherwise; else exit 2."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise failure("a date is expected, or a time as 2026-01-31T03:00 (UTC)", code=2) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def keys_or_exit(settings: Settings, *, made: bool = False) -> Keyring:
    """The keys; to make one here would make every row look forged. `made`: do so all the same."""
    if not made and settings.key is None and not (settings.data_folder / "key").exists():
        raise failure(
            f"there is no key here: neither REDIS_ONCALL_KEY nor {settings.data_folder / 'key'}. "
            "Run this where the service runs, or with its key"
        )
    try:
        return keyring(settings)
    except KeyUnusable as error:
        raise failure(str(error)) from None


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """The database that is there; else exit 1."""
    url = database_url(settings.database_url.get_secret_value())
    if url.get_backend_name() == "sqlite" and not _is_there(str(url.database)):
        raise failure(f"there is no database {url.database}")
    database = Database(url)
    try:
        yield database
    finally:
        await database.close()


def _is_there(name: str) -> bool:
    return Path(name).exists()


def _run(what: Coroutine[Any, Any, Any]) -> Any:
    try:
        return asyncio.run(what)
    except DBAPIError as error:
        raise failure(
            f"the audit trail cannot be read ({type(error.orig).__name__}); the service makes and "
            "upgrades its tables when it starts"
        ) from None
    except WrongKey as wrong:
        raise failure(str(wrong)) from None


def _progress() -> Callable[[int], None]:
    last = time.monotonic()

    def told(rows: int) -> None:
        nonlocal last
        if rows % 100 == 0 and time.monotonic() - last >= 1:
            last = time.monotonic()
            typer.echo(f"{rows:,} rows …", err=True)

    return told


def tell(findings: Sequence[Finding], total: int) -> None:
    """What is wrong with a trail."""
    if all(finding.without_key for finding in findings):
        typer.echo("The audit trail cannot be verified with the key that is here:")
    else:
        typer.echo(f"THE AUDIT TRAIL IS BROKEN, first at row {findings[0].seq}:")
    for finding in findings:
        typer.echo(f"- {printable(finding.text, 300)}")
    if total > len(findings):
        typer.echo(f"- and {total - len(findings):,} more")


def ask(question: str) -> None:
    """Go on only after a yes; without a terminal: exit 2."""
    if not sys.stdin.isatty():
        raise failure("without a terminal, say --yes", code=2)
    typer.confirm(question, abort=True, err=True)


def me() -> Person:
    """Who runs this command."""
    name = str(os.getuid())
    with contextlib.suppress(KeyError):
        name = pwd.getpwuid(os.getuid()).pw_name
    return Person(f"{name}@{socket.gethostname()}"[:200], "command line")
