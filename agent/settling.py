"""The end of a write: applied; or, where its outcome is not known, what the target says about it.

Nothing here changes the target, except that whoever wrote before is disconnected.
"""

import asyncio
import time
from datetime import datetime
from typing import Any, Literal

from agent.incident import Action, ActionStatus, TargetIdentity
from agent.true_names import as_far_as_found
from agent.work import (
    Work,
    as_stored,
    counted,
    disconnect_earlier,
    identify,
    in_words,
    patiently,
    save,
    stays_itself,
)
from tools.connection import CommandFailure, Connection

Settled = Literal["applied", "not_applied", "unknown"]
ASK_AGAIN_SECONDS = 2.0
"""Between two looks at a target that may still come to show a change."""


async def applied(work: Work, intent: dict[str, Any], done: dict[str, Any], comment: str) -> Action:
    """Keep that it was carried out."""
    outcome = _outcome(work, intent, done)
    return await save(
        work.context,
        work.action,
        settles=outcome,
        status="applied",
        outcome=outcome,
        comment=comment,
    )


async def settle(work: Work, because: str) -> Action:
    """What does the target say about the open intent? Never writes again."""
    intent = await work.context.journal.intent(work.action.id)
    if intent is None:  # we were frozen, and whoever came after us settled it
        return await as_stored(work.context, work.action)
    settled, identity, why_not = await _until_known(work, intent)
    because += f"; {why_not}" if why_not else ""
    return await keep(work, settled, because, None if stays_itself(work.remedy) else identity)


async def keep(
    work: Work, settled: Settled, because: str, identity: TargetIdentity | None = None
) -> Action:
    """End the open intent as it was settled. `identity`: whose the effect is, if another's by now.

    What a remedy had noted before it was cut off is kept, and said.
    """
    intent = await work.context.journal.intent(work.action.id)
    if intent is None:
        return await as_stored(work.context, work.action)
    done: dict[str, Any] = intent.get("progress") or {}
    if settled == "not_applied" and counted(done):
        settled = "unknown"  # what was done is not there any more: somebody else was at it
    if counted(done):
        done |= {"stopped_because": done.get("stopped_because") or because}
        because += f"; {in_words(done)}"
    if settled == "applied":
        if identity is not None:
            intent |= {"identity": identity.model_dump()}
        return await applied(work, intent, done, f"settled by reading the target: {because}")
    status: ActionStatus = "failed" if settled == "not_applied" else "outcome_unknown"
    ending = "the target shows no effect" if settled == "not_applied" else "a person has to look"
    return await save(
        work.context,
        work.action,
        settles={"settled": settled, "because": because},
        status=status,
        outcome=_outcome(work, intent, done),
        comment=f"{because}; {ending}",
    )


def _outcome(work: Work, intent: dict[str, Any], done: dict[str, Any]) -> dict[str, Any]:
    known = {"before": intent["captured"], "done": done, "identity": intent["identity"]}
    seen: dict[str, Any] = intent.get("seen", {})
    return work.action.outcome | seen | known


async def _until_known(work: Work, intent: dict[str, Any]) -> tuple[Settled, TargetIdentity, str]:
    """Its answer, who it is by now, and why it could not be asked."""
    until = datetime.fromisoformat(intent["at"]).timestamp() + work.remedy.patience(work.args)
    while True:
        settled, identity, why_not = await _answer(work, intent)
        left = until - time.time()
        if settled != "unknown" or left <= 0:
            return settled, identity, why_not
        await asyncio.sleep(min(ASK_AGAIN_SECONDS, left))
        done = intent.get("progress") or {}
        if stop := await work.context.journal.note_progress(work.action.id, done):
            return "unknown", identity, f"nobody waits for it any more: {stop}"


async def _answer(work: Work, intent: dict[str, Any]) -> tuple[Settled, TargetIdentity, str]:
    try:
        return *await patiently(lambda: _open_and_ask(work, intent)), ""
    except CommandFailure as failure:
        return "unknown", TargetIdentity(), f"settling failed: {failure}"


async def _open_and_ask(work: Work, intent: dict[str, Any]) -> tuple[Settled, TargetIdentity]:
    connection = await work.context.open_for_remedies()
    try:
        identity = await identify(connection)
        return await _ask(work, connection, identity, intent), identity
    finally:
        await connection.close()


async def _ask(
    work: Work, connection: Connection, now: TargetIdentity, intent: dict[str, Any]
) -> Settled:
    # First of all: what it had under way must not arrive after the look.
    await disconnect_earlier(connection, now, intent)
    then = TargetIdentity.model_validate(intent["identity"])
    if stays_itself(work.remedy) and (now.run_id, now.role) != (then.run_id, then.role):
        return "unknown"  # what another server shows says nothing about the write
    args = await as_far_as_found(work.args, connection)
    known = intent["captured"] | {"done": intent.get("progress") or {}}
    return await work.remedy.settle(connection, args, known)
