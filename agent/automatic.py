"""Approval by the policy itself: only where a row says so, and only of what nobody doubts."""

from collections.abc import Sequence
from datetime import UTC, datetime

from agent.context import Context
from agent.incident import Action, Incident
from agent.policy import MAY_BE_AUTOMATIC, Policy, held, rule_for
from agent.precedents import Precedent, repeated_by, spoken
from agent.windows import Window


async def consider(context: Context) -> None:
    """Approve the first action that qualifies, before anybody decided upon the plan; else say why.

    At most one: whatever else the plan holds is for people.
    """
    journal, policy = context.journal, context.policy
    incident = await journal.incident()
    plan = [action for action in incident.plan.actions if action.executable]
    environment = context.target.environment
    asked = [action for action in plan if _is_asked(action, environment, policy)]
    if not asked or any(_is_decided(action) for action in plan):
        return
    earlier, freezes = await journal.earlier(), await journal.freezes()
    for action in asked:
        because = why_not(
            action, incident, context.target.name, environment, datetime.now(UTC),
            policy=policy, freezes=freezes, earlier=earlier.actions,
        )  # fmt: skip
        if because is None and incident.diagnosis is not None:
            cause = incident.diagnosis.root_cause
            because = await journal.approve_automatically(action, cause, policy.automatic)
            if because is None:
                return
        note = f"not approved automatically: {because}"
        if note not in action.notes:
            notes = [said for said in action.notes if not said.startswith("not approved automati")]
            await journal.save_action(action.model_copy(update={"notes": [*notes, note]}))


def why_not(
    action: Action,
    incident: Incident,
    target: str,
    environment: str,
    at: datetime,
    *,
    policy: Policy,
    freezes: Sequence[Window] = (),
    earlier: Sequence[Precedent] = (),
) -> str | None:
    """The first doubt; None: as far as this incident goes, the policy may approve it. Pure."""
    if not _is_asked(action, environment, policy):
        return "no row of the policy says so"
    if policy.dry_run or action.dry_run:
        return "this is a dry run"
    if (doubt := _doubt(incident, policy.automatic.confidence)) is not None:
        return doubt
    if past := repeated_by(action, earlier):
        return f"the same was {spoken(past[0])}"
    if unmet := [check for check in action.preconditions if check.holds is not True]:
        return f"not certain that {unmet[0].text}"
    hold = held(action, target, environment, at, policy=policy, freezes=freezes)
    return hold.reason if hold else None


def _doubt(incident: Incident, least: float) -> str | None:
    diagnosis = incident.diagnosis
    if diagnosis is None or diagnosis.root_cause == "unknown":
        return "the cause is unknown"
    if not diagnosis.is_incident:
        return "it is no incident"
    if diagnosis.escalate:
        return "a person has to look at this one"
    lost = diagnosis.overruled
    if lost is not None and lost.root_cause not in ("unknown", diagnosis.root_cause):
        return f"the cause is disputed: {lost.reasoner} said {lost.root_cause}"
    if diagnosis.confidence < least:
        return f"confidence {diagnosis.confidence:.0%} is below {least:.0%}"
    return None


def _is_asked(action: Action, environment: str, policy: Policy) -> bool:
    rule = rule_for(action.risk, environment, policy)
    return rule is not None and rule.auto and action.risk in MAY_BE_AUTOMATIC


def _is_decided(action: Action) -> bool:
    return action.status != "proposed" or bool(action.approvals) or action.rejected_by is not None
