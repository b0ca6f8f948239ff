"""Approving, rejecting and stopping actions: of exactly what was shown, by its fingerprint."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, cast

from fastapi import APIRouter, Depends
from pydantic import Field, model_validator
from sqlalchemy.ext.asyncio import AsyncSession

from agent.incident import Action, Role
from agent.planning import MOST_ACTIONS
from agent.policy import least_role, may_approve
from api import metrics
from api.auth import Approver, Responder
from api.incidents import Body
from api.listing import ActionId, Comment, IncidentId
from api.problems import Problem, documented
from api.service import Service
from api.store import decisions, incidents
from api.store.audit import Person
from api.store.decisions import Choice
from api.store.judge import Judge, judge_at
from api.store.tables import IncidentRow

SHORTEST_REASON = 10
"""Characters of the written reason for breaking the glass."""
router = APIRouter(
    prefix="/v1/incidents/{incident_id}", tags=["actions"], responses=documented(404, 409)
)
On = Annotated[Service, Depends(Service.of)]
Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Decision(Body):
    """What is decided upon, and why."""

    fingerprint: Fingerprint
    comment: Comment = ""


class Approval(Decision):
    """A yes."""

    break_glass: Annotated[
        bool,
        Field(
            description="An admin alone, past the number of approvals, freezes and maintenance "
            f"windows. Needs a `comment` of {SHORTEST_REASON} characters, and pages everybody."
        ),
    ] = False


class Chosen(Body):
    """One action of the plan, as it was shown."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$")
    fingerprint: Fingerprint


class PlanApproval(Body):
    """A yes to several actions, each as it was shown."""

    actions: list[Chosen] = Field(min_length=1, max_length=MOST_ACTIONS)
    comment: Comment = ""

    @model_validator(mode="after")
    def _each_once(self) -> "PlanApproval":
        if len({chosen.id for chosen in self.actions}) < len(self.actions):
            raise ValueError("an action is named twice")
        return self


class Stop(Body):
    """Why, for the record."""

    comment: Comment = ""


@router.post("/actions/{action_id}/approve")
async def approve(
    service: On, person: Responder, incident_id: IncidentId, action_id: ActionId, body: Approval
) -> Action:
    """Say yes. With enough approvals the action is applied, after its preconditions hold.

    In a freeze, or before its maintenance window, it stays approved and waits (`not_before`) for as
    long as the approval is valid; what cannot happen before that expires is refused.
    """
    if body.break_glass:
        _may_break_glass(person, body.comment)
    choice = Choice(action_id, body.fingerprint)
    (action,) = await _approve(
        service, person, incident_id, [choice], body.comment, break_glass=body.break_glass
    )
    return action


@router.post("/plan/approve")
async def approve_plan(
    service: On, person: Responder, incident_id: IncidentId, body: PlanApproval
) -> list[Action]:
    """Say yes to several actions, or to none of them: each by the same rules as alone.

    They are applied in the order of the plan. When one ends other than verified, those that have
    not begun lapse, and say why.
    """
    choices = [Choice(chosen.id, chosen.fingerprint) for chosen in body.actions]
    return await _approve(service, person, incident_id, choices, body.comment)


@router.post("/actions/{action_id}/reject")
async def reject(
    service: On, person: Approver, incident_id: IncidentId, action_id: ActionId, body: Decision
) -> Action:
    """Say no. One no is enough, also to what is approved and waits for its time.

    The next investigation of the target reads the comment.
    """
    async with service.database.writing() as session:
        row = await incidents.lock(session, incident_id)
        choice = Choice(action_id, body.fingerprint)
        incidents.asked_now(row)
        action = await decisions.reject(session, row, choice, person, body.comment, incidents.now())
    metrics.DECISIONS.labels(decision="reject").inc()
    await service.queue.nudge(incident_id)
    return action


@router.post("/actions/{action_id}/stop")
async def stop(
    service: On,
    person: Responder,
    incident_id: IncidentId,
    action_id: ActionId,
    body: Stop | None = None,
) -> Action:
    """Do not begin what is approved; end what is under way after its present batch.

    What was done until then is verified, and undone if it did not help, as always.
    """
    async with service.database.writing() as session:
        row = await incidents.lock(session, incident_id)
        action = await decisions.stop(session, row, action_id, person, body.comment if body else "")
    await service.queue.nudge(incident_id)
    return action


async def _approve(
    service: Service,
    person: Person,
    incident_id: str,
    choices: Sequence[Choice],
    comment: str,
    *,
    break_glass: bool = False,
) -> list[Action]:
    async with _judged(service, incident_id) as (session, row, judge):
        for choice in choices:
            _, action = await decisions.find(session, row, choice.action_id)
            _may_approve(person, action, judge)
        incidents.asked_now(row)
        approved = await decisions.approve(
            session, row, choices, person, comment, judge, break_glass=break_glass
        )
    metrics.DECISIONS.labels(decision="break_glass" if break_glass else "approve").inc()
    if any(action.status != "proposed" for action in approved):
        await service.queue.nudge(incident_id)
    return approved


@asynccontextmanager
async def _judged(
    service: Service, incident_id: str
) -> AsyncIterator[tuple[AsyncSession, IncidentRow, Judge]]:
    async with service.database.writing() as session:
        row = await incidents.lock(session, incident_id)
        environment, policy = service.environment(row.target), service.settings.policy
        judge = await judge_at(session, policy, row.target, environment, incidents.now())
        yield session, row, judge


def _may_approve(person: Person, action: Action, judge: Judge) -> None:
    role, environment = cast(Role, person.role), judge.environment
    if not may_approve(role, action.risk, environment, judge.policy):
        needed = least_role(action.risk, environment, judge.policy)
        takes = f"that takes the role {needed} or higher" if needed else "nobody may"
        said = f"{person.role} may not approve {action.risk} in {environment}: {takes}"
        raise Problem(403, said)


def _may_break_glass(person: Person, comment: str) -> None:
    if person.role != "admin":
        raise Problem(403, f"only an admin may break the glass; you are {person.role}")
    if len(comment.strip()) < SHORTEST_REASON:
        message = f"breaking the glass needs a written reason of {SHORTEST_REASON} characters"
        raise Problem(422, "a reason is missing", [("comment", message)])
