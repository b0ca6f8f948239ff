"""The journal of a run, in SQL: durable when a method returns, fenced by the lease."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from agent.budget import USUAL_DAY, DayCaps
from agent.context import EventKind
from agent.exchange import total
from agent.incident import (
    NOTHING,
    Action,
    Diagnosis,
    EvidenceSummary,
    Incident,
    Plan,
    RunbookMatch,
    Status,
    Usage,
)
from agent.policy import AutoLimits
from agent.precedents import Earlier
from agent.windows import Window
from api.store import automatic, decisions, deeds, endings, freezes, incidents, pages, precedents
from api.store.database import Database
from api.store.events import publish
from api.store.exchanges import SqlLedger
from api.store.group_commit import GroupCommit
from api.store.leases import Lease, assert_held
from api.store.tables import ActionRow, EvidenceRow, IncidentRow, IntentRow
from tools.reading import Evidence

_PEOPLES = {"approvals", "rejected_by", "batch", "stop_requested", "not_before"}
"""What people decided has its own table; a run never writes it."""

MOST_UNSETTLED = 100
ASKED = 0
"""The attempt of evidence that a question in chat asked for."""


class Superseded(Exception):
    """A person closed the incident or started another attempt: this run has nothing to say."""


class ActionMoved(Exception):
    """The action is not the one the run read, or a person rejected it meanwhile."""


class _Look(NamedTuple):
    """A reading that is to become evidence."""

    columns: dict[str, Any]
    usage: Usage


class SqlJournal:
    """Implements `agent.context.Journal` for one incident, under one lease."""

    def __init__(
        self,
        database: Database,
        incident_id: str,
        attempt: int,
        lease: Lease,
        day: DayCaps = USUAL_DAY,
    ) -> None:
        self.ledger = SqlLedger(database, day, incident_id=incident_id, attempt=attempt)
        self._database = database
        self._id = incident_id
        self._attempt = attempt
        self.lease = lease
        self.writing = False
        """An intent of this run is noted, and its outcome is not: a target is being written to."""
        self._looks = GroupCommit[_Look, Evidence](database, self._keep)

    @asynccontextmanager
    async def _writing(
        self, *, acting: bool = False
    ) -> AsyncIterator[tuple[AsyncSession, IncidentRow]]:
        """A transaction under our lease; about to act on the target, under one that is alive."""
        async with self._database.writing() as session:
            yield session, await self._ours(session, acting=acting)

    async def _ours(self, session: AsyncSession, *, acting: bool = False) -> IncidentRow:
        """The incident, locked. Raises LeaseLost and Superseded."""
        alive_at = await self._database.clock(session) if acting else None
        await assert_held(session, self.lease, alive_at)
        deeds.by(session, "executor")
        row = await incidents.lock(session, self._id)
        if row.status == "closed" or row.attempt != self._attempt:
            raise Superseded(f"{row.id} is {row.status}, attempt {row.attempt}")
        return row

    async def incident(self) -> Incident:
        """The whole incident as it stands, decisions of people included."""
        async with self._database.reading() as session:
            return await incidents.load(session, self._id)

    async def add_evidence(
        self,
        tool: str,
        args: dict[str, Any],
        reading: dict[str, Any],
        *,
        measured: bool,
        node: str,
        summary: str,
        taken_at: datetime | None = None,
        usage: Usage = NOTHING,
    ) -> Evidence:
        """Keep a reading under the incident's next number, with others that come meanwhile."""
        columns = {
            "tool": tool, "args": args, "reading": reading, "measured": measured, "node": node,
            "summary": summary, "taken_at": taken_at or incidents.now(),
        }  # fmt: skip
        return await self._looks.commit(_Look(columns, usage))

    async def _keep(self, session: AsyncSession, looks: Sequence["_Look"]) -> list[Evidence]:
        row = await self._ours(session)
        kept = []
        for look in looks:
            row.last_evidence += 1
            part = EvidenceRow(
                incident_id=row.id,
                number=row.last_evidence,
                attempt=row.attempt,
                target=row.target,
                **look.columns,
            )
            session.add(part)
            kept.append(to_evidence(part))
            shown = kept[-1].model_dump(mode="json", include=set(EvidenceSummary.model_fields))
            await publish(session, row, "evidence", shown)
        incidents.touch(row)
        spent = total([Usage.model_validate(row.usage), *(look.usage for look in looks)])
        row.usage = spent.model_dump()
        return kept

    async def evidence(self) -> list[Evidence]:
        """The evidence of this attempt, oldest first: an earlier one looked at another time."""
        async with self._database.reading() as session:
            rows = await session.scalars(
                select(EvidenceRow)
                .where(EvidenceRow.incident_id == self._id, EvidenceRow.attempt == self._attempt)
                .order_by(EvidenceRow.number)
            )
            return [to_evidence(row) for row in rows]

    async def set_status(self, status: Status, ended_because: str = "") -> None:
        """Move the incident on."""
        async with self._writing() as (session, row):
            await incidents.move(session, row, status, ended_because)

    async def set_runbooks(self, runbooks: list[RunbookMatch]) -> None:
        """Which runbooks were loaded, and why."""
        async with self._writing() as (_, row):
            row.runbooks = [match.model_dump(mode="json") for match in runbooks]

    async def set_diagnosis(self, diagnosis: Diagnosis) -> None:
        """Keep the diagnosis; a claim's event is published once."""
        content = diagnosis.model_dump(mode="json")
        async with self._writing() as (session, row):
            if row.diagnosis == content:
                return
            row.diagnosis = content
            incidents.touch(row)
            for claim in content["claims"]:
                await publish(session, row, "claim", claim)

    async def set_plan(self, plan: Plan) -> None:
        """Keep the plan: replaces what is proposed, never what somebody decided upon."""
        async with self._writing() as (session, row):
            await incidents.forget_proposed(session, row)
            decided = set(
                await session.scalars(
                    select(ActionRow.id).where(
                        ActionRow.incident_id == row.id, ActionRow.attempt == row.attempt
                    )
                )
            )
            if clash := decided & {action.id for action in plan.actions}:
                raise ActionMoved(f"{', '.join(sorted(clash))} of {row.id} is already decided")
            for position, action in enumerate(plan.actions):
                session.add(_action_row(row, position, action))
            await deeds.note_plan(session, row, plan.actions)
            row.prevention = plan.prevention
            row.checklist = [item.model_dump(mode="json") for item in plan.checklist]
            incidents.touch(row)
            await publish(session, row, "plan", plan.model_dump(mode="json"))

    async def save_action(
        self,
        action: Action,
        *,
        intent: dict[str, Any] | None = None,
        outcome: dict[str, Any] | None = None,
    ) -> None:
        """Keep an action's state, and in the same transaction its intent or outcome.

        What people decided stays theirs. An intent noted again before its outcome is the same
        one, updated; its progress stays.
        """
        self.writing = self.writing or intent is not None
        await self._save_action(action, intent, outcome)
        self.writing = self.writing and outcome is None

    async def _save_action(
        self, action: Action, intent: dict[str, Any] | None, outcome: dict[str, Any] | None
    ) -> None:
        async with self._writing(acting=intent is not None) as (session, row):
            kept = await session.get(
                ActionRow, (row.id, row.attempt, action.id), with_for_update=True
            )
            if kept is None or kept.fingerprint != action.fingerprint:
                raise ActionMoved(f"{action.id} of {row.id} is not what the run read")
            _must_not_have_moved(kept, action)
            if intent is not None:
                await deeds.note_intent(session, kept, intent)
                await self._begin(session, row, action.id, intent)
            if outcome is not None:
                await self._end(session, action.id, outcome)
            body = action.model_dump(mode="json", exclude=_PEOPLES)
            same = kept.body == body and kept.status == action.status
            if same and kept.not_before == action.not_before:
                return
            moved = kept.status != action.status
            kept.body, kept.status, kept.expires_at = body, action.status, action.expires_at
            await endings.put_off(session, kept, action.not_before)
            incidents.touch(row)
            await publish(session, row, "action", action.model_dump(mode="json"))
            if moved:
                await endings.after_its_end(session, row, kept)

    async def add_usage(self, usage: Usage) -> None:
        """Add to what the incident has cost."""
        async with self._writing() as (_, row):
            row.usage = Usage.model_validate(row.usage).plus(usage).model_dump()

    async def intent(self, action_id: str) -> dict[str, Any] | None:
        """The intent without an outcome that an earlier run left, if any."""
        async with self._database.reading() as session:
            known = await self._open_intent(session, action_id)
            if known is None:
                return None
            progress = {} if known.progress is None else {"progress": known.progress}
            return known.intent | progress

    async def note_progress(self, action_id: str, done: dict[str, Any]) -> str:
        """Keep what a remedy has done so far; a text, if a person asked it to stop."""
        async with self._writing(acting=True) as (session, row):
            known = await self._open_intent(session, action_id)
            if known is not None:
                known.progress = done
            kept = await session.get_one(ActionRow, (row.id, row.attempt, action_id))
            return kept.stop_requested

    async def page(self, reason: str) -> None:
        """Call people: sent by whoever sends pages, also after a crash."""
        async with self._writing() as (session, row):
            await pages.call(session, reason, incidents.now(), row)

    async def freezes(self) -> list[Window]:
        """What people froze here."""
        async with self._database.reading() as session:
            return await freezes.about(session, self.lease.target, incidents.now())

    async def earlier(self) -> Earlier:
        """What came of earlier plans on this target."""
        async with self._database.reading() as session:
            return await precedents.earlier(
                session, self.lease.target, self._id, self._attempt, incidents.now()
            )

    async def approve_automatically(
        self, action: Action, cause: str, limits: AutoLimits
    ) -> str | None:
        """The policy's own approval; a text: why not."""
        async with self._writing() as (session, row):
            return await automatic.approve(self._database, session, row, action, cause, limits)

    async def unsettled(self) -> list[dict[str, Any]]:
        """The open intents of any incident on this target, newest first; at most 100."""
        async with self._database.reading() as session:
            found = await session.scalars(
                select(IntentRow.intent)
                .join(IncidentRow, IncidentRow.id == IntentRow.incident_id)
                .where(IncidentRow.target == self.lease.target, IntentRow.settled_at.is_(None))
                .order_by(IntentRow.id.desc())
                .limit(MOST_UNSETTLED)
            )
            return list(found)

    async def event(self, kind: EventKind, data: dict[str, Any]) -> None:
        """Publish something for whoever watches."""
        async with self._writing() as (session, row):
            await publish(session, row, kind, data)

    async def hand_over(self, because: str) -> None:
        """Give the incident to a person; what is neither done nor undone is of unknown outcome."""
        async with self._writing() as (session, row):
            await decisions.give_up(session, row, because)
            await incidents.move(session, row, "needs_human", because)

    async def _begin(
        self, session: AsyncSession, row: IncidentRow, action_id: str, intent: dict[str, Any]
    ) -> None:
        known = await self._open_intent(session, action_id)
        if known is not None:
            known.intent = intent
            return
        session.add(
            IntentRow(
                incident_id=row.id,
                attempt=row.attempt,
                action_id=action_id,
                intent=intent,
                noted_at=incidents.now(),
            )
        )

    async def _end(self, session: AsyncSession, action_id: str, outcome: dict[str, Any]) -> None:
        known = await self._open_intent(session, action_id)
        if known is not None:
            known.outcome, known.settled_at = outcome, incidents.now()

    async def _open_intent(self, session: AsyncSession, action_id: str) -> IntentRow | None:
        return await session.scalar(
            select(IntentRow)
            .where(
                IntentRow.incident_id == self._id,
                IntentRow.attempt == self._attempt,
                IntentRow.action_id == action_id,
                IntentRow.settled_at.is_(None),
            )
            .order_by(IntentRow.id.desc())
            .limit(1)
        )


