"""Approving and rejecting an action: of exactly what was shown, by its fingerprint."""

from typing import Annotated, cast

from fastapi import APIRouter, Depends
from pydantic import Field

from agent.incident import Action, Role
from agent.policy import decide, may_approve
from api import metrics
from api.auth import Approver, Responder
from api.incidents import Body
from api.listing import ActionId, Comment, IncidentId
from api.problems import Problem, documented
from api.service import Service
from api.store import decisions, incidents
from api.store.audit import Person

router = APIRouter(
    prefix="/v1/incidents/{incident_id}/actions/{action_id}",
    tags=["actions"],
    responses=documented(404, 409),
)
On = Annotated[Service, Depends(Service.of)]


class Decision(Body):
    """What is decided upon, and why."""

    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$")
    comment: Comment = ""


@router.post("/approve")
async def approve(
    service: On, person: Responder, incident_id: IncidentId, action_id: ActionId, body: Decision
) -> Action:
    """Say yes. With enough approvals the action is applied, after its preconditions hold."""
    return await _decide(service, person, incident_id, action_id, body, approves=True)


@router.post("/reject")
async def reject(
    service: On, person: Approver, incident_id: IncidentId, action_id: ActionId, body: Decision
) -> Action:
    """Say no. One no is enough."""
    return await _decide(service, person, incident_id, action_id, body, approves=False)


async def _decide(
    service: Service,
    person: Person,
    incident_id: str,
    action_id: str,
    body: Decision,
    *,
    approves: bool,
) -> Action:
    async with service.database.writing() as session:
        row = await incidents.lock(session, incident_id)
        environment, policy = service.environment(row.target), service.settings.policy
        _, action = await decisions.find(session, row, action_id)
        if approves and not may_approve(cast(Role, person.role), action.risk, environment, policy):
            raise Problem(403, f"{person.role} may not approve {action.risk} in {environment}")
        decided = await decisions.decide(
            session,
            row,
            action_id,
            person,
            approves=approves,
            fingerprint=body.fingerprint,
            comment=body.comment,
            enough=lambda known: (
                decide(
                    known, known.approvals, environment, now=incidents.now(), policy=policy
                ).allowed
            ),
        )
    metrics.DECISIONS.labels(decision="approve" if approves else "reject").inc()
    if decided.status != "proposed":
        await service.queue.nudge(incident_id)
    return decided
