"""Every status that the OpenAPI document names can be met, and looks as it says."""

import asyncio
import contextlib
import copy
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
import schemathesis
from fastapi import FastAPI
from httpx2 import AsyncClient, Response
from sqlalchemy.exc import TimeoutError as PoolTimeout

from agent.incident import Plan
from api import limits, readiness, sign_ins
from api.app import create_app
from api.settings import Settings
from api.store import freezes, processes, silences
from tests.api.senders import PING, transition
from tests.api.serving import as_role, serving
from tests.api.test_actions import GOOD, OTHER, action
from tests.api.test_incidents_api import journal_of, move, opened, service_of
from tests.api.test_openapi import documented
from tests.api.test_recordings import row

JSON = {"content-type": "application/json"}
NO_TOKEN = {"Authorization": ""}
MESSAGE: dict[str, Any] = {"alerts": []}
BODIES: dict[str, Any] = {
    "/v1/alerts/pagerduty": PING,
    "/v1/alerts/datadog": transition(),
    "/v1/investigations": {"target": "cache-eu"},
    "/v1/chat": {"message": "what is fragmentation?"},
    "/v1/looks": {"target": "cache-eu", "tool": "server_info"},
    "/v1/freezes": {"reason": "the outage"},
    "/v1/silences": {"reason": "a drill", "target": "cache-eu"},
    "/v1/incidents/{incident_id}/verdict": {"root_cause": "unknown"},
    "/v1/incidents/{incident_id}/actions/{action_id}/approve": {"fingerprint": GOOD},
    "/v1/incidents/{incident_id}/actions/{action_id}/reject": {"fingerprint": GOOD},
    "/v1/incidents/{incident_id}/actions/{action_id}/stop": {},
    "/v1/incidents/{incident_id}/plan/approve": {"actions": [{"id": "A1", "fingerprint": GOOD}]},
}
NOWHERE = {
    "incident_id": "inc-none", "thread_id": "t-none", "evidence_id": "E999", "action_id": "A999",
    "freeze_id": "999", "silence_id": "999", "runbook_id": "none",
    "name": "none",
}  # fmt: skip
Operation = tuple[str, str]


class Asked:
    """Requests to the service; each answer is held against the document."""

    def __init__(self, app: FastAPI, client: AsyncClient) -> None:
        self.app, self.client = app, client
        self.documented = documented(app)
        self.seen: dict[Operation, set[int]] = defaultdict(set)
        self._schema = schemathesis.openapi.from_dict(copy.deepcopy(app.openapi()))

    async def ask(
        self, of: Operation, *, query: str = "", names: dict[str, str] | None = None, **more: Any
    ) -> Response:
        method, path = of
        url = path.format(**(NOWHERE | (names or {})))
        if method == "POST" and not {"json", "content"} & more.keys():
            more["json"] = BODIES.get(path, MESSAGE if "alerts" in path else {})
        response = await self.client.request(method, url + query, **more)
        self.seen[of].add(response.status_code)
        assert str(response.status_code) in self.documented[of]["responses"], (of, response.text)
        response.request = httpx2.Request(method, response.url)  # without a body that was streamed
        self._schema[path][method].validate_response(response)
        return response


@pytest.fixture
async def asked(settings: Callable[..., Settings]) -> AsyncIterator[Asked]:
    app = create_app(settings(http={"hosts": ["oncall.example"]}), worker=False)
    async with serving(app) as client:
        yield Asked(app, client)


async def late() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.sleep(5)


