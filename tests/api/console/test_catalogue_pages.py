"""Runbooks and the audit trail as pages: what they say, to whom, and what they cost."""

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest

from api.app import create_app
from api.settings import Settings
from api.store import audit, incidents, runbook_uses, trail_pages
from api.store.audit import Person
from api.store.tables import IncidentRow
from tests.api.console.visiting import HOSTILE, asked, look, sign_in
from tests.api.serving import serving
from tests.api.test_incidents_api import service_of
from tests.api.trails import behind_its_back

OWN = """# Our page
<script>alert(1)</script> <img src=x onerror=alert(1)> ![x](http://evil/pixel.png)
## Where <b>to</b> look
[script](javascript:alert(1)) [data](data:text/html,x) [near](//evil.example/) [out](/sign-out)
[fine](https://wiki.example/a?b=1&c=2) [other](stream-unbounded.md#symptoms) <http://plain.example/>

#### too deep
|a|b|
|-:|-|
|1|<i>2</i>|

- [ ] done <!-- check: swap -->

```"><script>
<b>
```
# A second one of the first level
## Where <b>to</b> look
"""


@pytest.fixture
async def client(
    settings: Callable[..., Settings], tmp_path: Path
) -> AsyncIterator[httpx2.AsyncClient]:
    """Signed in as an approver; with a runbook of the team's own."""
    folder = tmp_path / "runbooks"
    folder.mkdir()
    (folder / "our page.md").write_text(OWN, encoding="utf-8")
    (folder / "broken.md").write_text(f"---\nid: {HOSTILE}\n", encoding="utf-8")
    app = create_app(settings(runbooks=[str(folder)]), worker=False)
    async with serving(app) as client:
        await sign_in(client, "approver")
        yield client


async def used_in(client: httpx2.AsyncClient, book: str, count: int) -> list[str]:
    ids = []
    async with service_of(client).database.writing() as session:
        for _ in range(count):
            row = await incidents.open_incident(session, title=HOSTILE, target="cache-eu")
            row.runbooks = [{"id": book, "why": HOSTILE}]
            ids.append(row.id)
    return sorted(ids)


async def test_a_teams_own_runbook_is_read_and_runs_nothing(client: httpx2.AsyncClient) -> None:
    html = await look(client, "/runbooks/our-page")
    for shown in (
        '<a href="https://wiki.example/a?b=1&amp;c=2" rel="noreferrer noopener">fine</a>',
        '<a href="http://plain.example/" rel="noreferrer noopener">',
        '<a href="/runbooks/stream-unbounded">other</a>', "☐ done</li>", '<td class="n">1</td>',
        '<h2 id="section-where-b-to-b-look">', '<h3 id="section-where-b-to-b-look-2">',
        "&lt;script&gt;alert(1)&lt;/script&gt;", " near out",
    ):  # fmt: skip
        assert shown in html, shown
    for kept_out in ("evil.example", "<img", "<b>", "<i>", "sign-out", "h4", 'href="javascript'):
        assert kept_out not in html.partition("<article")[2], kept_out
    assert html.count("Our page</bdi></h1>") == 1


async def test_every_runbook_is_a_page_and_its_sections_are_where_chat_cites_them(
    client: httpx2.AsyncClient,
) -> None:
    books = service_of(client).library.runbooks
    listed = await look(client, "/runbooks")
    assert "front matter" in listed.partition("Not loaded")[2][:400]
    for book in (*books[:3], *(one for one in books if one.id == "memory-pressure")):
        assert f'href="/runbooks/{book.id}"' in listed
        html = await look(client, f"/runbooks/{book.id}")
        assert 'id="section-symptoms"' in html
        assert all(cause.id in html for cause in book.front.causes)
    html = await look(client, "/runbooks/stream-unbounded")
    assert 'id="section-root-cause-analysis-1-length-and-groups"' in html
    found = await look(client, "/runbooks?words=stream+LIMIT")
    assert 0 < found.count('class="book"') < 5
    assert "/runbooks/stream-unbounded" in found
    await look(client, "/runbooks/no-such-page", 404)


