"""What must hold after every round, read from the database."""

import contextlib
import json
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from api.store import incidents, trail
from api.store.database import Database
from api.store.tables import (
    ActionRow,
    AlertRow,
    EventRow,
    EvidenceRow,
    IncidentRow,
    IntentRow,
    LeaseRow,
    PageRow,
)
from tests.chaos import member
from tests.chaos.installation import Installation

ENDS = (*incidents.FINAL, "awaiting_approval")
UNSETTLED = ("outcome_unknown", "rollback_failed")


@dataclass
class Found:
    """The incidents of one round, and what did not hold."""

    statuses: dict[str, int]
    open: list[str]
    continued: int
    """How often a run took over an investigation in the middle, from another's last checkpoint."""
    broken: list[str]


async def unquiet(database: Database) -> str:
    """Who still has something to do; empty: nobody."""
    async with database.reading() as session:
        work = list(await session.scalars(select(IncidentRow.id).where(incidents.has_work())))
        clock = await database.clock(session)
        held = list(
            await session.scalars(
                select(LeaseRow.target).where(
                    LeaseRow.expires > clock, LeaseRow.target.not_like("watch/%")
                )
            )
        )
        unsent = await session.scalar(
            select(func.count()).select_from(PageRow).where(PageRow.sent_at.is_(None))
        )
    said = [f"work left on {', '.join(work)}"] if work else []
    said += [f"leases alive on {', '.join(held)}"] if held else []
    return "; ".join([*said, *([f"{unsent} pages unsent"] if unsent else [])])


async def look(on: Installation, since: datetime, accepted: Mapping[str, set[str]]) -> Found:
    """Everything, once it is quiet."""
    database = on.database
    async with database.reading() as session:
        opened = IncidentRow.opened_at >= since
        rows = list(await session.scalars(select(IncidentRow).where(opened)))
        broken = [f"{row.id} has no end: {row.status}" for row in rows if row.status not in ENDS]
        broken += [
            f"{row.id} was given up: {row.ended_because}"
            for row in rows
            if "without progress" in row.ended_because
        ]
        broken += await _alerts(session, accepted)
        broken += await _numbers(session, rows)
        broken += await _effects(session)
        broken += await _fenced(session)
        broken += _one_way(await _steps(on, session))
        continued = await _continued(session, rows)
    async with database.reading() as session:
        walk = await trail.verify(session, on.keys, {})
        broken += [f"the audit trail: {finding.text}" for finding in walk.findings]
    broken += _faults(on)
    statuses = Counter(row.status for row in rows)
    open_ = [row.id for row in rows if row.status not in incidents.CLOSED]
    return Found(dict(statuses), open_, continued, broken)


async def _alerts(session: AsyncSession, accepted: Mapping[str, set[str]]) -> list[str]:
    """Every accepted alert is in exactly one incident: the one that its 202 named."""
    places: dict[str, list[str]] = defaultdict(list)
    for alert in await session.scalars(select(AlertRow).where(AlertRow.fingerprint.in_(accepted))):
        places[alert.fingerprint].append(str(alert.incident_id))
    known = set(await session.scalars(select(IncidentRow.id)))
    broken = []
    for fingerprint, named in accepted.items():
        found = places[fingerprint]
        if len(found) != 1:
            broken.append(f"accepted alert {fingerprint} is in {len(found)} incidents")
        elif found[0] not in named or found[0] not in known:
            broken.append(f"alert {fingerprint} is in another incident than its sender was told")
    return broken


async def _numbers(session: AsyncSession, rows: list[IncidentRow]) -> list[str]:
    """Events and evidence are numbered from 1 without gaps, and no look was taken twice.

    What is looked at again after an action says so in its summary.
    """
    broken = []
    for row in rows:
        for table, last in ((EventRow, row.last_event), (EvidenceRow, row.last_evidence)):
            query = select(table.number).where(table.incident_id == row.id).order_by(table.number)
            if list(await session.scalars(query)) != list(range(1, last + 1)):
                broken.append(f"{table.__tablename__} of {row.id} are not 1 to {last}")
        looks: dict[tuple[int, str, str, str], list[str]] = defaultdict(list)
        for one in await session.scalars(
            select(EvidenceRow).where(
                EvidenceRow.incident_id == row.id, EvidenceRow.summary.not_like("after %")
            )
        ):
            asked = (one.attempt, one.tool, one.node, str(one.args))
            looks[asked].append(f"E{one.number}: {one.summary}")
        broken += [
            f"{row.id} asked {asked[1]} {len(seen)} times ({'; '.join(seen)})"
            for asked, seen in looks.items()
            if len(seen) > 1
        ]
    return broken


