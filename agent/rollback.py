"""Undoing an applied action: put back what was captured before the first write."""

from agent.context import Context
from agent.incident import Action, TargetIdentity
from agent.true_names import as_far_as_found
from agent.work import Stopped, Work, as_stored, captured, disconnect, identify, save, work_on
from tools.connection import CommandFailure, Connection


async def roll_back(context: Context, action: Action) -> Action:
    """Put back what was captured. Repeatable: every undo looks before it writes.

    An action that was never applied, or is finished, comes back as it is.
    """
    action = await as_stored(context, action)
    if action.status not in ("applied", "rolling_back"):
        return action
    connection: Connection | None = None
    try:
        work = work_on(context, action)
        connection = await context.open_for_remedies()
        action = await _prepare_undo(work, connection)
        args = await as_far_as_found(work.args, connection)
        operation = await work.operation(undoing=True)
        undone = await work.remedy.undo(connection, args, captured(action), operation)
    except (Stopped, CommandFailure) as failure:
        return await save(
            context, action, status="rollback_failed", comment=f"not undone completely: {failure}"
        )
    finally:
        if connection is not None:
            await connection.close()
    outcome = action.outcome | {"undone": undone}
    why = action.comment or "rolled back on request"
    ending = undone.get("nothing_to_put_back")
    comment = f"{why}; nothing to put back: {ending}" if ending else f"{why}; undone"
    return await save(context, action, status="rolled_back", outcome=outcome, comment=comment)


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
