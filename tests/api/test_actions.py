"""Approving exactly what was shown, by who may."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from httpx2 import AsyncClient, Response

from agent.incident import Action, Plan
from api.app import create_app
from api.settings import Settings
from api.store.journal import SqlJournal
from tests.api.serving import as_role, serving
from tests.api.test_incidents_api import journal_of, opened, service_of

GOOD, OTHER = "a" * 64, "b" * 64
SECOND = "roc_approver2_x"


def action(risk: str, **changes: Any) -> Action:
    values: dict[str, Any] = {
        "id": "A1", "fingerprint": GOOD, "kind": "k", "title": "t", "arguments": {}, "risk": risk,
    }  # fmt: skip
    return Action(**values | changes)


class Gate:
    """An incident that waits for approval of A1."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client

    async def propose(self, risk: str, target: str = "cache-eu", **changes: Any) -> None:
        self.id = (await opened(self.client, target))["id"]
        self.run = journal = await journal_of(self.client, self.id)
        await journal.set_plan(Plan(actions=[action(risk, **changes), action(risk, id="A2")]))
        await journal.set_status("awaiting_approval")
        self.nudged: list[str] = []

        async def nudge(*incident_ids: str, jobs: object = None) -> None:
            self.nudged += incident_ids

        self._patch.setattr(service_of(self.client).queue, "nudge", nudge)

    _patch: pytest.MonkeyPatch
    run: SqlJournal | None = None

    async def say(
        self, word: str, role: str, fingerprint: str = GOOD, action_id: str = "A1"
    ) -> Response:
        return await self.client.post(
            f"/v1/incidents/{self.id}/actions/{action_id}/{word}",
            json={"fingerprint": fingerprint, "comment": "because"},
            headers=as_role(role),
        )


@pytest.fixture
async def gate(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gate]:
    async with serving(create_app(settings(), worker=False)) as client:
        gate = Gate(client)
        gate._patch = monkeypatch
        yield gate


async def test_one_approval_is_enough_for_a_setting_and_work_goes_on(gate: Gate) -> None:
    await gate.propose("R1")
    response = await gate.say("approve", "approver")
    assert response.status_code == 200, response.text
    shown = response.json()
    assert shown["status"] == "approved"
    (approval,) = shown["approvals"]
    assert (approval["by"], approval["role"], approval["comment"]) == (
        "approver-1", "approver", "because",
    )  # fmt: skip
    assert gate.nudged == [gate.id]
    assert (await gate.say("approve", "approver")).json() == shown


async def test_deleting_in_production_takes_two_different_people(gate: Gate) -> None:
    await gate.propose("R3")
    for _ in range(2):
        first = await gate.say("approve", "approver")
        assert (first.status_code, first.json()["status"]) == (200, "proposed")
    assert gate.nudged == []
    second = await gate.say("approve", SECOND)
    assert second.json()["status"] == "approved"
    assert [a["by"] for a in second.json()["approvals"]] == ["approver-1", "approver-2"]
    assert gate.nudged == [gate.id]


@pytest.mark.parametrize(
    ("risk", "target", "role", "code"),
    [
        ("R1", "cache-eu", "viewer", 403),
        ("R1", "cache-eu", "responder", 403),
        ("R1", "cache-us", "responder", 200),  # staging
        ("R3", "cache-us", "responder", 403),
        ("R3", "cache-us", "approver", 200),
        ("R1", "cache-eu", "admin", 200),
    ],
)
async def test_the_policy_says_whose_yes_counts(
    gate: Gate, risk: str, target: str, role: str, code: int
) -> None:
    await gate.propose(risk, target)
    response = await gate.say("approve", role)
    assert response.status_code == code, response.text


async def test_another_fingerprint_is_stale(gate: Gate) -> None:
    await gate.propose("R1")
    response = await gate.say("approve", "admin", OTHER)
    assert response.status_code == 409
    assert "fingerprint" in response.json()["detail"]
    assert (await gate.say("reject", "admin", OTHER)).status_code == 409
    assert (await gate.say("approve", "admin", "not a fingerprint")).status_code == 422
    assert (await gate.say("approve", "admin", GOOD, "A9")).status_code == 404


async def test_one_no_is_enough_and_stays(gate: Gate) -> None:
    await gate.propose("R1")
    rejected = await gate.say("reject", "approver")
    assert (rejected.status_code, rejected.json()["status"]) == (200, "rejected")
    assert rejected.json()["rejected_by"] == "approver-1"
    assert rejected.json()["comment"] == "because"
    assert (await gate.say("reject", "approver")).json() == rejected.json()
    assert (await gate.say("approve", "approver")).status_code == 409
    assert (await gate.say("approve", SECOND)).status_code == 409
    other = await gate.client.get(f"/v1/incidents/{gate.id}")
    assert [a["status"] for a in other.json()["plan"]["actions"]] == ["rejected", "proposed"]


async def test_a_yes_cannot_be_taken_back_as_a_no(gate: Gate) -> None:
    await gate.propose("R1")
    await gate.say("approve", "approver")
    assert (await gate.say("reject", "approver")).status_code == 409
    assert (await gate.say("reject", SECOND)).status_code == 409


async def test_advice_cannot_be_approved(gate: Gate) -> None:
    await gate.propose("R1", executable=False)
    assert (await gate.say("approve", "admin")).status_code == 409


async def test_decisions_are_in_the_audit_trail_and_the_events(gate: Gate) -> None:
    from sqlalchemy import select

    from api.store import events
    from api.store.tables import AuditRow

    await gate.propose("R1")
    await gate.say("approve", "approver")
    async with service_of(gate.client).database.reading() as session:
        trail = (await session.scalars(select(AuditRow).where(AuditRow.what == "approve"))).all()
        kinds = [event.kind for event in await events.after(session, gate.id, 0)]
    assert [(row.by, row.role, row.detail["fingerprint"]) for row in trail] == [
        ("approver-1", "approver", GOOD)
    ]
    assert kinds[-1] == "action"
