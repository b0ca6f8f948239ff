"""Incidents' pages: that they say what is so, and refuse what is not meant."""

from collections.abc import Callable

import pytest
from fastapi import FastAPI

from api.app import create_app
from api.settings import Settings
from api.store import incidents
from api.store.database import Database
from tests.api.console.visiting import look, seal_of, sign_in
from tests.api.house import at_the_gate
from tests.api.serving import serving
from tests.api.test_incidents_api import service_of


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
