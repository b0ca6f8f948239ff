"""`redis-oncall chat`: one question, a conversation, or one question a line from a pipe.

Answered by the running service, or, with `--url` or where no service runs, by this process looking
at the server itself. Answers are printed as text: nothing in them is markup or a terminal escape.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import httpx2
import typer
from rich.console import Console
from rich.text import Text

from api.cli import render
from api.cli.client import address, call, no_answer, refusal
from api.cli.oneshot import failure, settings_or_exit, target_of
from tools.reading import printable

SECONDS = 130.0
"""Longest silence of the service; it bounds an answer itself."""
MOST_LINES = 1_000
LONGEST_QUESTION = 2_000
LEAVE = frozenset({"exit", "quit", "bye", ":q", "/exit", "/quit"})
PROMPT = "redis-oncall> "
Tell = Callable[[str], None]
Reply = dict[str, Any]


class NoService(Exception):
    """No service answers; the text says where, and what to do."""


class Unanswered(Exception):
    """A question that was refused or failed; the text says why."""


class Session(Protocol):
    """A conversation: every question knows those before it."""

    def ask(self, message: str, tell: Tell) -> Reply:
        """The reply, as the API has it. Raises Unanswered, NoService."""


class ThroughService:
    """Asks the service, which keeps the thread."""

    def __init__(self, incident: str | None, target: str | None, thread: str | None) -> None:
        self._about = {"incident_id": incident, "target": target}
        self._thread = thread

    def ask(self, message: str, tell: Tell) -> Reply:
        """Stream one question. Raises Unanswered, NoService."""
        given = {"message": message, "stream": True, "thread_id": self._thread, **self._about}
        url, headers = address("/v1/chat")
        body = {name: value for name, value in given.items() if value is not None}
        try:
            with httpx2.stream(
                "POST", url, json=body, headers=headers, timeout=SECONDS
            ) as response:
                if not response.is_success:
                    response.read()
                    raise Unanswered(refusal(response))
                reply = _followed(response.iter_lines(), tell)
        except httpx2.ConnectError as error:
            raise NoService(no_answer(error)) from None
        except httpx2.HTTPError as error:
            raise Unanswered(no_answer(error)) from None
        self._thread = reply["thread_id"]
        return reply


def _followed(lines: Iterator[str], tell: Tell) -> Reply:
    """The reply at the end of the events. Raises Unanswered."""
    kind = ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data" and kind in ("progress", "error", "end"):
            data: Reply = json.loads(value)
            if kind == "end":
                return data
            if kind == "error":
                raise Unanswered(str(data.get("detail")))
            tell(str(data.get("text", "")))
    raise Unanswered("the service ended the answer early; ask again")


class Directly:
    """Looks at a server from this process, or answers from the runbooks alone. Keeps no thread."""

    def __init__(self, url: str | None) -> None:
        from agent.runbook_library import load_library
        from api.reasoning import language_model

        settings = settings_or_exit()
        self._target = target_of(settings, url, None) if url else None
        self._targets = [target.name for target in settings.agent_targets()]
        self._library = load_library(settings.runbooks)
        self._model = language_model(settings)
        self._history: list[dict[str, str]] = []
        self._runner = asyncio.Runner()

    def ask(self, message: str, tell: Tell) -> Reply:
        """Answer one question."""
        said: Reply = self._runner.run(self._answer(message, tell))
        self._history += [
            {"role": "user", "content": message},
            {"role": "assistant", "content": said["answer"]},
        ]
        del self._history[:-20]
        return said

    async def _answer(self, message: str, tell: Tell) -> Reply:
        from agent.chat import answer
        from api.looks import Looks

        async def progress(what: str) -> None:
            tell(what)

        looks = Looks(self._target) if self._target else None
        try:
            said = await answer(
                message,
                incident=None,
                evidence=[],
                library=self._library,
                look=looks.look if looks else None,
                model=self._model,
                history=self._history,
                target=self._target.name if self._target else "",
                targets=self._targets,
                progress=progress,
            )
        finally:
            if looks is not None:
                await looks.close()
        return {"thread_id": None, **said.model_dump(mode="json")}


def talk(
    message: str,
    incident: str | None,
    target: str | None,
    url: str | None,
    thread: str | None,
    *,
    as_json: bool,
) -> None:
    """One question, or a conversation on a terminal, or the lines of a pipe."""
    if url and (incident or target or thread):
        raise failure("--url looks at a server itself: leave out --incident, --target, --thread", 2)
    if thread == "last":
        thread = _last_thread()
    session = _Fallback(Directly(url) if url else ThroughService(incident, target, thread), target)
    session.may_fall_back = not (url or incident or thread)
    if message:
        _one(session, message, as_json=as_json)
    elif sys.stdin.isatty():
        _converse(session, as_json=as_json)
    else:
        _lines(session, as_json=as_json)


class _Fallback:
    """The session, or, where no service runs and none is needed, one of this process."""

    def __init__(self, session: Session, target: str | None) -> None:
        self._session = session
        self._target = target
        self.may_fall_back = True

    def ask(self, message: str, tell: Tell) -> Reply:
        """Ask. Raises Unanswered."""
        try:
            return self._session.ask(message, tell)
        except NoService as error:
            if not self.may_fall_back:
                raise Unanswered(str(error)) from None
            about = f"looking at {self._target}" if self._target else "answering from the runbooks"
            told = f"redis-oncall: {error}. Until then, {about} from here."
            render.console(stderr=True).print(Text(told))
            self._session, self.may_fall_back = Directly(self._target), False
            return self._session.ask(message, tell)


def _one(session: Session, message: str, *, as_json: bool) -> None:
    try:
        reply = _asked(session, message)
    except Unanswered as error:
        raise failure(str(error)) from None
    if as_json:
        typer.echo(json.dumps(reply, indent=2))
    else:
        _show(reply)


def _asked(session: Session, message: str) -> Reply:
    """The reply, with what is being done shown meanwhile where a person watches."""
    err = render.console(stderr=True)
    with err.status("asking") as status:
        return session.ask(message, lambda what: status.update(Text(printable(what, 70))))


def _converse(session: Session, *, as_json: bool) -> None:
    """A conversation on a terminal: Ctrl-C drops the question, Ctrl-D or `exit` ends it."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - arrows edit the line and bring back earlier questions
    typer.echo("Ask about your Redis; `exit` or Ctrl-D leaves. Nothing is changed from here.")
    while True:
        try:
            message = input(PROMPT).strip()
            if message.lower() in LEAVE:
                return
            if message:
                _answer_in_turn(session, message, as_json=as_json)
        except EOFError:
            typer.echo()
            return
        except KeyboardInterrupt:
            typer.echo("\n(dropped; Ctrl-D leaves)", err=True)


