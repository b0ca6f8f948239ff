"""Who may look at pages, and whose forms are listened to."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.auth import digest_of
from api.console import sessions
from api.settings import Settings
from api.sign_ins import MOST_FAILURES
from tests.api.console.visiting import look, seal_of, sign_in
from tests.api.house import at_the_gate
from tests.api.serving import TOKENS, as_role, serving, token_entries
from tests.api.test_incidents_api import service_of

Made = Callable[..., Settings]


@pytest.fixture
def app(settings: Made) -> FastAPI:
    return create_app(settings(), worker=False)


async def seal(client: httpx2.AsyncClient, path: str = "/sign-in") -> str:
    return seal_of((await client.get(path)).text)


async def test_without_a_session_every_page_leads_to_the_form_and_back(app: FastAPI) -> None:
    async with serving(app) as client:
        client.headers.pop("Authorization")
        for path in ("/", "/incidents?status=open", "/incidents/inc-1", "/runbooks", "/audit"):
            answer = await client.get(path)
            assert answer.status_code == 303, path
        wanted = "/incidents?status=open"
        form = await client.get((await client.get(wanted)).headers["location"])
        fields = {"csrf": seal_of(form.text), "token": TOKENS["viewer"], "next": wanted}
        assert f'value="{wanted}"' in form.text
        far = (await client.get(f"/audit?before={'9' * 2_500}")).headers["location"]
        assert 'name="next" value="/incidents"' in (await client.get(far)).text
        assert (await client.post("/sign-in", data=fields)).headers["location"] == wanted
        assert (await client.get(wanted)).status_code == 200
        # A bearer token is for programs: it opens no page, and a session no part of the API.
        assert (await client.get("/v1/incidents")).status_code == 401
        client.cookies.clear()
        assert (await client.get("/incidents", headers=as_role("admin"))).status_code == 303


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_cookie_is_for_this_site_and_no_script_and_holds_no_token(
    app: FastAPI, scheme: str
) -> None:
    async with serving(app) as client:
        client.base_url = httpx2.URL(f"{scheme}://127.0.0.1")
        fields = {"csrf": await seal(client), "token": TOKENS["admin"], "next": ""}
        cookie = (await client.post("/sign-in", data=fields)).headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "Path=/" in cookie
        assert cookie.startswith("__Host-redis-oncall=") == (scheme == "https")
        assert ("Secure" in cookie) == (scheme == "https")
        assert TOKENS["admin"] not in cookie


@pytest.mark.parametrize(
    ("http", "host", "secure"),
    [
        ({"url": "https://oncall.example"}, "oncall.example", True),
        ({"url": "https://oncall.example"}, "127.0.0.1", False),
        ({"url": "http://oncall.example"}, "oncall.example", False),
        ({"hsts": True}, "oncall.example", True),
    ],
)
async def test_what_ends_tls_before_the_service_is_known_by_the_configuration(
    settings: Made, http: dict[str, Any], host: str, secure: bool
) -> None:
    async with serving(create_app(settings(http=http), worker=False)) as client:
        client.headers["Host"] = host
        fields = {"csrf": await seal(client), "token": TOKENS["admin"], "next": ""}
        cookie = (await client.post("/sign-in", data=fields)).headers["set-cookie"]
        assert ("Secure" in cookie) == cookie.startswith("__Host-") == secure


@pytest.mark.parametrize(
    "wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "/\n/e"]
)
async def test_no_sign_in_leads_to_another_site(app: FastAPI, wanted: str) -> None:
    async with serving(app) as client:
        fields = {"csrf": await seal(client), "token": TOKENS["viewer"], "next": wanted}
        assert (await client.post("/sign-in", data=fields)).headers["location"] == "/incidents"


async def test_who_is_no_person_is_not_let_in_and_has_to_wait_in_the_end(app: FastAPI) -> None:
    async with serving(app) as client:
        csrf = await seal(client)

        async def tried(token: str) -> httpx2.Response:
            return await client.post("/sign-in", data={"csrf": csrf, "token": token, "next": ""})

        source = await tried("roc_source1_x")
        assert (source.status_code, "set-cookie" in source.headers) == (401, False)
        assert "may send alerts, and nothing else" in source.text
        codes = [
            (await tried(f"roc_guess_{number}")).status_code for number in range(MOST_FAILURES)
        ]
        assert codes[0] == 401
        assert codes[-1] == 429
        assert (await tried(TOKENS["viewer"])).status_code == 303  # what is valid is served


async def test_a_session_ends_with_its_token_and_after_a_shift(
    settings: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries: list[dict[str, Any]] = token_entries()
    app = create_app(settings(tokens=entries), worker=False)
    async with serving(app) as client:
        await sign_in(client, "responder")
        assert (await client.get("/incidents")).status_code == 200
        with monkeypatch.context() as patch:
            patch.setattr(sessions, "SECONDS", -1)
            assert (await client.get("/incidents")).status_code == 303
        assert (await client.get("/incidents")).status_code == 200
        kept = [entry for entry in app.state.tokens._settings.tokens if entry.role != "responder"]
        monkeypatch.setattr(type(app.state.tokens), "_entries", property(lambda _: kept))
        assert (await client.get("/incidents")).status_code == 303


async def test_a_token_that_is_no_persons_any_more_ends_its_session(app: FastAPI) -> None:
    async with serving(app) as client:
        client.headers.pop("Authorization")
        for token, code in ((TOKENS["viewer"], 200), ("roc_source1_x", 303)):
            sealed = app.state.sessions.sealed(digest=digest_of(token), session="s")
            client.cookies.set("redis-oncall", sealed)
            assert (await client.get("/incidents")).status_code == code
        client.cookies.set("redis-oncall", app.state.sessions.sealed(form="nobody"))
        assert (await client.get("/incidents")).status_code == 303


async def test_signing_out_ends_it_in_this_browser(app: FastAPI) -> None:
    async with serving(app) as client:
        await sign_in(client, "viewer")
        answer = await client.post("/sign-out", data={"csrf": await seal(client, "/incidents")})
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
        assert (await client.get("/incidents")).status_code == 303


@pytest.mark.parametrize(
    "change",
    [
        {"headers": {"Origin": "https://evil.example"}},
        {"headers": {"Origin": "null"}},
        {"headers": {"Sec-Fetch-Site": "cross-site"}},
        {"headers": {"Sec-Fetch-Site": "same-site"}},
        {"data": {"csrf": ""}},
        {"data": {"csrf": "gAAAAAB"}},
    ],
)
async def test_a_form_that_is_not_ours_does_nothing(app: FastAPI, change: dict[str, Any]) -> None:
    async with serving(app) as client:
        incident = await at_the_gate(service_of(client).database, "cache-eu", approved=False)
        await sign_in(client, "admin")
        csrf = await seal(client, f"/incidents/{incident}")
        sent = {"data": {"csrf": csrf}, **change}
        answer = await client.post(f"/incidents/{incident}/close", **sent)
        assert answer.status_code == 403
        shown = await client.get(f"/v1/incidents/{incident}", headers=as_role("admin"))
        assert shown.json()["status"] == "awaiting_approval"
        fine = await client.post(f"/incidents/{incident}/close", data={"csrf": csrf})
        assert fine.status_code == 303


async def test_a_form_of_another_session_does_nothing(app: FastAPI) -> None:
    async with serving(app) as client:
        incident = await at_the_gate(service_of(client).database, "cache-eu", approved=False)
        await sign_in(client, "viewer")
        of_the_viewer = await seal(client, f"/incidents/{incident}")
        before = await seal(client, "/incidents")
        await sign_in(client, "admin")
        for csrf in (of_the_viewer, before):
            answer = await client.post(f"/incidents/{incident}/close", data={"csrf": csrf})
            assert answer.status_code == 403


async def test_without_tokens_the_pages_are_for_this_machine_alone(settings: Made) -> None:
    app = create_app(settings(tokens=[]), worker=False)
    async with serving(app) as client:
        client.headers.pop("Authorization")
        page = await look(client, "/incidents")
        assert "local admin" in page
        assert "Sign out" not in page
        for headers in ({"Host": "evil.example"}, {"X-Forwarded-For": "10.0.0.1"}):
            assert (await client.get("/incidents", headers=headers)).status_code == 403


async def test_what_goes_wrong_is_a_page_for_people_and_a_document_for_programs(
    app: FastAPI,
) -> None:
    async with serving(app) as client:
        await sign_in(client, "viewer")
        assert "there is no such incident" in await look(client, "/incidents/inc-none", 404)
        await look(client, "/nowhere", 404)
        program = await client.get("/v1/nowhere", headers={"Accept": "text/html"})
        assert program.headers["content-type"] == "application/problem+json"
        program = await client.get("/incidents/inc-none")
        assert program.headers["content-type"] == "application/problem+json"
