"""Applying an approved action: at most once. What follows: `verification.py`, `rollback.py`.

Order: re-read the decision, check who the target is, watch it for a moment (the baseline), re-check
the preconditions, capture the undo, write the intent ahead (with our CLIENT ID), write to the
server, write the outcome. A run that was cut off between the last three is settled by reading the
target, never by applying again.

What is guaranteed about a failover: the process and its role are those of the approval when the
intent is written, between two batches and after the last, on the connection that writes. At most
one batch reaches another server behind a proxy, and that is never called applied. A batch under way
ends with the READONLY or the lost link it meets, and is settled. What a primary acknowledged and
lost by failing over afterwards is found by verification: another process or role answers then.
"""

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from agent.context import Context
from agent.hold import before_the_write, hold_seconds
from agent.incident import Action, TargetIdentity, fingerprint
from agent.policy import Hold, decide
from agent.prerequisites import must_have_proved_itself
from agent.settling import applied, keep, settle
from agent.true_names import with_true_names
from agent.work import (
    Stopped,
    Strayed,
    Work,
    as_stored,
    disconnect_earlier,
    hold_on,
    identify,
    intent_of,
    must_be_as_noted,
    save,
    stays_itself,
    work_on,
)
from tools.connection import CommandFailure, Connection
from tools.remedies.catalogue import REMEDIES

STALE_SECONDS = 10.0
"""Between the last look and the first write: who was frozen for longer looks again first."""


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
            return await settle(work, "an earlier run was interrupted")
        _must_be_approved(work)
        await must_have_proved_itself(work)
        if (hold := await hold_on(context, action)) is not None:
            return await _put_off(work, hold)
        if context.policy.dry_run or action.dry_run:
            return await _rehearse(work)
        return await _open_and_apply(work)
    except Stopped as stopped:
        settles = None if pending is None else {"settled": "unknown", "because": stopped.reason}
        return await save(
            context, action, settles=settles, status=stopped.status, comment=stopped.reason
        )


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
    journal = work.context.journal
    try:
        identity = await identify(connection)
        _must_be_the_same(work.action, identity)
        # The lease was another incident's before it was ours: its executor may only be frozen.
        for earlier in await journal.unsettled():
            await disconnect_earlier(connection, identity, earlier)
        # Before the preconditions: nothing may come between those and the write.
        seen = await before_the_write(work.context.connection, _hold(work))
        _must_be_watched(seen, identity)
        work = replace(work, args=await with_true_names(work.args, connection))
        await _must_still_hold(work, connection)
        captured = await work.remedy.capture(connection, work.args)
        intent = await intent_of("apply", connection, identity, captured=captured, seen=seen)
    except CommandFailure as failure:
        raise Stopped(
            "lapsed", f"could not be re-checked, nothing was written: {failure}"
        ) from None
    looked_at = time.monotonic()
    action = await save(work.context, work.action, intent=intent, status="applying", comment="")
    if time.monotonic() - looked_at > STALE_SECONDS:
        reason = f"nothing was written: more than {STALE_SECONDS:.0f} s passed since the last look"
        settles = {"settled": "not_applied", "because": reason}
        return await save(work.context, action, settles=settles, status="lapsed", comment=reason)
    try:
        operation = await work.operation(connection, intent)
        done = await work.remedy.apply(connection, work.args, captured, operation)
        if stays_itself(work.remedy):
            await must_be_as_noted(connection, intent)
    except Strayed as strayed:  # what the right server shows is not all there is
        return await keep(work, "unknown", str(strayed))
    except CommandFailure as failure:
        # An error reply or a lost link: only the target knows how much of it was done.
        return await settle(work, str(failure))
    if work.remedy.restarts:  # whoever carries it out is not believed
        await journal.note_progress(action.id, done)
        return await settle(work, "it was ordered")
    if work.remedy.while_busy:  # now it can say who it is
        intent |= {"identity": (await identify(connection)).model_dump()}
    return await applied(work, intent, done, "")


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
    remedy = REMEDIES.get(action.kind)
    if identity.run_id == "unknown" and not (remedy is not None and remedy.while_busy):
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
