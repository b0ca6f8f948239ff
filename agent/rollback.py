"""Undoing an applied action: put back what was captured before the first write, and look."""

from typing import Any

from agent.context import Context
from agent.hold import CALM_LOOKS, Watched, after_the_undo, hold_seconds, unseen, yardstick
from agent.incident import Action, TargetIdentity
from agent.true_names import as_far_as_found
from agent.work import Stopped, Work, as_stored, captured, disconnect, identify, save, work_on
from tools.connection import CommandFailure, Connection
from tools.pulse import Pulse


async def roll_back(
    context: Context, action: Action, *, watch_seconds: float | None = None
) -> Action:
    """Put back what was captured, and verify it. Repeatable: every undo looks before it writes.

    `watch_seconds`: the longest wait for the server to be as before, instead of the hold's. An
    action that was never applied, or is finished, comes back as it is.
    """
    action = await as_stored(context, action)
    if action.status not in ("applied", "rolling_back"):
        return action
    why = action.comment or "rolled back on request"
    connection: Connection | None = None
    try:
        work = work_on(context, action)
        connection = await context.open_for_remedies()
        action = await _prepare_undo(work, connection)
        args = await as_far_as_found(work.args, connection)
        operation = await work.operation(undoing=True)
        undone = await work.remedy.undo(connection, args, captured(action), operation)
        action = action.model_copy(update={"outcome": action.outcome | {"undone": undone}})
        if work.remedy.restarts:  # the connection ended with the process
            await connection.close()
            connection = await context.open_for_remedies()
        if not undone.get("nothing_to_put_back"):
            await _must_be_undone(work, connection, action)
    except (Stopped, CommandFailure) as failure:
        comment = f"{why}; not undone completely: {failure}"
        undo = {"verified": False, "because": str(failure)}
        outcome = action.outcome | {"undo": undo}
        return await save(
            context, action, status="rollback_failed", outcome=outcome, comment=comment
        )
    finally:
        if connection is not None:
            await connection.close()
    return await _ended(work, action, why, watch_seconds)


async def _ended(work: Work, action: Action, why: str, watch_seconds: float | None) -> Action:
    """Undone is what the server shows, not what was sent to it."""
    ending = action.outcome["undone"].get("nothing_to_put_back")
    undone = f"nothing to put back: {ending}" if ending else "undone, and verified on the server"
    undo: dict[str, Any] = {"verified": True, "because": undone}
    before = yardstick(action.outcome)
    try:
        watched = await _watch(work, before, watch_seconds)
        undo["after"] = watched.outcome(before)["after"]
        worse = "; ".join(regression.because for regression in watched.found)
        wrong = f"still worse than before: {worse}" if worse else ""
        if not worse and (missing := unseen(watched.pulses[-1 - CALM_LOOKS :], _was_worse(action))):
            undone += f"; not measured again: {', '.join(missing)}"
            undo |= {"verified": None, "because": undone}
    except CommandFailure as failure:
        wrong = f"whether the server is as before cannot be read: {failure}"
    if wrong:
        undo |= {"verified": False, "because": wrong}
    return await save(
        work.context,
        action,
        status="rollback_failed" if wrong else "rolled_back",
        outcome=action.outcome | {"undo": undo},
        comment=f"{why}; {undone}" + (f", but {wrong}" if wrong else ""),
    )


async def _watch(work: Work, before: list[Pulse], seconds: float | None) -> Watched:
    context = work.context
    if seconds is None:
        seconds = hold_seconds(work.remedy, context.target.environment, context.policy)
    disturbs = work.remedy.disturbs(work.args)
    return await after_the_undo(
        context.connection,
        before,
        disturbs,
        seconds if before else 0.0,
        was_worse=_was_worse(work.action),
    )


def _was_worse(action: Action) -> list[str]:
    return [regression["metric"] for regression in action.outcome.get("regressions", [])]


async def _must_be_undone(work: Work, connection: Connection, action: Action) -> None:
    args = await as_far_as_found(work.args, connection)
    verified = await work.remedy.verify_undo(
        connection, args, captured(action) | {"undone": action.outcome["undone"]}
    )
    if verified.helped is not True:
        raise Stopped("rollback_failed", verified.because)


async def _prepare_undo(work: Work, connection: Connection) -> Action:
    """The same server as then, no earlier undo still writing, and our CLIENT ID on record."""
    applied_on = TargetIdentity.model_validate(work.action.outcome["identity"])
    identity = await identify(connection)
    same_process = identity.run_id == applied_on.run_id
    # A primary's replication id changes when its first replica attaches; a restart keeps it only
    # where the data was kept.
    same_data = same_process or identity.replication_id == applied_on.replication_id
    if identity.role != applied_on.role or not same_data:
        reason = "the target is another server now, or changed its role, since it was applied"
        raise Stopped("rollback_failed", reason)
    earlier = work.action.outcome.get("undo_client_id")
    if same_process:
        await disconnect(connection, earlier)
    client_id = await connection.execute("CLIENT", "ID")
    outcome = work.action.outcome | {"undo_client_id": client_id}
    return await save(work.context, work.action, status="rolling_back", outcome=outcome)
