"""Investigating without the service: a live URL, or a recording."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from agent.context import Context, EventKind, Target
from agent.incident import Alert, Incident
from agent.memory_journal import MemoryJournal
from agent.reaching import open_target, recorded_target
from api.cli import render
from api.reasoning import reasoners
from api.settings import Settings, SettingsError, load_settings
from tools.connection import CommandFailure, Connection
from tools.progress import Progress, Watch, watched
from tools.target_url import SCHEMES, deployment_of, display_url

if TYPE_CHECKING:
    from tools.recording_file import Recording


def investigate_url(
    url: str, alert: str, memory_limit: int | None, *, as_json: bool, full: bool
) -> None:
    """Investigate a live server and print the incident."""
    settings = settings_or_exit()
    target = target_of(settings, url, memory_limit)

    async def open_live() -> Connection:
        return await open_target(target)

    _print(asyncio.run(_investigate(settings, target, alert, open_live)), as_json, full)


def replay_file(file: str, alert: str, *, as_json: bool, full: bool) -> None:
    """Investigate a recording and print the incident."""
    from tools.recording import RecordedConnection

    path = _existing(file)
    recording = _recording(path)

    async def open_recording() -> Connection:
        return RecordedConnection(recording)

    name = path.name.removesuffix(".gz").removesuffix(".jsonl")
    target = recorded_target(name, recording)
    settings = settings_or_exit()
    _print(asyncio.run(_investigate(settings, target, alert, open_recording)), as_json, full)


def capture_url(url: str, output: str, memory_limit: int | None, *, hash_names: bool) -> None:
    """Record a live server into a file."""
    from tools.capture import capture

    target = target_of(settings_or_exit(), url, memory_limit)
    path = Path(output)
    if not path.parent.is_dir():
        raise failure(f"--output: the folder {path.parent} does not exist; make it first", code=2)

    async def record() -> None:
        connection = await open_target(target)
        try:
            await capture(connection, path, hash_names=hash_names, memory_limit=target.memory_limit)
        finally:
            await connection.close()

    err = render.console(stderr=True)
    with err.status("recording (about 10 s)"):
        asyncio.run(record())
    err.print(f"{path}: {path.stat().st_size / 1024:.0f} KiB; look at it with: replay {path}")


async def _investigate(
    settings: Settings,
    target: Target,
    alert: str,
    open_connection: Callable[[], Awaitable[Connection]],
) -> Incident:
    from agent.run import investigate
    from agent.runbook_library import load_library
    from api.backups import backup_folder
    from tools.known import known_in
    from tools.recording import RecordedConnection

    # The connection first: at maxclients, or when memory is gone, a later one may be refused.
    connection = await open_connection()
    incident = _opened(target, alert)
    err = render.console(stderr=True)
    # A live display only where a person watches, and never beside a JSON document in a pipe.
    with err.status("opening") as status:

        def walked(progress: Progress) -> None:
            status.update(f"keys: {progress.seen:,} of {progress.expected:,}, {progress.left}"[:76])

        def tell(kind: EventKind, data: dict[str, Any]) -> None:
            if kind == "evidence":
                status.update(f"{data['id']} {data['tool']}: {data['summary']}"[:76])

        async def refuse() -> Connection:
            raise CommandFailure("not_allowed", "open for remedies", "a one-shot look never writes")

        library = load_library(settings.runbooks)
        rules, model = reasoners(settings, library)
        context = Context(
            target=target,
            connection=connection,
            open_for_remedies=refuse,
            journal=MemoryJournal(incident, tell if sys.stderr.isatty() else None),
            library=library,
            rules=rules,
            model=model,
            known=(
                known_in(connection.recording)
                if isinstance(connection, RecordedConnection)
                else None
            ),
            backups=backup_folder(settings),
        )
        try:
            with watched(Watch(walked)):
                return await investigate(context, incident)
        finally:
            await connection.close()


def _opened(target: Target, alert: str) -> Incident:
    now = datetime.now(UTC)
    alerts = [Alert(source="cli", name=alert[:200], fingerprint="cli", starts_at=now)]
    return Incident(
        id="local",
        status="queued",
        severity="warning",
        title=alert[:200] or f"Investigation of {target.name}",
        target=target.name,
        question=alert[:2_000],
        alerts=alerts if alert else [],
        opened_at=now,
        updated_at=now,
    )


def target_of(settings: Settings, url: str, memory_limit: int | None) -> Target:
    """The target of a URL, or the configured one of that name; else exit 2."""
    if url.partition("://")[0] in SCHEMES:
        try:
            several = deployment_of(url).kind != "node"
        except ValueError as error:
            raise failure(f"{display_url(url)}: {error}", code=2) from None
        return Target(
            name=display_url(url), url=url, memory_limit=memory_limit, has_several_nodes=several
        )
    for target in settings.agent_targets():
        if target.name == url:
            return target
    names = ", ".join(target.name for target in settings.agent_targets()) or "none"
    raise failure(
        f"'{display_url(url)}' is neither a redis://, rediss://, unix://, redis-sentinel:// or "
        f"redis-cluster:// URL nor a configured target (configured: {names})",
        code=2,
    )


def _recording(path: Path) -> "Recording":
    from tools import recording_file

    try:
        return recording_file.read(path)
    except recording_file.RecordingUnreadable as unreadable:
        raise failure(str(unreadable), code=2) from None


def _existing(file: str) -> Path:
    path = Path(file)
    if not path.is_file():
        raise failure(
            f"{file} does not exist; make a recording with: capture URL -o {file}", code=2
        )
    return path


def _print(incident: Incident, as_json: bool, full: bool) -> None:
    if as_json:
        typer.echo(incident.model_dump_json(indent=2, by_alias=True))
    else:
        render.console().print(render.incident(incident, full=full))


def settings_or_exit() -> Settings:
    """The settings, or one sentence on stderr and exit 2."""
    try:
        return load_settings()
    except SettingsError as error:
        raise failure(str(error), code=2) from None


def failure(sentence: str, code: int = 1) -> typer.Exit:
    """Say what went wrong on stderr; raise what this returns."""
    typer.echo(f"redis-oncall: {sentence}", err=True)
    return typer.Exit(code)
