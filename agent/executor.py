"""Applying an approved action: at most once. What follows: `verification.py`, `rollback.py`.

Order: re-read the decision, check who the target is, watch it for a moment (the baseline), re-check
the preconditions, capture the undo, write the intent ahead (with our CLIENT ID), write to the
server, write the outcome. A run that was cut off between the last three is settled by reading the
target, never by applying again.
"""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from agent.context import Context
from agent.hold import before_the_write, hold_seconds
from agent.incident import Action, ActionStatus, TargetIdentity, fingerprint
from agent.policy import Hold, decide
from agent.true_names import as_far_as_found, with_true_names
from agent.work import (
    Stopped,
    Work,
    as_stored,
    disconnect,
    hold_on,
    identify,
    save,
    work_on,
)
from tools.connection import CommandFailure, Connection

Settled = Literal["applied", "not_applied", "unknown"]
ASK_AGAIN_SECONDS = 2.0
"""Between two looks at a target that may still come to show a change."""


async def apply(context: Context, action: Action) -> Action:
    """Carry out an approved action, once. Returns it as it stands afterwards.

    A proposed, rejected or finished action comes back as it is.
    """
    action = await as_stored(context, action)
    if action.status not in ("approved", "applying"):
        return action
    pending = await context.journal.intent(action.id)
    try:
        work = work_on(context, action)
        if pending is not None:
            return await _settle(work, pending, "an earlier run was interrupted")
        _must_be_approved(work)
        if (hold := await hold_on(context, action)) is not None:
            return await _put_off(work, hold)
        if context.policy.dry_run or action.dry_run:
            return await _rehearse(work)
        return await _open_and_apply(work)
    except Stopped as stopped:
        return await save(context, action, status=stopped.status, comment=stopped.reason)


async def _put_off(work: Work, hold: Hold) -> Action:
    """It stays approved, and is looked at again when the time has come; or it cannot be in time."""
    expires = work.action.expires_at
    if hold.until is None or (expires is not None and hold.until >= expires):
        raise Stopped("lapsed", f"{hold.reason}; the approval expires before")
    return await save(
        work.context,
        work.action,
        status="approved",
        not_before=hold.until,
        comment=f"waits: {hold.reason}",
    )


async def _rehearse(work: Work) -> Action:
    """A dry run: all that comes before the first write, as the one who may only read."""
    connection = work.context.connection
    try:
        _must_be_the_same(work.action, await identify(connection))
        work = replace(work, args=await with_true_names(work.args, connection))
        await _must_still_hold(work, connection)
        preview = await work.remedy.preview(connection, work.args)
    except CommandFailure as failure:
        raise Stopped("lapsed", f"dry run, and it could not be re-checked: {failure}") from None
    sent = "; ".join(" ".join(command) for command in preview.commands) or "nothing"
    raise Stopped(
        "lapsed",
        "dry run, nothing was written: it is approved, its preconditions hold, and this would "
        f"have been sent: {sent}",
    )


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
        # Before the preconditions: nothing may come between those and the write.
        seen = await before_the_write(work.context.connection, _hold(work))
        _must_be_watched(seen, identity)
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
        "seen": seen,
    }
    action = await save(work.context, action, status="applying", comment="")
    await journal.note_intent(action.id, intent)
    try:
        operation = await work.operation()
        done = await work.remedy.apply(connection, work.args, captured, operation)
    except CommandFailure as failure:
        # An error reply or a lost link: only the target knows how much of it was done.
        return await _settle(work, await journal.intent(action.id) or intent, str(failure))
    if work.remedy.restarts:  # whoever carries it out is not believed
        return await _settle(work, intent | {"progress": done}, "it was ordered")
    return await _applied(work, intent, done, "")


async def _applied(
    work: Work, intent: dict[str, Any], done: dict[str, Any], comment: str
) -> Action:
    outcome = {"before": intent["captured"], "done": done, "identity": intent["identity"]}
    outcome |= intent.get("seen", {})
    # Status first: were the outcome noted alone, a crash here would look like "not yet applied".
    action = await save(
        work.context, work.action, status="applied", outcome=outcome, comment=comment
    )
    await work.context.journal.note_outcome(action.id, outcome)
    return action


async def _settle(work: Work, intent: dict[str, Any], because: str) -> Action:
    """What does the target say about a write whose outcome is not known? Never writes again."""
    # An intent of long ago is asked about once.
    begun = datetime.fromisoformat(intent["at"]).timestamp() if "at" in intent else 0.0
    until = begun + work.remedy.patience(work.args)
    settled, identity, failed = await _open_and_ask(work, intent)
    while settled == "unknown" and (left := until - time.time()) > 0:
        await asyncio.sleep(min(ASK_AGAIN_SECONDS, left))
        stop = await work.context.journal.note_progress(
            work.action.id, intent.get("progress") or {}
        )
        if stop:
            because = f"{because}; nobody waits for it any more: {stop}"
            break
        settled, identity, failed = await _open_and_ask(work, intent)
    if failed:
        because = f"{because}; settling failed: {failed}"
    if settled == "applied":
        if work.remedy.restarts:
            intent = intent | {"identity": identity.model_dump()}
        return await _applied(
            work, intent, intent.get("progress") or {}, f"settled by reading the target: {because}"
        )
    status: ActionStatus = "failed" if settled == "not_applied" else "outcome_unknown"
    ending = "the target shows no effect" if settled == "not_applied" else "a person has to look"
    action = await save(work.context, work.action, status=status, comment=f"{because}; {ending}")
    await work.context.journal.note_outcome(action.id, {"settled": settled, "because": because})
    return action


async def _open_and_ask(
    work: Work, intent: dict[str, Any]
) -> tuple[Settled, TargetIdentity, CommandFailure | None]:
    """What the target says, who it is by now, and why it could not be asked."""
    try:
        connection = await work.context.open_for_remedies()
    except CommandFailure as failure:
        return "unknown", TargetIdentity(), failure
    try:
        identity = await identify(connection)
        return await _ask_target(work, connection, identity, intent), identity, None
    except CommandFailure as failure:
        return "unknown", TargetIdentity(), failure
    finally:
        await connection.close()


async def _ask_target(
    work: Work, connection: Connection, identity: TargetIdentity, intent: dict[str, Any]
) -> Settled:
    if identity.run_id == intent["identity"]["run_id"]:
        await disconnect(connection, intent["client_id"])
    elif not (
        work.remedy.restarts or identity.replication_id == intent["identity"]["replication_id"]
    ):
        return "unknown"  # another server: what it shows says nothing about the write
    args = await as_far_as_found(work.args, connection)
    known = intent["captured"] | {"done": intent.get("progress") or {}}
    return await work.remedy.settle(connection, args, known)


def _must_be_watched(seen: dict[str, Any], identity: TargetIdentity) -> None:
    """Both identities must reach the same process: else nobody sees what the write does."""
    if any(pulse["run_id"] != identity.run_id for pulse in seen["yardstick"]["pulses"]):
        raise Stopped("lapsed", "url and remedy_url of the target lead to different servers")


def _hold(work: Work) -> float:
    return hold_seconds(work.remedy, work.context.target.environment, work.context.policy)


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
            "this is not what was approved: the target restarted, failed over or was replaced "
            f"(now run {identity.run_id[:12]}, {identity.role}), or the action was altered",
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
