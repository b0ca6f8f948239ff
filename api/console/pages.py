"""Pages: templates, the headers that go with them, and what is static.

Every text is made printable and escaped by the template's engine, wherever it comes from.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from jinja2 import Environment
from markupsafe import Markup, escape

from agent.facts import print_bytes, print_seconds, print_share
from agent.incident import CulpritKind
from agent.report_html import page_environment
from agent.waiting import WAITING
from api.console.markdown import anchor_of
from api.console.sessions import Visitor
from api.problems import Problem
from tools.reading import printable

FOLDER = Path(__file__).parent
STATIC: dict[str, str] = {
    "console.css": "text/css", "console.js": "text/javascript", "icon.svg": "image/svg+xml",
}  # fmt: skip
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    # Without a referrer at all a browser calls the origin of our own forms `null`.
    "Referrer-Policy": "same-origin",
}
NOT_PAGES = ("/v1/", "/mcp", "/static/", "/healthz", "/readyz", "/metrics", "/openapi.json")
"""Paths whose errors are for programs."""
LONGEST_READING = 120_000
"""Characters of one piece of evidence on its page."""
router = APIRouter(include_in_schema=False)


def page(
    name: str,
    visitor: Visitor | None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> HTMLResponse:
    """A page of `templates/`."""
    text = _environment().get_template(f"{name}.html.j2").render(
        visitor=visitor, now=datetime.now(UTC), **values
    )  # fmt: skip
    return HTMLResponse(text, status, {**(headers or {}), **HEADERS})


def go_to(path: str) -> RedirectResponse:
    """After a form: the page that shows what came of it."""
    return RedirectResponse(path, 303)


def as_page(request: Request, problem: Problem) -> Response | None:
    """A problem for a person who looks at a page; None: a program asked."""
    path = request.url.path
    wants = "text/html" in request.headers.get("accept", "")
    if not wants or path.startswith(NOT_PAGES):
        return None
    return page(
        "problem", None, status=problem.status, headers=problem.headers, problem=problem.content()
    )


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """A file of ours; its name in pages carries its digest, so that it may be kept."""
    if name not in STATIC:
        raise Problem(404, "there is no such file")
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return FileResponse(FOLDER / "static" / name, media_type=STATIC[name], headers=headers)


async def to_sign_in(request: Request, _: Exception) -> Response:
    """The answer to SignInNeeded: a form to sign in with, and then the page that was asked for."""
    if request.method == "GET":
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/sign-in?next={quote(wanted)}", 303)
    problem = Problem(401, "you are not signed in any more: sign in, and do it again")
    return as_page(request, problem) or problem.response()


@cache
def _asset(name: str) -> str:
    digest = hashlib.sha256((FOLDER / "static" / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


@cache
def _environment() -> Environment:
    environment = page_environment(FOLDER / "templates")
    environment.globals.update(
        {"asset": _asset, "RISKS": RISKS, "WAITING": WAITING, "CULPRITS": get_args(CulpritKind)}
    )
    environment.filters.update(
        {
            "ago": ago, "span": span, "bytes": size, "percent": percent,
            "reading": reading, "clock": lambda moment: f"{moment:%H:%M:%S}", "answer": answer,
            "lines": lines, "spelled": spelled,
        }
    )  # fmt: skip
    return environment


def warm() -> None:
    """Templates are compiled once in a process: before the first page is asked for."""
    environment = _environment()
    for name in environment.list_templates():
        environment.get_template(name)


RISKS = {
    "R0": "nothing is written",
    "R1": "changes configuration; put back if it does not help",
    "R2": "drops a client or a link; it can reconnect",
    "R3": "changes or expires data",
    "R4": "restarts or resizes",
}


def ago(moment: datetime, now: datetime) -> str:
    """How long ago: `12 min 3 s`."""
    return span((now - moment).total_seconds())


def span(seconds: float) -> str:
    """A time in whole seconds."""
    return print_seconds(max(0, round(seconds)))


def size(value: float | None) -> str:
    """Bytes, as people read them."""
    return "not measured" if value is None else print_bytes(value)


def percent(value: float | None) -> str:
    """A share."""
    return "not measured" if value is None else print_share(value)


def lines(text: str) -> Markup:
    """A text of several lines, each of them harmless."""
    return Markup(escape("\n".join(printable(line, 2_000) for line in text.splitlines()[:400])))  # noqa: S704


def spelled(command: Sequence[str]) -> Markup:
    """A command as redis-cli takes it: an argument with a space in it stands in quotes."""
    return Markup(escape(" ".join(map(_argument, command))))  # noqa: S704 - escaped


def _argument(text: str) -> str:
    if (text and not _TO_QUOTE.search(text)) or _STANDS_FOR.fullmatch(text):
        return printable(text, 2_000)
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(quoted, 2_000)}"'


_STANDS_FOR = re.compile(r"<[^<>\"\\\n]+>")
"""`<each of a batch>`: what is not known before."""
_TO_QUOTE = re.compile(r"[\s\"'\\]")
_BRACKETS = re.compile(r"\[[^\[\]]{0,200}\]")
_CITED = re.compile(r"\bE[1-9][0-9]{0,8}\b")


def cited(text: str, incident_id: str) -> Markup:
    """A text of ours in which `[E7]` is a link to that evidence; everything is escaped first."""
    safe = str(escape(printable(" ".join(text.split()), 4_000)))
    place = escape(incident_id)

    def link(match: re.Match[str]) -> str:
        return f'<a class="cite" href="/incidents/{place}/evidence/{match[0]}">{match[0]}</a>'

    return Markup(_BRACKETS.sub(lambda found: _CITED.sub(link, found[0]), safe))  # noqa: S704


_PASSAGE = re.compile(r"^Runbook ([a-z0-9][a-z0-9-]{0,99}), (.{1,300}?): (?=“)")


def answer(text: str, incident_id: str) -> Markup:
    """An answer of the chat: its lines, with links to the evidence and the runbooks it cites."""
    return Markup("\n").join(_line(line, incident_id) for line in text.splitlines()[:200])


def _line(line: str, incident_id: str) -> Markup:
    if (found := _PASSAGE.match(line)) is None:
        return cited(line, incident_id)
    book, section = found.groups()
    link = Markup('Runbook <a href="/runbooks/{}#{}">{}, {}</a>: ').format(
        book, anchor_of(section), book, printable(section)
    )
    return link + cited(line[found.end() :], incident_id)


def reading(value: Any) -> Markup:
    """A reading as indented JSON: each line printable, all of it bounded and escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    cut = text[:LONGEST_READING]
    lines = [printable(line, 2_000) for line in cut.split("\n")]
    if len(text) > len(cut):
        lines.append(f"… {len(text) - len(cut):,} characters more: GET /v1/incidents/…/evidence/…")
    return Markup(escape("\n".join(lines)))  # noqa: S704 - escaped
