"""One action being carried out: what apply, verify and roll back have in common."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from agent.context import Context
from agent.incident import CALLS_PEOPLE, Action, ActionStatus, TargetIdentity
from agent.policy import Hold, held
from agent.redaction import redact
from tools.catalogue import Arguments
from tools.connection import CommandFailure, Connection, read_info
from tools.remedies.catalogue import REMEDIES
from tools.remedies.operation import Operation
from tools.remedies.remedy import Remedy


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

    async def operation(self, *, undoing: bool = False) -> Operation:
        """What the remedy has at hand while it writes; its progress is kept in the journal.

        An undo goes on to its end, whoever asked the remedy to stop and whatever is frozen since.
        """
        action, journal = self.action, self.context.journal
        incident = await journal.incident()

        async def note(done: dict[str, Any]) -> str:
            stop = await journal.note_progress(action.id, done)
            if undoing:
                return ""
            hold = None if stop else await hold_on(self.context, action)
            return hold.reason if hold else stop

        return Operation(
            id=f"{incident.id}-{incident.attempt}-{action.id}",
            note=note,
            backups=self.context.backups,
            resize_hook=self.context.resize_hook,
            reopen=self.context.open_for_remedies,
        )


async def hold_on(context: Context, action: Action) -> Hold | None:
    """Must it wait now: for a freeze to end, or a maintenance window to begin?"""
    return held(
        action,
        context.target.name,
        context.target.environment,
        datetime.now(UTC),
        policy=context.policy,
        freezes=await context.journal.freezes(),
    )


async def identify(connection: Connection) -> TargetIdentity:
    """Which process in which role with which data answers here. Raises CommandFailure."""
    info = await read_info(connection, "server", "replication")
    return TargetIdentity(
        run_id=info.get("run_id", "unknown"),
        role=info.get("role", "unknown"),
        replication_id=info.get("master_replid", "unknown"),
    )


async def as_stored(context: Context, action: Action) -> Action:
    """The decision of people is in the journal, not in what a caller hands over."""
    incident = await context.journal.incident()
    return next((known for known in incident.plan.actions if known.id == action.id), action)


def work_on(context: Context, action: Action) -> Work:
    """The action with its remedy and typed arguments. Raises Stopped."""
    remedy = REMEDIES.get(action.kind)
    if remedy is None or not remedy.executable:
        raise Stopped("failed", f"'{action.kind}' is not a remedy that can be applied")
    try:
        return Work(context, action, remedy, remedy.args.model_validate(action.arguments))
    except ValidationError as error:
        raise Stopped("failed", f"its arguments do not fit: {error.error_count()} errors") from None


def missing_for(remedy: Remedy[Any], context: Context) -> list[str]:
    """What it needs and what is not configured here."""
    has = {"backups": context.backups, "resize_hook": context.resize_hook}
    return sorted(need for need in remedy.needs if has[need] is None)


async def disconnect(connection: Connection, client_id: object) -> None:
    """Redis checks no fencing token: whoever wrote before must not write any more."""
    if not isinstance(client_id, int):
        return
    try:
        await connection.execute("CLIENT", "KILL", "ID", client_id)
    except CommandFailure as failure:
        if "no such client" not in failure.failed.lower():
            raise


def captured(action: Action) -> dict[str, Any]:
    """What undo and verification need: what was there before, what was done, what was undone."""
    captured: dict[str, Any] = action.outcome["before"]
    return captured | {name: action.outcome.get(name, {}) for name in ("done", "undone")}


async def save(context: Context, action: Action, **changes: Any) -> Action:
    """Keep the action with these changes. What a person has to look at now pages first.

    First, since a page that comes twice after a crash is better than none.
    """
    if "comment" in changes:  # it may quote a name as the server has it
        changes["comment"] = redact(changes["comment"])
    action = action.model_copy(update=changes)
    if changes.get("status") in CALLS_PEOPLE:
        how = action.status.replace("_", " ")
        reason = f"{context.target.name}: {action.id} ({action.title}): {how}: {action.comment}"
        await context.journal.page(redact(reason))
    await context.journal.save_action(action)
    return action
