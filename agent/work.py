"""One action being carried out: what apply, verify and roll back have in common."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from agent.context import Context
from agent.incident import Action, ActionStatus, TargetIdentity
from agent.policy import Hold, held
from agent.redaction import redact
from tools.catalogue import Arguments
from tools.connection import CommandFailure, Connection, read_info
from tools.remedies.catalogue import REMEDIES
from tools.remedies.operation import Operation
from tools.remedies.remedy import Remedy

PATIENCE_SECONDS = 60.0
"""How long a target that cannot be reached is asked again before people are called."""
LONGEST_PAUSE_SECONDS = 5.0
_PASSES = frozenset(
    {"unreachable", "unresolvable", "timeout", "connection_lost", "maxclients", "loading", "busy"}
)
T = TypeVar("T")


class Stopped(Exception):
    """The action ends here, in this status and for this reason."""

    def __init__(self, status: ActionStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Strayed(CommandFailure):
    """The connection leads to another process, or the process has another role."""


@dataclass(frozen=True)
class Work:
    """One action being carried out."""

    context: Context
    action: Action
    remedy: Remedy[Any]
    args: Arguments

    async def operation(self, connection: Connection, intent: dict[str, Any]) -> Operation:
        """What the remedy has at hand while it writes.

        Between two batches its progress is kept in the journal, under a lease that is alive, and
        the target is looked at: another process or role ends it (CommandFailure). A request to
        stop, or a freeze, ends what is applied; an undo goes on to its end.
        """
        action, journal = self.action, self.context.journal
        incident = await journal.incident()

        async def note(done: dict[str, Any]) -> str:
            if stays_itself(self.remedy):  # first: a batch that strayed is not counted
                await must_be_as_noted(connection, intent)
            stop = await journal.note_progress(action.id, done) or self.context.stop_reason()
            if intent["phase"] == "undo":
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


def stays_itself(remedy: Remedy[Any]) -> bool:
    """Does the target that it writes to say who it is, before and after, and stay that?"""
    return not (remedy.restarts or remedy.while_busy)


async def identify(connection: Connection) -> TargetIdentity:
    """Which process in which role with which data answers here. Raises CommandFailure.

    Unknown, where a script blocks it: only what ends the script may go on then (`while_busy`).
    """
    try:
        info = await read_info(connection, "server", "replication")
    except CommandFailure as failure:
        if failure.kind == "busy":
            return TargetIdentity()
        raise
    return TargetIdentity(
        run_id=info.get("run_id", "unknown"),
        role=info.get("role", "unknown"),
        replication_id=info.get("master_replid", "unknown"),
    )


async def intent_of(
    phase: Literal["apply", "undo"], connection: Connection, identity: TargetIdentity, **more: Any
) -> dict[str, Any]:
    """What is journaled before the first write. Raises CommandFailure.

    Without a CLIENT ID that stays the same, whoever comes after us could not disconnect us.
    """
    at, who = datetime.now(UTC).isoformat(), identity.model_dump()
    if identity == TargetIdentity():  # a script blocks it: it could disconnect nobody either
        return {"phase": phase, "client_id": None, "identity": who, "at": at} | more
    ids = {await connection.execute("CLIENT", "ID") for _ in range(2)}
    if len(ids) != 1 or not isinstance(client_id := ids.pop(), int):
        because = "it changes from one command to the next: a proxy shares our connection"
        raise CommandFailure("error", "CLIENT ID", because)
    return {"phase": phase, "client_id": client_id, "identity": who, "at": at} | more


async def must_be_as_noted(connection: Connection, intent: dict[str, Any]) -> None:
    """The connection still leads to the process, in the role, that the intent names.

    Raises Strayed, CommandFailure.
    """
    then, now = TargetIdentity.model_validate(intent["identity"]), await identify(connection)
    client_id = await connection.execute("CLIENT", "ID")
    if (now.run_id, now.role, client_id) != (then.run_id, then.role, intent["client_id"]):
        failed = (
            "another server, or one in another role, answers since the last look: what was sent "
            f"last may have gone there (now run {now.run_id[:12]}, {now.role})"
        )
        raise Strayed("error", "look at the target after a write", failed)


async def disconnect_earlier(
    connection: Connection, identity: TargetIdentity, intent: dict[str, Any] | None
) -> None:
    """Redis checks no fencing token: whoever wrote before must not write any more.

    CLIENT IDs are given once by one process; another one has nothing of ours. Raises
    CommandFailure.
    """
    if intent is None or intent["client_id"] is None:
        return
    if intent["identity"]["run_id"] != identity.run_id:
        return
    try:
        await connection.execute("CLIENT", "KILL", "ID", intent["client_id"])
    except CommandFailure as failure:
        if "no such client" not in failure.failed.lower():
            raise


async def patiently(look: Callable[[], Awaitable[T]]) -> T:
    """Again and again, for a bounded time, while the target cannot be reached.

    Only for what may be repeated. Raises CommandFailure.
    """
    until, pause = time.monotonic() + PATIENCE_SECONDS, 0.25
    while True:
        try:
            return await look()
        except CommandFailure as failure:
            if failure.kind not in _PASSES or time.monotonic() + pause > until:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


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


def captured(action: Action) -> dict[str, Any]:
    """What undo and verification need: what was there before, what was done, what was undone."""
    captured: dict[str, Any] = action.outcome["before"]
    return captured | {name: action.outcome.get(name, {}) for name in ("done", "undone")}


def counted(done: dict[str, Any]) -> dict[str, int]:
    """The counts in what was done, without those that are zero."""
    return {name: n for name, n in done.items() if type(n) is int and n > 0}


def in_words(done: dict[str, Any]) -> str:
    """`at least 510 keys touched, 2 batches`; empty if nothing is known to be done."""
    parts = [f"{count:,} {name.replace('_', ' ')}" for name, count in counted(done).items()]
    return f"at least {', '.join(parts)}" if parts else ""


async def save(
    context: Context,
    action: Action,
    *,
    intent: dict[str, Any] | None = None,
    settles: dict[str, Any] | None = None,
    **changes: Any,
) -> Action:
    """Keep the action with these changes; with them its intent, or what it `settles` to."""
    if "comment" in changes:  # it may quote a name as the server has it
        changes["comment"] = redact(changes["comment"])
    action = action.model_copy(update=changes)
    await context.journal.save_action(action, intent=intent, outcome=settles)
    return action
