"""`redis-oncall`: every command, each importing what it needs only when it runs."""

import errno
import gc
import io
import os
import sys
from typing import Annotated, Literal

import typer

from api.cli.analyze import analyze
from api.cli.audit import audit_app
from api.cli.database import database_app
from api.cli.deciding import approve, freeze, freezes, stop, thaw
from api.cli.evals import AsJson, evals_app
from api.cli.graph import graph
from api.cli.incidents import Full, incidents, show, tail
from api.cli.mcp import mcp
from api.cli.notify import notify
from api.cli.silences import lift, silence, silences

app = typer.Typer(
    name="redis-oncall",
    help="An autonomous on-call engineer for Redis and Valkey.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
runbooks_app = typer.Typer(help="List and check runbooks.", no_args_is_help=True)
backups_app = typer.Typer(help="What remedies removed.", no_args_is_help=True)
app.add_typer(backups_app, name="backups")
app.add_typer(audit_app, name="audit")
app.add_typer(database_app, name="database")
app.add_typer(runbooks_app, name="runbooks")
app.add_typer(evals_app, name="evals")
for command in (
    incidents, show, tail, approve, stop, freeze, freezes, thaw, silence, silences, lift, analyze,
    graph, mcp, notify,
):  # fmt: skip
    app.command()(command)

Url = Annotated[str, typer.Argument(help="Any redis URL of api/README.md, or a target's name.")]
MemoryLimit = Annotated[
    int | None,
    typer.Option(help="Bytes the server may use when maxmemory is 0 (a container's limit)."),
]


@app.command()
def investigate(
    url: Url,
    alert: Annotated[str, typer.Option(help="The alert's name or text, or a question.")] = "",
    memory_limit: MemoryLimit = None,
    as_json: AsJson = False,
    full: Full = False,
) -> None:
    """Investigate a live server, read-only, and print diagnosis and plan."""
    from api.cli.oneshot import investigate_url

    investigate_url(url, alert, memory_limit, as_json=as_json, full=full)


@app.command()
def capture(
    url: Url,
    output: Annotated[str, typer.Option("--output", "-o", help="File to write (.jsonl.gz).")],
    hash_names: Annotated[bool, typer.Option(help="Hash key, client and host names.")] = False,
    memory_limit: MemoryLimit = None,
) -> None:
    """Record a server, read-only, into a file that `replay` investigates elsewhere."""
    from api.cli.oneshot import capture_url

    capture_url(url, output, memory_limit, hash_names=hash_names)


@app.command()
def replay(
    file: Annotated[str, typer.Argument(help="A recording made by `capture`.")],
    alert: Annotated[str, typer.Option(help="The alert's name or text, or a question.")] = "",
    as_json: AsJson = False,
    full: Full = False,
) -> None:
    """Investigate a recording."""
    from api.cli.oneshot import replay_file

    replay_file(file, alert, as_json=as_json, full=full)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Beyond loopback only with tokens.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 picks a free one.")] = None,
    worker: Annotated[
        bool, typer.Option(help="Also work the queue, in a process beside it.")
    ] = True,
) -> None:
    """Run the service: HTTP API and, unless --no-worker, the worker."""
    from api.cli.service import serve as run

    run(host, port, worker=worker)


