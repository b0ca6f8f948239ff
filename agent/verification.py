"""Did an applied action help? Read from the live server until the effect has lasted."""

from agent.context import Context
from agent.incident import Action, ActionStatus, TargetIdentity
from agent.true_names import as_far_as_found
from agent.work import Stopped, Work, as_stored, captured, identify, save, work_on
from tools.connection import CommandFailure
from tools.remedies.remedy import Verification

HOLD_SECONDS = 3.0
"""How long an effect must last to count as verified."""
PROBE_SECONDS = 1.0


async def verify(context: Context, action: Action, *, hold_seconds: float | None = None) -> Action:
    """Read the live server until the effect has lasted. Not helped: `rolling_back`, for roll_back.

    Only an `applied` action is verified; any other comes back as it is.
    """
    action = await as_stored(context, action)
    if action.status != "applied":
        return action
    hold = HOLD_SECONDS if hold_seconds is None else hold_seconds
    try:
        work = work_on(context, action)
        _must_be_as_applied(action, await identify(context.connection))
        verification = await _watch(work, hold)
        _must_be_as_applied(action, await identify(context.connection))
    except Stopped as stopped:
        return await save(context, action, status="outcome_unknown", comment=stopped.reason)
    except CommandFailure as failure:
        reason = f"applied, but its effect cannot be read: {failure}"
        return await save(context, action, status="outcome_unknown", comment=reason)
    outcome = action.outcome | {"after": verification.measured}
    status: ActionStatus = "verified" if verification.helped else "rolling_back"
    if verification.helped is None:
        status = "outcome_unknown"
    return await save(context, action, status=status, outcome=outcome, comment=verification.because)


async def _watch(work: Work, hold: float) -> Verification:
    """The judgement at the end of the hold; an effect may take a moment to show."""
    connection = work.context.connection
    before = captured(work.action)
    left = hold
    args = await as_far_as_found(work.args, connection)
    verification = await work.remedy.verify(connection, args, before)
    while left > 0:
        step = min(PROBE_SECONDS, left)
        await connection.wait(step)
        left -= step
        verification = await work.remedy.verify(connection, args, before)
    return verification


def _must_be_as_applied(action: Action, identity: TargetIdentity) -> None:
    """What another server shows, or this one since a restart, says nothing about the effect."""
    applied_on = TargetIdentity.model_validate(action.outcome["identity"])
    if (identity.run_id, identity.role) != (applied_on.run_id, applied_on.role):
        reason = f"run {identity.run_id[:12]}, {identity.role}, answers now: the target restarted, "
        raise Stopped("outcome_unknown", f"applied, but {reason}failed over or was replaced since")
