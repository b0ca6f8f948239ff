"""What an attacker would send: refused or made harmless, and never a fault of the service."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from httpx2 import AsyncClient

from api.app import create_app
from api.logs import without_secrets
from api.settings import Settings
from tests.api.serving import as_role, serving
from tests.api.test_alerts import firing, message
from tests.api.test_incidents_api import opened

JSON = {"content-type": "application/json"}
SECRET = "s3cr3t-v4lue"


@pytest.mark.parametrize("depth", [50, 500, 900, 1_000, 100_000])
@pytest.mark.parametrize(
    ("start", "nested", "end"),
    [(b"", b"[", b""), (b'{"alerts":[', b"[", b"]}"),
     (b'{"alerts":[{"status":"firing","labels":', b'{"a":', b"1}]}")],
)  # fmt: skip
async def test_nested_json(
    client: AsyncClient, start: bytes, nested: bytes, end: bytes, depth: int
) -> None:
    closing = b"]" if nested == b"[" else b"}"
    body = start + nested * depth + end[:-2] + closing * depth + end[-2:]
    response = await client.post("/v1/alerts/alertmanager", content=body, headers=JSON)
    assert response.status_code in (202, 400, 422)


@pytest.mark.parametrize("name", ["\ud800", "\x00\x1b[2J\u202e", "x" * 100_000])
async def test_a_verdicts_culprit_is_shown_as_text(client: AsyncClient, name: str) -> None:
    one = await opened(client)
    body = {"root_cause": "unknown", "culprit": {"kind": "key", "name": name}}
    response = await client.post(
        f"/v1/incidents/{one['id']}/verdict", content=json.dumps(body), headers=JSON
    )
    assert response.status_code == 200, response.text
    shown = response.json()["culprit"]["name"]
    assert shown.isprintable()
    assert len(shown) < 1_000


@pytest.mark.parametrize(
    "headers",
    [
        {"host": ""}, {"host": "["}, {"host": "evil.example/127.0.0.1"},
        {"host": "127.0.0.1@evil.example"}, {"origin": "http://["}, {"origin": "file://"},
    ],
)  # fmt: skip
async def test_without_tokens_an_unreadable_host_or_origin_is_not_this_machine(
    settings: Callable[..., Settings], headers: dict[str, str]
) -> None:
    app = create_app(settings(tokens=[]), worker=False)
    transport = httpx2.ASGITransport(app=app, client=("127.0.0.1", 1))
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
    ):
        assert (await client.get("/v1/incidents", headers=headers)).status_code == 403


async def test_no_label_or_question_leads_to_a_server_that_is_not_configured(
    client: AsyncClient,
) -> None:
    """Neither the instance nor the generator's URL is ever connected to."""
    where = "redis://169.254.169.254:6379"
    stray = firing(
        labels={"alertname": "RedisDown", "instance": where, "target": where}, generatorURL=where
    )
    response = await client.post("/v1/alerts/alertmanager", json=message(stray))
    (one,) = response.json()["incidents"]
    assert one["status"] == "needs_human"
    for path, body in (
        ("/v1/investigations", {"target": where}),
        ("/v1/chat", {"message": "memory?", "target": where}),
    ):
        assert (await client.post(path, json=body)).status_code == 422


async def test_a_question_is_about_one_target(client: AsyncClient) -> None:
    """What it looks at is kept with the incident: another server's evidence would mislead."""
    one = await opened(client, "cache-eu")
    body = {"message": "memory?", "incident_id": one["id"], "target": "cache-us"}
    response = await client.post("/v1/chat", json=body)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "target"


async def test_credentials_in_alerts_and_comments_are_kept_nowhere(
    settings: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    """redis_exporter's `addr` label, a webhook's own header, a password pasted into a comment."""
    url = f"redis://user:{SECRET}@10.0.0.7:6379"
    alerts = [
        firing("a", labels={"alertname": f"down {url}", "addr": url, "password": SECRET}),
        firing("b", annotations={"summary": f"{url} is down", url: "x"}),
        {"status": "firing", "labels": [url]},
    ]
    pasted = {"comment": f"AUTH default {SECRET} did not help, see {url}"}
    async with serving(create_app(settings(), worker=False)) as client:
        headers = {"X-Webhook-Secret": SECRET, "Authorization": f"Bearer roc_{SECRET}_x"}
        answers = [await client.post("/v1/alerts/generic", json={}, headers=headers)]
        answers.append(await client.post("/v1/alerts/alertmanager", json=message(*alerts)))
        (one, *others) = answers[-1].json()["incidents"]
        assert len(others) == 2
        for path, body in (
            (f"/v1/incidents/{one['id']}/close", pasted),
            (f"/v1/incidents/{one['id']}/verdict", pasted | {"root_cause": "unknown"}),
            ("/v1/investigations", {"target": "cache-us", "question": pasted["comment"]}),
            ("/v1/investigations", {"target": url}),
            (f"/v1/incidents/{SECRET}@/close", {}),
        ):
            answers.append(await client.post(path, json=body))
        report = f"/v1/incidents/{one['id']}/report"
        shown = ("/v1/incidents", report, "/v1/targets", "/metrics", "/readyz")
        answers += [await client.get(path) for path in shown]
    assert [answer.url.path for answer in answers if SECRET in answer.text] == []
    captured = capsys.readouterr()
    assert SECRET not in captured.out + captured.err


@pytest.mark.parametrize(
    "secret",
    [
        f"redis://u:{SECRET}@h", f"postgresql://u:a/{SECRET}@h", f"redis://u:a@{SECRET}@h:1/0",
        f"Authorization: Bearer {SECRET}", f"roc_abcd_{SECRET}", f"sk-{SECRET}",
    ],
)  # fmt: skip
def test_the_log_masks_credentials_wherever_they_are(secret: str) -> None:
    event: dict[str, Any] = {"event": secret, "a": [{"b": f"x {secret} y"}], "n": 7}
    logged = without_secrets(None, "", event)
    assert SECRET not in repr(logged)
    assert logged["n"] == 7


async def test_a_tampered_cursor_tells_nothing_new(client: AsyncClient) -> None:
    one = await opened(client)
    for cursor in ("zzzz", "inc-", one["id"] + "0", "0"):
        response = await client.get("/v1/incidents", params={"cursor": cursor})
        assert response.status_code == 200
        assert {item["id"] for item in response.json()["items"]} <= {one["id"]}
    viewer = as_role("viewer")
    for path in (f"/v1/incidents/{one['id']}%2f..%2f{one['id']}", "/v1/incidents/..%2fetc"):
        assert (await client.get(path, headers=viewer)).status_code in (404, 422)