def _lines(session: Session, *, as_json: bool) -> None:
    """One question a line; with `--json`, one reply a line."""
    failed = False
    for number, line in enumerate(iter(lambda: sys.stdin.readline(LONGEST_QUESTION + 1), "")):
        if number >= MOST_LINES:
            raise failure(f"only the first {MOST_LINES} lines were asked")
        if message := line.strip():
            failed |= not _answer_in_turn(session, message, as_json=as_json)
    if failed:
        raise typer.Exit(1)


def _answer_in_turn(session: Session, message: str, *, as_json: bool) -> bool:
    """Ask and print; what could not be answered is said, and the next question may come."""
    try:
        reply = _asked(session, message[:LONGEST_QUESTION])
    except Unanswered as error:
        typer.echo(f"redis-oncall: {error}", err=True)
        return False
    if as_json:
        typer.echo(json.dumps(reply))
    else:
        _show(reply)
        typer.echo()
    return True


def _show(reply: Reply) -> None:
    """The answer, the looks it rests on, and by whom."""
    out = render.console()
    for line in str(reply["answer"]).splitlines():
        out.print(Text(printable(line, 8_000), overflow="fold"))
    for source in reply.get("citations", []):
        if source["kind"] == "evidence" and source["text"]:
            _dim(out, f"[{source['id']}] {source['text']}")
    thread = f"; go on with --thread {reply['thread_id']}" if reply["thread_id"] else ""
    typer.echo(f"by {reply['reasoner']}{thread}", err=True)


def _dim(out: Console, line: str) -> None:
    shown = printable(line, 1_000)
    cut = shown if len(shown) <= render.WIDTH else f"{shown[: render.WIDTH - 1]}…"
    out.print(Text(cut, style="dim"), soft_wrap=True)


def list_threads(*, as_json: bool) -> None:
    """Your threads, the one that went on last first."""
    listed = call("GET", "/v1/chat/threads", limit="50")
    if as_json:
        typer.echo(json.dumps(listed, indent=2))
        return
    if not listed["items"]:
        typer.echo("no threads", err=True)
    for item in listed["items"]:
        about = item["incident_id"] or item["target"] or "Redis"
        turns = f"{item['turns']} turn{'' if item['turns'] == 1 else 's'}"
        typer.echo(f"{item['id']}  {item['at'][:16]}  {turns}, about {printable(about)}")
        _dim(render.console(), f"  {item['title']}")


def _last_thread() -> str:
    items = call("GET", "/v1/chat/threads", limit="1")["items"]
    if not items:
        raise failure("you have no thread yet; ask without --thread to start one", 2)
    return str(items[0]["id"])