@app.command()
def worker(
    port: Annotated[
        int | None, typer.Option(help="Answer /healthz, /readyz and /metrics there; 0: a free one.")
    ] = None,
    nudged: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Work the queue (with PostgreSQL and a queue server, as many as you like)."""
    from api.cli.service import work

    work(port=port, nudged=nudged)


@app.command()
def demo(
    scenario: Annotated[
        str, typer.Option(envvar="SCENARIO", help="Which fault; `list` names them.")
    ] = "",
    approve: Annotated[
        bool, typer.Option("--approve", envvar="APPROVE", help="Approve the first action.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", envvar="KEEP", help="Stay, to be looked at in a browser.")
    ] = False,
) -> None:
    """A real server, a real fault, a real alert: the whole way of an incident."""
    from api.cli.demo import run

    run(scenario, approve=approve, keep=keep)


@app.command()
def chat(
    message: Annotated[
        str, typer.Argument(help="Your question; without one, a conversation.", show_default=False)
    ] = "",
    incident: Annotated[str | None, typer.Option(help="The incident it is about.")] = None,
    target: Annotated[str | None, typer.Option(help="The target it is about.")] = None,
    url: Annotated[
        str | None, typer.Option(help="A server to look at directly, without the service.")
    ] = None,
    thread: Annotated[
        str | None, typer.Option(help="Go on with this thread; `last`: the last one.")
    ] = None,
    threads: Annotated[bool, typer.Option("--threads", help="List your threads.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask about an incident, a target, or Redis in general; nothing is changed from here."""
    from api.cli.chat import list_threads, talk

    if threads:
        list_threads(as_json=as_json)
    else:
        talk(message, incident, target, url, thread, as_json=as_json)


@app.command()
def transcript(
    incident: Annotated[str, typer.Argument(help="The id of an incident, or of a chat thread.")],
    replay: Annotated[
        bool, typer.Option("--replay", help="Hold the conversation again, without a model.")
    ] = False,
    as_json: AsJson = False,
    full: Annotated[bool, typer.Option("--full", help="Every message whole.")] = False,
) -> None:
    """Show what a model was told about an incident and what it said, or --replay it."""
    from api.cli import transcript as transcripts

    if replay:
        transcripts.replay(incident, as_json=as_json)
    else:
        transcripts.show(incident, as_json=as_json, full=full)


@app.command()
def report(
    incident: Annotated[str, typer.Argument(help="The incident's id.")],
    html: Annotated[bool, typer.Option("--html", help="A page instead of Markdown.")] = False,
    output: Annotated[str, typer.Option("--output", "-o", help="File; default: stdout.")] = "-",
) -> None:
    """The post-incident report: timeline, cause, actions, their measured effect, follow-ups."""
    from api.cli.report import report as write

    write(incident, output, html=html)


@app.command()
def usage(as_json: AsJson = False) -> None:
    """What models cost on each day, and what a day may cost."""
    from api.cli.transcript import usage as show

    show(as_json=as_json)


@app.command()
def verdict(
    incident: Annotated[str, typer.Argument(help="The incident's id.")],
    root_cause: Annotated[str, typer.Option(help="A cause's id, unknown or no-incident.")],
    culprit: Annotated[str, typer.Option(help="KIND:NAME, e.g. prefix:session: or none.")] = "",
    comment: Annotated[str, typer.Option(help="How you know.")] = "",
) -> None:
    """Say what an incident really was; that labels its recording."""
    from api.cli.verdicts import give

    give(incident, root_cause, culprit, comment)


@app.command()
def acl(
    version: Annotated[str, typer.Argument(help="A version (7.0, valkey-9.1) or a URL.")],
) -> None:
    """Print the ACL SETUSER lines of the two identities for a server's version."""
    from api.cli.catalogue import print_acl

    print_acl(version)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what is configured, what is reachable and what is missing."""
    from api.cli.doctor import run

    run(as_json=as_json)


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="Who or what will use it.")],
    role: Annotated[str, typer.Option(help="viewer, responder, approver, admin or source.")],
    expires: Annotated[str, typer.Option(help="After how long, such as 90d.")] = "",
    person: Annotated[str, typer.Option(help="Whose it is, if they have several.")] = "",
) -> None:
    """Make a bearer token: printed once, with the line for the configuration."""
    from api.cli.catalogue import print_token

    print_token(name, role, expires, person)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="investigate, intake or scan.")] = "investigate",
    runs: Annotated[int | None, typer.Option(min=1, max=20)] = None,
    requests: Annotated[int, typer.Option(min=1, help="intake: alerts to send.")] = 10_000,
    targets: Annotated[int, typer.Option(min=1, max=5_000, help="intake: on so many.")] = 200,
    seconds: Annotated[float, typer.Option(min=1, help="intake: within this time.")] = 60.0,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Investigations.")] = 4,
    database: Annotated[Literal["sqlite", "postgresql"], typer.Option()] = "sqlite",
    size: Annotated[int, typer.Option(min=1_000, help="scan: keys of each server.")] = 1_000_000,
    as_json: AsJson = False,
) -> None:
    """Measure ourselves on real servers; intake: under a storm of alerts; scan: and redis-cli."""
    from api.cli.evaluate import run_bench
    from evals.bench.options import Options

    options = Options(runs, requests, targets, seconds, concurrency, database, size)
    run_bench(name, options, as_json=as_json)


@backups_app.command("list")
def backups_list(as_json: AsJson = False) -> None:
    """The backups on this machine, oldest first."""
    from api.cli.backups import list_backups

    list_backups(as_json=as_json)


@backups_app.command("restore")
def backups_restore(
    name: Annotated[str, typer.Argument(help="As `list` shows it.")],
    target: Annotated[str, typer.Option(help="A target's name, or a URL that may write.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put back what a backup holds, where nothing has taken its place."""
    from api.cli.backups import restore_backup

    restore_backup(name, target, yes=yes, as_json=as_json)


@app.command()
def remedies(
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option(help="As the table of tools/remedies.")] = False,
) -> None:
    """Everything that may be changed after an approval, with its risk."""
    from api.cli.catalogue import list_remedies

    list_remedies(as_json=as_json, markdown=markdown)


@runbooks_app.command("list")
def runbooks_list(as_json: AsJson = False) -> None:
    """The runbooks that are loaded, and the causes each one knows."""
    from api.cli.catalogue import list_runbooks

    list_runbooks(as_json=as_json)


@runbooks_app.command("lint")
def runbooks_lint(
    paths: Annotated[list[str] | None, typer.Argument(help="Files or folders.")] = None,
) -> None:
    """Check runbooks; exit 1 if one has a problem."""
    from api.cli.catalogue import lint_runbooks

    lint_runbooks(paths or [])


def main() -> None:
    """Entry point: expected failures are one sentence on stderr and exit 1."""
    gc.set_threshold(50_000)  # 700 make every command a sixth slower: what is loaded stays
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and not out.encoding.lower().startswith("utf"):
        out.reconfigure(errors="backslashreplace")  # names of keys may be of any alphabet
    try:
        app()
    except KeyboardInterrupt:  # between two commands; within one, typer says the same
        sys.exit(130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EPIPE):
            raise
        # What is not written yet would be tried again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if error.errno != errno.EPIPE:
            from tools.reading import printable

            where = printable(str(error.filename or "the output"), 200)
            sys.stderr.write(f"redis-oncall: {where} cannot be written: {error.strerror}\n")
        sys.exit(1)
