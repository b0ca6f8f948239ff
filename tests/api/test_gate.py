"""Freezes, windows, broken glass, batches and stopping, over HTTP, on SQLite and PostgreSQL."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from httpx2 import Response
from sqlalchemy import select, update

from agent.incident import Action, Incident
from api.app import create_app
from api.settings import Settings
from api.store import decisions, incidents, leases
from api.store.journal import ActionMoved, SqlJournal
from api.store.tables import ActionRow, AuditRow, PageRow
from tests.api.serving import as_role, serving
from tests.api.test_actions import GOOD, SECOND, Gate
from tests.api.test_incidents_api import service_of

Opens = Callable[..., contextlib.AbstractAsyncContextManager[Gate]]
REASON = "the shop is down and nobody else answers"


@pytest.fixture
def opens(settings: Callable[..., Settings], url: str, monkeypatch: pytest.MonkeyPatch) -> Opens:
    """`opens(freezes=…)`: a service with that configuration."""

    @contextlib.asynccontextmanager
    async def make(**config: Any) -> AsyncIterator[Gate]:
        async with serving(create_app(settings(database=url, **config), worker=False)) as client:
            gate = Gate(client)
            gate._patch = monkeypatch
            yield gate
            if gate.run is not None:
                await leases.release(service_of(client).database, gate.run.lease)

    return make


async def shown(gate: Gate) -> Incident:
    return Incident.model_validate((await gate.client.get(f"/v1/incidents/{gate.id}")).json())


async def first(gate: Gate) -> Action:
    return (await shown(gate)).plan.actions[0]


async def has_work(gate: Gate) -> bool:
    async with service_of(gate.client).database.reading() as session:
        return await incidents.works_left(session, gate.id)


async def called(gate: Gate) -> list[str]:
    async with service_of(gate.client).database.reading() as session:
        return list(await session.scalars(select(PageRow.reason).order_by(PageRow.id)))


async def freeze(gate: Gate, role: str = "approver", **body: Any) -> Response:
    body = {"reason": "the database team is at it", **body}
    return await gate.client.post("/v1/freezes", json=body, headers=as_role(role))


async def glass(gate: Gate, role: str = "admin", comment: str = REASON, **body: Any) -> Response:
    return await gate.client.post(
        f"/v1/incidents/{gate.id}/actions/A1/approve",
        json={"fingerprint": GOOD, "comment": comment, "break_glass": True, **body},
        headers=as_role(role),
    )


async def all_of_it(gate: Gate, role: str, *names: str, **changed: str) -> Response:
    chosen = [{"id": name, "fingerprint": changed.get(name, GOOD)} for name in names]
    return await gate.client.post(
        f"/v1/incidents/{gate.id}/plan/approve", json={"actions": chosen}, headers=as_role(role)
    )


def run_of(gate: Gate) -> SqlJournal:
    assert gate.run is not None
    return gate.run


async def test_what_is_frozen_stays_approved_and_goes_on_when_it_thaws(opens: Opens) -> None:
    async with opens() as gate:
        await gate.propose("R1", expires_at=incidents.now() + timedelta(hours=9))
        frozen = (await freeze(gate, minutes=60)).json()
        approved = (await gate.say("approve", "approver")).json()
        assert approved["status"] == "approved"
        assert "frozen until" in approved["comment"]
        assert "the database team is at it" in approved["comment"]
        assert approved["not_before"] is not None
        assert not await has_work(gate)
        thawed = await gate.client.post(
            f"/v1/freezes/{frozen['id']}/thaw", headers=as_role("approver")
        )
        assert (thawed.status_code, thawed.json()["active"]) == (200, False)
        assert await has_work(gate)
        again = await gate.client.post(f"/v1/freezes/{frozen['id']}/thaw")
        assert again.status_code == 404


async def test_a_freeze_that_outlives_the_approval_refuses_it_and_says_so(opens: Opens) -> None:
    async with opens() as gate:
        await gate.propose("R1", expires_at=incidents.now() + timedelta(minutes=30))
        await freeze(gate, minutes=60, target="cache-eu")
        refused = await gate.say("approve", "approver")
        assert refused.status_code == 409
        assert "would expire before" in refused.json()["detail"]
        assert (await first(gate)).approvals == []


async def test_a_freeze_of_another_target_is_none(opens: Opens) -> None:
    async with opens() as gate:
        await gate.propose("R1")
        assert (await freeze(gate, target="cache-us")).status_code == 201
        assert (await gate.say("approve", "approver")).json()["not_before"] is None
        assert await has_work(gate)


async def test_who_may_freeze_what_and_for_how_long(opens: Opens) -> None:
    until = incidents.now() + timedelta(days=3)
    configured = {"until": until.isoformat(), "environments": "staging", "reason": "audit"}
    async with opens(freezes=[configured]) as gate:
        assert (await freeze(gate, "responder")).status_code == 403
        assert (await freeze(gate, target="cache-eu-1")).status_code == 422
        assert (await freeze(gate, minutes=0)).status_code == 422
        assert (await freeze(gate, reason="  ")).status_code == 422
        assert (await freeze(gate, minutes=30 * 1440)).status_code == 201
        listed = (await gate.client.get("/v1/freezes", headers=as_role("viewer"))).json()["items"]
        assert [(f["by"], f["reason"], f["active"]) for f in listed] == [
            ("approver-1", "the database team is at it", True),
            ("the configuration", "audit", True),
        ]


async def test_a_row_of_the_policy_waits_for_the_maintenance_window(opens: Opens) -> None:
    now = incidents.now()
    rules = [{"risk": "R1", "role": "approver", "only_in_window": True}]
    begins = now + timedelta(hours=2)
    window = {"from": begins.isoformat(), "until": (now + timedelta(hours=4)).isoformat()}
    async with opens(policy={"rules": rules}, maintenance=[window]) as gate:
        await gate.propose("R1", expires_at=now + timedelta(hours=9))
        approved = (await gate.say("approve", "approver")).json()
        assert approved["status"] == "approved"
        assert Action.model_validate(approved).not_before == begins
        # people may change their minds while it waits
        assert (await gate.say("reject", SECOND)).json()["status"] == "rejected"
        assert (await gate.say("approve", "approver")).json()["status"] == "rejected"


async def test_one_admin_breaks_the_glass_with_a_reason_and_everybody_is_paged(
    opens: Opens,
) -> None:
    async with opens() as gate:
        await gate.propose("R4", expires_at=incidents.now() + timedelta(minutes=30))
        await freeze(gate)
        assert (await glass(gate, "approver")).status_code == 403
        assert (await glass(gate, comment="urgent")).status_code == 422
        assert await called(gate) == []
        broken = await glass(gate)
        assert (broken.status_code, broken.json()["status"]) == (200, "approved")
        assert broken.json()["not_before"] is None
        (approval,) = broken.json()["approvals"]
        assert (approval["by"], approval["break_glass"]) == ("admin-1", True)
        assert (await glass(gate)).json() == broken.json()
        (page,) = await called(gate)
        assert "admin-1" in page
        assert REASON in page
        assert await has_work(gate)
        async with service_of(gate.client).database.reading() as session:
            found = select(AuditRow.by).where(AuditRow.what == "break_glass")
            assert (await session.scalars(found)).all() == ["admin-1"]
        report = await gate.client.get(f"/v1/incidents/{gate.id}/report")
        assert "Break-glass" in report.text


async def test_the_second_of_two_people_does_not_wake_so_the_first_breaks_the_glass(
    opens: Opens,
) -> None:
    async with opens() as gate:
        await gate.propose("R3")
        assert (await gate.say("approve", "admin")).json()["status"] == "proposed"
        assert (await glass(gate)).json()["status"] == "approved"


async def test_glass_is_broken_for_what_is_approved_and_waits(opens: Opens) -> None:
    async with opens() as gate:
        await gate.propose("R1")
        await freeze(gate)
        assert (await gate.say("approve", "approver")).json()["not_before"] is not None
        assert (await glass(gate)).json()["not_before"] is None
        assert await has_work(gate)


async def test_two_tokens_of_one_person_are_one_approval(opens: Opens) -> None:
    from tests.api.serving import sha256, token_entries

    tokens = [
        *token_entries(),
        {"name": "ann-laptop", "person": "ann", "role": "approver", "sha256": sha256("one")},
        {"name": "ann-phone", "person": "ann", "role": "admin", "sha256": sha256("two")},
    ]
    async with opens(tokens=tokens) as gate:
        await gate.propose("R3")
        for token in ("one", "two"):
            assert (await gate.say("approve", token)).json()["status"] == "proposed"
        assert [approval.by for approval in (await first(gate)).approvals] == ["ann"]


async def test_a_plan_is_approved_whole_or_not_at_all(opens: Opens) -> None:
    async with opens() as gate:
        await gate.propose("R1")
        assert (await all_of_it(gate, "approver", "A1", "A1")).status_code == 422
        assert (await all_of_it(gate, "approver", "A1", "A9")).status_code == 404
        assert (await all_of_it(gate, "approver", "A1", "A2", A2="b" * 64)).status_code == 409
        assert (await all_of_it(gate, "responder", "A1", "A2")).status_code == 403
        assert {action.status for action in (await shown(gate)).plan.actions} == {"proposed"}
        approved = await all_of_it(gate, "approver", "A2", "A1")
        assert [action["status"] for action in approved.json()] == ["approved", "approved"]
        assert len({action["batch"] for action in approved.json()}) == 1


@pytest.mark.parametrize("status", ["rolled_back", "failed", "lapsed"])
async def test_what_does_not_end_well_stops_the_rest_of_its_batch(
    opens: Opens, status: str
) -> None:
    async with opens() as gate:
        await gate.propose("R1")
        await all_of_it(gate, "approver", "A1", "A2")
        run = run_of(gate)
        await run.save_action((await first(gate)).model_copy(update={"status": status}))
        one, two = (await shown(gate)).plan.actions
        assert (one.status, two.status) == (status, "lapsed")
        assert two.comment.startswith("A1, approved together with it, ended as")
    async with opens() as gate:
        await gate.propose("R1", "cache-us")
        await all_of_it(gate, "approver", "A1", "A2")
        run = run_of(gate)
        for step in ("applying", "applied", "verified"):
            await run.save_action((await first(gate)).model_copy(update={"status": step}))
        assert (await shown(gate)).plan.actions[1].status == "approved"


async def test_in_a_batch_the_second_waits_for_the_approvals_of_the_first(opens: Opens) -> None:
    """A1 needs two people and A2 one: applied in order all the same."""
    async with opens() as gate:
        await gate.propose("R3")
        async with service_of(gate.client).database.writing() as session:
            row = await session.get_one(ActionRow, (gate.id, 1, "A2"))
            row.body = {**row.body, "risk": "R1"}
        assert (await all_of_it(gate, "approver", "A1", "A2")).status_code == 200
        assert [a.status for a in (await shown(gate)).plan.actions] == ["proposed", "proposed"]
        assert (await gate.say("approve", SECOND)).json()["status"] == "approved"
        assert [a.status for a in (await shown(gate)).plan.actions] == ["approved", "approved"]


async def stop(gate: Gate, role: str = "responder") -> Response:
    path = f"/v1/incidents/{gate.id}/actions/A1/stop"
    return await gate.client.post(path, json={"comment": "it hurts"}, headers=as_role(role))


async def test_stopping_before_during_and_after(opens: Opens) -> None:
    async with opens() as gate:
        await gate.propose("R1")
        assert (await stop(gate, "viewer")).status_code == 403
        assert (await stop(gate)).status_code == 409  # reject it instead
        await gate.say("approve", "approver")
        stopped = await stop(gate)
        assert stopped.json()["status"] == "lapsed"
        assert stopped.json()["comment"] == "stopped by responder-1: it hurts"
        assert (await stop(gate)).json() == stopped.json()
        run = run_of(gate)
        with pytest.raises(ActionMoved):  # a run that read it before
            await run.save_action((await first(gate)).model_copy(update={"status": "applying"}))
    async with opens() as gate:
        await gate.propose("R1", "cache-us")
        await gate.say("approve", "approver")
        run = run_of(gate)
        await run.save_action((await first(gate)).model_copy(update={"status": "applying"}))
        assert await run.note_progress("A1", {"keys": 1}) == ""
        assert (await stop(gate)).json()["status"] == "applying"
        assert await run.note_progress("A1", {"keys": 2}) == "stopped by responder-1: it hurts"
        # what the run goes on to save does not take the wish away
        await run.save_action((await first(gate)).model_copy(update={"status": "applied"}))
        assert (await first(gate)).stop_requested == "stopped by responder-1: it hurts"


async def test_an_approval_starts_one_application_only(opens: Opens) -> None:
    """Two runs read the same approval: whoever comes second finds it used up."""
    async with opens() as gate:
        await gate.propose("R1")
        await gate.say("approve", "approver")
        seen, run = await first(gate), run_of(gate)
        for status in ("applying", "applied", "rolling_back", "rolled_back"):
            await run.save_action(seen.model_copy(update={"status": status}))
            if status != "applying":
                with pytest.raises(ActionMoved, match="used up"):
                    await run.save_action(seen.model_copy(update={"status": "applying"}))
        assert (await gate.say("approve", SECOND)).status_code == 409
        assert (await first(gate)).status == "rolled_back"


async def test_a_stop_and_the_beginning_at_once_are_one_of_them(opens: Opens) -> None:
    async with opens() as gate:
        await gate.propose("R1")
        await gate.say("approve", "approver")
        seen, run = await first(gate), run_of(gate)

        async def begin() -> bool:
            try:
                await run.save_action(seen.model_copy(update={"status": "applying"}))
            except ActionMoved:
                return False
            return True

        begun, stopped = await asyncio.gather(begin(), stop(gate))
        assert stopped.status_code == 200
        assert (await first(gate)).status == ("applying" if begun else "lapsed")
        if begun:
            assert await run.note_progress("A1", {}) != ""


async def test_what_waits_too_long_lapses_and_critical_incidents_call_people(opens: Opens) -> None:
    async with opens() as gate:
        await gate.propose("R1")
        await freeze(gate)
        await gate.say("approve", "approver")
        past = incidents.now() - timedelta(seconds=1)
        async with service_of(gate.client).database.writing() as session:
            mine = update(ActionRow).where(ActionRow.incident_id == gate.id)
            await session.execute(mine.values(expires_at=past))
            (await incidents.lock(session, gate.id)).severity = "critical"
        async with service_of(gate.client).database.writing() as session:
            assert await decisions.expire(session) == [gate.id]
        one, two = (await shown(gate)).plan.actions
        assert one.comment == "it was approved, and could not be applied in time"
        assert two.comment == "nobody approved it in time"
        assert len(await called(gate)) == 2
        assert await has_work(gate)


@pytest.mark.parametrize("status", ["rollback_failed", "outcome_unknown"])
async def test_an_end_that_nobody_chose_calls_people_once(opens: Opens, status: str) -> None:
    async with opens() as gate:
        await gate.propose("R1")
        await gate.say("approve", "approver")
        run, ended = run_of(gate), (await first(gate)).model_copy(update={"status": status})
        for _ in range(2):
            await run.save_action(ended.model_copy(update={"comment": "half of it is undone"}))
        (page,) = await called(gate)
        assert "half of it is undone" in page
        events = await gate.client.get(f"/v1/incidents/{gate.id}")
        assert events.status_code == 200


async def test_close_ends_what_waits_for_its_time(opens: Opens) -> None:
    async with opens() as gate:
        await gate.propose("R1")
        await freeze(gate)
        await gate.say("approve", "approver")
        closed = await gate.client.post(f"/v1/incidents/{gate.id}/close")
        assert closed.status_code == 200
        assert {action.status for action in (await shown(gate)).plan.actions} == {"lapsed"}


async def test_a_dry_run_says_so(opens: Opens) -> None:
    async with opens(mode="dry_run") as gate:
        assert (await gate.client.get("/readyz")).json()["mode"] == "dry_run"
    async with opens() as gate:
        assert (await gate.client.get("/readyz")).json()["mode"] == "live"