async def test_which_incidents_used_a_runbook_is_told_in_few_queries(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await used_in(client, "stream-unbounded", 23)
    html = await look(client, "/runbooks/stream-unbounded")
    assert [one for one in ids if f'href="/incidents/{one}"' in html] == ids[3:]
    assert "The newest 20 of them." in html
    async with service_of(client).database.writing() as session:
        row = await session.get_one(IncidentRow, ids[-1])
        row.diagnosis = {"root_cause": "hot-key", "title": "t", "is_incident": True,
                         "confidence": 0.5, "summary": "s"}  # fmt: skip
    assert f'href="/incidents/{ids[-1]}"' in await look(client, "/runbooks/hot-key")
    listed = await look(client, "/runbooks")
    assert "used 23 times" in listed
    assert "used 1 time<" in listed
    with asked(service_of(client).database) as statements:
        await look(client, "/runbooks/stream-unbounded")
    assert len(statements) <= 6, statements
    monkeypatch.setattr(runbook_uses, "MOST_LOOKED_THROUGH", 5)
    assert "used 5 times" in await look(client, "/runbooks")


@pytest.mark.parametrize("role", ["viewer", "responder"])
async def test_the_audit_trail_is_for_approvers(client: httpx2.AsyncClient, role: str) -> None:
    await sign_in(client, role)
    assert "/audit" not in await look(client, "/runbooks")
    assert "needs the role approver" in await look(client, "/audit", 403)


async def note(client: httpx2.AsyncClient, count: int, by: str = "ann", **detail: str) -> None:
    async with service_of(client).database.writing() as session:
        for number in range(count):
            await audit.note(session, Person(by, "admin"), "freeze", f"inc-{number % 2}", **detail)


def before_in(html: str) -> str:
    """Where the next page begins."""
    (before,) = re.findall(r"before=(\d+)", html)
    return str(before)


async def test_the_trail_newest_first_a_page_at_a_time_and_looking_is_on_record(
    client: httpx2.AsyncClient,
) -> None:
    await note(client, 150, reason=HOSTILE)
    await note(client, 1, by=HOSTILE, reason="x" * 7_000)
    with asked(service_of(client).database) as statements:
        html = await look(client, "/audit")
    assert [one for one in statements if "FROM audit " in one and "LIMIT" not in one] == []
    assert "&#34;part&#34;: &#34;audit&#34;" in html, "the look itself"
    assert html.count("<tr") == 101
    assert len(html) < 120_000
    assert "The 100 rows of this page are as they were written" in html
    before = before_in(html)
    older = await look(client, f"/audit?before={before}")
    assert f">{int(before) - 1}</td>" in older
    assert f">{before}</td>" not in older
    assert "before=" not in older
    assert "rows of this page are as they were written" in older
    mine = await look(client, "/audit?by=ann&incident=inc-1&what=freeze")
    assert mine.count("<tr") == 76
    assert "inc-0" not in mine
    assert "No such row" in await look(client, "/audit?by=%00%1b")
    await look(client, "/audit?before=0", 422)


async def test_a_person_is_looked_for_among_so_many_rows_and_no_more(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail_pages, "MOST_LOOKED_THROUGH", 10)
    await note(client, 1, by="bea")
    await note(client, 30)
    path, pages = "/audit?by=bea", 0
    while "bea</bdi></a>" not in (html := await look(client, path)):
        assert "No such row among those that were looked through" in html
        assert "Look through rows before" in html
        path = f"/audit?by=bea&before={before_in(html)}"
        pages += 1
    assert pages == 3


async def test_a_row_that_was_changed_shows_where_it_is_looked_at(
    client: httpx2.AsyncClient,
) -> None:
    await note(client, 3)
    database = service_of(client).database
    await behind_its_back(database, "UPDATE audit SET by = 'eve' WHERE id = 3")
    assert "On this page: row 3: it was changed" in await look(client, "/audit")
    await behind_its_back(database, "UPDATE audit SET at = 'never' WHERE id = 3")
    html = await look(client, "/audit")
    assert "this row was changed: it cannot be read" in html
    assert "ann</bdi>" in html
