"""Did an applied action help, and did it make nothing worse? Watched until the hold is over."""

from datetime import UTC, datetime, timedelta
from typing import Any

from agent import relook
from agent.context import Context
from agent.hold import Watched, after_the_write, yardstick
from agent.hold import hold_seconds as hold_of
from agent.incident import Action, ActionStatus, TargetIdentity
from agent.true_names import as_far_as_found
from agent.work import Stopped, Work, as_stored, captured, identify, save, work_on
from tools.connection import CommandFailure
from tools.pulse import Pulse
from tools.remedies.remedy import Verification


async def verify(context: Context, action: Action, *, hold_seconds: float | None = None) -> Action:
    """Watch the live server. Not helped, or something got worse: `rolling_back`, for roll_back.

    `hold_seconds`: instead of the policy's and the remedy's own. Only an `applied` action is
    verified; any other comes back as it is. A run that was cut off begins its hold again, against
    the baseline from before the write.
    """
    action = await as_stored(context, action)
    if action.status != "applied":
        return action
    try:
        work = work_on(context, action)
        hold = hold_seconds
        if hold is None:
            hold = hold_of(work.remedy, context.target.environment, context.policy)
        _must_be_as_applied(action, await identify(context.connection))
        watched = await _watch(work, hold)
        if watched.found:
            return await _worse(work, watched)
        args = await as_far_as_found(work.args, context.connection)
        judged = await work.remedy.verify(context.connection, args, captured(action))
        _must_be_as_applied(action, await identify(context.connection))
    except Stopped as stopped:
        return await save(context, action, status="outcome_unknown", comment=stopped.reason)
    except CommandFailure as failure:
        reason = f"applied, but its effect cannot be read: {failure}"
        return await save(context, action, status="outcome_unknown", comment=reason)
    return await _judged(work, watched, judged)


async def _watch(work: Work, hold: float) -> Watched:
    action, journal = work.action, work.context.journal

    async def tell(seconds: float, how: str) -> None:
        told = {"action": action.id, "held_seconds": round(seconds, 1), "hold_seconds": hold}
        await journal.event("status", {"status": "verifying", "so_far": how} | told)

    await tell(0.0, "it is watched from now on")

    def must_be(pulse: Pulse) -> None:
        _must_be_as_applied(action, TargetIdentity(run_id=pulse.run_id, role=pulse.role))

    return await after_the_write(
        work.context.connection,
        yardstick(action.outcome),
        work.remedy.disturbs(work.args),
        hold,
        must_be=must_be,
        tell=tell,
    )


async def _worse(work: Work, watched: Watched) -> Action:
    action = work.action
    outcome = action.outcome | watched.outcome(yardstick(action.outcome))
    worse = "; ".join(regression.because for regression in watched.found)
    comment = f"{watched.seconds:.0f} s after the write something got worse: {worse}"
    return await save(work.context, action, status="rolling_back", outcome=outcome, comment=comment)


async def _judged(work: Work, watched: Watched, judged: Verification) -> Action:
    context, action = work.context, work.action
    outcome: dict[str, Any] = action.outcome | watched.outcome(yardstick(action.outcome))
    outcome |= {"remedy": judged.measured}
    comment = judged.because
    status: ActionStatus = "verified" if judged.helped else "rolling_back"
    if judged.helped is None:
        status = "outcome_unknown"
    if judged.helped:
        if judged.effect_within_seconds is not None:
            by = datetime.now(UTC) + timedelta(seconds=judged.effect_within_seconds)
            outcome["expected_by"] = f"{by:%Y-%m-%d %H:%M} UTC"
        again = await relook.look_again(context, action)
        outcome |= again
        if heard := relook.said(again.get("signals", {})):
            comment = f"{comment}; {heard}"
    return await save(context, action, status=status, outcome=outcome, comment=comment)


def _must_be_as_applied(action: Action, identity: TargetIdentity) -> None:
    """What another server shows, or this one since a restart, says nothing about the effect."""
    applied_on = TargetIdentity.model_validate(action.outcome["identity"])
    if (identity.run_id, identity.role) != (applied_on.run_id, applied_on.role):
        reason = f"run {identity.run_id[:12]}, {identity.role}, answers now: the target restarted, "
        raise Stopped("outcome_unknown", f"applied, but {reason}failed over or was replaced since")
