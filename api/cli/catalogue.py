"""Commands that print what is built in: runbooks, ACL rules; and make tokens."""

import asyncio
import hashlib
import json
import secrets
from datetime import UTC, datetime
from pathlib import Path

import typer
from rich.padding import Padding
from rich.text import Text

from api.cli import render
from api.cli.oneshot import failure, settings_or_exit
from api.entries import duration

ROLES = ("viewer", "responder", "approver", "admin", "source")


def print_acl(version: str) -> None:
    """The ACL lines for a version such as 7.0 or valkey-9.1, or of the server at a URL."""
    from tools.acl import acl_lines

    valkey, number = version.startswith("valkey"), version.split("-")[-1]
    if "://" in version:
        valkey, number = asyncio.run(_server_version(version))
    if not number[:1].isdigit():
        raise failure(
            f"'{version}' is not a version; say for example 7.0, 8.2 or valkey-9.1", code=2
        )
    for line in acl_lines(number, valkey=valkey):
        typer.echo(line)


async def _server_version(url: str) -> tuple[bool, str]:
    from tools.connection import CommandFailure, read_info
    from tools.opening import open_for_reading

    connection = await open_for_reading(url)
    try:
        info = await read_info(connection, "server")
    except CommandFailure as error:
        raise failure(f"{error}; give the version instead: redis-oncall acl 7.0") from None
    finally:
        await connection.close()
    valkey = info.get("valkey_version")
    return valkey is not None, valkey or info.get("redis_version", "")


def print_token(name: str, role: str, expires: str = "", person: str = "") -> None:
    """A new token of 256 random bits, and its line for the configuration."""
    if role not in ROLES:
        raise failure(f"--role: '{role}' is not one of {', '.join(ROLES)}", code=2)
    public_id = secrets.token_hex(4)
    made = f"roc_{public_id}_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(made.encode()).hexdigest()
    more = f", id: {json.dumps(public_id)}"
    if person and role == "source":
        raise failure("--person: a source is nobody", code=2)
    if person:
        more += f", person: {json.dumps(person)}"
    if expires:
        try:
            over = datetime.now(UTC) + duration(expires)
        except (ValueError, OverflowError):
            raise failure(f"--expires: '{expires}' is not a time such as 90d", code=2) from None
        more += f", expires: {over:%Y-%m-%dT%H:%M:%SZ}"
    typer.echo(f"token (shown once; keep it secret): {made}")
    if role == "source":
        typer.echo("for the configuration, under sources (kind: alertmanager, grafana, pagerduty,")
        typer.echo("datadog, generic); its sha256 is also that of a password, under `basic`:")
        typer.echo(f"  - {{name: {json.dumps(name)}, kind: alertmanager, sha256: {digest}{more}}}")
    else:
        typer.echo("for the configuration, under tokens:")
        typer.echo(f"  - {{name: {json.dumps(name)}, role: {role}, sha256: {digest}{more}}}")


def list_runbooks(*, as_json: bool) -> None:
    """Runbooks with their causes."""
    from agent.runbook_library import load_library

    library = load_library(settings_or_exit().runbooks)
    if as_json:
        shown = [
            {
                "id": book.id,
                "title": book.front.title,
                "severity": book.front.severity,
                "causes": [cause.id for cause in book.front.causes],
                "prose_only": book.prose_only,
            }
            for book in library.runbooks
        ]
        typer.echo(json.dumps(shown, indent=2))
        return
    console = render.console()
    for book in library.runbooks:
        console.print(f"{book.id:32} {book.front.title}", soft_wrap=False, markup=False)


def list_remedies(*, as_json: bool, markdown: bool) -> None:
    """What may be changed, least risk first."""
    from api.catalogues import remedy_shown
    from tools.remedies.catalogue import REMEDIES

    shown = sorted(map(remedy_shown, REMEDIES.values()), key=lambda each: (each.risk, each.kind))
    if as_json:
        typer.echo(json.dumps([each.model_dump() for each in shown], indent=2))
        return
    if markdown:
        typer.echo("| risk | remedy | what it is | needs |\n|---|---|---|---|")
        for each in shown:
            needs = ", ".join(each.needs).replace("_", " ")
            typer.echo(f"| {each.risk} | `{each.kind}` | {each.description} | {needs} |")
        return
    console = render.console()
    for each in shown:
        by_hand = "" if each.executable else "  (people carry it out)"
        needs = f"  (needs {', '.join(each.needs)})".replace("_", " ") if each.needs else ""
        console.print(f"{each.risk} {each.kind}{by_hand}{needs}", markup=False, style="bold")
        console.print(Padding(Text(each.description), (0, 0, 0, 3)))


def lint_runbooks(paths: list[str]) -> None:
    """Print every problem; exit 1 if there is one."""
    from agent.runbook_library import PACKAGED
    from agent.runbook_lint import lint

    chosen = [Path(path) for path in paths] or [PACKAGED]
    for path in chosen:
        if not path.exists():
            raise failure(f"{path} does not exist", code=2)
    problems = lint(chosen)
    for problem in problems:
        typer.echo(str(problem))
    typer.echo(f"{len(problems)} problem(s)" if problems else "all runbooks are clean", err=True)
    if problems:
        raise typer.Exit(1)
