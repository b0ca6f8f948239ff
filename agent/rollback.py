"""Undoing an applied action: put back what was captured before the first write, and look.

An undo is journaled as an action is: its intent with our CLIENT ID before it writes, its progress
between batches. Every undo looks before it writes, so one that was cut off is simply done again,
by whoever comes next, after disconnecting whoever was at it.
"""

from typing import Any

from agent.context import Context
from agent.hold import CALM_LOOKS, Watched, after_the_undo, hold_seconds, unseen, yardstick
from agent.incident import Action, TargetIdentity
from agent.true_names import as_far_as_found
from agent.work import (
    Stopped,
    Work,
    as_stored,
    captured,
    disconnect_earlier,
    identify,
    in_words,
    intent_of,
    must_be_as_noted,
    patiently,
    save,
    stays_itself,
    work_on,
)
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
    try:
        work = work_on(context, action)
        undone = await patiently(lambda: _undo(work))
        action = action.model_copy(update={"outcome": action.outcome | {"undone": undone}})
        if not undone.get("nothing_to_put_back"):
            await patiently(lambda: _must_be_undone(work, action))
    except (Stopped, CommandFailure) as failure:
        return await _failed(context, action, why, str(failure))
    return await _ended(work, action, why, watch_seconds)


async def _undo(work: Work) -> dict[str, Any]:
    """One try, on a connection of its own. Raises Stopped, CommandFailure."""
    connection = await work.context.open_for_remedies()
    try:
        intent = await _begin(work, connection)
        args = await as_far_as_found(work.args, connection)
        operation = await work.operation(connection, intent)
        known = captured(work.action) | {"undone": await _progress(work)}
        undone = await work.remedy.undo(connection, args, known, operation)
        if stays_itself(work.remedy):
            await must_be_as_noted(connection, intent)
        return undone
    finally:
        await connection.close()


async def _must_be_undone(work: Work, action: Action) -> None:
    """Read on another connection: the undo's may have ended with the process."""
    connection = await work.context.open_for_remedies()
    try:
        args = await as_far_as_found(work.args, connection)
        seen = await work.remedy.verify_undo(connection, args, captured(action))
        if seen.helped is not True:
            raise Stopped("rollback_failed", seen.because)
    finally:
        await connection.close()


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
        settles=undo,
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


async def _begin(work: Work, connection: Connection) -> dict[str, Any]:
    """The same server as then, no earlier undo still writing, and our CLIENT ID on record."""
    applied_on = TargetIdentity.model_validate(work.action.outcome["identity"])
    identity = await identify(connection)
    # A primary's replication id changes when its first replica attaches; a restart keeps it only
    # where the data was kept.
    same_data = applied_on.replication_id == identity.replication_id
    if identity.role != applied_on.role or not (same_data or identity.run_id == applied_on.run_id):
        reason = "the target is another server now, or changed its role, since it was applied"
        raise Stopped("rollback_failed", reason)
    for earlier in await work.context.journal.unsettled():
        await disconnect_earlier(connection, identity, earlier)
    intent = await intent_of("undo", connection, identity)
    await save(work.context, work.action, intent=intent, status="rolling_back")
    return intent


async def _progress(work: Work) -> dict[str, Any]:
    """What earlier tries of this undo are known to have put back."""
    intent = await work.context.journal.intent(work.action.id)
    return (intent or {}).get("progress") or {}


async def _failed(context: Context, action: Action, why: str, because: str) -> Action:
    """Its end. How far it came stands in the outcome, and in the page."""
    intent = await context.journal.intent(action.id)
    done = (intent or {}).get("progress") or {}
    far = f"; put back: {words}" if (words := in_words(done)) else ""
    undo = {"verified": False, "because": because}
    outcome = action.outcome | {"undo": undo} | ({"undone": done} if done else {})
    return await save(
        context,
        action,
        settles=undo,
        status="rollback_failed",
        outcome=outcome,
        comment=f"{why}; not undone completely: {because}{far}",
    )