async def add_asked_evidence(database: Database, incident_id: str, evidence: Evidence) -> Evidence:
    """Keep what a question looked at. It belongs to no attempt: runs do not judge by it."""
    async with database.writing() as session:
        row = await incidents.lock(session, incident_id)
        row.last_evidence += 1
        part = EvidenceRow(
            incident_id=incident_id,
            number=row.last_evidence,
            attempt=ASKED,
            **evidence.model_dump(exclude={"id"}),
        )
        session.add(part)
        return to_evidence(part)


def to_evidence(row: EvidenceRow) -> Evidence:
    """Evidence, whole."""
    return Evidence(
        id=f"E{row.number}",
        tool=row.tool,
        args=row.args,
        reading=row.reading,
        measured=row.measured,
        taken_at=row.taken_at,
        target=row.target,
        node=row.node,
        summary=row.summary,
    )


def _must_not_have_moved(kept: ActionRow, action: Action) -> None:
    """What people ended meanwhile stays ended, and an approval starts one application only."""
    if kept.status in ("rejected", "lapsed") and action.status != kept.status:
        raise ActionMoved(f"{action.id} was {kept.status} meanwhile")
    if action.status == "applying" and kept.status not in ("approved", "applying"):
        raise ActionMoved(f"{action.id} is {kept.status}: its approval is used up")


def _action_row(row: IncidentRow, position: int, action: Action) -> ActionRow:
    return ActionRow(
        incident_id=row.id,
        attempt=row.attempt,
        id=action.id,
        position=position,
        fingerprint=action.fingerprint,
        status=action.status,
        executable=action.executable,
        expires_at=action.expires_at,
        body=action.model_dump(mode="json", exclude=_PEOPLES),
    )