async def _effects(session: AsyncSession) -> list[str]:
    """An action has one intent to apply it, and none open when it has its end."""
    broken = []
    of = (IntentRow.incident_id, IntentRow.attempt, IntentRow.action_id)
    kinds: Counter[tuple[str, ...]] = Counter()
    for intent in await session.scalars(select(IntentRow)):
        step = str(intent.intent["phase"])
        kinds[intent.incident_id, str(intent.attempt), intent.action_id, step] += 1
    broken += [f"{' '.join(key)}: {n} intents" for key, n in kinds.items() if n > 1]
    still_open = await session.execute(
        select(*of, ActionRow.status)
        .join(
            ActionRow,
            (ActionRow.incident_id == IntentRow.incident_id)
            & (ActionRow.attempt == IntentRow.attempt)
            & (ActionRow.id == IntentRow.action_id),
        )
        .where(IntentRow.settled_at.is_(None), ActionRow.status.not_in(UNSETTLED))
    )
    return broken + [f"{one[2]} of {one[0]} is {one[3]}, its intent open" for one in still_open]


async def _fenced(session: AsyncSession) -> list[str]:
    """Runs of one target never interleave: whoever was replaced wrote nothing afterwards."""
    newest: dict[str, tuple[int, str]] = {}
    broken = []
    rows = await session.execute(
        text(f"SELECT target, fencing, incident_id FROM {member.NOTES} ORDER BY id")
    )
    for target, fencing, incident_id in rows:
        last = newest.get(target, (0, ""))
        if fencing < last[0]:
            broken.append(f"{target}: lease {fencing} wrote after lease {last[0]}")
        if fencing == last[0] and incident_id != last[1]:
            broken.append(f"{target}: lease {fencing} wrote to two incidents")
        newest[target] = max(last, (fencing, incident_id))
    return broken


async def _steps(on: Installation, session: AsyncSession) -> dict[str, list[tuple[str, int]]]:
    """Source and number of every checkpoint, by thread, in the order in which they were made."""
    query = "SELECT thread_id, metadata FROM checkpoints ORDER BY thread_id, checkpoint_id"
    if on.database.is_sqlite:
        with contextlib.closing(sqlite3.connect(on.database.checkpoints)) as connection:
            rows = [(thread, json.loads(told)) for thread, told in connection.execute(query)]
    else:
        rows = [(thread, told) for thread, told in await session.execute(text(query))]
    steps: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for thread, told in rows:
        steps[thread].append((told["source"], told["step"]))
    return steps


def _one_way(steps: Mapping[str, list[tuple[str, int]]]) -> list[str]:
    """Each run goes on from the last checkpoint: none begins again, none adds to an older one."""
    return [
        f"the checkpoints of {thread} are {made}"
        for thread, made in steps.items()
        if made != [("input", -1), *(("loop", step) for step in range(len(made) - 1))]
    ]


async def _continued(session: AsyncSession, rows: list[IncidentRow]) -> int:
    """Leases that wrote to an attempt which another had begun to investigate."""
    rounds = {row.id for row in rows}
    investigated: dict[tuple[str, int], set[int]] = defaultdict(set)
    for incident_id, attempt, fencing in await session.execute(
        text(
            f"SELECT incident_id, attempt, fencing FROM {member.NOTES} "
            "WHERE status = 'investigating'"
        )
    ):
        if incident_id in rounds:
            investigated[incident_id, attempt].add(fencing)
    return sum(len(leases) - 1 for leases in investigated.values())


def _faults(on: Installation) -> list[str]:
    """What the services themselves call a fault of theirs."""
    log = on.log.read_text(errors="replace")
    return sorted(
        {f"the log says: {line[:300]}" for line in re.findall(r'.*"event": "bug".*', log)}
    )
