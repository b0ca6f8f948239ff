"""Looking at the console's pages without a browser."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any

import httpx2
from sqlalchemy import event

from api.console.pages import CONTENT_SECURITY_POLICY
from api.store.database import Database
from tests.api.serving import TOKENS

HOSTILE = "\u202e<script>alert(1)</script>\x1b[31m'\" onerror=x \U0001f525"
_VOID = {"meta", "link", "input", "br", "img", "hr"}


async def sign_in(client: httpx2.AsyncClient, role: str) -> None:
    """From now on the client's cookie is that of a person of this role."""
    client.cookies.clear()
    page = await client.get("/sign-in")
    form = {"csrf": seal_of(page.text), "token": TOKENS[role], "next": "/runbooks"}
    assert (await client.post("/sign-in", data=form)).status_code == 303


def seal_of(html: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', html)
    assert found is not None
    return found[1]


async def look(client: httpx2.AsyncClient, path: str, code: int = 200) -> str:
    """A page's HTML, in which nothing may be what its policy would have to stop."""
    response = await client.get(path, headers={"Accept": "text/html"})
    assert response.status_code == code, response.text
    assert response.headers.get_list("content-security-policy") == [CONTENT_SECURITY_POLICY]
    must_be_well_made(response.text)
    return response.text


class _Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.bad: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in _VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name == "style" or name.startswith("on"):
                self.bad.append(f"{tag} {name}={value}")
            if name in ("href", "src") and not re.match(r"[/#?](?!/)|https?://", value or ""):
                self.bad.append(f"{tag} {name}={value}")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another"


def must_be_well_made(html: str) -> None:
    """One heading of the first level, ids once, no script but ours, nothing inline, no controls."""
    seen = _Seen()
    seen.feed(html)
    assert seen.open == []
    assert seen.bad == []
    assert seen.tags.count("h1") == 1
    assert seen.tags.count("script") == 1
    assert "style" not in seen.tags
    assert sorted(set(seen.ids)) == sorted(seen.ids), "an id twice"
    assert [one for one in html if not one.isprintable() and one != "\n"] == []


@contextmanager
def asked(database: Database) -> Iterator[list[str]]:
    """What is read from the database meanwhile."""
    statements: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            statements.append(statement)

    engines = {database.engine.sync_engine, database.writer.sync_engine}
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)
