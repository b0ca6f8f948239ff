"""Who may do what."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import yaml

from api import sign_ins
from api.app import create_app
from api.auth import Tokens
from api.cli.catalogue import print_token
from api.settings import Settings, SettingsError
from tests.api.serving import TARGETS, as_role, serving, sha256, token_entries

ROLES = ["viewer", "responder", "approver", "admin"]
ACTION = "/v1/incidents/inc-1/actions/A1"
NEEDS: list[tuple[str, str, Any, str]] = [
    ("GET", "/v1/incidents", None, "viewer"),
    ("GET", "/v1/incidents/inc-1", None, "viewer"),
    ("GET", "/v1/incidents/inc-1/events", None, "viewer"),
    ("GET", "/v1/incidents/inc-1/evidence/E1", None, "viewer"),
    ("GET", "/v1/incidents/inc-1/report", None, "viewer"),
    ("GET", "/v1/incidents/inc-1/transcript", None, "viewer"),
    ("GET", "/v1/usage", None, "viewer"),
    ("GET", "/v1/targets", None, "viewer"),
    ("GET", "/v1/targets/cache-eu/memory", None, "viewer"),
    ("GET", "/v1/runbooks", None, "viewer"),
    ("GET", "/v1/runbooks/r-1", None, "viewer"),
    ("GET", "/v1/passages", None, "viewer"),
    ("POST", "/v1/looks", {"target": "cache-eu", "tool": "nothing"}, "responder"),
    ("POST", "/mcp", {}, "viewer"),
    ("GET", "/v1/tools", None, "viewer"),
    ("GET", "/v1/remedies", None, "viewer"),
    ("GET", "/metrics", None, "viewer"),
    ("POST", "/v1/alerts/alertmanager", {"alerts": []}, "responder"),
    ("POST", "/v1/alerts/grafana", {"alerts": []}, "responder"),
    ("POST", "/v1/alerts/pagerduty", {"event": {"event_type": "pagey.ping"}}, "responder"),
    ("POST", "/v1/alerts/datadog", {"transition": "Null"}, "responder"),
    ("POST", "/v1/alerts/generic", {"alerts": []}, "responder"),
    ("POST", "/v1/investigations", {"target": "cache-eu"}, "responder"),
    ("POST", "/v1/incidents/inc-1/verdict", {"root_cause": "unknown"}, "responder"),
    ("GET", "/v1/incidents/inc-1/recording", None, "responder"),
    ("POST", "/v1/incidents/inc-1/reinvestigate", None, "responder"),
    ("POST", "/v1/incidents/inc-1/close", None, "responder"),
    ("POST", "/v1/chat", {"message": "?", "incident_id": "inc-1"}, "responder"),
    ("GET", "/v1/chat/threads", None, "responder"),
    ("GET", "/v1/chat/threads/t-1", None, "responder"),
    ("GET", "/v1/chat/threads/t-1/transcript", None, "responder"),
    ("POST", f"{ACTION}/approve", {"fingerprint": "a" * 64}, "responder"),
    ("POST", f"{ACTION}/reject", {"fingerprint": "a" * 64}, "approver"),
    ("POST", f"{ACTION}/stop", {}, "responder"),
    ("POST", "/v1/incidents/inc-1/plan/approve",
     {"actions": [{"id": "A1", "fingerprint": "a" * 64}]}, "responder"),
    ("GET", "/v1/freezes", None, "viewer"),
    ("POST", "/v1/freezes", {"reason": "the outage"}, "approver"),
    ("POST", "/v1/freezes/f-1/thaw", {}, "approver"),
    ("GET", "/v1/silences", None, "viewer"),
    ("POST", "/v1/silences", {"reason": "the move", "target": "cache-eu"}, "responder"),
    ("POST", "/v1/silences/s-1/lift", {}, "responder"),
]  # fmt: skip


async def test_each_endpoint_needs_its_role(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_ins, "MOST_FAILURES", 10_000)
    async with serving(create_app(settings(), worker=False)) as client:
        client.headers.pop("Authorization")
        for method, path, body, needed in NEEDS:
            response = await client.request(method, path, json=body)
            assert response.status_code == 401, (path, response.text)
            assert response.headers["content-type"] == "application/problem+json"
            assert "Bearer" in response.headers["www-authenticate"]
            for role in ROLES:
                response = await client.request(method, path, json=body, headers=as_role(role))
                refused = ROLES.index(role) < ROLES.index(needed)
                assert (response.status_code == 403) == refused, (path, role, response.text)
                assert response.status_code < 500


def test_the_table_above_holds_every_endpoint(settings: Callable[..., Settings]) -> None:
    document = create_app(settings(), worker=False).openapi()
    declared = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    tested = {
        (method, path.replace("inc-1", "{incident_id}").replace("A1", "{action_id}")
         .replace("E1", "{evidence_id}").replace("t-1", "{thread_id}")
         .replace("f-1", "{freeze_id}").replace("s-1", "{silence_id}")
         .replace("r-1", "{runbook_id}").replace("cache-eu", "{name}"))
        for method, path, _, _ in NEEDS
    }  # fmt: skip
    assert declared - tested == {("GET", "/healthz"), ("GET", "/readyz")}


async def test_a_sources_token_may_post_alerts_and_nothing_else(
    settings: Callable[..., Settings],
) -> None:
    sources = [{"name": "grafana", "kind": "grafana", "sha256": sha256("roc_graf_x")}]
    async with serving(create_app(settings(sources=sources), worker=False)) as client:
        for token, path, code in (
            ("roc_source1_x", "/v1/alerts/alertmanager", 202),
            ("roc_source1_x", "/v1/alerts/generic", 202),
            ("roc_graf_x", "/v1/alerts/grafana", 202),
            ("roc_graf_x", "/v1/alerts/alertmanager", 403),
        ):
            response = await client.post(path, json={"alerts": []}, headers=as_role(token))
            assert response.status_code == code, (token, path)
            response = await client.get("/v1/incidents", headers=as_role(token))
            assert response.status_code == 403


def test_tokens_are_found_by_public_id_and_by_nothing_but_the_whole_token(
    settings: Callable[..., Settings],
) -> None:
    entries = [
        {"name": "a", "role": "admin", "sha256": sha256("roc_abc_se_cret"), "id": "abc"},
        {"name": "b", "role": "viewer", "sha256": sha256("roc_def_other")},
    ]
    tokens = Tokens(settings(tokens=entries))
    person = tokens.person("roc_abc_se_cret")
    assert person is not None
    assert (person.name, person.role) == ("a", "admin")
    assert tokens.person("roc_def_other") is not None
    for wrong in (
        "",
        "roc_abc_",
        "roc_abc_se_creT",
        "roc_abc",
        "roc_xyz_se_cret",
        "ü\udcff",
        "_" * 9,
    ):
        assert tokens.person(wrong) is None


async def test_what_the_token_command_prints_works(
    settings: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    """Pasted into the file as it is printed, for each role."""
    made: dict[str, str] = {}
    entries: dict[str, list[Any]] = {"tokens": [], "sources": []}
    for role in (*ROLES, "source"):
        print_token(f"new-{role}", role)
        first, *_, line = capsys.readouterr().out.strip().splitlines()
        made[role] = first.rpartition(" ")[2]
        entries["sources" if role == "source" else "tokens"] += yaml.safe_load(line)
    assert len(set(made.values())) == len(made)
    async with serving(create_app(settings(**entries), worker=False)) as client:
        for role, token in made.items():
            listed = await client.get("/v1/incidents", headers=as_role(token))
            assert listed.status_code == (403 if role == "source" else 200)
            posted = [
                (await client.post(f"/v1/alerts/{kind}", json={"alerts": []},
                                   headers=as_role(token))).status_code
                for kind in ("alertmanager", "grafana")
            ]  # fmt: skip
            allowed = {"viewer": [403, 403], "source": [202, 403]}
            assert posted == allowed.get(role, [202, 202]), role
            cut = await client.get("/v1/incidents", headers=as_role(token[:-1]))
            assert cut.status_code == 401


async def from_address(
    settings: Settings, client: str, base_url: str = "http://127.0.0.1", **headers: str
) -> httpx2.Response:
    app = create_app(settings, worker=False)
    transport = httpx2.ASGITransport(app=app, client=(client, 1))
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url=base_url) as asked,
    ):
        return await asked.get("/v1/incidents", headers=headers)


@pytest.mark.parametrize(
    ("client", "base_url", "headers", "code"),
    [
        ("127.0.0.1", "http://127.0.0.1", {}, 200),
        ("::1", "http://localhost:8321", {}, 200),
        ("127.0.0.1", "http://[::1]:8321", {"origin": "http://localhost:3000"}, 200),
        ("192.0.2.7", "http://127.0.0.1", {}, 403),
        ("127.0.0.1", "http://rebound.example", {}, 403),
        ("127.0.0.1", "http://127.0.0.1", {"origin": "https://evil.example"}, 403),
        ("127.0.0.1", "http://127.0.0.1", {"origin": "null"}, 403),
        ("127.0.0.1", "http://127.0.0.1", {"x-forwarded-for": "127.0.0.1"}, 403),
        ("127.0.0.1", "http://127.0.0.1", {"via": "1.1 proxy"}, 403),
    ],
)
async def test_without_tokens_only_this_machine_is_admin(
    settings: Callable[..., Settings],
    client: str,
    base_url: str,
    headers: dict[str, str],
    code: int,
) -> None:
    response = await from_address(settings(tokens=[]), client, base_url, **headers)
    assert response.status_code == code, response.text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "cache.example"])
def test_it_refuses_to_listen_beyond_loopback_without_tokens(
    settings: Callable[..., Settings], host: str
) -> None:
    with pytest.raises(SettingsError, match="tokens"):
        settings(tokens=[]).model_copy(update={"host": host}).check_exposure()
    settings(tokens=token_entries()).model_copy(update={"host": host}).check_exposure()


async def test_no_credentials_in_any_answer(settings: Callable[..., Settings]) -> None:
    async with serving(create_app(settings(), worker=False)) as client:
        shown = (await client.get("/v1/targets")).json()["items"]
        assert [target["name"] for target in shown] == [target["name"] for target in TARGETS]
        assert "p4ssw0rd" not in str(shown)
        assert shown[0]["address"] == "redis://127.0.0.1:1/0"
