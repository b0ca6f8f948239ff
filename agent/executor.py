"""Applying an approved action: at most once, verified on the live server, else undone.

Order: re-read the decision, check who the target is, re-check the preconditions, capture the undo,
write the intent ahead (with our CLIENT ID), write to the server, write the outcome. A run that was
cut off between the last three is settled by reading the target, never by applying again.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ValidationError

from agent.context import Context
from agent.incident import Action, ActionStatus, TargetIdentity, fingerprint
from agent.policy import decide
from agent.redaction import redact
from agent.true_names import as_far_as_found, with_true_names
from tools.catalogue import Arguments
from tools.connection import CommandFailure, Connection, read_info
from tools.remedies.catalogue import REMEDIES
from tools.remedies.remedy import Remedy, Verification

HOLD_SECONDS = 3.0
"""How long an effect must last to count as verified."""
PROBE_SECONDS = 1.0

Settled = Literal["applied", "not_applied", "unknown"]


class Stopped(Exception):
    """The action ends here, in this status and for this reason."""

    def __init__(self, status: ActionStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Work:
    """One action being carried out."""

    context: Context
    action: Action
    remedy: Remedy[Any]
    args: Arguments


async def identify(connection: Connection) -> TargetIdentity:
    """Which process in which role with which data answers here. Raises CommandFailure."""
    info = await read_info(connection, "server", "replication")
    return TargetIdentity(
        run_id=info.get("run_id", "unknown"),
        role=info.get("role", "unknown"),
        replication_id=info.get("master_replid", "unknown"),
    )


async def apply(context: Context, action: Action) -> Action:
    """Carry out an approved action, once. Returns it as it stands afterwards.

    A proposed, rejected or finished action comes back as it is.
    """
    action = await _as_stored(context, action)
    if action.status not in ("approved", "applying"):
        return action
    pending = await context.journal.intent(action.id)
    try:
        work = _work(context, action)
        if pending is not None:
            return await _settle(work, pending, "an earlier run was interrupted")
        _must_be_approved(work)
        return await _open_and_apply(work)
    except Stopped as stopped:
        return await _save(context, action, status=stopped.status, comment=stopped.reason)


async def _open_and_apply(work: Work) -> Action:
    try:
        connection = await work.context.open_for_remedies()
    except CommandFailure as failure:
        raise Stopped("failed", f"nothing was written: {failure}") from None
    try:
        return await _apply(work, connection)
    finally:
        await connection.close()


async def _apply(work: Work, connection: Connection) -> Action:
    journal, action = work.context.journal, work.action
    try:
        identity = await identify(connection)
        _must_be_the_same(action, identity)
        work = replace(work, args=await with_true_names(work.args, connection))
        await _must_still_hold(work, connection)
        captured = await work.remedy.capture(connection, work.args)
        client_id = await connection.execute("CLIENT", "ID")
    except CommandFailure as failure:
        raise Stopped(
            "lapsed", f"could not be re-checked, nothing was written: {failure}"
        ) from None
    intent = {
        "captured": captured,
        "client_id": client_id,
        "identity": identity.model_dump(),
        "at": datetime.now(UTC).isoformat(),
    }
    action = await _save(work.context, action, status="applying", comment="")
    await journal.note_intent(action.id, intent)
    try:
        done = await work.remedy.apply(connection, work.args, captured)
    except CommandFailure as failure:
        # An error reply or a lost link: only the target knows how much of it was done.
        return await _settle(work, intent, str(failure))
    return await _applied(work, intent, done, "")


async def _applied(
    work: Work, intent: dict[str, Any], done: dict[str, Any], comment: str
) -> Action:
    outcome = {"before": intent["captured"], "done": done, "identity": intent["identity"]}
    # Status first: were the outcome noted alone, a crash here would look like "not yet applied".
    action = await _save(
        work.context, work.action, status="applied", outcome=outcome, comment=comment
    )
    await work.context.journal.note_outcome(action.id, outcome)
    return action


async def _settle(work: Work, intent: dict[str, Any], because: str) -> Action:
    """What does the target say about a write whose outcome is not known? Never writes again."""
    settled: Settled = "unknown"
    connection: Connection | None = None
    try:
        connection = await work.context.open_for_remedies()
        settled = await _ask_target(work, connection, intent)
    except CommandFailure as failure:
        because = f"{because}; settling failed: {failure}"
    finally:
        if connection is not None:
            await connection.close()
    if settled == "applied":
        return await _applied(work, intent, {}, f"settled by reading the target: {because}")
    status: ActionStatus = "failed" if settled == "not_applied" else "outcome_unknown"
    ending = "the target shows no effect" if settled == "not_applied" else "a person has to look"
    action = await _save(work.context, work.action, status=status, comment=f"{because}; {ending}")
    await work.context.journal.note_outcome(action.id, {"settled": settled, "because": because})
    return action


async def _ask_target(work: Work, connection: Connection, intent: dict[str, Any]) -> Settled:
    identity = await identify(connection)
    if identity.run_id == intent["identity"]["run_id"]:
        # Redis checks no fencing token: whoever wrote before must not write any more.
        await _disconnect(connection, intent["client_id"])
    elif identity.replication_id != intent["identity"]["replication_id"]:
        return "unknown"  # another server: what it shows says nothing about the write
    args = await as_far_as_found(work.args, connection)
    return await work.remedy.settle(connection, args, intent["captured"])


async def _disconnect(connection: Connection, client_id: object) -> None:
    if not isinstance(client_id, int):
        return
    try:
        await connection.execute("CLIENT", "KILL", "ID", client_id)
    except CommandFailure as failure:
        if "no such client" not in failure.failed.lower():
            raise


async def verify(context: Context, action: Action, *, hold_seconds: float | None = None) -> Action:
    """Read the live server until the effect has lasted. Not helped: `rolling_back`, for roll_back.

    Only an `applied` action is verified; any other comes back as it is.
    """
    action = await _as_stored(context, action)
    if action.status != "applied":
        return action
    hold = HOLD_SECONDS if hold_seconds is None else hold_seconds
    try:
        work = _work(context, action)
        _must_be_as_applied(action, await identify(context.connection))
        verification = await _watch(work, hold)
        _must_be_as_applied(action, await identify(context.connection))
    except Stopped as stopped:
        return await _save(context, action, status="outcome_unknown", comment=stopped.reason)
    except CommandFailure as failure:
        reason = f"applied, but its effect cannot be read: {failure}"
        return await _save(context, action, status="outcome_unknown", comment=reason)
    outcome = action.outcome | {"after": verification.measured}
    status: ActionStatus = "verified" if verification.helped else "rolling_back"
    if verification.helped is None:
        status = "outcome_unknown"
    return await _save(
        context, action, status=status, outcome=outcome, comment=verification.because
    )


async def _watch(work: Work, hold: float) -> Verification:
    """The judgement at the end of the hold; an effect may take a moment to show."""
    connection = work.context.connection
    captured = _captured(work.action)
    left = hold
    args = await as_far_as_found(work.args, connection)
    verification = await work.remedy.verify(connection, args, captured)
    while left > 0:
        step = min(PROBE_SECONDS, left)
        await connection.wait(step)
        left -= step
        verification = await work.remedy.verify(connection, args, captured)
    return verification


async def roll_back(context: Context, action: Action) -> Action:
    """Put back what was captured. Repeatable: every undo looks before it writes.

    An action that was never applied, or is finished, comes back as it is.
    """
    action = await _as_stored(context, action)
    if action.status not in ("applied", "rolling_back"):
        return action
    connection: Connection | None = None
    try:
        work = _work(context, action)
        connection = await context.open_for_remedies()
        action = await _prepare_undo(work, connection)
        args = await as_far_as_found(work.args, connection)
        undone = await work.remedy.undo(connection, args, _captured(action))
    except (Stopped, CommandFailure) as failure:
        return await _save(
            context, action, status="rollback_failed", comment=f"not undone completely: {failure}"
        )
    finally:
        if connection is not None:
            await connection.close()
    outcome = action.outcome | {"undone": undone}
    why = action.comment or "rolled back on request"
    ending = undone.get("nothing_to_put_back")
    comment = f"{why}; nothing to put back: {ending}" if ending else f"{why}; undone"
    return await _save(context, action, status="rolled_back", outcome=outcome, comment=comment)


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
        await _disconnect(connection, earlier)
    client_id = await connection.execute("CLIENT", "ID")
    outcome = work.action.outcome | {"undo_client_id": client_id}
    return await _save(work.context, work.action, status="rolling_back", outcome=outcome)


def _must_be_as_applied(action: Action, identity: TargetIdentity) -> None:
    """What another server shows, or this one since a restart, says nothing about the effect."""
    applied_on = TargetIdentity.model_validate(action.outcome["identity"])
    if (identity.run_id, identity.role) != (applied_on.run_id, applied_on.role):
        reason = f"run {identity.run_id[:12]}, {identity.role}, answers now: the target restarted, "
        raise Stopped("outcome_unknown", f"applied, but {reason}failed over or was replaced since")


def _captured(action: Action) -> dict[str, Any]:
    captured: dict[str, Any] = action.outcome["before"]
    return captured | {"done": action.outcome.get("done", {})}


async def _as_stored(context: Context, action: Action) -> Action:
    """The decision of people is in the journal, not in what a caller hands over."""
    incident = await context.journal.incident()
    return next((known for known in incident.plan.actions if known.id == action.id), action)


def _work(context: Context, action: Action) -> Work:
    remedy = REMEDIES.get(action.kind)
    if remedy is None or not remedy.executable:
        raise Stopped("failed", f"'{action.kind}' is not a remedy that can be applied")
    try:
        return Work(context, action, remedy, remedy.args.model_validate(action.arguments))
    except ValidationError as error:
        raise Stopped("failed", f"its arguments do not fit: {error.error_count()} errors") from None


def _must_be_approved(work: Work) -> None:
    action = work.action
    environment, policy = work.context.target.environment, work.context.policy
    decision = decide(action, action.approvals, environment, now=datetime.now(UTC), policy=policy)
    if not decision.allowed:
        raise Stopped("lapsed", decision.reason)


def _must_be_the_same(action: Action, identity: TargetIdentity) -> None:
    if identity.run_id == "unknown":
        raise Stopped("lapsed", "the target does not say which process it is (INFO run_id)")
    if fingerprint(action.kind, action.arguments, identity, action.evidence) != action.fingerprint:
        raise Stopped(
            "lapsed",
            "the target is not the one that was approved: it restarted, failed over or was "
            f"replaced (now run {identity.run_id[:12]}, {identity.role})",
        )


async def _must_still_hold(work: Work, connection: Connection) -> None:
    checks = await work.remedy.preconditions(connection, work.args)
    broken = [
        f"{check.text}: {'not measured' if check.holds is None else 'no'} ({check.because})"
        for check in checks
        if check.holds is not True
    ]
    if broken:
        raise Stopped("lapsed", "; ".join(broken))


async def _save(context: Context, action: Action, **changes: Any) -> Action:
    """Keep the action with these changes."""
    if "comment" in changes:  # it may quote a name as the server has it
        changes["comment"] = redact(changes["comment"])
    action = action.model_copy(update=changes)
    await context.journal.save_action(action)
    return action
