"""What people do from a page: what their role allows, and exactly what was shown."""

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from api.app import create_app
from api.console.pages import answer
from api.settings import Settings
from api.store.tables import VerdictRow
from tests.api.console.visiting import look, seal_of, sign_in
from tests.api.house import at_the_gate
from tests.api.serving import as_role, serving
from tests.api.test_incidents_api import service_of

ROLES = ("viewer", "responder", "approver", "admin")


@pytest.fixture
async def client(settings: Callable[..., Settings]) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(create_app(settings(), worker=False)) as client:
        yield client


async def gate(client: httpx2.AsyncClient) -> str:
    return await at_the_gate(service_of(client).database, "cache-eu", approved=False)


async def does(client: httpx2.AsyncClient, path: str, **fields: str) -> httpx2.Response:
    """As whoever is signed in, with the seal of a page that they see."""
    csrf = seal_of((await client.get("/incidents")).text)
    headers = {"Accept": "text/html"}
    return await client.post(path, data={"csrf": csrf, **fields}, headers=headers)


async def kept(client: httpx2.AsyncClient, incident: str) -> dict[str, Any]:
    answer = await client.get(f"/v1/incidents/{incident}", headers=as_role("admin"))
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize(
    ("deed", "least"),
    [
        ("actions/A1/approve", "approver"),  # R1 in production
        ("actions/A1/reject", "approver"),
        ("actions/A1/stop", "responder"),
        ("close", "responder"),
        ("reinvestigate", "responder"),
        ("verdict", "responder"),
        ("chat", "responder"),
    ],
)
async def test_a_deed_needs_the_role_that_the_api_wants_for_it(
    client: httpx2.AsyncClient, deed: str, least: str
) -> None:
    fields = {"root_cause": "unknown", "message": "why?", "comment": ""}
    incident = await gate(client)
    shown = (await kept(client, incident))["plan"]["actions"][0]
    fields |= {"fingerprint": shown["fingerprint"], "target": "cache-eu"}
    for role in ROLES[: ROLES.index(least) + 1]:
        await sign_in(client, role)
        answer = await does(client, f"/incidents/{incident}/{deed}", **fields)
        if role != least:
            assert answer.status_code == 403
            assert "role" in answer.text or "may not approve" in answer.text
            assert (await kept(client, incident))["plan"]["actions"] == [shown]
    # Of what is not approved nothing can be stopped.
    assert answer.status_code == (409 if deed.endswith("stop") else 303)


async def test_only_what_was_shown_is_approved(client: httpx2.AsyncClient) -> None:
    incident = await gate(client)
    await sign_in(client, "approver")
    page = await look(client, f"/incidents/{incident}")
    (action,) = (await kept(client, incident))["plan"]["actions"]
    assert action["fingerprint"] in page
    path = f"/incidents/{incident}/actions/{action['id']}/approve"
    assert (action["risk"], len(action["approvals"])) == ("R3", 1)
    for wrong in ("b" * 64, "", "A1"):
        answer = await does(client, path, fingerprint=wrong, target="cache-eu")
        assert answer.status_code in (409, 422)
        assert "Nothing was done" in answer.text
    for typed in ({}, {"target": "cache-us"}, {"target": ""}):
        answer = await does(client, path, fingerprint=action["fingerprint"], **typed)
        assert answer.status_code == 422
        assert "type the target&#39;s name, cache-eu" in answer.text
    assert (await kept(client, incident))["plan"]["actions"] == [action]
    right = {"fingerprint": action["fingerprint"], "target": "cache-eu"}
    assert (await does(client, path, **right)).status_code == 303
    # The same person, again: as over the API nothing changes.
    assert (await does(client, path, **right)).status_code == 303
    assert len((await kept(client, incident))["plan"]["actions"][0]["approvals"]) == 2


async def test_a_verdict_and_its_culprit_are_kept(client: httpx2.AsyncClient) -> None:
    incident = await gate(client)
    await sign_in(client, "responder")
    path = f"/incidents/{incident}/verdict"
    assert (await does(client, path, root_cause="nonsense")).status_code == 422
    assert (await does(client, path, root_cause="unknown", culprit_kind="cat")).status_code == 422
    offered = await look(client, f"/incidents/{incident}")
    assert 'name="culprit_kind"' in offered
    culprit = {"culprit_kind": "key", "culprit_name": "cart:7"}
    done = await does(client, path, root_cause="single-bigkey", comment="<b>seen</b>", **culprit)
    assert done.status_code == 303
    async with service_of(client).database.reading() as session:
        said = await session.scalar(select(VerdictRow.culprit))
    assert said == {"kind": "key", "name": "cart:7"}
    page = await look(client, f"/incidents/{incident}")
    assert "single-bigkey, by <bdi>responder-1</bdi>: <bdi>&lt;b&gt;seen&lt;/b&gt;</bdi>" in page


async def test_an_answer_is_on_the_page_or_told_to_a_script(client: httpx2.AsyncClient) -> None:
    incident = await gate(client)
    await sign_in(client, "responder")
    path = f"/incidents/{incident}/chat"
    assert (await does(client, path, message="")).status_code == 422
    assert (await does(client, path, message="what waits for approval?")).status_code == 303
    assert "what waits for approval?" in await look(client, f"/incidents/{incident}")
    csrf = seal_of((await client.get("/incidents")).text)
    told = await client.post(
        path, data={"csrf": csrf, "message": "[[[why?]]]"}, headers={"Accept": "text/event-stream"}
    )
    assert told.headers["content-type"].startswith("text/event-stream")
    assert "event: end" in told.text
    await sign_in(client, "viewer")  # whose thread it is not
    assert "what waits for approval?" not in await look(client, f"/incidents/{incident}")


def test_what_an_answer_cites_is_a_link_and_nothing_else_is() -> None:
    said = answer(
        "Used: 5 MiB [E1, E12]. E3 <b>\n"
        "Runbook single-bigkey, Remediation, Option 1: “Trim”: “See E9 [E2] <i>”\n"
        "Runbook <x>, y: “z”",
        "inc-1",
    )
    first, second, third = said.split("\n")
    place = "/incidents/inc-1/evidence"
    assert re.findall(r'href="([^"]+)"', first) == [f"{place}/E1", f"{place}/E12"]
    where = "/runbooks/single-bigkey#section-remediation-option-1"
    assert re.findall(r'href="([^"]+)"', second) == [where, f"{place}/E2"]
    assert "href" not in third
    assert not re.search(r"<(?!/?a\b)", said)


async def test_breaking_the_glass_by_hand_takes_an_admin(client: httpx2.AsyncClient) -> None:
    incident = await gate(client)
    (action,) = (await kept(client, incident))["plan"]["actions"]
    path = f"/incidents/{incident}/actions/{action['id']}/approve"
    fields = {
        "fingerprint": action["fingerprint"], "break_glass": "yes", "target": "cache-eu",
    }  # fmt: skip
    await sign_in(client, "approver")
    assert "break_glass" not in await look(client, f"/incidents/{incident}")
    reason = {"comment": "nobody else is awake"}
    assert (await does(client, path, **fields, **reason)).status_code == 403
    await sign_in(client, "admin")
    assert (await does(client, path, **fields)).status_code == 422
    assert (await does(client, path, **fields, **reason)).status_code == 303
