"""Incidents' pages: that they say what is so, and refuse what is not meant."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from agent.incident import Overruled
from agent.report_html import page_environment
from api.app import create_app
from api.console import pages
from api.settings import Settings
from api.store import incidents, leases
from api.store.database import Database
from api.store.tables import ActionRow, EvidenceRow, IncidentRow
from api.store.target_tables import SampleRow
from tests.api.console.visiting import look, seal_of, sign_in
from tests.api.house import at_the_gate
from tests.api.postgresql_tables import AsGoodAsNew
from tests.api.serving import listening, serving
from tests.api.test_incidents_api import service_of
from tests.api.test_store import diagnosis, opened


@pytest.fixture
def app(settings: Callable[..., Settings]) -> FastAPI:
    return create_app(settings(), worker=False)


async def over(database: Database, number: int) -> None:
    """Incidents that were opened since, and are closed."""
    async with database.writing() as session:
        for n in range(number):
            row = await incidents.open_incident(session, title=f"over {n}", target=f"t{n}")
            await incidents.move(session, row, "closed", "by hand")


async def test_what_is_open_is_said_to_be_so_behind_any_number_that_are_over(app: FastAPI) -> None:
    async with serving(app) as client:
        database = service_of(client).database
        incident = await at_the_gate(database, "cache-eu", approved=False)
        await over(database, 101)
        await sign_in(client, "viewer")
        first = await look(client, "/incidents")
        assert f"/incidents/{incident}" in first
        for query in ("status=resolved", "target=cache-us", "status=closed"):
            assert "Nothing burns" not in await look(client, f"/incidents?{query}")


async def test_words_after_a_deed_are_for_whoever_did_it(app: FastAPI) -> None:
    async with serving(app) as client:
        incident = await at_the_gate(service_of(client).database, "cache-eu", approved=False)
        await sign_in(client, "admin")
        made_up = await look(client, f"/incidents/{incident}?said=approved&about=A1")
        assert "Your yes" not in made_up
        form = {"csrf": seal_of(made_up), "comment": "by hand"}
        answer = await client.post(f"/incidents/{incident}/close", data=form)
        there = answer.headers["location"]
        assert "The incident is closed." in await look(client, there)
        await sign_in(client, "viewer")
        assert "The incident is closed." not in await look(client, there)


async def test_what_was_typed_is_not_lost_with_a_refusal(app: FastAPI) -> None:
    async with serving(app) as client:
        incident = await at_the_gate(service_of(client).database, "cache-eu", approved=False)
        await sign_in(client, "admin")
        shown = await look(client, f"/incidents/{incident}")
        form = {"csrf": seal_of(shown), "fingerprint": "a" * 64, "comment": "a <long> reason",
                "target": "another", "break_glass": "yes"}  # fmt: skip
        answer = await client.post(f"/incidents/{incident}/actions/A1/approve", data=form,
                                   headers={"Accept": "text/html"})  # fmt: skip
        assert answer.status_code == 422
        assert "a &lt;long&gt; reason" in answer.text
        # Enter within a reason begins a line: it is not the same as a click on "Approve".
        assert '<textarea id="A1-why"' in answer.text


async def test_a_long_number_in_a_form_is_text(app: FastAPI) -> None:
    async with serving(app) as client:
        incident = await at_the_gate(service_of(client).database, "cache-eu", approved=False)
        await sign_in(client, "admin")
        form = {"csrf": seal_of(await look(client, f"/incidents/{incident}")),
                "comment": "key " + "7" * 90 + " {[["}  # fmt: skip
        answer = await client.post(f"/incidents/{incident}/close", data=form)
        assert answer.status_code == 303, answer.text


async def test_a_page_before_what_is_no_incident_is_refused(app: FastAPI) -> None:
    async with serving(app) as client:
        await sign_in(client, "viewer")
        await look(client, "/incidents?before=%00", 422)
        await look(client, f"/incidents/{'long' * 2_000}", 414)


async def an_incident(database: Database, target: str, **row: Any) -> str:
    incident_id = await opened(database, target)
    async with database.writing() as session:
        kept = await session.get_one(IncidentRow, incident_id)
        for name, value in row.items():
            setattr(kept, name, value)
    return incident_id


async def test_nobody_is_waited_for_who_has_gone(app: FastAPI) -> None:
    async with serving(app) as client:
        database = service_of(client).database
        incident = await an_incident(database, "cache-eu")
        await sign_in(client, "viewer")
        lease = await leases.acquire(database, "cache-eu", "inc-other", "me")
        assert lease is not None
        for path in ("/incidents", f"/incidents/{incident}"):
            assert "inc-other on the same target" in await look(client, path)
        await leases.release(database, lease)
        for path in ("/incidents", f"/incidents/{incident}"):
            shown = await look(client, path)
            assert "inc-other" not in shown
            assert "a worker" in shown


async def test_the_trend_of_what_is_over_ends_with_it(app: FastAPI) -> None:
    async with serving(app) as client:
        database = service_of(client).database
        at = datetime.now(UTC) - timedelta(days=30)
        incident = await an_incident(database, "cache-eu", status="resolved", updated_at=at)
        async with database.writing() as session:
            for when, used in ((at - timedelta(hours=5), 3), (at - timedelta(hours=1), 5),
                               (datetime.now(UTC) - timedelta(hours=1), 9)):  # fmt: skip
                session.add(SampleRow(target="cache-eu", at=when, used_bytes=used * 2**20))
            session.add(looked(incident, at))
        await sign_in(client, "viewer")
        shown = await look(client, f"/incidents/{incident}")
        assert "3.0 MiB to 7.0 MiB, last <strong>7.0 MiB</strong>" in shown
        # On top, too, it is said of which node that is, and when it was seen.
        assert "<bdi>10.0.0.1:6379 (master)</bdi>" in shown.partition('id="memory"')[0]
        assert "30 d ago" in shown.partition("</figcaption>")[0].partition('class="gauge"')[2]


def looked(incident_id: str, at: datetime) -> EvidenceRow:
    reading = {"used_memory": 7 * 2**20, "counted_memory": 7 * 2**20, "limit": 8 * 2**20}
    return EvidenceRow(incident_id=incident_id, number=1, tool="memory_info", args={}, attempt=1,
                       reading=reading, target="cache-eu", node="10.0.0.1:6379 (master)",
                       measured=True, summary="", taken_at=at)  # fmt: skip


async def test_what_cannot_be_decided_is_not_to_do_and_who_said_yes_is_told(app: FastAPI) -> None:
    async with serving(app) as client:
        database = service_of(client).database
        incident = await at_the_gate(database, "cache-eu", approved=False)
        await sign_in(client, "approver")
        asked = await look(client, f"/incidents/{incident}")
        form = {"csrf": seal_of(asked), "fingerprint": "a" * 64, "target": "cache-eu"}
        assert "To do:" in asked
        async with database.writing() as session:
            action = await session.get_one(ActionRow, (incident, 1, "A1"))
            commands = [
                ["CONFIG", "SET", "save", '3600 1  "x"'],
                *([["PING"]] * 13),
                ["DEL", "<each of them>"],
            ]
            action.body = {**action.body, "approvals_required": 3, "commands": commands}
        await client.post(f"/incidents/{incident}/actions/A1/approve", data=form)
        shown = await look(client, f"/incidents/{incident}")
        assert "You said yes: somebody else has to, too." in shown
        assert "Approve A1" not in shown
        assert "Reject" in shown
        # What is approved is seen to the last word, as it would be typed.
        assert "CONFIG SET save &#34;3600 1  \\&#34;x\\&#34;&#34;\n" in shown
        assert "DEL &lt;each of them&gt;\n" in shown
        async with database.writing() as session:
            (await session.get_one(IncidentRow, incident)).status = "failed"
        assert "To do:" not in await look(client, f"/incidents/{incident}")


def test_pages_of_the_next_version_wait_for_its_code() -> None:
    """Files are replaced under a running service: new templates need what old code has not."""
    assert not page_environment(pages.FOLDER / "templates").auto_reload


async def test_a_model_without_an_answer_disagrees_with_nobody(app: FastAPI) -> None:
    async with serving(app) as client:
        lost = Overruled(reasoner="openai", root_cause="unknown", confidence=0.0,
                         reason="no usable answer: it took too long")  # fmt: skip
        kept = diagnosis(overruled=lost).model_dump(mode="json")
        incident = await an_incident(service_of(client).database, "cache-eu", diagnosis=kept)
        await sign_in(client, "viewer")
        shown = await look(client, f"/incidents/{incident}")
        assert "it took too long" in shown
        assert "do not agree" not in shown


async def test_the_newest_verdicts_are_shown_and_a_line_ends_with_one_character(
    app: FastAPI,
) -> None:
    async with serving(app) as client:
        incident = await opened(service_of(client).database, "cache-eu")
        await sign_in(client, "responder")
        csrf = seal_of(await look(client, f"/incidents/{incident}"))
        for number in range(21):
            long = "x\r\n" * 1_000
            comment = f"it was {number}." if number else long
            form = {"csrf": csrf, "root_cause": "unknown", "comment": comment}
            answer = await client.post(f"/incidents/{incident}/verdict", data=form)
            assert answer.status_code == 303, answer.text
        assert "it was 20." in await look(client, f"/incidents/{incident}")


async def test_a_stream_ends_with_the_token_it_was_opened_with(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings()
    app = create_app(chosen, worker=False)
    async with listening(app, chosen) as url, httpx2.AsyncClient(base_url=url) as client:
        incident = await opened(app.state.service.database, "cache-eu")
        path = f"/incidents/{incident}/live"
        assert (await client.get(path)).headers["location"].startswith("/sign-in")
        await sign_in(client, "viewer")
        async with client.stream("GET", path) as stream:
            lines = stream.aiter_lines()
            while await anext(lines) != "event: status":
                pass
            monkeypatch.setattr(type(app.state.tokens), "person_of_digest", lambda *_: None)
            async with asyncio.timeout(5):
                assert "end" not in [line async for line in lines]
        assert (await client.get(path)).status_code == 303


async def test_what_happens_while_the_page_is_made_is_told_by_its_stream(
    settings: Callable[..., Settings], as_good_as_new: AsGoodAsNew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL each statement sees what is new by then."""
    app = create_app(settings(as_good_as_new.url()), worker=False)
    async with serving(app) as client:
        database = service_of(client).database
        incident = await opened(database, "cache-eu")
        load = incidents.load

        async def and_then(*what: Any, **how: Any) -> Any:
            loaded = await load(*what, **how)
            async with database.writing() as session:
                await incidents.move(session, await incidents.lock(session, incident), "failed")
            return loaded

        await sign_in(client, "viewer")
        with monkeypatch.context() as patch:
            patch.setattr(incidents, "load", and_then)
            shown = await look(client, f"/incidents/{incident}")
        assert "Waits for a worker" in shown
        assert f"/incidents/{incident}/live?after=1" in shown