async def refusals(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """What every operation may say, whatever it is about."""

    def patched(module: Any, **values: Any) -> contextlib.AbstractContextManager[Any]:
        return _patched(monkeypatch, module, values)

    for of in asked.documented:
        method, path = of
        await asked.ask(of, query=f"?x={'x' * limits.LONGEST_TARGET}")
        await asked.ask(of, headers={f"x-{n}": "1" for n in range(limits.MOST_HEADERS)})
        if path in ("/healthz", "/readyz"):
            continue
        with patched(sign_ins, MOST_FAILURES=10_000):
            await asked.ask(of, headers=NO_TOKEN)
        with patched(sign_ins, MOST_FAILURES=0):
            await asked.ask(of, headers=NO_TOKEN)
        alerts = path.startswith("/v1/alerts/")
        await asked.ask(of, headers=as_role("viewer" if alerts else "roc_source1_x"))
        if path == "/metrics":
            continue
        await asked.ask(of, headers={"Host": "evil.example"})
        with patched(limits, MOST_REQUESTS=0):
            await asked.ask(of)
        if method == "GET":
            await asked.ask(of, query="?no_such_parameter=1")
            continue
        await asked.ask(of, content=b"[" * 1_000, headers=JSON)
        with patched(limits, LARGEST_BODY=10, LARGEST_ALERTS=10):
            await asked.ask(of, content=b" " * 11, headers=JSON)
        with patched(limits, BODY_SECONDS=0.05):
            await asked.ask(of, content=late(), headers=JSON)


@contextlib.contextmanager
def _patched(monkeypatch: pytest.MonkeyPatch, module: Any, values: dict[str, Any]) -> Any:
    with monkeypatch.context() as patch:
        for name, value in values.items():
            patch.setattr(module, name, value)
        yield


async def without_a_database(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readiness says so; metrics leave out what only the store knows."""

    def away() -> Any:
        raise PoolTimeout

    with monkeypatch.context() as patch:
        patch.setattr(service_of(asked.client).database, "reading", away)
        assert (await asked.ask(("GET", "/readyz"))).status_code == 503
        said = await asked.ask(("GET", "/metrics"))
        assert "redis_oncall_store_up 0.0" in said.text
    await processes.say_alive(service_of(asked.client).database, "elsewhere:1:a", "worker")


async def an_incident(asked: Asked) -> None:
    """From its beginning to its end, and whatever cannot be done to it on the way."""
    one = "/v1/incidents/{incident_id}"
    act = f"{one}/actions/{{action_id}}"
    of = {"incident_id": (await opened(asked.client, "cache-eu"))["id"], "action_id": "A1"}
    journal = await journal_of(asked.client, of["incident_id"])
    assert (await asked.ask(("POST", f"{one}/reinvestigate"), names=of)).status_code == 409
    await journal.set_plan(Plan(actions=[action("R1"), action("R1", id="A2")]))
    await journal.set_status("awaiting_approval")
    await asked.ask(("POST", f"{act}/approve"), names=of, json={"fingerprint": OTHER})
    await asked.ask(("POST", f"{act}/reject"), names=of, json={"fingerprint": OTHER})
    await asked.ask(("POST", f"{act}/stop"), names=of)
    plan = [{"id": "A1", "fingerprint": OTHER}]
    await asked.ask(("POST", f"{one}/plan/approve"), names=of, json={"actions": plan})
    await asked.ask(("POST", f"{one}/plan/approve"), names=of)
    await asked.ask(("POST", f"{act}/approve"), names=of)
    await asked.ask(("POST", f"{act}/stop"), names=of)
    await asked.ask(("POST", f"{act}/reject"), names=of | {"action_id": "A2"})
    await asked.ask(("GET", f"{one}/recording"), names=of)
    await asked.ask(("POST", f"{one}/verdict"), names=of)
    async with service_of(asked.client).database.writing() as session:
        session.add(row(of["incident_id"], 1, 0))
    await asked.ask(("POST", f"{one}/verdict"), names=of)
    await asked.ask(("GET", f"{one}/recording"), names=of)
    await move(asked.client, of["incident_id"], "remediating")
    await asked.ask(("POST", f"{one}/close"), names=of)
    await move(asked.client, of["incident_id"], "needs_human")
    await asked.ask(("POST", f"{one}/reinvestigate"), names=of)
    await asked.ask(("POST", f"{one}/close"), names=of)
    for part in ("", "/events", "/report", "/transcript"):
        await asked.ask(("GET", one + part), names=of)


async def what_else_there_is(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence, a conversation, a freeze, a silence, what runbooks say."""
    await asked.ask(("GET", "/v1/runbooks/{runbook_id}"), names={"runbook_id": "memory-pressure"})
    await asked.ask(("GET", "/v1/targets/{name}/memory"), names={"name": "cache-eu"})
    await asked.ask(("GET", "/v1/passages"), query="?query=eviction")
    incident = (await opened(asked.client, "cache-us"))["id"]
    journal = await journal_of(asked.client, incident)
    at = datetime(2026, 1, 31, 3, tzinfo=UTC)
    await journal.add_evidence(
        "memory_info", {}, {"used": 1}, measured=True, node="h:1", summary="s", taken_at=at
    )
    names = {"incident_id": incident, "evidence_id": "E1"}
    await asked.ask(("GET", "/v1/incidents/{incident_id}/evidence/{evidence_id}"), names=names)
    said = await asked.ask(("POST", "/v1/chat"))
    names = {"thread_id": said.json()["thread_id"]}
    for part in ("", "/transcript"):
        await asked.ask(("GET", "/v1/chat/threads/{thread_id}" + part), names=names)
    lost = {"message": "and then?", "thread_id": "t-none"}
    await asked.ask(("POST", "/v1/chat"), json=lost)
    with _patched(monkeypatch, freezes, {"MOST": 0}):
        await asked.ask(("POST", "/v1/freezes"))
    frozen = await asked.ask(("POST", "/v1/freezes"))
    names = {"freeze_id": str(frozen.json()["id"])}
    await asked.ask(("POST", "/v1/freezes/{freeze_id}/thaw"), names=names)
    with _patched(monkeypatch, silences, {"MOST": 0}):
        await asked.ask(("POST", "/v1/silences"))
    silenced = await asked.ask(("POST", "/v1/silences"))
    names = {"silence_id": str(silenced.json()["id"])}
    await asked.ask(("POST", "/v1/silences/{silence_id}/lift"), names=names)


async def test_every_documented_answer_is_seen_and_conforms(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "KEPT_SECONDS", 0.0)
    await refusals(asked, monkeypatch)
    await without_a_database(asked, monkeypatch)
    for of in asked.documented:  # nothing is there yet
        await asked.ask(of)
    await an_incident(asked)
    await what_else_there_is(asked, monkeypatch)
    missing = {
        of: sorted({int(code) for code in operation["responses"]} - asked.seen[of])
        for of, operation in asked.documented.items()
    }
    assert {of: codes for of, codes in missing.items() if codes} == {}
