"""Two people at once, on SQLite and PostgreSQL: one outcome, and both are told the truth."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from httpx2 import Response

from agent.incident import Incident
from api.app import create_app
from api.settings import Settings
from tests.api.serving import serving
from tests.api.test_actions import SECOND, Gate


@pytest.fixture
async def gate(
    settings: Callable[..., Settings], url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gate]:
    async with serving(create_app(settings(database=url), worker=False)) as client:
        gate = Gate(client)
        gate._patch = monkeypatch
        yield gate


async def incident(gate: Gate) -> Incident:
    return Incident.model_validate((await gate.client.get(f"/v1/incidents/{gate.id}")).json())


async def ask(gate: Gate, word: str) -> Response:
    return await gate.client.post(f"/v1/incidents/{gate.id}/{word}")


async def test_two_approvals_at_once_are_two(gate: Gate) -> None:
    await gate.propose("R3")
    said = await asyncio.gather(
        *(gate.say("approve", who) for who in ("approver", SECOND, "approver", SECOND))
    )
    assert {answer.status_code for answer in said} == {200}
    action = (await incident(gate)).plan.actions[0]
    assert action.status == "approved"
    assert sorted(approval.by for approval in action.approvals) == ["approver-1", "approver-2"]


async def test_yes_and_no_at_once_are_one_of_them(gate: Gate) -> None:
    await gate.propose("R1")
    said = await asyncio.gather(gate.say("approve", "approver"), gate.say("reject", SECOND))
    assert sorted(answer.status_code for answer in said) == [200, 409]
    winner = next(answer.json() for answer in said if answer.status_code == 200)
    action = (await incident(gate)).plan.actions[0]
    assert action.status == winner["status"]
    assert bool(action.approvals) == (action.status == "approved")


@pytest.mark.parametrize("word", ["close", "reinvestigate"])
async def test_an_approval_and_its_incidents_end_at_once(gate: Gate, word: str) -> None:
    """Either it is approved and goes on, or nothing of it can be applied any more."""
    await gate.propose("R1")
    said, ended = await asyncio.gather(gate.say("approve", "approver"), ask(gate, word))
    found = await incident(gate)
    if said.status_code == 200:
        assert ended.status_code == 409
        assert (found.status, found.plan.actions[0].status) == ("awaiting_approval", "approved")
    else:
        assert (said.status_code, ended.is_success) == (409 if word == "close" else 404, True)
        assert {action.status for action in found.plan.actions} <= {"lapsed"}
        assert found.status == ("closed" if word == "close" else "queued")
